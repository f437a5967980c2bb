"""The Python door: what the command line does, as functions of typed objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vitdsl.dsl.load import inspect_source, loaded_of
from vitdsl.dsl.study import Study
from vitdsl.reports.render import write_report
from vitdsl.runtime.models.outside import Transform, handed_over
from vitdsl.runtime.plan import bind as binding
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Progress, Silent
from vitdsl.runtime.results.folder import Run, open_run
from vitdsl.runtime.run import environment
from vitdsl.runtime.run import run as running
from vitdsl.runtime.run.features import Written, groups_of, write_features

if TYPE_CHECKING:
    import torch
    from torch import nn


def compile(
    study: Study | Path | str,
    *,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: Mapping[str, Transform] | None = None,
) -> Plan:
    """Resolve a study: models, sites, conditions and kinds, on the meta device.

    Args:
        study: A study, or the path of a study file.
        models: The modules of the models that the study says are `given: true`, by name. Copies are measured; the
            modules stay as they are.
        transforms: For some of them, a function from an RGB image of any size to a tensor [3, height, width].

    Raises:
        StudyError: Everything that is wrong with it.
    """
    given = handed_over(models, transforms)
    return binding.bind(loaded_of(study) if isinstance(study, Study) else inspect_source(study), given)


def check(
    study: Study | Path | str,
    *,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: Mapping[str, Transform] | None = None,
) -> None:
    """Make sure that a study can run; see `compile`.

    Raises:
        StudyError: Everything that is wrong with it.
    """
    compile(study, models=models, transforms=transforms)


def run(
    study: Study | Plan | Path | str,
    *,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: Mapping[str, Transform] | None = None,
    out: Path | str = "runs",
    device: "torch.device | str" = "auto",
    dtype: str = "float32",
    report: bool = True,
    progress: Progress | None = None,
    force: bool = False,
) -> Run:
    """Run a study, write its run folder, and read it back.

    Args:
        study: A study, a plan, or the path of a study file.
        models: Modules of one's own, see `compile`; a plan has its own.
        transforms: Their transforms, see `compile`.
        out: The folder that run folders go to.
        device: `auto`, or a device of torch.
        dtype: `float32`, or `bf16` or `fp16` for autocast.
        report: Whether to draw `report.html`.
        progress: Told of every stage.
        force: Compute what is there already as well.

    Returns:
        The run: `groups` of labelled arrays (xarray), `manifest`, `path`.

    Raises:
        StudyError: The study is wrong.
        EnvironmentProblem: This machine cannot run it.
    """
    plan = study if isinstance(study, Plan) else compile(study, models=models, transforms=transforms)
    chosen = environment.device(device) if isinstance(device, str) else device
    outcome = running.run(plan, out=out, device=chosen, dtype=dtype, progress=progress, force=force)
    assert outcome.folder is not None
    found = open_run(outcome.folder)
    if report:
        write_report(found)
    return found


def features(
    study: Study | Plan | Path | str,
    *,
    out: Path | str = "features",
    data: str | None = None,
    models: "Mapping[str, nn.Module] | None" = None,
    transforms: Mapping[str, Transform] | None = None,
    device: "torch.device | str" = "auto",
    progress: Progress | None = None,
) -> list[Written]:
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
    plan = study if isinstance(study, Plan) else compile(study, models=models, transforms=transforms)
    chosen = environment.device(device) if isinstance(device, str) else device
    groups = groups_of(plan, data)
    return write_features(plan, groups, Path(out), device=chosen, progress=progress or Silent())
