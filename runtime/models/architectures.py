"""Architectures: what timm's `create_model` takes, checked before it is called.

Owns: which names and tags exist, which options belong to the language instead, and turning timm's exceptions
into ours with what the architecture does take. Does not own: weights and preprocessing (`models`).
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import timm
from timm.models import get_pretrained_cfg, is_model, is_model_pretrained, model_entrypoint
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, StudyError, VitdslError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.scalars import BOOLEAN_WORDS
from vitdsl.dsl.study import Model, WeightsHub
from vitdsl.dsl.text import did_you_mean
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models import plugins
from vitdsl.runtime.models.checkpoints import Misfit
from vitdsl.runtime.models.names import alike
from vitdsl.runtime.models.options import OURS, of_option, refused
from vitdsl.runtime.models.undrawn import without_data
from vitdsl.runtime.models.weight_files import beside
from vitdsl.runtime.paths import expanded
from vitdsl.runtime.randomness import isolated


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
                of_option(
                    option,
                    f"`options: {{{option}: ...}}` is not for an architecture's options",
                    f"write {OURS[option]}",
                )
            )
        if value is None:
            raise StudyError(
                of_option(
                    option,
                    f"`options: {{{option}: null}}` says nothing: timm drops options that are null",
                    f"leave `{option}` out, or give a value",
                )
            )
    if model.options.get("in_chans", 3) not in (1, 3):
        raise StudyError(
            of_option(
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
        module = _built(model, more)
    except (VitdslError, Misfit):
        raise
    except Exception as error:  # an architecture checks its arguments in any way it likes
        if is_memory(error):
            raise
        if more.get("pretrained"):
            on_meta(model)
            raise
        raise StudyError(refused(model, error, _on_meta_at_all)) from error
    _check_types(model, module)
    return module


def _built(model: Model, more: Mapping[str, Any]) -> nn.Module:
    if plugins.is_named(model.arch):
        return plugins.build(model.arch, model.options, **more)
    made: nn.Module = timm.create_model(model.arch, **{**more, **model.options})
    return made


def _on_meta_at_all(model: Model) -> nn.Module:
    with without_data():
        return _built(model, {})


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
                of_option(
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
        with without_data():
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


def _of_arch(message: str, *help: str) -> Diagnostic:
    return Diagnostic("VD230", message, label="no such architecture", help=help, about=(("arch",),))


def _meant(names: Sequence[str]) -> str:
    return f"did you mean {' or '.join(f'`{one}`' for one in names)}?" if names else ""


def _unknown(arch: str, name: str) -> Diagnostic:
    if arch.startswith("local-dir:"):
        folder = arch.partition(":")[2]
        name = beside(expanded(folder) / "config.json", "config.json").get("architecture", "NAME")
        return _of_arch(
            f"`{arch}` is not a name of an architecture",
            f"write `arch: {name}` and `weights: {{file: {folder}}}`",
        )
    known = timm.list_models()
    if ":" in arch or "/" in arch:
        repository = arch.partition(":")[2] or arch
        near = alike(repository, [*known, *timm.list_models(pretrained=True)])
        named = near[0].partition(".")[0] if near else "NAME"
        return _of_arch(
            f"`{arch}` is not a name of an architecture",
            _meant(near),
            f"for weights of a repository of the hub, `arch: {named}` and `weights: {{hub: {repository}}}`",
        )
    near = alike(arch, [*known, *timm.list_models(pretrained=True)])
    begun = sorted((one for one in known if one.startswith(name)), key=lambda one: (len(one), one))[:3]
    return _of_arch(
        f"timm {timm.__version__} has no architecture `{arch}`",
        _meant(near) or did_you_mean(name, begun or known, count=3, cutoff=0 if begun else 0.6),
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
