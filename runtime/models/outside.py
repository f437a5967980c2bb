"""Modules that Python hands over: whether they are modules, and the copy that a study measures.

Owns the promise that the module itself stays as it is: a run works on a copy, in float32 on the CPU, in eval mode. Does
not own which models of a study are given (`plan.bind`), or the transform (`own_transform`).
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.study import Model
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models.fingerprint import source, structure
from vitdsl.runtime.models.loading import LoadedModel, finish
from vitdsl.runtime.models.own_transform import own_transform
from vitdsl.runtime.models.preprocessing import Preprocessing, wanted_size

COMPILED = "_orig_mod"
"""Where a module that `torch.compile` made has the one that it was made from."""
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
"""Modules that deal a batch to several devices."""
Transform = Callable[[Image], Tensor]


@dataclass(frozen=True)
class Given:
    """A module and what images go through before it; without a transform, what timm knows of it decides."""

    module: nn.Module
    transform: Transform | None = None


def handed_over(
    models: Mapping[str, nn.Module] | None, transforms: Mapping[str, Transform] | None
) -> dict[str, Given]:
    """What Python hands over, by the names of models in the study.

    Raises:
        StudyError: Something is no module, no transform, or a transform of no module (VD271).
    """
    models, transforms, problems = models or {}, transforms or {}, []
    for name, module in models.items():
        if not isinstance(module, nn.Module):
            what = f"what is handed over as model `{name}` is a {type(module).__name__}, not a torch module"
            problems.append(_refused(what, "give an `nn.Module` with its weights: `models={name: module}`"))
    for name, transform in transforms.items():
        if name not in models:
            what = f"a transform is handed over for `{name}`, and no module of that name"
            problems.append(_refused(what, f"write `models={{{name!r}: module}}` as well"))
        elif not callable(transform):
            what = f"the transform that is handed over for `{name}` is a {type(transform).__name__}"
            problems.append(_refused(what, "give a function of an RGB image that returns a tensor"))
    if problems:
        raise StudyError(problems)
    return {name: Given(module, transforms.get(name)) for name, module in models.items()}


def received(name: str, given: Given, model: Model) -> LoadedModel:
    """A module that was handed over, ready to be measured: a copy, with what is known of it.

    Args:
        name: The model's name in the study.
        given: The module and its transform.
        model: What the study says of it.

    Raises:
        StudyError: It cannot be copied, has no values yet or was compiled by TorchScript (VD271), or can neither be
            traced nor read by hooks (VD301); its transform gives images of another size than the study says (VD233).
        EnvironmentProblem: A weight is not finite (VD416).
    """
    module = _copied(name, given.module)
    config = None if given.transform is None else own_transform(name, given.transform)
    if config is not None:
        if model.preprocess is not None:
            what = (
                f"a transform is handed over for `{name}`, and `preprocess` says something else of its images"
            )
            raise StudyError(_refused(what, "leave `preprocess` out: the transform decides"))
        _check_size(model, config)
    detail = source(module)
    loaded = finish(module, model, "given", detail, config=config)
    return LoadedModel(
        loaded.module,
        loaded.config,
        loaded.weights,
        f"{detail['class']}, given in Python",
        {},
        structure(loaded.module, loaded.config.input_size),
    )


def without_weights(module: nn.Module) -> nn.Module:
    """The same module on the meta device, tensors that are no part of its state included."""
    empty = copy.deepcopy(module).to("meta")
    for part in empty.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                setattr(part, name, value.to("meta"))
    return empty


def usual_images(module: nn.Module, config: Preprocessing) -> str:
    """What a module that says nothing of its images gets, in words; "" where it says something."""
    if isinstance(getattr(module, "pretrained_cfg", None), dict) or type(config) is not Preprocessing:
        return ""
    mean, std = (", ".join(f"{one:.3g}" for one in values) for values in (config.mean, config.std))
    size = f"{config.input_size[1]} x {config.input_size[2]} pixels"
    return f"{size}, {config.interpolation}, crop {config.crop_pct:g}, mean {mean}, std {std}"


def _copied(name: str, module: nn.Module) -> nn.Module:
    for where, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            what = f"`{where}` of the module that is handed over as `{name}` has no values yet"
            raise StudyError(_refused(what, "load its weights, and run lazy modules once on a batch"))
    for where, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            there = f"`{where}` of the module" if where else "the module"
            what = f"{there} that is handed over as `{name}` was compiled by TorchScript"
            raise StudyError(_refused(what, "give the Python module that it was compiled from"))
    try:
        return _bare(copy.deepcopy(_inside(module)))
    except Exception as error:  # a module may hold anything
        if is_memory(error):
            raise
        what = f"the module that is handed over as `{name}` cannot be copied: {type(error).__name__}: {error}"
        raise StudyError(
            _refused(what[:300], "take off what is no part of the model, such as hooks and open files")
        ) from error


def _bare(module: nn.Module) -> nn.Module:
    """A module whose parts are as they were before they were compiled or dealt to devices, under their own names."""
    for part in list(module.modules()):
        for name, child in part._modules.items():
            part._modules[name] = None if child is None else _inside(child)
    return module


def _inside(module: nn.Module) -> nn.Module:
    """What `torch.compile` or a wrapper of several devices was made from."""
    while True:
        if COMPILED in module._modules:
            module = module.get_submodule(COMPILED)
        elif isinstance(module, WRAPPERS):
            module = module.module
        else:
            return module


def _check_size(model: Model, config: Preprocessing) -> None:
    wanted, size = wanted_size(model), config.input_size[1:]
    if wanted is not None and size != wanted:
        raise StudyError(
            Diagnostic(
                "VD233",
                f"`input_size: {flow(model.input_size)}`, but the transform that is handed over gives "
                f"{size[0]} x {size[1]} pixels",
                label="does not fit",
                help=("leave `input_size` out: the transform decides",),
                about=(("input_size",),),
            )
        )


def _refused(message: str, *help: str) -> Diagnostic:
    return Diagnostic("VD271", message, label="its model", help=help, about=(("given",),))
