"""A run, from a plan to a run folder: models, the engine's passes, estimates, claims, files.

Owns the order of these. A run that fails or is interrupted says so in its manifest and is never
taken for a whole one. Does not own what the manifest says (`manifest`), or the page (`vitdsl.reports`).
"""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import torch
import xarray as xr

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, VitdslError
from vitdsl.dsl.emit import resolved_yaml, to_yaml
from vitdsl.dsl.hashing import study_hash
from vitdsl.dsl.text import counted
from vitdsl.runtime.data.facts import listed
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Logged, Progress, Silent
from vitdsl.runtime.ranks import ALONE, Ranks
from vitdsl.runtime.results import claims, csvs, times
from vitdsl.runtime.results import folder as results
from vitdsl.runtime.results.folder import Outcome
from vitdsl.runtime.results.groups import RESULTS, write_groups
from vitdsl.runtime.results.manifest import Status
from vitdsl.runtime.results.record import as_json
from vitdsl.runtime.results.thumbnails import write_thumbnails
from vitdsl.runtime.results.writing import new_folder, write_json, write_text
from vitdsl.runtime.rounding import check_dtype
from vitdsl.runtime.run import calibration, manifest
from vitdsl.runtime.run.before import before
from vitdsl.runtime.run.blocks import BlockStore
from vitdsl.runtime.run.classes import check_heads, check_labels, check_order
from vitdsl.runtime.run.engine import Engine
from vitdsl.runtime.run.full import estimate_errors
from vitdsl.runtime.run.inputs import model_of, stream_of
from vitdsl.runtime.run.memory import peak_memory
from vitdsl.runtime.run.predict import Outlook
from vitdsl.runtime.run.statistics import Statistics, estimate
from vitdsl.runtime.run.thumbnails import thumbnails
from vitdsl.runtime.run.warnings import image_warnings


def run(
    plan: Plan,
    *,
    out: Path | str = "runs",
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    fast: bool = False,
    progress: Progress | None = None,
    argv: Sequence[str] | None = None,
    ranks: Ranks = ALONE,
    force: bool = False,
    memory: float | None = None,
) -> Outcome:
    """Run a study and write its run folder.

    What image blocks gave is kept in `<out>/.store`: what is there is not computed again, so that a run that was
    killed goes on where it was, and an unchanged study is answered.

    Args:
        plan: The bound study.
        out: The folder that run folders go to, as `<out>/<study>/<UTC time>-<spec hash>`.
        device: Where to compute.
        dtype: `float32`, on CUDA `tf32`, or `bf16` or `fp16` for autocast; Gram matrices stay float32, sums float64.
        fast: Fold batch norms into convolutions, and on CUDA replay graphs: other numbers by rounding. What this and
            `dtype` do to each metric is a trust check.
        progress: Told of every stage.
        argv: The command line, for the manifest.
        ranks: Which of several processes this is; the one that leads writes the run folder.
        force: Compute what is in the store as well.
        memory: Bytes that a pass may take: its conditions are dealt to several graphs where they would take more;
            None takes a share of what is free. Numbers do not depend on it.

    Raises:
        StudyError: Labels that do not fit the models.
        EnvironmentProblem: Something that this machine cannot do; the manifest then says `failed`. What lies beside
            the study as its seal is none (VD417), or there is no such device or `dtype` (VD408); then there is no
            manifest.
    """
    where = torch.device(device)
    check_dtype(dtype, where)
    work = _Run(
        plan,
        Path(out),
        where,
        dtype,
        fast,
        progress or Silent(),
        list(argv or sys.argv),
        ranks,
        force,
        memory,
    )
    work.open_folder()
    try:
        work.go()
    except KeyboardInterrupt as interruption:
        work.close("interrupted", str(interruption) or "interrupted by the user")
        raise
    except BaseException as error:
        work.close("failed", str(error))
        raise
    work.close("success")
    return Outcome(work.folder, work.manifest)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        device: torch.device,
        dtype: str,
        fast: bool,
        progress: Progress,
        argv: list[str],
        ranks: Ranks,
        force: bool,
        memory: float | None,
    ) -> None:
        self.plan, self.out, self.device, self.dtype, self.fast = plan, out, device, dtype, fast
        self.ranks, self.force, self.memory = ranks, force, memory
        self.progress = Logged(progress)
        study = plan.loaded.study
        self.started = time.perf_counter()
        now = datetime.now(UTC)
        came = before(plan.loaded, out, now)
        name = f"{now:%Y%m%dT%H%M%SZ}-{study_hash(study)[:8]}"
        self.folder = new_folder(out / study.study / name, results.MANIFEST) if ranks.leads else None
        self.source, *self.bases = plan.loaded.source.texts.values() or [to_yaml(study)]
        self.manifest = manifest.opening(
            plan,
            came,
            source=self.source,
            argv=argv,
            run_id=f"{study.study}/{self.folder.name if self.folder else name}",
            started_at=now.isoformat(timespec="seconds"),
            device=str(device),
            dtype=dtype,
            fast=fast,
        )

    def open_folder(self) -> None:
        """Write what is known before anything is computed."""
        loaded = self.plan.loaded
        if self.folder is None:
            return
        write_json(self.folder / results.MANIFEST, as_json(self.manifest))
        write_text(self.folder / results.SOURCE, self.source)
        for number, (base, text) in enumerate(zip(loaded.bases, self.bases, strict=False)):
            write_text(self.folder / results.BASES / f"{number}-{base.name}", text)
        write_text(self.folder / results.RESOLVED, resolved_yaml(loaded, into=self.folder))

    def close(self, status: Status, reason: str = "") -> None:
        """Write how it ended.

        Raises:
            EnvironmentProblem: The run succeeded, and its folder is not there any more (VD415) or full (VD407).
        """
        removed = self.folder is not None and not (self.folder / results.MANIFEST).is_file()
        if removed and status == "success":
            raise EnvironmentProblem(_removed(self.folder))
        self._note(
            status=status,
            reason=reason,
            ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.started, 3),
            peak=peak_memory(),
        )
        self.progress.note(f"{status} {reason}".strip())
        if self.folder is None or removed:
            return
        try:
            write_text(self.folder / results.LOG, self.progress.text())
            write_json(self.folder / results.MANIFEST, as_json(self.manifest))
        except VitdslError:
            if status == "success":
                raise

    def _note(self, **parts: object) -> None:
        self.manifest = self.manifest.updated(**parts)

    def _warn(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.progress.note(f"warning: {text}")
        self._note(warnings=(*self.manifest.warnings, *texts))

    def _took(self, what: str, seconds: float) -> None:
        self._note(timings=self.manifest.timings | {what: round(seconds, 3)})

    def go(self) -> None:
        """Compute what is not there yet, and estimate everything."""
        streams = {one.data: stream_of(self.plan, one.data) for one in self.plan.passes}
        check_labels(self.plan, streams)
        outlook = self._outlook()
        loaded = self._models()
        check_order(self.plan, streams, loaded)
        self._warn(check_heads(self.plan, loaded))
        engine = Engine(
            self.plan,
            loaded,
            streams,
            BlockStore(self.out),
            device=self.device,
            dtype=self.dtype,
            fast=self.fast,
            ranks=self.ranks,
            force=self.force,
            progress=self.progress,
            memory=self.memory,
            outlook=outlook,
        )
        if self.folder is not None:
            keys = dict.fromkeys(key for blocks in engine.blocks.values() for key in blocks)
            write_text(self.folder / results.BLOCKS, "\n".join(keys) + "\n")
            self._warn(image_warnings(self.plan, streams))
        groups: dict[str, xr.Dataset] = {}
        try:
            for one, statistics in engine.passes():
                begun = time.perf_counter()
                for group in self.plan.groups:
                    if group in one.groups:
                        with estimate_errors(self.plan, group):
                            mine = cast("Statistics[Metric]", statistics[group.path])
                            groups[group.path] = estimate(mine, frame(self.plan, group))
                self._took(f"{times.ESTIMATES}{one.title}", time.perf_counter() - begun)
        finally:
            self._note_facts(engine)
        if outlook is not None:
            outlook.report(self.plan)
            self._note(predicted=outlook.predicted())
        if self.folder is not None and (self.folder / results.MANIFEST).is_file():
            self._write(self.folder, groups, streams, loaded)

    def _outlook(self) -> Outlook | None:
        """What predicts how long this takes, where the machine was measured and nobody shares the work."""
        if self.ranks.size > 1 or (speed := calibration.kept(self.device)) is None:
            return None
        outlook = Outlook(speed)
        outlook.models(self.plan)
        return outlook

    def _note_facts(self, engine: Engine) -> None:
        facts = engine.facts
        self._note(work=tuple(facts.work), split=tuple(facts.split))
        self._note(trust=tuple(facts.trust), reused=facts.reused)
        self._note(timings=self.manifest.timings | facts.timings)
        if engine.store.damaged:
            text = f"{counted(len(engine.store.damaged), 'damaged file')} in the block store, computed again"
            self._warn((f"{text}: {engine.store.damaged[0]}",))

    def _write(
        self,
        folder: Path,
        groups: Mapping[str, xr.Dataset],
        streams: Mapping[str, Stream],
        loaded: dict[str, LoadedModel],
    ) -> None:
        ordered = {group.path: groups[group.path] for group in self.plan.groups}
        judged = claims.judge_all(self.plan.loaded.study.claims, ordered)
        self.manifest = manifest.described(self.plan, loaded, self.manifest)
        self._note(data={name: manifest.data(images) for name, images in streams.items()})
        self._note(claims=judged, results_sha256=write_groups(folder / RESULTS, ordered))
        csvs.write_summary(folder / csvs.SUMMARY, ordered)
        csvs.write_images(folder / csvs.IMAGES, *listed(streams))
        write_thumbnails(folder, thumbnails(streams, ordered))

    def _models(self) -> dict[str, LoadedModel]:
        begun = time.perf_counter()
        found = {}
        self.progress.begin("models", len(self.plan.own_models), "models")
        for name in self.plan.own_models:
            found[name] = model_of(
                self.plan, name, device=self.device, progress=self.progress, ranks=self.ranks
            )
            self.progress.step()
        self.progress.end()
        self._took(times.MODELS, time.perf_counter() - begun)
        return found | {name: found[twin.twin_of] for name, twin in self.plan.models.items() if twin.twin_of}


def _removed(folder: Path | None) -> Diagnostic:
    return Diagnostic(
        "VD415",
        f"the run folder `{folder}` was removed while the study ran",
        help=("run the same command again: its image blocks are kept, and nothing is computed twice",),
    )
