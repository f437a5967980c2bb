"""A seal: a dated file beside a study that says, by hash, what its claims and the rest were.

Owns the file: its name, its fields, the hash of the whole, and whether a file that was found is a seal. Does not own
the hashes of a study (`written`), or what a run says of a seal (the runtime). A file beside a study proves no date by
itself, for it can be made again: what proves it is its hash, posted where others see when.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, ValidationError

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.source import dotted
from vitdsl.dsl.text import file_name, shown
from vitdsl.dsl.written import Written, claims_hash, digest, written

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

SCHEMA: Final = "vitdsl.seal/1"
ENDING = ".seal.json"
AHEAD = timedelta(days=1)
"""How far another machine's clock may be ahead."""
LARGEST = 1 << 24
"""Bytes; no seal is larger."""


class Seal(Written):
    """What a seal says; `sha256` is the hash of everything else in it."""

    schema_: Literal["vitdsl.seal/1"] = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema"
    )
    study: str
    sealed_at: str
    vitdsl: str
    sha256: str

    @property
    def whole(self) -> str:
        """The hash of everything but `sha256`."""
        return digest(self.model_dump(by_alias=True, exclude={"sha256"}))

    @property
    def line(self) -> str:
        """What can be posted elsewhere."""
        return f"vitdsl seal {self.study} {self.sealed_at} {self.sha256}"

    @property
    def text(self) -> str:
        """The file."""
        return json.dumps(self.model_dump(by_alias=True), indent=2, ensure_ascii=False) + "\n"


def seal(study: "Study", *, vitdsl: str, now: datetime) -> Seal:
    """Seal a study.

    Args:
        study: The study, recipes and overrides in place.
        vitdsl: The version of the program.
        now: The date, in any zone.
    """
    at = now.astimezone(UTC).isoformat(timespec="seconds")
    open_ = Seal(study=study.study, sealed_at=at, vitdsl=vitdsl, sha256="", **dict(written(study)))
    return open_.model_copy(update={"sha256": open_.whole})


def seal_path(study: Path) -> Path:
    """Where the seal of a study file is: beside it, `study.yaml` has `study.seal.json`."""
    return study.with_suffix(ENDING)


def find_seal(study: Path | None, *, now: datetime) -> Seal | None:
    """The seal beside a study file; None where there is none.

    Args:
        study: The study file; None for a study that lies in no file.
        now: The date.

    Raises:
        EnvironmentProblem: What is there is no seal, or was changed after it was made (VD417).
    """
    path = seal_path(study) if study else None
    if path is None or not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        raise _no_seal(path, "it is too large for one")
    try:
        text = path.read_text("utf-8")
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_seal(path, f"it is not JSON: {error}") from error
    try:
        found = Seal.model_validate_json(text)
        at = datetime.fromisoformat(found.sealed_at)
        if at.tzinfo is None:
            raise ValueError("its date has no zone")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _no_seal(path, f"`{dotted(first['loc'])}`: {first['msg']}") from error
    except ValueError as error:
        raise _no_seal(path, f"`sealed_at` is not a date: {error}") from error
    if found.whole != found.sha256:
        raise _changed(
            path, f"its content has the hash {found.whole[:12]}, and it says {shown(found.sha256[:12])}"
        )
    if (found.claims_sha256, found.rest_sha256) != (claims_hash(found.claims), digest(found.rest)):
        raise _changed(path, "its parts do not have the hashes that it says")
    if at > now + AHEAD:
        raise _changed(path, f"it is of {found.sealed_at}, which is yet to come")
    return found


HELP = (
    "bring back the file that `vitdsl seal` wrote, from version control or a copy",
    "or remove it: the study then runs without a seal, and says nothing of one",
)


def _no_seal(path: Path, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        Diagnostic("VD417", f"`{file_name(str(path))}` is not a seal: {why}", help=HELP)
    )


def _changed(path: Path, why: str) -> EnvironmentProblem:
    message = f"the seal `{file_name(str(path))}` was changed after it was made: {why}"
    return EnvironmentProblem(Diagnostic("VD417", message, help=HELP))
