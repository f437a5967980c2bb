"""The small models that tests measure, and the text of a study around them.

A model is a mapping of its fields: `Model(**TINY_VIT)` is the entry, `flow(TINY_VIT)` its text, and `study` takes it as
it is. Does not own what a test asks of them; the numbers of a test hold for the fields that it names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitdsl.dsl.load import load_text
from vitdsl.runtime.models.loading import LoadedModel, load
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan

Fields = Mapping[str, Any]

SPECS = Path(__file__).parent.parent / "specs"
OFFLINE = [path for path in sorted(SPECS.rglob("*.yaml")) if path.parent.name != "imagenet"]
"""The shipped files whose images and weights ship, too: studies and recipes; `test_imagenet` has the others."""

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2, "num_classes": 10}
"""Options that make a ViT with 17 tokens of width 24."""
TINY_VIT: Fields = {"arch": "vit_tiny_patch16_224", "options": TINY, "weights": "random"}
TINY_RESNET: Fields = {
    "arch": "resnet10t",
    "options": {"num_classes": 10},
    "input_size": 32,
    "weights": "random",
}
RESNET18: Fields = {**TINY_RESNET, "arch": "resnet18"}

FAULTLESS = """\
vitdsl: 1
study: s
data: {probe: {source: digits, split: test, images: 24, batch: 8}}
models: {net: {arch: resnet10t, options: {num_classes: 10}, input_size: 32, weights: random}}
layers: {stages: {of: net, at: "layer*.*"}}
metrics: {within: {kind: cka, x: stages}}
"""
"""A study in which nothing is wrong, for what goes wrong around it; errors are asked for at its lines."""
RUN = ["run", "study.yaml", "-q", "--no-report", "--device", "cpu"]
"""The command that runs it where it lies."""


def changed(model: Fields, options: Fields | None = None, **fields: Any) -> dict[str, Any]:
    """The model with more or other options and fields; a field that is None goes."""
    found = {**model, "options": {**model["options"], **(options or {})}, **fields}
    return {name: value for name, value in found.items() if value is not None}


def flow(value: Any) -> str:
    """A value as YAML on one line; a text stands as it is."""
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{name}: {flow(one)}" for name, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(flow, value)) + "]"
    return str(value)


def study(name: str, *, top: str = "", **sections: str | Fields) -> str:
    """The text of a study.

    Args:
        name: Its name.
        top: Lines before the sections, each with its end.
        sections: Each as text, or its entries as text or fields, one a line; an empty one is left out.
    """
    text = f"vitdsl: 1\nstudy: {name}\n{top}"
    for section, entries in sections.items():
        if isinstance(entries, Mapping):
            lines = "".join(f"  {entry}: {flow(fields)}\n" for entry, fields in entries.items())
            text += f"{section}:\n{lines}" if lines else ""
        elif entries:
            entries = entries.strip("\n")
            text += f"{section}:\n{entries}\n" if entries.startswith(" ") else f"{section}: {entries}\n"
    return text


def bound(text: str) -> Plan:
    """The plan of a study."""
    return bind(load_text(text))


def loaded(plan: Plan, name: str, seed: int = 0) -> LoadedModel:
    """One of the models of a plan, with its weights."""
    return load(plan.models[name].entry, seed=seed, folder=plan.loaded.folder)


SAVED = """
vitdsl: 1
study: saved
data:
  probe: {source: digits, split: test, images: 60, batch: 8, image_blocks: 4}
  few: {source: digits, split: test, images: 8, batch: 4}
  train: {source: digits, split: train, images: 24, batch: 8}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
layers:
  blocks: {of: vit, at: "blocks.*"}
ablations:
  no_skip: {kind: remove_skip, of: vit, at: "blocks[0:1].attn", each: true}
  mean_here: {kind: mean_ablate, of: vit, at: "blocks.1.mlp"}
  mean_there: {kind: mean_ablate, of: vit, at: "blocks.1.attn", over: train, role: stream}
metrics:
  accuracy: {kind: accuracy, of: vit, data: probe}
  drift: {kind: cka, x: blocks, against: baseline, data: probe}
  field: {kind: receptive_field, x: blocks, under: baseline, data: few, channels: 4}
"""
"""Fits, gradients and sums over three streams, in 13 image blocks: what a block store is tried with."""
