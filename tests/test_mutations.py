"""One slip anywhere in a shipped study: an error at a place in the file with help, or a visibly different study.

Every node is deleted, misspelt, doubled, given another type and moved, through the whole check: text, schema, names,
binding. Models are built once. Of the many mutants each run takes the same share.
"""

from pathlib import Path

import pytest

from mutants import SHARE, Path_, mutants, place_of_studies
from studies import OFFLINE
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.emit import block
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.load import inspect_text, load_recipe, load_text
from vitdsl.dsl.nodes import plain
from vitdsl.dsl.reader import read
from vitdsl.dsl.study import Study
from vitdsl.runtime.plan import bind as binding

ROOT = Path(__file__).parent.parent
FILES = [*OFFLINE, *sorted((ROOT / "vitdsl" / "templates").glob("*.yaml"))]
"""Without the studies of `specs/imagenet`: each extends another, which a text cannot."""
STUDIES = [path for path in FILES if "\nstudy:" in path.read_text("utf-8")]
RECIPES = [path for path in FILES if path not in STUDIES]
WORDS = {"study", "title", "question", "max_conditions", "say"}
"""What a study is called, which changes nothing that is computed."""


@pytest.fixture(autouse=True)
def _built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skeletons and sites by architecture and options; images for the study of a folder."""
    place_of_studies(tmp_path, monkeypatch)


def problem(base: Study, text: str, path: Path_) -> str:
    """What is wrong with how a mutant was received; empty where nothing is."""
    try:
        loaded = inspect_text(text, "f.yaml")
        binding.bind(loaded)
    except VitdslError as error:
        lines = text.splitlines()
        for one in error.diagnostics:
            if one.span is None or one.span.file != "f.yaml":
                return f"no place: {one}"
            inside = one.span.line <= len(lines) and one.span.column <= len(lines[one.span.line - 1]) + 1
            if not inside:
                return f"outside the file: {one}"
            if not one.help:
                return f"no help: {one}"
            if "pydantic" in one.message or "Input should" in one.message:
                return f"not in our words: {one}"
        return ""
    same = canonical(loaded.study.model_dump(mode="json")) == canonical(base.model_dump(mode="json"))
    seen = same or loaded.study.hash != base.hash or path[-1] in WORDS or str(path[0]).startswith("x-")
    return "" if seen else "accepted, and nothing shows it"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_one_slip_in_a_study(path: Path) -> None:
    data = plain(read(path.read_text("utf-8"), path.name))
    loaded = load_text(block(data), "f.yaml")
    binding.bind(loaded)
    seen, wrong = 0, []
    for what, place, text in mutants(data):
        seen += 1
        said = problem(loaded.study, text, place)
        if said:
            wrong.append(f"{what} {place}: {said}")
    assert not wrong and seen > 600 / SHARE


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_one_slip_in_a_recipe(path: Path, tmp_path: Path) -> None:
    data = plain(read(path.read_text("utf-8"), path.name))
    place = tmp_path / "recipe.yaml"
    place.write_text(block(data))
    load_recipe(place)
    for what, where, text in mutants(data):
        place.write_text(text)
        try:
            load_recipe(place)
        except VitdslError as error:
            assert all(one.span is not None and one.help for one in error.diagnostics), (what, where)


SLIPS = {
    "class_token: no": ("options: {depth: 2", "options: {class_token: no, depth: 2"),
    "a list with a label that is not there": ("[blocks.0.attn]", "[blocks.0.attn, blocks.7.attn]"),
    "true for a depth": ("depth_x: {to: 0.5}", "depth_x: true"),
    "a layer that nothing reads": ('unread: {of: vit, at: "blocks.*"}', 'unread: {of: vit, at: "block.*"}'),
    "a swept value of a source": ("split: [test, train]", "split: [test, tarin]"),
    "true for the version": ("vitdsl: 1", "vitdsl: true"),
    "a drop of the intact model": (
        "where: {condition: no_skip@blocks.0.attn}",
        "where: {condition: baseline}",
    ),
    "more images than there are": ("images: 8", "images: 8000"),
    "an optimizer of a model that is stored": ("optimizer: adamw", "optimizer: adamv"),
    "images to train on from nowhere": (
        "data: {source: digits, split: all}",
        "data: {source: digitz, split: all}",
    ),
}
"""Slips that once passed the check."""

SMALL = """\
vitdsl: 1
study: small
data: {images: {source: digits, images: 8, vary: {split: [test, train]}}}
models:
  vit:
    arch: vit_tiny_patch16_224
    options: {depth: 2, img_size: 32, patch_size: 8, num_classes: 10, global_pool: avg}
    train: {data: {source: digits, split: all}, optimizer: adamw}
layers:
  blocks: {of: vit, at: "blocks.*"}
  unread: {of: vit, at: "blocks.*"}
ablations: {no_skip: {kind: remove_skip, of: vit, each: true}}
metrics:
  acc: {kind: accuracy, of: vit}
  within: {kind: cka, x: blocks, under: baseline}
claims:
  a: {say: a, left: {metric: acc, value: drop, where: {ablated_site: [blocks.0.attn]}}, is: less, right: 1}
  b: {say: b, left: {metric: within, value: cka, where: {depth_x: {to: 0.5}}}, is: less, right: 1}
  c: {say: c, left: {metric: acc, value: drop, where: {condition: no_skip@blocks.0.attn}}, is: less, right: 1}
"""


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_that_once_passed(slip: str) -> None:
    right, wrong = SLIPS[slip]
    binding.bind(load_text(SMALL, "f.yaml"))
    assert SMALL.count(right) == 1
    with pytest.raises(VitdslError) as caught:
        binding.bind(load_text(SMALL.replace(right, wrong), "f.yaml"))
    one, *_ = caught.value.diagnostics
    assert one.span is not None and one.help
    line = SMALL[: SMALL.index(right)].count("\n") + 1
    assert one.span.line == line or slip.startswith("a drop")
