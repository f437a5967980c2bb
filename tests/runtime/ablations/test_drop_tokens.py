"""Dropped tokens against plain models with hooks, and draws against integers without bounds."""

import struct
from typing import Any

import pytest
import torch
from torch import Tensor

from ablated import (
    FAMILIES,
    TABLE,
    bench,
    bench_of,
    output,
    place,
    plain,
    refusals,
    refused,
    same,
    values,
    with_images,
)
from studies import changed
from vitdsl import testing
from vitdsl.runtime.ablations.drop_tokens import DropTokens, Params
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.ablations.shuffle_patches import ShufflePatches
from vitdsl.testing.bench import Bench

WORD = (1 << 64) - 1
FIRST_BLOCK = {"vit": "blocks.0", "gap": "blocks.0", "swin": "layers.0.blocks.0", "mixer": "blocks.0"}
GRID = {"vit": (4, 4), "gap": (4, 4), "swin": (14, 14), "mixer": (2, 2)}


def kind_of(**fields: Any) -> DropTokens:
    return DropTokens(Params.model_validate(fields))


def mixed(number: int) -> int:
    """SplitMix64's last step, in unbounded integers."""
    number = (number + 0x9E3779B97F4A7C15) & WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & WORD
    return number ^ (number >> 31)


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def drawn(image: Tensor, share: float, total: int, seed: int) -> set[int]:
    """The patches that are dropped of an image, from the bits of its pixels."""
    pixels = image.flatten().tolist()
    bits = struct.unpack(f"<{len(pixels)}i", struct.pack(f"<{len(pixels)}f", *pixels))
    own = sum(mixed((one & WORD) ^ mixed(index)) for index, one in enumerate(bits)) & WORD
    start = mixed(mixed(seed) ^ own)
    ranked = sorted(range(total), key=lambda patch: signed(mixed((start + patch) & WORD)))
    return set(ranked[: round(share * total)])


def zeroed(tokens: Tensor, dropped: list[set[int]], prefix: int, grid: tuple[int, int]) -> Tensor:
    """Tokens or a map with its channels last, token by token."""
    result = tokens.clone()
    for image, patches in enumerate(dropped):
        for patch in patches:
            if tokens.ndim == 3:
                result[image, prefix + patch] = 0
            else:
                result[image, patch // grid[1], patch % grid[1]] = 0
    return result


def hooked(found: Bench, name: str, dropped: list[set[int]]) -> Tensor:
    """The plain model whose first block takes zeros."""
    part = found.sites.model.get_submodule(FIRST_BLOCK[name])
    handle = part.register_forward_pre_hook(
        lambda _, given: (zeroed(given[0], dropped, int(name == "vit"), GRID[name]),)
    )
    try:
        return plain(found)
    finally:
        handle.remove()


def lost(found: Bench, kind: DropTokens, prefix: int = 0) -> list[set[int]]:
    """Which tokens of each image are zero where an ablation acts."""
    node = found.sites.nodes["embedding"]["embedding"]
    value = values(found, (kind, "embedding"))[node]
    gone = (value == 0).all(-1)
    assert torch.equal(value[~gone], found.intact[node][~gone]), "tokens that stay are as they were"
    return [set(torch.where(one)[0].tolist()) for one in gone.flatten(1)[:, prefix:]]


@pytest.mark.parametrize("name", list(FIRST_BLOCK))
def test_by_chance_from_the_pixels(name: str) -> None:
    found, kind = bench_of(name), kind_of(share=0.3, seed=4)
    rows, cols = GRID[name]
    dropped = [drawn(image, 0.3, rows * cols, 4) for image in found.images]
    assert {len(one) for one in dropped} == {round(0.3 * rows * cols)}
    assert lost(found, kind, int(name == "vit")) == dropped
    same(output(found, (kind, "embedding")), hooked(found, name, dropped))


def test_batches_do_not_matter_and_the_seed_does() -> None:
    found = with_images(
        bench_of("vit"), torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(8))
    )
    kind = kind_of()
    whole = lost(found, kind, 1)
    assert len({frozenset(one) for one in whole}) > 1
    for sizes in ([1] * 7, [3, 4], [6, 1]):
        parts = [lost(with_images(found, part), kind, 1) for part in found.images.flip(0).split(sizes)]
        assert [one for part in parts for one in part][::-1] == whole
    assert lost(found, kind_of(seed=1), 1) != whole
    every = lost(found, kind_of(per="all"), 1)
    assert len({frozenset(one) for one in every}) == 1 and len(every[0]) == 8


def test_shares_of_nothing_and_everything() -> None:
    found = bench_of("vit")
    node = place(found, kind_of(), "embedding").node
    assert torch.equal(values(found, (kind_of(share=0), "embedding"))[node], found.intact[node])
    empty = values(found, (kind_of(share=1), "embedding"))[node]
    assert not empty[:, 1:].any() and torch.equal(empty[:, 0], found.intact[node][:, 0])


@pytest.mark.parametrize("name", list(FIRST_BLOCK))
@pytest.mark.parametrize("which", ["salient", "least_salient"])
def test_by_the_norm_of_tokens(name: str, which: str) -> None:
    found, kind = bench_of(name), kind_of(share=0.5, which=which)
    rows, cols = GRID[name]
    tokens = (
        found.intact[place(found, kind, "embedding").node].double().flatten(1, -2)[:, int(name == "vit") :]
    )
    norms = tokens.square().sum(-1).tolist()
    ranked = [sorted(range(rows * cols), key=lambda one, row=row: row[one]) for row in norms]
    half = rows * cols // 2
    dropped = [set(one[half:] if which == "salient" else one[:half]) for one in ranked]
    assert lost(found, kind, int(name == "vit")) == dropped
    same(output(found, (kind, "embedding")), hooked(found, name, dropped))


def attended(found: Bench, at: str) -> Tensor:
    """Of the plain model: how much the class token attends to each patch, `[image, patch]`."""
    module: Any = found.sites.model.get_submodule(at)
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].double()))
    plain(found)
    handle.remove()
    q, k, _ = (seen[0] @ module.qkv.weight.double().T + module.qkv.bias.double()).chunk(3, -1)
    heads = [(one.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)) for one in (q, k)]
    weights = (heads[0] @ heads[1].mT * module.scale).softmax(-1)
    return weights.mean(1)[:, 0, 1:]


@pytest.mark.parametrize("which", ["salient", "least_salient"])
@pytest.mark.parametrize("at", ["blocks.0.attn", "blocks.1.attn"])
def test_by_the_attention_of_the_class_token(which: str, at: str) -> None:
    """Of the intact model, also where the attention lies behind the tokens that are dropped."""
    found, kind = bench_of("vit"), kind_of(share=0.25, which=which, salience="attention", block=at)
    ranked = attended(found, at).argsort(1, descending=which == "salient")[:, :4].tolist()
    assert lost(found, kind, 1) == [set(one) for one in ranked]
    same(output(found, (kind, "embedding")), hooked(found, "vit", [set(one) for one in ranked]))


def test_salience_is_read_as_the_edits_before_leave_the_model() -> None:
    found, at = bench_of("vit"), "blocks.1.attn"
    kind = kind_of(share=0.25, which="salient", salience="attention", block=at)
    skip = RemoveSkip(RemoveSkip.Params())
    block: Any = found.sites.model.get_submodule("blocks.0")
    without = {
        "forward": lambda self, x, **_: (lambda y: y + self.mlp(self.norm2(y)))(self.attn(self.norm1(x)))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block, "forward", without["forward"].__get__(block))
        wanted = [set(one) for one in attended(found, at).argsort(1, descending=True)[:, :4].tolist()]
    node = place(found, kind, "embedding").node

    def zeros(*edits: Any) -> list[set[int]]:
        tokens = values(found, *edits)[node][:, 1:]
        return [set(torch.where((one == 0).all(-1))[0].tolist()) for one in tokens]

    before, after = [
        ((skip, "blocks.0.attn"), (kind, "embedding")),
        ((kind, "embedding"), (skip, "blocks.0.attn")),
    ]
    assert zeros(*before) == wanted
    assert zeros(*after) == lost(found, kind, 1) != wanted


@pytest.mark.parametrize("name", list(FAMILIES))
def test_in_the_image(name: str) -> None:
    found, kind = bench_of(name), kind_of(space="pixels", share=0.5, seed=1, grid=4)
    images, (high, wide) = found.images.clone(), (found.images.shape[2] // 4, found.images.shape[3] // 4)
    for image in images:
        for patch in drawn(image, 0.5, 16, 1):
            row, col = patch // 4 * high, patch % 4 * wide
            image[:, row : row + high, col : col + wide] = 0
    assert torch.equal(values(found, (kind, "images"))[found.sites.traced.images], images)
    same(output(found, (kind, "images")), plain(found, images=images))


def test_the_same_salient_patches_in_the_image() -> None:
    found = bench_of("vit")
    tokens = kind_of(which="salient", salience="attention", block="blocks.1.attn")
    pixels = kind_of(which="salient", salience="attention", block="blocks.1.attn", space="pixels")
    image = values(found, (pixels, "images"))[found.sites.traced.images]
    cells = image.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(3, 16, -1)
    assert [set(torch.where((one == 0).all(-1))[0].tolist()) for one in cells] == lost(found, tokens, 1)


def test_after_a_shuffle_the_shuffled_image_decides() -> None:
    found = bench_of("gap")
    shuffle, kind = ShufflePatches(ShufflePatches.Params.model_validate({"grid": 2})), kind_of()
    shown = values(found, (shuffle, "images"))[found.sites.traced.images]
    together = values(found, (shuffle, "images"), (kind, "embedding"))[place(found, kind, "embedding").node]
    found_lost = [set(torch.where((one == 0).all(-1))[0].tolist()) for one in together]
    assert found_lost == [drawn(image, 0.5, 16, 0) for image in shown]


def test_registers_are_kept_and_a_norm_before_the_blocks_is_behind() -> None:
    found = bench(changed(TABLE["vit"], {"reg_tokens": 2, "no_embed_class": True, "pre_norm": True}))
    kind = kind_of(share=1)
    node = place(found, kind, "embedding").node
    value = values(found, (kind, "embedding"))[node]
    assert torch.equal(value[:, :3], found.intact[node][:, :3]) and not value[:, 3:].any()
    seen: list[Tensor] = []
    part = found.sites.model.get_submodule("norm_pre")
    handle = part.register_forward_hook(lambda _, __, out: seen.append(out))
    plain(found)
    handle.remove()
    same(found.intact[node], seen[0])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"which": "salient"},
        {"which": "least_salient", "salience": "attention", "block": "blocks.1.attn"},
        {"space": "pixels", "which": "salient"},
    ],
)
def test_laws(fields: dict[str, Any]) -> None:
    testing.check_ablation(kind_of(**fields))


def test_laws_of_a_map_with_channels_last() -> None:
    testing.check_ablation(kind_of(), FAMILIES["swin"])


def test_laws_without_tokens() -> None:
    testing.check_ablation(kind_of(space="pixels", grid=2), FAMILIES["resnet"])


BY_ATTENTION = {"which": "salient", "salience": "attention"}


@pytest.mark.parametrize(
    ("name", "fields", "code", "says"),
    [
        ("resnet", {}, "VD210", "there is no embedding of patches as tokens of `model`"),
        ("resnet", {"space": "pixels"}, "VD302", "how many with `grid:`"),
        ("resnet", {"space": "pixels", "grid": 5}, "VD302", "cannot be cut into 5 x 5 patches"),
        ("resnet", {"space": "pixels", "grid": 4, "which": "salient"}, "VD302", "the model's own patches"),
        ("vit", {"space": "pixels", "grid": 2, "which": "salient"}, "VD302", "leave `grid:` out"),
        ("vit", {"grid": 2}, "VD302", "or write `space: pixels`"),
        ("vit", {"role": "image"}, "VD302", "`space: tokens` is the role `embedding`"),
        ("vit", {"space": "pixels", "role": "embedding"}, "VD302", "`space: pixels` is the role `image`"),
        ("vit", BY_ATTENTION, "VD302", "write both or neither"),
        ("vit", {"which": "salient", "block": "blocks.1.attn"}, "VD302", "write both or neither"),
        ("vit", {**BY_ATTENTION, "block": "blocks.7.attn"}, "VD210", "`blocks.7.attn` of `model`"),
        ("gap", {**BY_ATTENTION, "block": "blocks.1.attn"}, "VD302", "has no class token"),
        ("swin", {**BY_ATTENTION, "block": "layers.0.blocks.0.attn"}, "VD302", "has no class token"),
        ("mixer", {**BY_ATTENTION, "block": "blocks.1"}, "VD210", "there is no attention"),
        ("vit", {"share": 1.5}, "VD221", "share"),
    ],
)
def test_where_it_cannot_act(name: str, fields: dict[str, Any], code: str, says: str) -> None:
    refused(refusals(name, kind="drop_tokens", **fields), code, says)


def test_what_would_run_the_model_twice_is_not_trained() -> None:
    by_attention = kind_of(**BY_ATTENTION, block="blocks.1.attn")
    assert "before the one that is changed" in (by_attention.refuse_training() or "")
    assert kind_of(which="salient", space="pixels").refuse_training()
    assert kind_of().refuse_training() is None and kind_of(which="salient").refuse_training() is None
    assert kind_of(space="pixels").refuse_training() is None
