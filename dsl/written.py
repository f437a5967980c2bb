"""What was written, by hash: each claim, and each other part of a study that changes a number or a verdict.

Owns the two hashes (of the claims, of the rest), the parts that they are made of, and how two writings differ. Does
not own a seal (`sealing`), or which runs came before (the runtime).

The words of a claim count, for they are what a reader believes. A field that has its default counts as one that is not
there, so that a later version of the program, with more fields, finds the same hashes; what a default is may change
with the version, which is why it is said beside the hashes. Images and weights are not read here.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from vitdsl.dsl.canonical import canonical
from vitdsl.dsl.hashing import scientific

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

SECTIONS = ("data", "models", "layers", "ablations", "metrics")
"""Mappings whose entries are parts of their own; any other field is one part."""


class Fixed(BaseModel):
    """A record: unknown fields are errors, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class ClaimWritten(Fixed):
    """One claim: the sha256 of what it compares, and of its words."""

    comparison: str
    words: str


class Written(Fixed):
    """A study as it was written.

    Attributes:
        claims_sha256: Hash of all claims.
        rest_sha256: Hash of all else that changes a number or a verdict.
        claims: The claims by name.
        rest: Hashes of the other parts, such as `data.probe` or `seed`.
    """

    claims_sha256: str
    rest_sha256: str
    claims: dict[str, ClaimWritten]
    rest: dict[str, str]


class Changes(Fixed):
    """How a study differs from an earlier form of itself; names of claims, and of parts of the rest."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    reworded: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()

    @property
    def of_claims(self) -> dict[str, str]:
        """Each claim that differs, and how: `new`, `changed`, `reworded` or `gone`."""
        kinds = {"changed": self.changed, "reworded": self.reworded, "new": self.new, "gone": self.gone}
        return {name: kind for kind, names in kinds.items() for name in names}

    def __bool__(self) -> bool:
        return bool(self.of_claims or self.rest)


def digest(value: Any) -> str:
    """The sha256 of a value of plain dicts, lists and scalars, in hexadecimal."""
    return sha256(canonical(value).encode(errors="backslashreplace")).hexdigest()


def written(study: "Study") -> Written:
    """The hashes of a study and of its parts."""
    found = scientific(study, defaults=False)
    comparisons: Mapping[str, Any] = found.pop("claims", {})
    claims = {
        name: ClaimWritten(comparison=digest(comparison), words=digest(study.claims[name].say))
        for name, comparison in comparisons.items()
    }
    rest: dict[str, str] = {}
    for field, value in found.items():
        parts = (
            {f"{field}.{name}": one for name, one in value.items()} if field in SECTIONS else {field: value}
        )
        rest |= {name: digest(part) for name, part in parts.items()}
    return Written(claims_sha256=claims_hash(claims), rest_sha256=digest(rest), claims=claims, rest=rest)


def claims_hash(claims: Mapping[str, ClaimWritten]) -> str:
    """The hash of all claims, made of theirs; their order does not count."""
    return digest({name: claim.model_dump() for name, claim in claims.items()})


def changes(before: Written, after: Written) -> Changes:
    """What is new, changed, reworded and gone in `after`, and which parts of the rest differ."""
    both = [name for name in after.claims if name in before.claims]
    changed = [name for name in both if after.claims[name].comparison != before.claims[name].comparison]
    reworded = [
        name for name in both if name not in changed and after.claims[name].words != before.claims[name].words
    ]
    rest = dict.fromkeys((*before.rest, *after.rest))
    return Changes(
        new=tuple(name for name in after.claims if name not in before.claims),
        changed=tuple(changed),
        reworded=tuple(reworded),
        gone=tuple(name for name in before.claims if name not in after.claims),
        rest=tuple(name for name in rest if before.rest.get(name) != after.rest.get(name)),
    )
