"""What belongs to a model as a whole has a name: images, embedded tokens, position embeddings, pool."""

import copy
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import nn

from vitdsl.runtime.graph.edit import Apply, Lane, Operation, Rewriter
from vitdsl.runtime.graph.fixed import FIXED, logits_of
from vitdsl.runtime.graph.listing import listed
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.graph.whole import WHOLE_ROLES, pool_of

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2}
SWIN = {"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)}
VIT = "vit_tiny_patch16_224"
Row = tuple[str, list[int], str]


@cache
def sites(arch: str, size: int, **options: Any) -> Sites:
    with torch.device("meta"):
        return sites_of(timm.create_model(arch, **options).eval(), (3, size, size))


def rows(found: Sites, role: str) -> list[Row]:
    return [(one["site"], one["shape"], one["kind"]) for one in listed(found, role, found.names(role))]


POSITIONS: list[tuple[str, int, dict[str, Any], list[Row]]] = [
    (VIT, 32, TINY, [("pos_embed", [17, 24], "added")]),
    (VIT, 32, {**TINY, "dynamic_img_size": True}, [("pos_embed", [17, 24], "added")]),
    (VIT, 32, {**TINY, "no_embed_class": True, "reg_tokens": 2}, [("pos_embed", [16, 24], "added")]),
    (VIT, 32, {**TINY, "pos_embed": "none"}, []),
    (VIT, 32, {**TINY, "global_pool": "map"}, [("pos_embed", [17, 24], "added")]),
    (
        "vit_relpos_small_patch16_224",
        32,
        TINY,
        [(f"blocks.{block}.attn", [3, 16, 16], "bias") for block in (0, 1)],
    ),
    (
        "eva02_tiny_patch14_224",
        56,
        {"img_size": 56, "depth": 1},
        [("pos_embed", [17, 192], "added"), ("blocks.0.attn", [16, 64], "rotary")],
    ),
    ("mixer_s32_224", 64, {"img_size": 64}, []),
    ("resnet10t", 32, {}, []),
]


@pytest.mark.parametrize(("arch", "size", "options", "wanted"), POSITIONS)
def test_positions(arch: str, size: int, options: dict[str, Any], wanted: list[Row]) -> None:
    assert rows(sites(arch, size, **options), "position") == wanted


@pytest.mark.parametrize(
    ("arch", "size", "options", "embedding", "pool"),
    [
        (VIT, 32, TINY, [17, 24], "class token"),
        (VIT, 32, {**TINY, "class_token": False, "global_pool": "avg"}, [16, 24], "mean"),
        (VIT, 32, {**TINY, "global_pool": "map"}, [17, 24], "other"),
        (VIT, 32, {**TINY, "global_pool": "avgmax"}, [17, 24], None),
        ("deit_tiny_distilled_patch16_224", 32, TINY, [18, 24], None),
        ("swin_tiny_patch4_window7_224", 56, SWIN, [14, 14, 24], "mean"),
        ("mixer_s32_224", 64, {"img_size": 64}, [4, 512], "mean"),
        ("resnet10t", 32, {}, None, "mean"),
        ("resnet10t", 64, {}, None, "mean"),
        ("convnext_atto", 64, {}, None, "mean"),
        ("vit_small_r26_s32_224", 64, {"img_size": 64}, [5, 384], "class token"),
    ],
)
def test_images_embedding_and_pool(
    arch: str, size: int, options: dict[str, Any], embedding: list[int] | None, pool: str | None
) -> None:
    found = sites(arch, size, **options)
    assert rows(found, "image") == [("images", [3, size, size], "image")]
    assert rows(found, "embedding") == ([("embedding", embedding, "embedding")] if embedding else [])
    assert [(name, what) for name, _, what in rows(found, "pool")] == ([("pool", pool)] if pool else [])
    assert all(found.site(name, role).name == name for role in WHOLE_ROLES for name in found.names(role))


def test_a_pool_knows_the_tokens_it_is_made_of() -> None:
    found = sites(VIT, 32, **TINY, reg_tokens=2)
    site = found.site("pool", "pool")
    assert (site.prefix, site.class_token, site.grid, site.layout) == (3, True, (4, 4), "vector")
    pool = pool_of(found.traced.output)
    assert pool is not None and pool_of(pool.node) == pool and pool.takes == "cls"


def test_what_is_added_to_logits() -> None:
    found = sites("swin_tiny_patch4_window7_224", 56, **SWIN)
    plain, shifted = (found.nodes["attention"][f"layers.0.blocks.{block}.attn"] for block in (0, 1))
    assert [one.kind for one in logits_of(plain).added] == ["learned"]
    assert [one.kind for one in logits_of(shifted).added] == ["learned", "given"]
    assert all(logits_of(one).viewed and not logits_of(one).hidden for one in (plain, shifted))
    assert not any(FIXED in one.meta for one in (plain, shifted))


class Hiding(nn.Module):
    """An attention that hides keys by `masked_fill`, and one whose mask is turned before the softmax."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 24)
        self.how = how
        self.register_buffer("mask", torch.ones(16, 16).tril() == 0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.embed(images).flatten(2).transpose(1, 2)).unsqueeze(1).chunk(3, -1)
        logits = q @ k.transpose(-2, -1)
        if self.how == "fill":
            logits = logits.masked_fill(self.mask, float("-inf"))
        elif self.how == "turned":
            logits = (logits + -100.0 * self.mask.float()).transpose(-2, -1)
        return (logits.softmax(-1) @ v).squeeze(1).mean(1)


@pytest.mark.parametrize(("how", "hidden", "viewed"), [("fill", True, True), ("turned", False, False)])
def test_keys_that_are_hidden_otherwise(how: str, hidden: bool, viewed: bool) -> None:
    with torch.device("meta"):
        found = sites_of(Hiding(how).eval(), (3, 32, 32))
    (weights,) = found.nodes["attention"].values()
    assert (logits_of(weights).hidden, logits_of(weights).viewed) == (hidden, viewed)


def test_what_lies_ahead_is_under_the_edits_before_alone() -> None:
    """Of three edits the second asks for the output: it sees the first, not itself and not the third."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    found = same_sites(model, sites_of(copy.deepcopy(model).to("meta"), (3, 8, 8)))
    images = torch.randn(4, 3, 8, 8)
    seen: list[torch.Tensor] = []

    def times(factor: float) -> Operation:
        return Operation(scaled, (("factor", factor),))

    def asking(build: Rewriter) -> Any:
        return build.call(Operation(note), build.before, build.ahead(found.traced.output))

    def note(value: torch.Tensor, ahead: torch.Tensor) -> torch.Tensor:
        seen.append(ahead.clone())
        return value * 0

    places = [found.place(name, "output") for name in ("0", "1", "2")]
    edits = (
        (places[0], lambda build: build.call(times(3.0), build.before)),
        (places[1], asking),
        (places[2], lambda build: build.call(times(5.0), build.before)),
    )
    tap = Tap((found.traced.output,), Reducer(kept), found.site("", "output"))
    lanes = [Lane("intact"), Lane("edited", edits)]
    merged = merge(model, found.traced.graph, lanes, {lane.name: [tap] for lane in lanes})
    assert sum(isinstance(one, Apply) for one in merged.module.modules()) == 3
    with torch.inference_mode():
        out = merged.module(images)
        wanted = model[3](model[1](model[0](images) * 3).flatten(1))
    torch.testing.assert_close(seen[-1], wanted)
    assert torch.equal(out[merged.slots["intact", tap]][0], model(images))
    torch.testing.assert_close(out[merged.slots["edited", tap]][0], model[3].bias.expand(4, 5))


def scaled(tensor: torch.Tensor, *, factor: float) -> torch.Tensor:
    return tensor * factor


def kept(tensor: torch.Tensor, *, site: Any) -> torch.Tensor:
    return tensor.clone()
