"""The Python door: what the command line does, as functions of typed objects.

What is large is imported where it is used: an unchanged study is answered without it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vitdsl.dsl.load import inspect_source, loaded_of
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.sizes import bytes_of
from vitdsl.dsl.study import Study
from vitdsl.importing import importing
from vitdsl.painters import Painters
from vitdsl.runtime.progress import Progress, Silent
from vitdsl.runtime.results.folder import Outcome, Run, open_run
from vitdsl.runtime.results.program import program
from vitdsl.unchanged import Asked, Done

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitdsl.runtime.models.outside import Transform
    from vitdsl.runtime.plan.plan import Plan
    from vitdsl.runtime.run.features import Written

program()
"""As it is when it is imported: a session may last, and its files change meanwhile."""


def compile(
    study: Study | Path | str,
    *,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: "Mapping[str, Transform] | None" = None,
) -> "Plan":
    """Resolve a study: models, sites, conditions and kinds, on the meta device.

    Args:
        study: A study, or the path of a study file.
        models: The modules of the models that the study says are `given: true`, by name. Copies are measured; the
            modules stay as they are.
        transforms: For some of them, a function from an RGB image of any size to a tensor [3, height, width].

    Raises:
        StudyError: Everything that is wrong with it.
    """
    return _bound(_loaded(study), models, transforms)


def _plan(
    study: "Study | Plan | Path | str",
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: "Mapping[str, Transform] | None" = None,
) -> "Plan":
    """The plan of a study; a plan as it is."""
    return _bound(_loaded(study), models, transforms) if isinstance(study, (Study, Path, str)) else study


def _loaded(study: Study | Path | str) -> Loaded:
    return loaded_of(study) if isinstance(study, Study) else inspect_source(study)


def _bound(
    loaded: Loaded,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: "Mapping[str, Transform] | None" = None,
) -> "Plan":
    with importing():
        from vitdsl.runtime.models.outside import handed_over
        from vitdsl.runtime.plan.bind import bind

    return bind(loaded, handed_over(models, transforms))


def check(
    study: Study | Path | str,
    *,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: "Mapping[str, Transform] | None" = None,
) -> None:
    """Make sure that a study can run; see `compile`.

    Raises:
        StudyError: Everything that is wrong with it.
    """
    compile(study, models=models, transforms=transforms)


def run(
    study: "Study | Plan | Path | str",
    *,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: "Mapping[str, Transform] | None" = None,
    out: Path | str = "runs",
    device: "torch.device | str" = "auto",
    dtype: str = "float32",
    fast: bool = False,
    report: bool = True,
    progress: Progress | None = None,
    force: bool = False,
    memory: float | str | None = None,
) -> Run:
    """Run a study, write its run folder, and read it back.

    A study of which nothing changed is answered by its run that is there, as on the command line; a plan, and a study
    with modules or transforms from outside, never is.

    Args:
        study: A study, a plan, or the path of a study file.
        models: Modules of one's own, see `compile`; a plan has its own.
        transforms: Their transforms, see `compile`.
        out: The folder that run folders go to.
        device: `auto`, or a device of torch.
        dtype: `float32`, on CUDA `tf32`, or `bf16` or `fp16` for autocast.
        fast: Fold batch norms into convolutions, and on CUDA replay graphs: other numbers by rounding. What this and
            `dtype` do to each metric is among the trust checks.
        report: Whether to draw `report.html`.
        progress: Told of every stage.
        force: Compute what is there already as well.
        memory: What a pass may take, in bytes or such as `4G`: of more, its conditions run one part after the other,
            and give the same numbers. None takes a share of what is free.

    Returns:
        The run: `groups` of labelled arrays (xarray), `manifest`, `path`.

    Raises:
        StudyError: The study is wrong.
        EnvironmentProblem: This machine cannot run it.
        ValueError: `memory` is no size.
    """
    may_take = bytes_of(memory) if isinstance(memory, str) else memory
    asked, bound = None, partial(_plan, study, models, transforms)
    if isinstance(study, (Study, Path, str)) and not (models or transforms):
        loaded = _loaded(study)
        asked = None if loaded.problems else Asked(loaded, Path(out), str(device), dtype, fast)
        bound = partial(_bound, loaded)
    there = asked.answer() if asked is not None and not force else None
    with Painters() as painters:
        if there is not None:
            done = Done(there, asked)
            (progress or Silent()).say(f"unchanged: answered by {there.folder}")
        else:
            if report:
                painters.start()
            plan = bound()
            done = Done(_ran(plan, Path(out), device, dtype, fast, progress, force, may_take), asked, plan)
        if report and not done.find_report():
            done.draw(painters)
    done.keep()
    assert done.outcome.folder is not None
    return open_run(done.outcome.folder)


def _ran(
    plan: "Plan",
    out: Path,
    device: "torch.device | str",
    dtype: str,
    fast: bool,
    progress: Progress | None,
    force: bool,
    memory: float | None,
) -> Outcome:
    with importing():
        from vitdsl.runtime.run import environment, run

    chosen = environment.device(device) if isinstance(device, str) else device
    return run.run(
        plan, out=out, device=chosen, dtype=dtype, fast=fast, progress=progress, force=force, memory=memory
    )


def features(
    study: "Study | Plan | Path | str",
    *,
    out: Path | str = "features",
    data: str | None = None,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: "Mapping[str, Transform] | None" = None,
    device: "torch.device | str" = "auto",
    progress: Progress | None = None,
) -> "list[Written]":
    """Write the layers that a study's metrics read as files of features, each with the ids of its images.

    Args:
        study: A study, a plan, or the path of a study file.
        out: The folder of the files.
        data: Only of the images of this data entry.
        models: Modules of one's own, see `compile`.
        transforms: Their transforms, see `compile`.
        device: `auto`, or a device of torch.
        progress: Told of every stage.

    Returns:
        The files: path, layers, model, data, number of images, and the shape of each array.

    Raises:
        StudyError: The study is wrong, or its metrics read no layers (VD222).
        EnvironmentProblem: This machine cannot do it.
    """
    with importing():
        from vitdsl.runtime.run import environment
        from vitdsl.runtime.run.features import groups_of, write_features

    plan = _plan(study, models, transforms)
    chosen = environment.device(device) if isinstance(device, str) else device
    groups = groups_of(plan, data)
    return write_features(plan, groups, Path(out), device=chosen, progress=progress or Silent())
