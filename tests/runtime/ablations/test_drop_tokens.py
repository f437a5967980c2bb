"""Dropped tokens against plain models whose tokens or pixels were zeroed by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ablated import FAMILIES, bench_of, output, place, plain, refusals, refused, same, values, with_images
from vitdsl import testing
from vitdsl.runtime.ablations.drop_tokens import DropTokens, Params

SIDE = 4


def kind_of(**fields: Any) -> DropTokens:
    return DropTokens(Params.model_validate(fields))


def dropped(name: str, kind: DropTokens) -> tuple[Tensor, Tensor]:
    """Which of the patches became zero, `[image, patch]`, and the embedded tokens as they were."""
    bench = bench_of(name)
    node = place(bench, kind, "embedding").node
    before, after = bench.intact[node], values(bench, (kind, "embedding"))[node]
    gone = (after == 0).all(-1)
    assert torch.equal(after[~gone], before[~gone]), "tokens that stay are as they were"
    return gone, before


def zeroed(gone: Tensor) -> Any:
    """A norm before the blocks that zeroes tokens `[image, token]` by hand; it is an identity in these models."""

    def forward(self: Any, tokens: Tensor) -> Tensor:
        result = tokens.clone()
        for image, some in enumerate(gone):
            result[image, some] = 0
        return result

    return forward


@pytest.mark.parametrize("name", ["vit", "gap"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("per", ["image", "all"])
def test_a_share_of_the_patches_is_zero_in_the_plain_model_too(name: str, share: float, per: str) -> None:
    kind, prefix = kind_of(share=share, per=per), int(name == "vit")
    gone, _ = dropped(name, kind)
    assert not gone[:, :prefix].any() and gone.sum(1).tolist() == [round(share * SIDE**2)] * 3
    assert (len({tuple(row) for row in gone.tolist()}) == 1) == (per == "all")
    bench = bench_of(name)
    same(output(bench, (kind, "embedding")), plain(bench, ("norm_pre", "forward", zeroed(gone))))


@pytest.mark.parametrize("which", ["salient", "least_salient"])
def test_by_norm_the_longest_or_shortest_tokens_go(which: str) -> None:
    gone, before = dropped("vit", kind_of(which=which, share=0.25))
    norms = before[:, 1:].double().square().sum(-1).sqrt()
    for some, row in zip(gone[:, 1:], norms, strict=True):
        went, stayed = row[some], row[~some]
        assert len(went) == 4
        assert went.min() > stayed.max() if which == "salient" else went.max() < stayed.min()


def test_by_attention_what_the_class_token_looks_at_goes() -> None:
    bench = bench_of("vit")
    kind = kind_of(which="salient", salience="attention", block="blocks.0.attn", share=0.25)
    gone, _ = dropped("vit", kind)
    weights = bench.intact[bench.sites.place("blocks.0.attn", "attention").node]
    looked = weights[:, :, 0, 1:].double().mean(1)
    for some, row in zip(gone[:, 1:], looked, strict=True):
        assert row[some].min() > row[~some].max()


@pytest.mark.parametrize(
    ("name", "grid"), [("vit", None), ("gap", None), ("resnet", 4), ("mixer", 2), ("swin", 2)]
)
def test_pixels_of_the_patches_are_zero_in_the_plain_model_too(name: str, grid: int | None) -> None:
    kind, bench = kind_of(space="pixels", grid=grid, share=0.5, seed=2), bench_of(name)
    shown = values(bench, (kind, "images"))[place(bench, kind, "images").node]
    side = grid or SIDE
    cell = bench.images.shape[-1] // side
    cells = [
        (shown[:, :, r * cell : (r + 1) * cell, c * cell : (c + 1) * cell] == 0).flatten(1).all(1)
        for r in range(side)
        for c in range(side)
    ]
    assert torch.stack(cells, 1).sum(1).tolist() == [side**2 // 2] * 3
    kept = shown != 0
    assert torch.equal(shown[kept], bench.images[kept])
    same(output(bench, (kind, "images")), plain(bench, images=shown))


def test_batches_do_not_matter_and_the_seed_does() -> None:
    bench, kind = bench_of("vit"), kind_of()
    node = place(bench, kind, "embedding").node
    whole = values(bench, (kind, "embedding"))[node]
    parts = [
        values(with_images(bench, part), (kind, "embedding"))[node]
        for part in bench.images.flip(0).split([1, 2])
    ]
    torch.testing.assert_close(torch.cat(parts).flip(0), whole)
    assert torch.equal(torch.cat(parts).flip(0) == 0, whole == 0)
    other = values(bench, (kind_of(seed=1), "embedding"))[node]
    assert not torch.equal(other == 0, whole == 0)


@pytest.mark.parametrize("fields", [{}, {"space": "pixels"}, {"which": "salient"}], ids=str)
def test_laws(fields: dict[str, Any]) -> None:
    testing.check_ablation(kind_of(**fields))


def test_laws_of_a_map_with_channels_last() -> None:
    testing.check_ablation(kind_of(), FAMILIES["swin"])


@pytest.mark.parametrize(
    ("name", "fields", "code", "says"),
    [
        ("resnet", {}, "VD210", "there is no embedding of patches as tokens of `model`"),
        ("resnet", {"space": "pixels"}, "VD302", "how many with `grid:`"),
        ("vit", {"space": "pixels", "grid": 5}, "VD302", "cannot be cut into 5 x 5"),
        ("vit", {"grid": 4}, "VD302", "leave `grid:` out"),
        ("vit", {"role": "image"}, "VD302", "leave `role:` out"),
        ("vit", {"which": "salient", "salience": "attention"}, "VD302", "write both or neither"),
        (
            "gap",
            {"which": "salient", "salience": "attention", "block": "blocks.0.attn"},
            "VD302",
            "no class token",
        ),
    ],
)
def test_what_is_not_known_is_refused(name: str, fields: dict[str, Any], code: str, says: str) -> None:
    refused(refusals(name, kind="drop_tokens", **fields), code, says)
