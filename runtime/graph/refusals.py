"""Why a model cannot be traced, or does not take images of a size.

Owns how one is told from the other: a model that does not take such images refuses them without being traced, too.
"""

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.graph.batch import DependsOnBatch
from vitdsl.runtime.graph.followed import Undecided
from vitdsl.runtime.graph.undisturbed import undisturbed

LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent)
"""Where a frame of a traceback is not of the model's program."""
FAMILIES = ("timm", "torchvision")
"""Packages whose models come in families: of their programs nobody changes a line, but there are other models."""


def refusal(model: nn.Module, input_size: tuple[int, ...], error: Exception) -> StudyError:
    """The error for a model whose program could not be followed.

    Args:
        model: On the meta device.
        input_size: `(channels, height, width)` of the images that it was to see.
        error: What was raised.
    """
    if isinstance(error, DependsOnBatch):
        return _untraceable(model, str(error), "a graph must hold for any number of images")
    if isinstance(error, Undecided):
        why = f"its program decides by {error}, {line_of(error)}"
        own = "let the program decide by sizes or settings alone: `torch.where` chooses among numbers without deciding"
        return _untraceable(
            model, why, help_for(model, "another model of the family, or other `options`, may not", own)
        )
    eager = _eager(model, input_size)
    if eager is not None and not isinstance(eager, NotImplementedError) and "meta" not in str(eager):
        return _does_not_fit(model, input_size, eager)
    what = f"{line_of(error)}: {type(error).__name__}: {first_line(error)}"
    own = "write that line with operations of torch on tensors: what leaves torch, such as numpy, cannot be followed"
    return _untraceable(
        model, what, help_for(model, "another model of the family, or other `options`, may do", own)
    )


def help_for(model: nn.Module, family: str, own: str) -> str:
    """What to do about a program: with a model of a family, or with one that its user wrote, and can change.

    Args:
        model: The model.
        family: Of a package of models, all parts of which are the package's or torch's.
        own: Of any other.
    """
    homes = {type(part).__module__.partition(".")[0] for part in model.modules()}
    home = type(model).__module__.partition(".")[0]
    return family if home in FAMILIES and homes <= {*FAMILIES, "torch"} else own


def no_tensor(model: nn.Module, result: Any) -> StudyError:
    """The error for a model that returns something other than one tensor."""
    found = next((kind for kind in (dict, list, tuple) if isinstance(result, kind)), type(result))
    return StudyError(
        Diagnostic(
            "VD301",
            f"`{type(model).__name__}` returns a {found.__name__}, not one tensor",
            help=(
                help_for(
                    model,
                    "choose `options` with which it returns its logits or features alone",
                    "return the logits or features alone, or wrap it in a module that does",
                ),
            ),
            about=(("arch",),),
        )
    )


def no_attribute(model: nn.Module) -> StudyError:
    """The error for a model that keeps a tensor where its weights cannot be found."""
    return _untraceable(
        model,
        "it keeps a tensor that is no parameter, buffer or attribute of a module, such as one in a list",
        help_for(
            model,
            "another model of the family, or other `options`, may not",
            "keep it with `register_buffer`, as a parameter, or as an attribute of a module",
        ),
    )


def no_run(error: StudyError, why: Exception | str) -> StudyError:
    """The error for a model that cannot be traced and cannot be read by hooks on its modules, either.

    Args:
        error: Why it cannot be traced.
        why: What else, or what it raised when it was run.
    """
    (first, *_) = error.diagnostics
    said = why if isinstance(why, str) else f"it does not run: {type(why).__name__}: {first_line(why)}"
    return StudyError(replace(first, message=f"{first.message}; nor can it be read by hooks: {said}"))


def _untraceable(model: nn.Module, why: str, help: str) -> StudyError:
    message = f"`{type(model).__name__}` cannot be traced: {why}"
    return StudyError(Diagnostic("VD301", message, help=(help,), about=(("arch",),)))


def _does_not_fit(model: nn.Module, input_size: tuple[int, ...], error: Exception) -> StudyError:
    size = f"{input_size[1]} x {input_size[2]}"
    return StudyError(
        Diagnostic(
            "VD233",
            f"`{type(model).__name__}` does not take images of {size}: {first_line(error)}",
            help=("set `options: {img_size: ...}` or `input_size:` of the model to a size that it takes",),
            label="does not fit",
            about=(("input_size",), ("options", "img_size"), ("arch",)),
        )
    )


def _eager(model: nn.Module, input_size: tuple[int, ...]) -> Exception | None:
    """What a model itself says of such images."""
    try:
        with torch.no_grad(), undisturbed(model):
            model(torch.empty(2, *input_size, device="meta"))
    except Exception as error:  # a model's program raises anything
        if is_memory(error):
            raise
        return error
    return None


def line_of(error: Exception) -> str:
    """The last line of the model's program before an error, in words."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not any(Path(one.filename).is_relative_to(lib) for lib in LIBRARIES)]
    frame = (own or list(frames))[-1]
    return f"in `{frame.name}` ({Path(frame.filename).name}, line {frame.lineno})"


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text[:200]
