"""Weights of models of installed packages: their own, or those of a file.

Does not own how such a model is made (`plugins`), or weights of timm's models (`loading`, `checkpoints`).
"""

from pathlib import Path
from typing import Any

from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, VitdslError
from vitdsl.dsl.study import Model, WeightsFile
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models import _adapters, architectures, layouts, weight_files
from vitdsl.runtime.models.checkpoints import Misfit


def with_weights(model: Model, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A model of a package with its weights, and what there is to say of them.

    Raises:
        StudyError: As `architectures.create`.
        EnvironmentProblem: The file is missing (VD401) or does not fit (VD405); its own weights cannot be had (VD406).
    """
    weights = model.weights
    if isinstance(weights, WeightsFile):
        return _from_file(model, weights, folder)
    if weights != "pretrained":
        return architectures.create(model), {}
    try:
        return architectures.create(model, pretrained=True), {"from": model.arch}
    except VitdslError:
        raise
    except Exception as error:  # it can be built without them, so it is the network, in one of its many kinds
        if is_memory(error):
            raise
        raise EnvironmentProblem(_unreachable(model, error)) from error


def _from_file(model: Model, weights: WeightsFile, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    path = weight_files.find(weights.file, folder)
    module = architectures.create(model)
    try:
        if weights.head == "fresh":
            raise Misfit("it is not known which part of a package's model is its head", "leave `head` out")
        reading = layouts.read(weight_files.read(path), module.state_dict(), (), weights.key)
        state, notes = reading.state, list(reading.notes)
        if weights.adapter is not None:
            adapter = weight_files.find(weights.adapter, folder, "adapter")
            state, done = _adapters.merged(state, adapter, module.state_dict(), ())
            notes += done
        module.load_state_dict(state)
    except (Misfit, RuntimeError) as error:
        if is_memory(error):
            raise
        raise EnvironmentProblem(_misfit(model, weights.file, error)) from error
    return module, {
        "file": str(path),
        **weight_files.identity(weights, folder),
        "read_under": reading.prefix.rstrip("."),
        "beside": reading.beside,
        "notes": notes,
    }


def _misfit(model: Model, file: str, error: Misfit | RuntimeError) -> Diagnostic:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    known = error.help if isinstance(error, Misfit) else ()
    return Diagnostic(
        "VD405",
        f"the checkpoint `{file}` does not fit `{model.arch}`: {' '.join(lines[:2])[:300]}",
        label="does not fit",
        help=known or ("save it with `torch.save(module.state_dict(), path)` of what the function makes",),
        about=weight_files.WRITTEN_AT,
    )


def _unreachable(model: Model, error: Exception) -> Diagnostic:
    return Diagnostic(
        "VD406",
        f"the pretrained weights of `{model.arch}` could not be fetched: {type(error).__name__}: {str(error)[:200]}",
        label="cannot be fetched",
        help=("check the network", "or write `weights: {file: path}` or `weights: random`"),
        about=(("weights",),),
    )
