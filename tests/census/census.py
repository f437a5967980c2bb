"""Write docs/models.md: one small architecture of each of timm's model files, and what the language takes of it.

    python tests/census/census.py            # all files, in some minutes on one core
    python tests/census/census.py vision_transformer swin_transformer     # the rows of some, printed

Does not own the question that is put to a model (`vitdsl.runtime.plan.fitting`).
"""

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import _registry

from vitdsl.dsl.study import Model
from vitdsl.runtime.plan.fitting import Fitting, fitting

COUNTS = Path(__file__).with_name("counts.json")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SMALL = "test atto femto pico nano tiny _xxs _xs _s small 18 b0 _050 _m".split()
"""Words in the names of small architectures, the smallest first."""
COLUMNS = ("skip_ratio", "attention_entropy", "attention_distance", "attention_rollout")
HEAD = """# Models

Any architecture of timm can be named. What the language takes of it was asked of one small architecture of each of
timm's model files, with timm {version} and random weights: `python tests/census/census.py` writes this page, and the
test suite asks a quarter of the rows again. `vitdsl sites ARCH --summary` answers for any architecture.

A dash means that the metric is refused; the reason is below the table. Metrics of layers (`cka`, `linear_probe`, ...)
and `accuracy` need nothing but that a model runs; what is below needs that it can be traced. A metric that takes some
of a model's units or attention modules says which share, and why not the others (`vitdsl check`).

{counts}

| file | architecture | residual units | attention | {columns} |
|---|---|---|---|{lines}|
"""


def architectures() -> dict[str, str]:
    """File of timm to the architecture that stands for it."""
    found = {}
    for file, names in sorted(_registry._module_to_models.items()):
        kept = sorted(names, key=small_first)
        if kept:
            found[file] = kept[0]
    return found


def small_first(name: str) -> tuple[int, int, str]:
    """What to sort the names of architectures by, for the smallest to come first."""
    return _rank(name), len(name), name


def _rank(name: str) -> int:
    return next((place for place, word in enumerate(SMALL) if word in name), len(SMALL))


def row(file: str, arch: str) -> tuple[str, Fitting]:
    """A row of the table, and the answer it stands for."""
    found = fitting(Model(arch=arch, weights="random"))
    if found.trace:
        return f"| {file} | `{arch}` | | | {' | '.join('-' for _ in COLUMNS)} |", found
    taken = ["-" if found.kinds[name] else "yes" for name in COLUMNS]
    numbers = [str(len(found.units) or "-"), str(len(found.attention) or "-")]
    return f"| {file} | `{arch}` | {' | '.join((*numbers, *taken))} |", found


def reasons(arch: str, found: Fitting) -> list[str]:
    """Lines that say why something is refused."""
    if found.trace:
        return [f"- `{arch}`: {found.trace}"]
    if not found.attention:
        return []
    said: dict[str, list[str]] = {}
    for name in COLUMNS:
        if found.kinds[name]:
            said.setdefault(found.kinds[name], []).append(f"`{name}`")
    return [f"- `{arch}`, {', '.join(names)}: {reason}" for reason, names in said.items()]


def said(counts: Mapping[str, Any]) -> str:
    """What counting over many architectures found (`counting`), in words."""
    units, attention, numbers = counts["units"], counts["attention"], counts["numbers"]
    lacking = [*units["lacking"], *attention["lacking"], *numbers["wrong"], *counts["not_traced"]]
    kinds = "; ".join(f"{kind}: {count}" for kind, count in attention["kinds"].items())
    right = numbers["asked"] - len(numbers["wrong"])
    asked = f"""With timm {counts["timm"]}, {counts["asked"]} architectures were asked: the smallest of each kind of
        name in each of timm's files, where a kind is a name without its numbers and words of size.
        {len(counts["giants"])} with
        more than a billion parameters were left out. {counts["traced"]} can be traced. What is found in their graphs
        was counted again without a graph, from the operations that the plain model runs (`make census`):"""
    sums = f"""- Residual units: in {units["complete"]} of {units["asked"]} models that have some, each residual sum is
        a unit, and no other sum is ({units["sums"]} sums). Both leave out what a norm adds to its input by its own
        scale
        and shift (global response norm)."""
    weights = f"""- Attention: in {attention["complete"]} of {attention["asked"]} models that have some, each softmax
        that weighs values is read, with what it is ({attention["softmaxes"]} softmaxes). Models by kind: {kinds}."""
    values = f"""- On numbers, with random weights, up to 50 million parameters and 400 pixels: in {right} of
        {numbers["asked"]} models the weights are those of a softmax of the plain model, image by image, they sum to one
        where they are said to be shares, and a change of pixels changes the tokens of that place the most."""
    end = (
        f"Not so: {', '.join(f'`{one}`' for one in dict.fromkeys(lacking))}."
        if lacking
        else "There is no exception."
    )
    points = "\n".join(_filled(one, "  ") for one in (sums, weights, values))
    return f"## How complete the reading is\n\n{_filled(asked)}\n\n{points}\n\n{_filled(end)}\n"


def _filled(text: str, indent: str = "") -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def page() -> str:
    """The whole page."""
    rows, why, traced = [], [], 0
    for file, arch in architectures().items():
        line, found = row(file, arch)
        print(line, file=sys.stderr)
        rows.append(line)
        why += reasons(arch, found)
        traced += not found.trace
    counts = f"{traced} of {len(rows)} can be traced."
    head = HEAD.format(
        version=timm.__version__,
        counts=counts,
        columns=" | ".join(f"`{c}`" for c in COLUMNS),
        lines="---|" * 3 + "---",
    )
    counted = said(json.loads(COUNTS.read_text("utf-8")))
    return head + "\n".join(rows) + f"\n\n{counted}\n## Why not\n\n" + "\n".join(why) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for name in sys.argv[1:]:
            print(row(name, architectures()[name])[0])
    else:
        PAGE.write_text(page(), "utf-8")
