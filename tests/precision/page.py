"""The page of precision, docs/precision.md: written from the numbers that were measured, and from nothing else.

    python tests/precision/page.py          measure, and write docs/precision.json and the page
    python tests/precision/page.py --draw   write the page from docs/precision.json

Does not own what is measured (`measure`).
"""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
STUDY = ROOT / "specs" / "panel.yaml"
SET = ("data.probe.images=64", "data.probe.batch=32", "data.train.images=256", "data.few.images=8")
"""Few images: differences are the largest of many numbers, whichever the images."""
NUMBERS, PAGE = ROOT / "docs" / "precision.json", ROOT / "docs" / "precision.md"

HEAD = """\
# What precision does to each metric

Written by `make precision`: every number here was measured by `tests/precision/`, nothing is typed in.

The study [`specs/panel.yaml`](../specs/panel.yaml) has every metric, on a small ViT and a small ResNet that come with
the program, trained on the digits. It is computed once in float64 throughout: models, images and what taps reduce to.
Then it is computed as the columns say, and the largest absolute difference of all numbers of a value is a cell.

- **float32** is what a run does unless told otherwise.
- **`--fast`** folds batch norms into the convolutions before them. The ViT has none: its numbers are those of float32.
- **TF32, emulated**: `--dtype tf32` without the GPU that it needs. Operands of the models' products are rounded to the
  10 bits of mantissa that TF32 units take; products and sums are float32 then. Real units sum in another order.
- **`fp16`**, **`bf16`** are `--dtype`: autocast of the models on the CPU. Gram matrices stay float32, sums float64.

The column *largest* is the largest number of the value in float64, to compare with. *undefined* says that a number is
defined in one of the two alone. Values that are read off single images are left out.
"""
TAIL = """
## How to read it

- What counts or ranks (accuracy, flips, nearest neighbours, a ridge that is chosen from a list) does not move until one
  case changes sides, and then by the share of that case.
- Receptive fields are gradients. In a network with ReLUs a value near zero may fall on the other side, and that unit's
  gradient comes or goes as a whole.
- These are two small models and few images. What your run's precision does to your numbers is a trust check of that
  run: under `--fast`, `bf16` and `fp16` its first batch is computed in exact float32 as well
  ([scale.md](scale.md#faster-and-not-exact)).
"""


def measure(study: Path = STUDY, overrides: Sequence[str] = SET) -> dict[str, Any]:
    """The numbers of the page, from a study."""
    import torch

    from precision.measure import differences
    from vitdsl.dsl.load import inspect_source
    from vitdsl.runtime.plan.bind import bind
    from vitdsl.runtime.run.environment import environment_facts

    plan = bind(inspect_source(study, overrides=overrides))
    return {
        "machine": {
            "cpu": environment_facts()["cpu"],
            "capability": torch.backends.cpu.get_cpu_capability(),
            "system": platform.system(),
            "torch": torch.__version__,
        },
        "images": {name: entry.images for name, entry in plan.data.items()},
        "rows": differences(plan),
    }


def page(found: Mapping[str, Any]) -> str:
    """The page, from its numbers."""
    machine, rows = found["machine"], found["rows"]
    ways = list(rows[0]["moved"])
    lines = [
        HEAD,
        f"Machine: {machine['cpu']} ({machine['capability']}), {machine['system']}, torch {machine['torch']}. Images: "
        + ", ".join(f"{count} ({name})" for name, count in found["images"].items())
        + ".\n",
        "## In one line each\n",
        *(summary(way, rows) for way in ways),
        "\n## By metric\n",
        f"| metric | value | of | largest | {' | '.join(ways)} |",
        f"|---|---|---|---|{'---|' * len(ways)}",
    ]
    before = ""
    for row in rows:
        kind = f"`{row['kind']}`" if row["kind"] != before else ""
        before = row["kind"]
        moved = " | ".join(number(row["moved"][way]) for way in ways)
        lines.append(f"| {kind} | {row['value']} | {row['of']} | {row['largest']:.3g} | {moved} |")
    return "\n".join(lines) + "\n" + TAIL


def summary(way: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """What one arithmetic does: the median and the largest of the differences beside the largest number of a value."""
    shares = [
        (share(row, way), f"{row['value']} of `{row['kind']}` ({row['of']})")
        for row in rows
        if row["largest"]
    ]
    most, worst = max(shares)
    undefined = sum(row["moved"][way] is None for row in rows)
    said = (
        f"- **{way}**: half of {len(shares)} values move by less than {median(one for one, _ in shares):.1g} of their "
        f"largest number; {worst} moves most, by {most:.1g}."
    )
    return said + (f" {undefined} have a number that is undefined on one side." if undefined else "")


def share(row: Mapping[str, Any], way: str) -> float:
    """A difference as a share of the largest number."""
    moved = row["moved"][way]
    return float("inf") if moved is None else moved / row["largest"]


def number(moved: float | None) -> str:
    """A difference in two digits."""
    return "undefined" if moved is None else "0" if moved == 0 else f"{moved:.1e}"


def main(words: Sequence[str]) -> None:
    """Measure unless told otherwise, and write the page."""
    if "--draw" not in words:
        NUMBERS.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    PAGE.write_text(page(json.loads(NUMBERS.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
