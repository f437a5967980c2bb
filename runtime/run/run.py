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
from typing import Any

import torch
import xarray as xr

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.emit import resolved_yaml, to_yaml
from vitdsl.dsl.hashing import study_hash
from vitdsl.dsl.source import placing
from vitdsl.dsl.study import OWN
from vitdsl.runtime.data.labels import check_labels
from vitdsl.runtime.data.stream import Stream, open_stream, stream_facts
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.plan import Plan, frame
from vitdsl.runtime.progress import Logged, Progress, Silent
from vitdsl.runtime.results import claims
from vitdsl.runtime.results import folder as results
from vitdsl.runtime.run import manifest
from vitdsl.runtime.run.execute import Compiled, Pass, Runner, compile_model, memory_errors, run_pass
from vitdsl.runtime.run.statistics import estimate
from vitdsl.runtime.run.trust import check_first_batch
from vitdsl.runtime.train.store import obtain
from vitdsl.runtime.train.without import training_form


@dataclass(frozen=True)
class Outcome:
    """Where a run's folder is, and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]


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
        study, loaded = plan.loaded.study, plan.loaded
        self.started = time.perf_counter()
        now = datetime.now(UTC)
        self.hash = study_hash(study)
        self.folder = _fresh(out / study.study / f"{now:%Y%m%dT%H%M%SZ}-{self.hash[:8]}")
        self.source = loaded.path.read_text("utf-8") if loaded.path else to_yaml(study)
        self.manifest: dict[str, Any] = {
            **manifest.opening(plan, source=self.source, argv=argv),
            "run_id": f"{study.study}/{self.folder.name}",
            "started_at": now.isoformat(timespec="seconds"),
            "device": str(device),
            "dtype": dtype,
        }

    def open_folder(self) -> None:
        """Write what is known before anything is computed."""
        results.write_json(self.folder / results.MANIFEST, self.manifest)
        results.write_text(self.folder / results.SOURCE, self.source)
        for number, base in enumerate(self.plan.loaded.bases):
            results.write_text(self.folder / "bases" / f"{number}-{base.name}", base.read_text("utf-8"))
        results.write_text(self.folder / results.RESOLVED, resolved_yaml(self.plan.loaded, into=self.folder))

    def close(self, status: str, reason: str = "") -> None:
        """Write how it ended."""
        self.manifest |= {
            "status": status,
            "reason": reason,
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        self.progress.note(f"{status} {reason}".strip())
        try:
            results.write_text(self.folder / results.LOG, self.progress.text())
            results.write_json(self.folder / results.MANIFEST, self.manifest)
        except VitdslError:
            if status == "success":
                raise

    def go(self) -> None:
        """Compute everything."""
        streams = {name: self._stream(name) for name in self.plan.data if self.plan.groups_on(name)}
        self._check_labels(streams)
        loaded_models = self._models()
        groups: dict[str, xr.Dataset] = {}
        self.manifest |= {"trust": [], "work": {}, "timings": {}, "data": {}}
        for name, images_of in streams.items():
            done = self._pass(name, images_of, loaded_models)
            for group in self.plan.groups_on(name):
                groups[group.path] = estimate(done.statistics[group.path], frame(self.plan, group))
            self.manifest["data"][name] = stream_facts(images_of)
            self.manifest["timings"][f"pass over {name}"] = round(done.seconds, 3)
        ordered = {group.path: groups[group.path] for group in self.plan.groups}
        self.manifest["claims"] = {
            name: claims.judge(claim, ordered) for name, claim in self.plan.loaded.study.claims.items()
        }
        self.manifest |= manifest.description(self.plan, loaded_models)
        results.write_groups(self.folder, ordered)
        results.write_images(self.folder, {name: images.records() for name, images in streams.items()})

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
        self.manifest.setdefault("timings", {})["models"] = round(time.perf_counter() - begun, 3)
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
                    classes = self.plan.models[model].sites.site("", "output", input_size=(3, 1, 1)).shape[-1]
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
            self.manifest["work"][model] = manifest.work(compiled[model])
        self.manifest["timings"][f"compile for {name}"] = round(time.perf_counter() - begun, 3)
        runner = Runner(self.plan, compiled, groups, self.device, self.dtype)
        self.progress.begin(f"images of {name}", images.n)
        done = run_pass(
            runner,
            images,
            first=lambda batch, tensors, found: self.manifest["trust"].extend(
                check_first_batch(runner, batch, tensors, found)
            ),
            progress=self.progress,
        )
        self.progress.end()
        return done


def _fresh(folder: Path) -> Path:
    """A folder that is not there yet."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
