"""What came before a run: the seal beside its study, and earlier runs of the study with other claims.

Owns which runs count: those of the same name in the same folder of runs, whatever else of the study changed since, that
ended well before this one started. Numbers that nobody saw do not count, and runs in another folder are not found.
Does not own the fields and sentences (`vitdsl.runtime.results.provenance`), or what a seal is (`vitdsl.dsl.sealing`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.sealing import Seal, find_seal, seal_path
from vitdsl.dsl.text import counted
from vitdsl.dsl.written import Written, changes, written
from vitdsl.runtime.results.folder import MANIFEST
from vitdsl.runtime.results.provenance import Earlier, Ran, Sealed


@dataclass(frozen=True)
class Looked:
    """An earlier run whose numbers could be seen."""

    run: Ran
    ended_at: datetime
    written: Written | None


@dataclass(frozen=True)
class Before:
    """What came before: for the manifest, and what the user should know of what could not be compared."""

    written: Written
    earlier: Earlier | None
    seal: Sealed | None
    warnings: tuple[str, ...] = ()


def before(loaded: Loaded, out: Path, now: datetime) -> Before:
    """Look at what came before a run that starts now.

    Raises:
        EnvironmentProblem: The file beside the study is no seal, or was changed (VD417).
    """
    mine = written(loaded.study)
    seal = find_seal(loaded.path, now=now)
    runs = _looked(out / loaded.study.study, now)
    known = [run for run in runs if run.written is not None]
    silent = len(runs) - len(known)
    return Before(
        mine,
        _earlier(known, mine),
        _sealed(seal, loaded.path, mine, runs) if seal and loaded.path else None,
        (
            f"{counted(silent, 'earlier run')} of this study in `{out}` does not say what was claimed then, so it is "
            "not known whether claims changed since",
        )
        if silent
        else (),
    )


def _looked(folder: Path, now: datetime) -> list[Looked]:
    """Earlier runs of a study that ended well, the oldest first; a manifest that cannot be read is of none."""
    found = []
    for path in folder.glob(f"*/{MANIFEST}"):
        try:
            manifest = json.loads(path.read_text("utf-8"))
            if manifest["status"] != "success":
                continue
            ended = datetime.fromisoformat(manifest["ended_at"])
            run = Ran(run_id=manifest["run_id"], started_at=manifest["started_at"])
            if ended <= now:
                found.append(Looked(run, ended, _written(manifest.get("written"))))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return sorted(found, key=lambda one: (one.run.started_at, one.run.run_id))


def _written(value: object) -> Written | None:
    try:
        return Written.model_validate(value)
    except ValidationError:
        return None


def _earlier(runs: Sequence[Looked], mine: Written) -> Earlier | None:
    others = [run for run in runs if run.written and run.written.claims_sha256 != mine.claims_sha256]
    if not others:
        return None
    first = others[0]
    assert first.written is not None
    since = changes(first.written, mine)
    tried = {name: None for run in others if run.written for name in run.written.claims}
    gone = tuple(name for name in tried if name not in mine.claims)
    return Earlier(
        run=first.run,
        changes=since.model_copy(update={"gone": gone}),
        runs=len(others),
        as_first=first is not runs[0],
    )


def _sealed(seal: Seal, study: Path, mine: Written, runs: Sequence[Looked]) -> Sealed:
    at = datetime.fromisoformat(seal.sealed_at)
    return Sealed(
        file=seal_path(study).name,
        study=seal.study,
        sealed_at=seal.sealed_at,
        vitdsl=seal.vitdsl,
        sha256=seal.sha256,
        claims_sha256=seal.claims_sha256,
        rest_sha256=seal.rest_sha256,
        changes=changes(seal, mine),
        run_before=next((run.run for run in runs if run.ended_at < at), None),
    )
