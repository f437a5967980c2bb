"""Architectures: what timm's `create_model` takes, checked before it is called.

Owns: which names and tags exist, which options belong to the language instead, and turning timm's exceptions
into ours with what the architecture does take. Does not own: weights and preprocessing (`models`).
"""

import inspect
import sys
from functools import cache
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, is_model_pretrained, model_entrypoint
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, StudyError, VitdslError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.scalars import BOOLEAN_WORDS
from vitdsl.dsl.study import Model, WeightsHub
from vitdsl.dsl.text import did_you_mean
from vitdsl.runtime.models import plugins
from vitdsl.runtime.models.checkpoints import Misfit
from vitdsl.runtime.models.weight_files import beside
from vitdsl.runtime.paths import expanded
from vitdsl.runtime.randomness import isolated

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


def family_of(arch: str) -> str:
    """The file of timm that an architecture is made in, such as `timm.models.resnet`; empty where timm has none."""
    name = arch.partition(".")[0]
    return model_entrypoint(name).__module__ if is_model(name) else ""


def check(model: Model) -> None:
    """Refuse what `create_model` cannot or should not take.

    Raises:
        StudyError: Unknown architecture or tag (VD230), an option that has another place (VD231), no
            pretrained weights to take (VD232).
    """
    if plugins.is_named(model.arch):
        _check_plugin(model)
        return
    name, _, tag = model.arch.partition(".")
    if not is_model(name) or ":" in model.arch:
        raise StudyError(_unknown(model.arch, name))
    if tag and tag not in _tags(name):
        raise StudyError(_unknown_tag(name, tag))
    for option, value in model.options.items():
        if option in OURS:
            raise StudyError(
                _of_option(
                    option,
                    f"`options: {{{option}: ...}}` is not for an architecture's options",
                    f"write {OURS[option]}",
                )
            )
        if value is None:
            raise StudyError(
                _of_option(
                    option,
                    f"`options: {{{option}: null}}` says nothing: timm drops options that are null",
                    f"leave `{option}` out, or give a value",
                )
            )
    if model.options.get("in_chans", 3) not in (1, 3):
        raise StudyError(
            _of_option(
                "in_chans",
                f"`in_chans: {model.options['in_chans']}`: images have three channels, or one as grey",
                "leave `in_chans` out, or write `in_chans: 1` for a model of grey images",
                value=model.options["in_chans"],
            )
        )
    if model.weights == "pretrained" and not is_model_pretrained(model.arch):
        tags = [other for other in _tags(name) if is_model_pretrained(f"{name}.{other}")]
        raise StudyError(
            Diagnostic(
                "VD232",
                f"timm has no pretrained weights for `{model.arch}`",
                label="not there",
                help=(
                    f"tags with weights: {', '.join(tags)}"
                    if tags
                    else "write `weights: random`, or `train:`",
                ),
                about=(("weights",), ("arch",)),
            )
        )


def _check_plugin(model: Model) -> None:
    """Refuse what a function of a package cannot give: weights that it has no parameter for, or of the hub."""
    own = model.weights == "pretrained"
    asks = plugins.asks(plugins.function(model.arch))
    if isinstance(model.weights, WeightsHub) or (own and not asks):
        lacks = "parameter that asks for pretrained weights" if own else "weights on the hub"
        raise StudyError(
            Diagnostic(
                "VD232",
                f"`{model.arch}` has no {lacks}",
                label="not there",
                help=(
                    f"such a parameter is called {' or '.join(f'`{one}`' for one in plugins.ASKS)}"
                    if own
                    else "",
                    "write `weights: {file: path}` or `weights: random`",
                ),
                about=(("weights",), ("arch",)),
            )
        )


def create(model: Model, **more: Any) -> nn.Module:
    """`timm.create_model` of a checked model; `more` are arguments that the options do not hold.

    Raises:
        StudyError: The architecture does not take the options (VD231).
    """
    try:
        if plugins.is_named(model.arch):
            module = plugins.build(model.arch, model.options, **more)
        else:
            module = timm.create_model(model.arch, **{**more, **model.options})
    except (VitdslError, Misfit):
        raise
    except Exception as error:  # an architecture checks its arguments in any way it likes
        if more.get("pretrained"):
            on_meta(model)
            raise
        raise StudyError(_refused(model, error)) from error
    _check_types(model, module)
    return module


def _check_types(model: Model, module: nn.Module) -> None:
    """Refuse a text or number where the architecture takes true or false, and the other way round.

    Python takes any text for true: `class_token: no`, a text in YAML 1.2, would give a class token.
    """
    parameters = inspect.signature(type(module)).parameters
    for option, value in model.options.items():
        default = parameters[option].default if option in parameters else None
        flag = isinstance(default, bool)
        number = isinstance(default, (int, float)) and not flag
        if (flag and not isinstance(value, bool)) or (number and isinstance(value, (bool, str))):
            wanted = "`true` or `false`" if flag else "a number"
            raise StudyError(
                _of_option(
                    option,
                    f"`{option}` of `{model.arch}` takes {wanted}, not `{flow(value)}`",
                    _word(value) if flag else "",
                    f"the architecture's own is `{flow(default)}`",
                    value=value,
                )
            )


def on_meta(model: Model) -> nn.Module:
    """The module on the meta device; on the CPU for the few architectures that compute while being built."""
    try:
        with torch.device("meta"):
            return create(model)
    except StudyError as error:
        if "meta" not in str(error.__cause__):
            raise
        with isolated(0):
            return create(model)


def _word(value: object) -> str:
    word = BOOLEAN_WORDS.get(value.lower()) if isinstance(value, str) else None
    return f"YAML 1.2 reads `{value}` as a text; write `{flow(word)}`" if word is not None else ""


@cache
def _tags(name: str) -> tuple[str, ...]:
    full = timm.list_models(f"{name}.*", pretrained=False, include_tags=True)
    return tuple(item.partition(".")[2] for item in full if get_pretrained_cfg(item) is not None)


def _of_option(option: str | None, message: str, *help: str, value: object = None) -> Diagnostic:
    """An error of one option, or of all of them together; of its name, where no value is given."""
    about: list[tuple[str, ...]] = [("options",), ("arch",)]
    if option is not None:
        about.insert(0, ("options", option))
    if option is not None and value is not None:
        about.append(("options", option, flow(value)))
    return Diagnostic("VD231", message, help=help, about=tuple(about), at_key=True)


def _of_arch(message: str, *help: str) -> Diagnostic:
    return Diagnostic("VD230", message, label="no such architecture", help=help, about=(("arch",),))


def _unknown(arch: str, name: str) -> Diagnostic:
    if arch.startswith("local-dir:"):
        folder = arch.partition(":")[2]
        name = beside(expanded(folder) / "config.json", "config.json").get("architecture", "NAME")
        return _of_arch(
            f"`{arch}` is not a name of an architecture",
            f"write `arch: {name}` and `weights: {{file: {folder}}}`",
        )
    if ":" in arch or "/" in arch:
        repository = arch.partition(":")[2] or arch
        return _of_arch(
            f"`{arch}` is not a name of an architecture",
            f"write `arch: NAME` and `weights: {{hub: {repository}}}`",
        )
    known = timm.list_models()
    begun = sorted((one for one in known if one.startswith(name)), key=lambda one: (len(one), one))[:3]
    return _of_arch(
        f"timm {timm.__version__} has no architecture `{arch}`",
        did_you_mean(name, begun or known, count=3, cutoff=0 if begun else 0.6),
        f"`vitdsl list models '{_family(name)}*'` shows what there is",
    )


def _family(name: str) -> str:
    """The start of a name, as far as timm has some that start so."""
    words = name.lower().split("_")
    starts = ["_".join(words[:count]) for count in range(len(words), 0, -1)]
    return next((start for start in starts if timm.list_models(f"{start}*")), "")


def _unknown_tag(name: str, tag: str) -> Diagnostic:
    tags = _tags(name)
    return _of_arch(
        f"`{name}` has no pretrained tag `{tag}`",
        did_you_mean(tag, tags, cutoff=0.5, before=f"{name}."),
        f"it has: {', '.join(tags)}" if tags else f"it has none: write `arch: {name}`",
    )


def _refused(model: Model, error: Exception) -> Diagnostic:
    text = str(error).strip()
    taken = _taken(model.arch, text)
    unknown = next((key for key in model.options if f"argument '{key}'" in text), None)
    if unknown is None:
        return _of_option(
            None,
            f"`{model.arch}` cannot be built with `{flow(model.options)}`: {text or type(error).__name__}",
            "correct the options, or leave them out to take the architecture's own",
        )
    if "multiple values" in text:
        return _of_option(
            unknown,
            f"`{model.arch}` sets `{unknown}` itself: it cannot be an option",
            f"leave `{unknown}` out, or take another architecture of the family",
        )
    if unknown in ("img_size", "input_size") and isinstance(model.options[unknown], int):
        hint = f"write `input_size: {model.options[unknown]}` beside `arch`: it takes any size"
    else:
        hint = did_you_mean(unknown, taken, cutoff=0.6) or (f"it takes: {', '.join(taken)}" if taken else "")
    return _of_option(unknown, f"`{model.arch}` takes no option `{unknown}`", hint)


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
