"""A run, from a plan to a run folder: models, one pass over each stream, estimates, claims, files.

Owns the order of these. A run that fails or is interrupted says so in its manifest and is never
taken for a whole one. Does not own what the manifest says (`manifest`), or the page (`vitdsl.reports`).
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import xarray as xr

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.emit import resolved_yaml, to_yaml
from vitdsl.dsl.hashing import study_hash
from vitdsl.dsl.source import placing
from vitdsl.dsl.study import OWN
from vitdsl.runtime.data.labels import check_labels
from vitdsl.runtime.data.stream import Stream, open_stream
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Logged, Progress, Silent
from vitdsl.runtime.results import claims, csvs
from vitdsl.runtime.results import folder as results
from vitdsl.runtime.results.groups import RESULTS, write_groups
from vitdsl.runtime.results.manifest import Manifest, Status, as_json
from vitdsl.runtime.results.writing import new_folder, write_json, write_text
from vitdsl.runtime.run import manifest
from vitdsl.runtime.run.compile import Compiled, compile_model
from vitdsl.runtime.run.execute import Pass, Runner, memory_errors, run_pass
from vitdsl.runtime.run.statistics import estimate
from vitdsl.runtime.run.trust import check_first_batch
from vitdsl.runtime.train.store import obtain
from vitdsl.runtime.train.without import training_form


@dataclass(frozen=True)
class Outcome:
    """Where a run's folder is, and what its manifest says."""

    folder: Path
    manifest: Manifest


def run(
    plan: Plan,
    *,
    out: Path | str = "runs",
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    progress: Progress | None = None,
    argv: Sequence[str] | None = None,
) -> Outcome:
    """Run a study and write its run folder.

    Args:
        plan: The bound study.
        out: The folder that run folders go to, as `<out>/<study>/<UTC time>-<spec hash>`.
        device: Where to compute.
        dtype: `float32`, or `bf16` or `fp16` for autocast; Gram matrices stay float32, sums float64.
        progress: Told of every stage.
        argv: The command line, for the manifest.

    Raises:
        StudyError: Labels that do not fit the models.
        EnvironmentProblem: Something that this machine cannot do; the manifest then says `failed`.
    """
    work = _Run(plan, Path(out), torch.device(device), dtype, progress or Silent(), list(argv or sys.argv))
    work.open_folder()
    try:
        work.go()
    except KeyboardInterrupt:
        work.close("interrupted", "interrupted by the user")
        raise
    except BaseException as error:
        work.close("failed", str(error))
        raise
    work.close("success")
    return Outcome(work.folder, work.manifest)


class _Run:
    """The state of one run."""

    def __init__(
        self, plan: Plan, out: Path, device: torch.device, dtype: str, progress: Progress, argv: list[str]
    ) -> None:
        self.plan, self.device, self.dtype = plan, device, dtype
        self.progress = Logged(progress)
        study = plan.loaded.study
        self.started = time.perf_counter()
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%SZ}-{study_hash(study)[:8]}"
        self.folder = new_folder(out / study.study / name, results.MANIFEST)
        self.source, *self.bases = plan.loaded.source.texts.values() or [to_yaml(study)]
        self.manifest = manifest.opening(
            plan,
            source=self.source,
            argv=argv,
            run_id=f"{study.study}/{self.folder.name}",
            started_at=now.isoformat(timespec="seconds"),
            device=str(device),
            dtype=dtype,
        )

    def open_folder(self) -> None:
        """Write what is known before anything is computed."""
        loaded = self.plan.loaded
        write_json(self.folder / results.MANIFEST, as_json(self.manifest))
        write_text(self.folder / results.SOURCE, self.source)
        for number, (base, text) in enumerate(zip(loaded.bases, self.bases, strict=False)):
            write_text(self.folder / results.BASES / f"{number}-{base.name}", text)
        write_text(self.folder / results.RESOLVED, resolved_yaml(loaded, into=self.folder))

    def close(self, status: Status, reason: str = "") -> None:
        """Write how it ended."""
        self._note(
            status=status,
            reason=reason,
            ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - self.started, 3),
        )
        self.progress.note(f"{status} {reason}".strip())
        try:
            write_text(self.folder / results.LOG, self.progress.text())
            write_json(self.folder / results.MANIFEST, as_json(self.manifest))
        except VitdslError:
            if status == "success":
                raise

    def _note(self, **parts: object) -> None:
        self.manifest = self.manifest.updated(**parts)

    def _took(self, what: str, seconds: float) -> None:
        self._note(timings=self.manifest.timings | {what: round(seconds, 3)})

    def go(self) -> None:
        """Compute everything."""
        streams = {name: self._stream(name) for name in self.plan.data if self.plan.groups_on(name)}
        self._check_labels(streams)
        loaded_models = self._models()
        groups: dict[str, xr.Dataset] = {}
        for name, images in streams.items():
            done = self._pass(name, images, loaded_models)
            for group in self.plan.groups_on(name):
                groups[group.path] = estimate(done.statistics[group.path], frame(self.plan, group))
            self._note(data=self.manifest.data | {name: manifest.data(images)})
            self._took(f"pass over {name}", done.seconds)
        ordered = {group.path: groups[group.path] for group in self.plan.groups}
        judged = {name: claims.judge(claim, ordered) for name, claim in self.plan.loaded.study.claims.items()}
        self.manifest = manifest.described(self.plan, loaded_models, self.manifest)
        self._note(claims=judged, results_sha256=write_groups(self.folder / RESULTS, ordered))
        csvs.write_summary(self.folder / csvs.SUMMARY, ordered)
        csvs.write_images(
            self.folder / csvs.IMAGES, {name: images.records() for name, images in streams.items()}
        )

    def _models(self) -> dict[str, LoadedModel]:
        study = self.plan.loaded.study
        found: dict[str, LoadedModel] = {}
        begun = time.perf_counter()
        for name, planned in self.plan.models.items():
            self.progress.say(f"model {name}: {planned.entry.arch}")
            with placing(self.plan.loaded.source, ("models", planned.base)):
                if planned.entry.train is not None:
                    found[name] = obtain(
                        planned.entry,
                        seed=study.seed,
                        folder=self.plan.loaded.folder,
                        device=self.device,
                        progress=self.progress,
                        name=name,
                        **training_form(planned),
                    )
                else:
                    found[name] = models.load(planned.entry, seed=study.seed, folder=self.plan.loaded.folder)
        self._took("models", time.perf_counter() - begun)
        return found

    def _stream(self, name: str) -> Stream:
        plan, entry = self.plan, self.plan.data[name]
        configs = {model: plan.models[model].config for model in self.plan.models_on(name)}
        if entry.preprocess != OWN:
            configs[entry.preprocess] = plan.preprocessing(entry)
        study = plan.loaded.study
        with placing(plan.loaded.source, ("data", name.partition("[")[0])):
            return open_stream(entry, seed=study.seed, folder=plan.loaded.folder, transforms=configs)

    def _check_labels(self, streams: dict[str, Stream]) -> None:
        for group in self.plan.groups:
            if group.kind.labels:
                for model in group.models:
                    classes = self.plan.models[model].sites.site("", "output").shape[-1]
                    check_labels(streams[group.data], classes, model)

    def _pass(self, name: str, images: Stream, loaded: dict[str, LoadedModel]) -> Pass:
        groups = self.plan.groups_on(name)
        compiled: dict[str, Compiled] = {}
        begun = time.perf_counter()
        for model in self.plan.models_on(name):
            self.progress.say(f"compile {model}: {len(self.plan.models[model].conditions)} conditions")
            with memory_errors(self.plan, groups, self.device):
                module = loaded[model].module.to(self.device)
            compiled[model] = compile_model(self.plan.models[model], module, groups)
            self._note(work=(*self.manifest.work, manifest.work(name, compiled[model])))
        self._took(f"compile for {name}", time.perf_counter() - begun)
        runner = Runner(self.plan, compiled, groups, self.device, self.dtype)
        self.progress.begin(f"images of {name}", images.n)
        done = run_pass(
            runner,
            images,
            first=lambda batch, tensors, found: self._note(
                trust=(*self.manifest.trust, *check_first_batch(runner, batch, tensors, found))
            ),
            progress=self.progress,
        )
        self.progress.end()
        return done
