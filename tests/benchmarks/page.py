"""docs/performance.md and its figure, from what was timed."""

from pathlib import Path
from typing import Any

HEAD = """\
# What a study costs

Written by `make bench`: every number here was timed by `tests/benchmarks/`, nothing is typed in. Times of whole
commands are those of processes of their own; ratios are medians of pairs timed in turn, the first of which does not
count.

- **over eager**: over the plain models as a user runs them (`timm.create_model(...)`, `torch.inference_mode()`), in a
  process of their own.
- **over own**: over the same forwards under the settings that a run uses on the CPU: freed memory is kept with the
  process, and the maps of models whose work is mostly convolutions lie channels last.

A ratio below 1 over eager means that the study costs less than the forwards that it measures, written down plainly.
"""
WHY = """\
## Where the time goes

- **Memory.** By default the C library gives large blocks back to the system, and every activation of every batch is
  mapped and zeroed anew. A run keeps them (`runtime/run/memory.py`).
- **Layout.** ResNets and their like run channels last on the CPU (`runtime/run/layout.py`): the numbers move by
  rounding, 1e-6 of the largest output. On a GPU nothing is changed: it was not measured.
- **Written over.** Activations and sums are written where their operand lies, if the merged graph shows that nobody
  reads it again (`runtime/graph/overwrite.py`): same bits, less memory.
- **Threads** that wait spin for some microseconds and then sleep (`runtime/cores.py`). The images of the default study
  take 4.1 s on two quiet cores and 7.9 s beside a busy process; asleep at once 5.9 and 5.3 s, spinning as GNU's OpenMP
  does by default 3.5 and 231 s. Timed by hand, once each: `GOMP_SPINCOUNT` and `OMP_WAIT_POLICY` choose.
- **Drawing** is done by this process and up to three more, as many as there are free cores (`vitdsl/painters.py`).
  They start with the run and import matplotlib while it computes; each takes some 150 MB. On one core, or where
  `OMP_NUM_THREADS` is 1, there are none. The page is the same bytes either way.
- **A sweep** of one skip per unit cannot cost less than about half of N+1 forwards: a condition is computed from its
  edit on, and edits lie all over the depth. Of the operations, 0.54 are left in the ViT and 0.49 in the ResNet, whose
  sums over large early maps come on top.
- **Conditions side by side.** After their edits, conditions run the same modules with the same weights, one by one and
  not as one larger batch. It was measured for the blocks of ViTs on one core, processor time of one batch over that of
  2 to 16 small ones: 0.96 to 1.04 for 32 images of 65 tokens of width 192, 1.03 to 1.06 for 128 images of 65 tokens of
  width 64, 1.01 to 1.02 for 8 images of 197 tokens of width 384. Only where a batch has fewer than some 300 tokens does
  it save anything: 0.85 to 0.96 for 32 images of 5 tokens, 0.80 to 0.83 for 4 images of 65. It was not measured on a
  GPU.
- **The panel** sums in float64, in copies of half a million numbers at a time: with fewer, threads wait for one another
  more than they compute. By hand, of 165 ms of plain forwards an image: skip ratios 18 ms (41 before copies were shared
  and norms taken in one pass), Gram matrices 13, entropies 12, most of it logarithms, norms of tokens 3, distances 2.
- **CKA** costs a product of each layer with itself, `images in a batch` times its values: it grows with the batch.
"""
NOT = """\
## Not measured

No GPU was at hand: `--device cuda`, the speed of `tf32`, `bf16` and of what `--fast` replays, and several GPUs are
without numbers here. What other precisions do to the numbers is in [precision.md](precision.md), why `torch.compile` is
not used in [scale.md](scale.md).
"""


def write(found: dict[str, Any], folder: Path) -> None:
    """Write the page, and the figure where there are curves."""
    machine = found["machine"]
    parts = [HEAD, _machine(machine)]
    if "rows" in found:
        parts.append(_rows(found["rows"]))
    if "peers" in found:
        parts.append(_peers(found["peers"], machine))
    if "curves" in found:
        draw(found["curves"], folder / "performance.svg")
        parts.append(_curves(found["curves"]))
    (folder / "performance.md").write_text("\n".join([*parts, WHY, NOT]))


def _machine(one: dict[str, Any]) -> str:
    return (
        f"Machine: {one['cpu']}, {one['cores']} cores, {one['threads']} threads, {one['system']}, Python "
        f"{one['python']}, torch {one['torch']}, device {one['device']}. Models `{one['vit']}` and `{one['res']}` at "
        f"224 pixels, {one['images']} images in batches of {one['batch']}, {one['runs']} pairs, unless a row says "
        "otherwise.\n"
    )


def _rows(rows: dict[str, Any]) -> str:
    lines = [
        "## Costs\n",
        "| what | over eager | asked | over own | asked | time |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        if row["eager"] is None and row["own"] is None:
            continue
        eager, own = row["asked"]
        time = f"{row['seconds'] * 1000:.0f} ms an image" if row["seconds"] else ""
        lines.append(
            f"| {row['what']} | {_number(row['eager'])} | {_number(eager)} | {_number(row['own'])} | {_number(own)} "
            f"| {time} |"
        )
    if default := rows.get("default"):
        more = default["more"]
        lines += [
            "",
            f"The default study, `vitdsl run specs/skip_ablation.yaml`, takes {default['seconds']:.1f} s as a whole "
            f"command (asked: 12), and {more['again']:.1f} s when nothing has changed (asked: 4). `vitdsl check` of "
            f"it takes {more['check']:.1f} s (asked: 3), `vitdsl --help` {more['help']:.2f} s (asked: 0.15).",
        ]
    if held := rows.get("memory"):
        more = held["more"]
        lines += [
            "",
            f"Peak memory of a run over 4,096 images is {more['4096']} MiB, over 256 images {more['256']} MiB: "
            f"{more['ratio']:.3f} times as much (asked: {more['asked']}).",
        ]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _peers(found: dict[str, Any], machine: dict[str, Any]) -> str:
    lines = [
        "## Beside other packages\n",
        "CKA of all blocks of the one model with all of the other: same weights, tensors, layers and batches, in one "
        "process each. *Largest error* is over the values that a float64 reference gives, written from the formula.\n",
        "| package | seconds | largest error | values off by more than 0.01 |",
        "|---|---|---|---|",
    ]
    for name, one in found.items():
        if name == "openerf":
            continue
        shown = "this one" if name == "ours" else name
        if "error" in one:
            lines.append(f"| {shown} | | `{one['error']}` | |")
        elif "largest" in one:
            lines.append(
                f"| {shown} | {one['seconds']:.1f} | {one['largest']:.1g} | {one['off']} of {one['of']} |"
            )
        else:
            lines.append(f"| {shown} | {one['seconds']:.1f} | another shape | |")
    lines += [
        "",
        "pytorch-cka and torch-cka multiply features as they are in float32: where they lie far from zero, digits are "
        "lost that centring would have kept, and float64 models bring them back. They take one loader for both models, "
        "so here both see the ViT's preprocessing. ckatorch compares the tokens of one image, takes tensors of three "
        "axes only, and keeps the last batch.",
    ]
    if "openerf" in found:
        other, mine = found["openerf"], found["ours"].get("field_seconds")
        said = f"`{other['error']}`" if "error" in other else f"{other['seconds']:.1f} s"
        lines += [
            "",
            f"Receptive field of the last block, one signal, {machine['images']} images one by one: openerf {said}, "
            f"this one {mine:.1f} s. openerf takes the positive part of the mean gradient of one summed signal, where "
            "channels may cancel; here absolute gradients of single channels are averaged: not the same quantity.",
        ]
    return "\n".join(lines) + "\n"


def _curves(found: list[dict[str, Any]]) -> str:
    lines = ["## How it grows\n", "![Cost against layers, conditions, images and batch](performance.svg)\n"]
    for one in found:
        pairs = ", ".join(f"{at:,}: {value:.3g}" for at, value in zip(one["at"], one["values"], strict=True))
        lines.append(f"- {one['what']}, against {one['over']}: {pairs}.")
    return "\n".join(lines) + "\n"


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """One panel for each curve, all from zero."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "performance", "font.size": 8, "svg.fonttype": "none"}):
        figure, panels = plt.subplots(2, 2, figsize=(6.9, 4.6), layout="constrained")
        for panel, one in zip(panels.flat, found, strict=True):
            panel.plot(one["at"], one["values"], "o-", color="#33638d", markersize=4)
            panel.set(xlabel=one["over"], ylabel=one["what"], xscale="log")
            panel.set_xticks(one["at"], [f"{at:,}" for at in one["at"]])
            panel.minorticks_off()
            panel.set_ylim(0, 1.15 * max(one["values"]))
            panel.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
