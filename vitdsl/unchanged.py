"""An unchanged study is answered by the run that is there, before anything large is imported.

Beside the runs lies, for each study as it was asked, which run answered it and what was there then: the files that it
read, by size and times. Where all of it is as it was, that run is the answer. Owns what counts as unchanged: the texts,
the values, the program and its packages, the machine, the files, the seal and the earlier runs that a report speaks of.
Does not own which files a run reads (`vitdsl.runtime.run.files`). Weights of the hub are not asked for again.
"""

import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from vitdsl.dsl.canonical import canonical
from vitdsl.dsl.loaded import Loaded
from vitdsl.importing import importing, seldom
from vitdsl.runtime.results.folder import ANSWERS, MANIFEST, REPORT, STORE, Outcome, open_run, read_manifest
from vitdsl.runtime.results.program import ABSENT, newest, program, stamp, versions
from vitdsl.runtime.results.record import Record, as_json
from vitdsl.runtime.results.writing import write_json

if TYPE_CHECKING:
    from vitdsl.reports.views import Make
    from vitdsl.runtime.plan.plan import Plan

ENVIRONMENT = (
    "HOME", "VITDSL_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
)  # fmt: skip
"""Variables that say where weights are found, what is imported, and which device computes."""
OF_RUN = (MANIFEST, "results.nc", "summary.csv", "images.csv")


class Answer(Record):
    """Which run answered a study.

    Attributes:
        run: Its folder, below the folder of runs.
        files: The stamp of each file and folder that it read or wrote.
        report: The stamp of its report; empty where none was drawn.
    """

    run: str
    files: dict[str, str]
    report: str


class Asked:
    """A study as it is asked: its text and values, on this machine, with this program.

    Args:
        loaded: The study.
        out: The folder of runs.
        device: The device as it is named.
        dtype: In what it computes.
        fast: Whether batch norms are folded.
    """

    def __init__(self, loaded: Loaded, out: Path, device: str, dtype: str, fast: bool) -> None:
        self.loaded, self.out, self.began = loaded, out, time.time()
        asked = {
            "path": str((loaded.path or loaded.folder).absolute()),
            "texts": list(loaded.source.texts.values()),
            "study": loaded.study.model_dump(mode="json", by_alias=True),
            "overrides": list(loaded.overrides),
            "computes": [device, dtype, fast, platform.python_version(), platform.node(), _accelerators()],
            "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
            "versions": versions(),
            "program": program(),
        }
        key = sha256(canonical(asked).encode(errors="backslashreplace")).hexdigest()[:32]
        self.path = out / STORE / ANSWERS / f"{key}.json"

    def answer(self) -> Outcome | None:
        """The run that answers it; None where something is not as it was."""
        from vitdsl.runtime.run.before import before

        found = self._kept()
        if found is None or any(stamp(Path(path)) != then for path, then in found.files.items()):
            return None
        folder = self.out / found.run
        try:
            manifest = read_manifest(folder / MANIFEST)
        except (OSError, ValueError):
            return None
        came = before(self.loaded, self.out, datetime.now(UTC))
        if (came.written, came.earlier, came.seal) != (manifest.written, manifest.earlier, manifest.seal):
            return None
        return Outcome(folder, manifest)

    def has_report(self) -> bool:
        """Whether the report of that run is there as it was drawn."""
        found = self._kept()
        return bool(found and found.report and stamp(self.out / found.run / REPORT) == found.report)

    def keep(self, plan: "Plan", outcome: Outcome) -> None:
        """Note that a run answers it; nothing where its files are not known, or changed since it began."""
        from vitdsl.runtime.run.files import files_of

        folder, manifest = outcome.folder, outcome.manifest
        read = files_of(plan, manifest) if folder else None
        changed = read is None or any(newest(path) >= self.began for path in read)
        if folder is None or read is None or changed or manifest.status != "success":
            return
        written = [(folder / name).absolute() for name in OF_RUN]
        self._write(folder, {str(path): stamp(path) for path in (*read, *written)})

    def drawn(self) -> None:
        """Note the report that was drawn just now of the run that answers it."""
        found = self._kept()
        if found is not None:
            self._write(self.out / found.run, found.files)

    def _write(self, folder: Path, files: dict[str, str]) -> None:
        report = stamp(folder / REPORT)
        answer = Answer(
            run=str(folder.relative_to(self.out)), files=files, report="" if report == ABSENT else report
        )
        write_json(self.path, as_json(answer))

    def _kept(self) -> Answer | None:
        try:
            return Answer.model_validate(json.loads(self.path.read_text("utf-8")))
        except (OSError, ValueError, ValidationError, RecursionError):
            return None


@dataclass
class Done:
    """A study that was run, or answered by a run that was there: then `plan` is None.

    Attributes:
        asked: The study as it was asked; None where several processes shared it.
        report: Its report; None where there is none.
        drawing: Seconds that drawing it took.
    """

    outcome: Outcome
    asked: Asked | None
    plan: "Plan | None" = None
    report: Path | None = None
    drawing: float = 0.0

    def find_report(self) -> bool:
        """Take the report that is there; whether there is one, as it was drawn for this answer."""
        if self.plan is None and self.asked is not None and self.asked.has_report():
            assert self.outcome.folder is not None
            self.report = self.outcome.folder / REPORT
        return self.report is not None

    def keep(self) -> None:
        """Let it answer the same study again."""
        if self.asked is not None and self.plan is not None:
            self.asked.keep(self.plan, self.outcome)
        elif self.asked is not None and self.drawing:
            self.asked.drawn()

    def draw(self, make: "Make") -> None:
        """Draw the report."""
        with importing():
            from vitdsl.reports.render import write_report

        assert self.outcome.folder is not None
        began = time.perf_counter()
        with seldom():
            self.report = write_report(open_run(self.outcome.folder), make=make)
        self.drawing = time.perf_counter() - began


def _accelerators() -> list[str]:
    """The accelerators that this machine shows, without asking PyTorch."""
    try:
        return sorted(name for name in os.listdir("/dev") if name.startswith(("nvidia", "kfd", "accel")))
    except OSError:
        return []
