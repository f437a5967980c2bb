"""Several kinds at once, in the order of the study, against hooks on the plain model; and all of them in one run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hooked import CLOSE, Hook, edits, exact, output, places, plain
from studies import TINY_VIT, bound, study
from vitdsl.runtime.ablations._base import ABLATIONS
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

ORDER = [1, 0, 3, 2]


def made(kind: str, role: str, at: str, **params: Any) -> list[Any]:
    bench, found = exact("vit", 4), ABLATIONS.find(kind)
    return edits(bench, found(found.Params(**params)), places(bench, role, [at]))


def half(module: Any, given: Any, out: Tensor) -> Tensor:
    return out / 2


def without_head_0(module: Any, given: tuple[Tensor], out: Tensor) -> Tensor:
    heads = given[0].clone()
    heads[..., :8] = 0
    found: Tensor = module.forward(heads)
    return found


@pytest.mark.parametrize("frozen_first", [True, False])
def test_five_kinds_in_one_condition(frozen_first: bool) -> None:
    bench, kept = exact("vit", 4), list[Tensor]()

    def last(module: Any, given: Any, out: Tensor) -> Tensor:
        out = out.clone()
        if not frozen_first:
            out = out[ORDER]
        out[:, 0] = kept[0][:, 0]
        return out[ORDER] if frozen_first else out

    hooks: dict[str, Hook] = {
        "blocks.0.attn": half,
        "blocks.0": lambda _, __, out: kept.append(out),
        "blocks.1.attn.proj": without_head_0,
        "blocks.2.mlp": lambda _, __, out: out * 3,
        "blocks.2": last,
    }
    wanted = plain(bench, hooks)
    freeze = made("freeze_cls", "stream", "blocks.2.mlp", **{"from": "blocks.0"})
    swap = made("resample", "stream", "blocks.2.mlp", group=2)
    found = output(
        bench,
        *made("scale_branch", "branch", "blocks.0.attn", by=0.5),
        *made("mask_heads", "heads", "blocks.1.attn", heads=0),
        *made("scale_branch", "branch", "blocks.2.mlp", by=3),
        *(freeze + swap if frozen_first else swap + freeze),
    )
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_a_removed_block_and_what_else_is_changed_in_it() -> None:
    """Its heads and branches do not matter any more; its skips do."""
    bench = exact("vit", 4)
    gone = made("remove_unit", "output", "blocks.1")
    wanted = plain(bench, {"blocks.1": lambda _, given, __: given[0]})
    inside = [
        *made("mask_heads", "heads", "blocks.1.attn", heads=[0, 1]),
        *made("scale_branch", "branch", "blocks.1.mlp", by=9),
    ]
    for order in (gone + inside[:1], inside + gone):
        torch.testing.assert_close(output(bench, *order), wanted, **CLOSE)
    twice = plain(bench, {"blocks.1": lambda _, given, __: 4 * given[0]})
    skips = [
        *made("scale_skip", "skip", "blocks.1.attn", by=2),
        *made("scale_skip", "skip", "blocks.1.mlp", by=2),
    ]
    torch.testing.assert_close(output(bench, *gone, *skips), twice, **CLOSE)


ALL = {
    "unit": '{kind: remove_unit, of: vit, at: "blocks.*", each: true}',
    "branch": '{kind: scale_branch, of: vit, at: "blocks.*.mlp", by: 1, vary: {by: [0, 0.5]}}',
    "skip": '{kind: scale_skip, of: vit, at: "blocks.*.attn", by: 0.5}',
    "heads": '{kind: mask_heads, of: vit, at: "blocks.*.attn", each: true, to: mean, vary: {heads: [0, 1, 2]}}',
    "other": '{kind: resample, of: vit, at: "blocks.*.attn", each: true}',
    "noise": '{kind: noise, of: vit, at: "blocks.*.mlp", each: true, sd: 1, vary: {sd: [0.5, 2]}}',
    "frozen": '{kind: freeze_cls, of: vit, from: norm_pre, at: "blocks.0", role: output}',
}


def test_all_of_them_in_one_run(tmp_path: Path) -> None:
    text = study(
        "all",
        data="{probe: {source: noise, total: 16, batch: 8, image_blocks: 2}}",
        models={"vit": TINY_VIT},
        ablations=ALL,
        metrics={"ratio": "{kind: skip_ratio, of: vit}"},
    )
    outcome = run(bound(text), out=tmp_path)
    assert outcome.folder is not None
    group = open_run(outcome.folder).groups["ratio/vit"]
    assert group.sizes["condition"] == 1 + 2 + 2 + 1 + 6 + 2 + 4 + 1
    (effect,) = [check for check in outcome.manifest.trust if check.check == "effect"]
    assert effect.ok, effect.text
    heads = group["heads"].values[~np.isnan(group["heads"].values)]
    assert heads.tolist() == [0, 0, 1, 1, 2, 2]
    again = run(bound(text), out=tmp_path)
    assert again.manifest.reused, "all is answered from the store"
