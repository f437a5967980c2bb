"""Where a model comes from: one of a few fields says so, and only some of the others go with it.

Owns these checks. Does not own whether what is named exists (the runtime).
"""

from collections.abc import Iterator

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.entries import Model
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.text import shown, ticked

ORIGINS = {
    "arch": "a timm architecture: `arch: resnet50`",
    "given": "a module that Python hands over: `given: true`",
    "features": "features that were computed elsewhere: `features: ./layers.safetensors`",
}
"""The fields that say where a model comes from, each with what it is."""

ALONE = {
    "given": ("options", "weights", "seed", "train"),
    "features": ("options", "weights", "seed", "train", "input_size", "preprocess"),
}
"""Fields that mean nothing beside such a field, since the model is there already."""


def origin_problems(name: str, model: Model, source: SourceMap) -> Iterator[Diagnostic]:
    """What is wrong with where a model comes from, and with its weights."""
    path = ("models", name)
    named = [field for field in ORIGINS if getattr(model, field) or field in model.vary]
    if not named:
        yield source.problem(
            "VD112",
            path,
            f"model `{name}` does not say what it is",
            label=f"one of {ticked(ORIGINS)} is required here",
            help=[f"{field}: {what}" for field, what in ORIGINS.items()],
            key=True,
        )
        return
    if len(named) > 1:
        yield source.problem(
            "VD112",
            (*path, named[1]),
            f"model `{name}` has both `{named[0]}` and `{named[1]}`, which name two models",
            label="one of the two",
            help=["keep one of them, or write two models"],
            key=True,
        )
        return
    (origin,) = named
    for field in ALONE.get(origin, ()):
        if getattr(model, field) not in (None, {}) or any(
            axis.partition(".")[0] == field for axis in model.vary
        ):
            yield source.problem(
                "VD112",
                (*path, field),
                f"`{field}` means nothing beside `{origin}`, which is {ORIGINS[origin].partition(':')[0]}",
                label="not taken",
                help=[f"remove `{field}`"],
                key=True,
            )
    if ":" in model.arch and model.train is not None:
        yield source.problem(
            "VD112",
            (*path, "train"),
            f"model `{name}` cannot be trained inside the study: `{shown(model.arch)}` is code of a package",
            label="not taken",
            help=[
                "train it there, and give its weights: `weights: {file: path}`",
                "or take an architecture of timm",
            ],
            key=True,
        )
    if origin == "arch" and model.weights is None and model.train is None:
        yield source.problem(
            "VD111",
            (*path, "weights"),
            f"model `{name}` has neither `weights` nor `train`",
            label="no weights",
            help=["add `weights: pretrained`, `weights: random` or `train:`"],
            key=True,
        )
