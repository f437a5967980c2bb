"""One architecture of each of forty families, from a study's text to its numbers: what docs/models.md says it takes."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.results.folder import Run, open_run
from vitdsl.runtime.run.run import run

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
FAMILIES = """
    byoanet byobnet cait coat convit convnext crossvit cspnext deit densenet edgenext efficientformer_v2 efficientnet
    efficientvit_mit efficientvit_msra eva fastvit ghostnet inception_next lcnetv2 levit mambaout maxxvit mobilenetv3
    mobilevit nfnet pit pvt_v2 repghost repvit resnest resnet starnet swiftformer tiny_vit vision_transformer
    vision_transformer_hybrid vision_transformer_relpos visformer xcit
""".split()
"""Files of timm whose architecture on the page is small. A quarter runs by default, `VITDSL_FAMILIES=1` all."""
KINDS = ("skip_ratio", "attention_entropy", "attention_distance")


def row_of(family: str) -> tuple[str, int, list[str]]:
    """The architecture of a row of the page, how many units it has, and which metrics it takes."""
    cells = next(
        [cell.strip() for cell in line.strip("|\n ").split("|")]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith(f"| {family} |")
    )
    taken = dict(zip(("skip_ratio", "attention_entropy", "attention_distance"), cells[4:7], strict=True))
    units = int(cells[2]) if cells[2].isdigit() else 0
    return cells[1].strip("`"), units, [kind for kind in KINDS if taken[kind] == "yes"]


def measured(family: str, out: Path) -> tuple[Run, list[str], int]:
    """A run of everything that the row promises, and of one branch removed."""
    arch, units, kinds = row_of(family)
    lines = [
        "vitdsl: 1",
        "study: family",
        "data: {probe: {source: noise, images: 8, size: 64, classes: 1000, batch: 4}}",
        f"models: {{net: {{arch: {arch}, options: {{num_classes: 1000}}, weights: random}}}}",
        "metrics:",
        "  right: {kind: accuracy, of: net}",
        *(f"  {kind}: {{kind: {kind}, of: net, under: baseline}}" for kind in kinds),
    ]
    text = "\n".join(lines) + "\n"
    if units:
        first = next(iter(bind(load_text(text, "family.yaml")).models["net"].sites.units))
        text += f'ablations: {{cut: {{kind: remove_branch, of: net, at: "{first}"}}}}\n'
    return open_run(run(bind(load_text(text, "family.yaml")), out=out).folder), kinds, units


def test_there_are_forty() -> None:
    assert len(set(FAMILIES)) == 40
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z0-9_]+", row_of(family)[0])


@pytest.mark.parametrize("family", FAMILIES[:: int(os.environ.get("VITDSL_FAMILIES", "4"))])
def test_a_family_runs_through(family: str, tmp_path: Path) -> None:
    found, kinds, units = measured(family, tmp_path)
    checks = [check for check in found.manifest.trust if check.check == "output"]
    assert checks and all(check.ok for check in checks), [check.text for check in checks]
    assert found.manifest.models["net"].units == units
    conditions = [one.id for one in found.manifest.conditions["net"]]
    assert len(conditions) == (2 if units else 1)
    for kind in kinds:
        group = found.groups[f"{kind}/net"]
        value = {"skip_ratio": "ratio", "attention_entropy": "entropy", "attention_distance": "distance"}[
            kind
        ]
        numbers = group[value]
        # Not every site has every token, nor as many heads as the widest.
        numbers = numbers.max([dim for dim in ("token", "head") if dim in numbers.dims], skipna=True)
        known = np.isfinite(numbers.values)
        missing = group.attrs.get("undefined", "[]")
        assert known.any() or "adds nothing" in missing, "untrained, a branch may end in a scale of 0"
        assert known.all() or missing != "[]", "what is missing has a reason"
        assert (numbers.values[known] >= 0).all()
