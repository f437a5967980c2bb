"""Models of installed packages: the entry-point group `vitdsl.models`, the only door from a study to code.

An entry point names a function that returns a module (`package.module:function`), or a module all of whose public
functions do (`package.module`). A study writes `arch: package.module:function`. Owns which of these there are, and how
such a function is called. Does not own what is refused of options (`architectures`), or files of weights (`loading`).
"""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.text import did_you_mean, shown, ticked
from vitdsl.runtime.kinds import unimportable

MODELS = "vitdsl.models"
ASKS = {"pretrained": True, "weights": "DEFAULT"}
"""What asks a function for its pretrained weights, by the parameter that it has: as timm or as torchvision does it."""


def is_named(arch: str) -> bool:
    """Whether an architecture is written as `package.module:function`."""
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*:\w+", arch))


def function(arch: str) -> Callable[..., Any]:
    """The function that an installed package offers.

    Raises:
        StudyError: None does (VD230).
        EnvironmentProblem: Its module cannot be imported (VD413).
    """
    home, _, name = arch.partition(":")
    points = list(entry_points(group=MODELS))
    point = next((one for one in points if one.value in (arch, home)), None)
    if point is None:
        raise StudyError(_not_offered(arch, [one.value for one in points]))
    try:
        module = importlib.import_module(home)
    except Exception as error:  # importing runs code of a package
        raise EnvironmentProblem(unimportable(point, error)) from error
    offered = {name: getattr(module, name, None)} if point.value == arch else _public(module, home)
    found: Callable[..., Any] | None = offered.get(name)
    if not callable(found):
        raise StudyError(_no_function(arch, home, name, [*offered] if point.value == home else []))
    return found


def build(arch: str, options: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    """Call such a function with the options of a study.

    Raises:
        ValueError: It gives no module.
        Exception: Whatever it raises itself.
    """
    call = function(arch)
    asked = asks(call) if pretrained else {}
    module = call(**{**asked, **options})
    if not isinstance(module, nn.Module):
        raise ValueError(f"it gives a {type(module).__name__}, not a torch module")
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ValueError("it gives a module that TorchScript compiled, which cannot be read")
    return module


def asks(call: Callable[..., Any]) -> dict[str, Any]:
    """The argument that asks a function for its pretrained weights; none where it has no such parameter."""
    parameters = inspect.signature(call).parameters
    return next(({name: value} for name, value in ASKS.items() if name in parameters), {})


def _public(module: Any, home: str) -> dict[str, Any]:
    """The functions and classes of a module that are its own, or of a package inside it."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and str(getattr(value, "__module__", "")).startswith(home)
    }


def _not_offered(arch: str, offered: list[str]) -> Diagnostic:
    return Diagnostic(
        "VD230",
        f"no installed package offers `{shown(arch)}` as a model",
        label="not offered",
        help=(
            did_you_mean(arch, offered),
            f'a package offers it with an entry point of the group `{MODELS}`: `name = "{shown(arch)}"`',
            f"offered are {ticked(offered)}" if offered else "",
        ),
        about=(("arch",),),
    )


def _no_function(arch: str, home: str, name: str, known: list[str]) -> Diagnostic:
    return Diagnostic(
        "VD230",
        f"`{shown(home)}` has no function `{shown(name)}` that makes a model",
        label="no such function",
        help=(did_you_mean(name, known, count=3), "update the package that offers it"),
        about=(("arch",),),
    )
