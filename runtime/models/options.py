"""Options that an architecture does not take: which of them, why, and what to write instead.

Owns the errors (VD231) and the search for the options that clash. Does not own how a model is built (`architectures`).
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace

from timm.models import model_entrypoint

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.study import Model
from vitdsl.dsl.text import did_you_mean
from vitdsl.runtime.models import plugins

OURS = {
    "pretrained": "`weights: pretrained`",
    "pretrained_cfg": "a tag in `arch`, such as `vit_small_patch16_224.augreg_in1k`",
    "pretrained_cfg_overlay": "`weights: {file: path}`",
    "checkpoint_path": "`weights: {file: path}`",
    "features_only": "`layers:`, which read inside the whole model",
    "out_indices": "`layers:`, which read inside the whole model",
    "cache_dir": "the environment variable `HF_HOME`",
    "device": "`vitdsl run --device NAME`",
    "dtype": "`vitdsl run --dtype NAME`",
}
"""Arguments of `create_model` that the language has its own words for."""


def of_option(option: str | None, message: str, *help: str, value: object = None) -> Diagnostic:
    """An error of one option, or of all of them together; of its name, where no value is given."""
    about: list[tuple[str, ...]] = [("options",), ("arch",)]
    if option is not None:
        about.insert(0, ("options", option))
    if option is not None and value is not None:
        about.append(("options", option, flow(value)))
    return Diagnostic("VD231", message, help=help, about=tuple(about), at_key=True)


def refused(model: Model, error: Exception, works: Callable[[Model], object]) -> Diagnostic:
    """What is wrong with the options of a model that cannot be built.

    Args:
        model: What the study says.
        error: What building it raised.
        works: Raises where a model cannot be built.
    """
    text = str(error).strip()
    taken = _taken(model.arch, text)
    unknown = next((key for key in model.options if f"argument '{key}'" in text), None)
    if unknown is None:
        return _clash(model, error, works)
    if "multiple values" in text:
        return of_option(
            unknown,
            f"`{model.arch}` sets `{unknown}` itself: it cannot be an option",
            f"leave `{unknown}` out"
            + ("" if plugins.is_named(model.arch) else ", or take another architecture of the family"),
        )
    if unknown in ("img_size", "input_size") and isinstance(model.options[unknown], int):
        hint = f"write `input_size: {model.options[unknown]}` beside `arch`: it takes any size"
    else:
        hint = did_you_mean(unknown, taken, cutoff=0.6) or (f"it takes: {', '.join(taken)}" if taken else "")
    return of_option(unknown, f"`{model.arch}` takes no option `{unknown}`", hint)


def _clash(model: Model, error: Exception, works: Callable[[Model], object]) -> Diagnostic:
    """Options that do not go with one another or with the architecture: those without which it can be built."""
    wrong = clashing(model, works)
    shown = {option: model.options[option] for option in wrong} or model.options
    said = flow(shown).removeprefix("{").removesuffix("}")
    help_ = (
        f"without {'it' if len(wrong) == 1 else 'any one of these'}, it can be built"
        if wrong
        else "correct the options, or leave them out to take the architecture's own"
    )
    first = wrong[0] if wrong else None
    found = of_option(
        first,
        f"`{model.arch}` cannot be built" + (f" with `{said}`" if said else ""),
        help_,
        value=None if first is None else model.options[first],
    )
    spoken = _spoken(error)
    return replace(found, notes=(f"its own words: {spoken}",) if spoken else (), at_key=False)


def _spoken(error: Exception) -> str:
    """What a library says for its reader, "" where an error only happened to it."""
    return str(error).strip() if isinstance(error, (AssertionError, ValueError)) else ""


def _taken(arch: str, text: str) -> list[str]:
    """Options of the class that the message `Class.__init__() got an unexpected...` names."""
    home = plugins.function(arch) if plugins.is_named(arch) else model_entrypoint(arch)
    module = sys.modules[home.__module__]
    made = getattr(module, text.partition(".__init__()")[0], None) or getattr(
        module, text.partition("(")[0].strip(), None
    )
    if made is None:
        return []
    kinds = inspect.Parameter
    return [
        name
        for name, parameter in inspect.signature(made).parameters.items()
        if name not in ("self", "cfg", "in_chans", *OURS)
        and parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]


def narrowed(error: StudyError, model: Model, works: Callable[[Model], object]) -> StudyError:
    """A model that does not take its images (VD233): with the options that it would take them without.

    Args:
        error: What is wrong.
        model: What the study says.
        works: Raises where a model does not take its images.
    """
    (one, *more) = error.diagnostics
    wrong = clashing(model, works) if one.code == "VD233" and not more and model.input_size is None else []
    if not wrong:
        return error
    said = flow({option: model.options[option] for option in wrong}).removeprefix("{").removesuffix("}")
    return StudyError(
        replace(
            one,
            message=f"`{model.arch}` does not take its images with `{said}`",
            help=(f"without {'it' if len(wrong) == 1 else 'any one of these'}, it does",),
            notes=(one.message, *one.notes),
            about=(("options", wrong[0]), *one.about),
        )
    )


def clashing(model: Model, works: Callable[[Model], object]) -> list[str]:
    """The options of a model that fails without any one of which it would not.

    Args:
        model: What the study says.
        works: Raises where a model fails.
    """
    found = []
    for option in model.options:
        rest = {name: value for name, value in model.options.items() if name != option}
        try:
            works(model.model_copy(update={"options": rest}))
        except Exception:  # noqa: S112  (an architecture fails in any way it likes)
            continue
        found.append(option)
    return found
