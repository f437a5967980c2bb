"""What makes two studies the same: a hash over their scientific content.

Owns which fields are words for people and do not count: titles, questions, what a claim says, what is shown,
the study's name, where its file lies. Where its paths start from there does count. Order of mappings, comments and
formatting never count.
"""

from hashlib import sha256
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from vitdsl.dsl.canonical import canonical as canonical
from vitdsl.dsl.phases import loaded_of

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

_WORDS_OF_A_STUDY = {"study", "title", "question", "folder", "folder_was", "max_conditions", "show"}


def study_hash(study: "Study") -> str:
    """The sha256 of what a study computes, in hexadecimal; 64 characters."""
    return sha256(canonical(scientific(study)).encode(errors="backslashreplace")).hexdigest()


def scientific(study: "Study", *, defaults: bool = True) -> dict[str, Any]:
    """The fields of a study that change what it computes or claims.

    Args:
        study: The study; its recipes are written out.
        defaults: Whether a field that has its default is there.
    """
    if any(model.train and model.train.recipe for model in study.models.values()):
        study = loaded_of(study).study
    found: dict[str, Any] = study.model_dump(
        by_alias=True, exclude=_WORDS_OF_A_STUDY, exclude_defaults=not defaults
    )
    found["folder"] = normpath(study.folder_was or study.folder or ".")
    for section in ("models", "ablations", "metrics"):
        for entry in found.get(section, {}).values():
            entry.pop("title", None)
    trained = [(model.get("train") or {}).get("data") for model in found.get("models", {}).values()]
    for entry in (*found.get("data", {}).values(), *filter(None, trained)):
        entry.pop("thumbnails", None)
    for claim in found.get("claims", {}).values():
        claim.pop("say")
    return found
