"""Attention rollout against matrix powers written from the formula in float64, and against hooks on timm models."""

import math
from functools import reduce

import numpy as np
import pytest
import torch
from torch import Tensor

from attentions import (
    OPTIONS,
    PREFIX,
    attention_site,
    by_graph,
    by_hooks,
    images_of,
    made,
    refusal_of_windows,
)
from studies import bound
from studies import study as text_of
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.attention_rollout import LARGEST, AttentionRollout, Params
from vitdsl.runtime.run.cost import cost

KIND = AttentionRollout(Params())
FUSE = {"mean": np.mean, "max": np.max, "min": np.min}


def step_of(heads: Array, fusion: str, discard: float) -> Array:
    """One block of one image: fused, thinned, with I, rows scaled."""
    found = FUSE[fusion](heads, axis=0)
    order = sorted(range(found.size), key=lambda i: (found.flat[i], i))
    for i in order[: math.floor(discard * found.size)]:
        found.flat[i] = 0.0
    found = found + np.eye(len(found))
    return np.stack([row / row.sum() for row in found])


def reference(
    blocks: list[Tensor], site: Site, fusion: str = "mean", discard: float = 0.0
) -> dict[str, Array]:
    """Each value, `[site, ...]`: one image after another, the product made anew up to each block."""
    assert site.grid is not None and site.patch is not None and site.prefix is not None
    prefix, (rows, cols), (height, width) = site.prefix, site.grid, site.patch
    patches, images = range(rows * cols), len(blocks[0])
    maps = np.zeros((len(blocks), rows, cols))
    own, distance, cls = (np.zeros(len(blocks)) for _ in range(3))
    for image in range(images):
        steps = [step_of(one[image].float().double().numpy(), fusion, discard) for one in blocks]
        for up_to in range(len(blocks)):
            rolled = reduce(lambda below, step: step @ below, steps[: up_to + 1])
            row = rolled[0] if site.class_token else np.mean(rolled[prefix:], 0)
            maps[up_to] += row[prefix:].reshape(rows, cols) / images
            cls[up_to] += row[0] / images if site.class_token else np.nan
            for i in patches:
                own[up_to] += rolled[prefix + i, prefix + i] / len(patches) / images
                for j in patches:
                    dy, dx = (i // cols - j // cols) * height, (i % cols - j % cols) * width
                    distance[up_to] += (
                        rolled[prefix + i, prefix + j] * math.hypot(dy, dx) / len(patches) / images
                    )
    return {"map": maps, "own_share": own, "distance": distance, "cls_mass": cls}


PARAMS = [{}, {"fusion": "max"}, {"fusion": "min", "discard": 0.3}, {"discard": 0.9}]


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize(("prefix", "class_token"), [(1, True), (5, True), (4, False), (0, False)])
def test_laws(params: dict[str, object], prefix: int, class_token: bool) -> None:
    kind = AttentionRollout(Params(**params))
    sites = [
        attention_site((2, 3), prefix, name=f"blocks.{i}.attn", class_token=class_token) for i in range(3)
    ]
    tensors = [made(9, site.shape, seed) for seed, site in enumerate(sites)]
    wanted = {name: one[None] for name, one in reference(tensors, sites[0], **params).items()}  # type: ignore[arg-type]
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    group = testing.group_of(kind, sites)
    testing.check_metric(group, stream, wanted, batch=4, any_batches=True, tolerance=3e-6)
    assert np.ptp(wanted["own_share"]) > 0.05, "blocks must differ for this to say anything"


def test_page() -> None:
    testing.check_page(AttentionRollout)


@pytest.mark.parametrize("name", list(PREFIX))
def test_a_real_model_against_hooks(name: str) -> None:
    images = images_of(5)
    found, sites = by_graph(KIND, name, images, 2)
    assert [site.name for site in sites] == [f"blocks.{i}.attn" for i in range(3)]
    for value, wanted in reference(by_hooks(name, images), sites[0]).items():
        np.testing.assert_allclose(found[value].values[0], wanted, atol=2e-5, err_msg=value)
    assert np.isfinite(found["cls_mass"]).all() == (PREFIX[name] > 0)
    assert ("there is no class token" in found.attrs["undefined"]) == (PREFIX[name] == 0)


def run(sites: list[Site], tensors: list[Tensor], **params: object) -> dict[str, Array]:
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    found = testing.run(testing.group_of(AttentionRollout(Params(**params)), sites), stream, 2)
    return {name: found[name].values[0] for name in KIND.VALUES} | {"said": found.attrs["undefined"]}


def test_attention_to_oneself_stays_and_even_attention_halves() -> None:
    """With A = I nothing moves; with even A a row keeps (1 + 1 / n) / 2 after one block, and 1 / n in the end."""
    sites = [attention_site((3, 3), 0, heads=1, name=f"b.{i}") for i in range(20)]
    still = torch.eye(9).expand(2, 1, 9, 9).contiguous()
    found = run(sites, [still] * 20)
    assert (found["own_share"] == 1).all() and (found["distance"] == 0).all()
    even = run(sites, [torch.full((2, 1, 9, 9), 1 / 9)] * 20)
    assert even["own_share"][0] == pytest.approx((1 + 1 / 9) / 2, abs=1e-7)
    assert even["own_share"][-1] == pytest.approx(1 / 9, abs=1e-5)
    line = KIND.line("distance", sites)
    assert line is not None and even["distance"][-1] == pytest.approx(line[0], rel=1e-5)
    assert KIND.line("own_share", sites) is None
    np.testing.assert_allclose(even["map"], 1 / 9, atol=1e-7)


def test_rows_of_the_map_are_along_the_image() -> None:
    """All look at patch (1, 2) of a grid of 2 x 3; half of the class token's row is there after one block."""
    site = attention_site((2, 3), 2, heads=2)
    attention = torch.zeros(2, *site.shape)
    attention[..., 2 + 1 * 3 + 2] = 1.0
    found = run([site], [attention])
    assert found["map"][0].tolist() == [[0, 0, 0], [0, 0, 0.5]] and found["cls_mass"].tolist() == [0.5]
    assert KIND.coordinates([site]) == {"row": [0, 8], "col": [0, 8, 16]}


def test_of_equal_weights_the_first_are_discarded() -> None:
    site = attention_site((1, 3), 0, heads=1)
    found = run([site], [torch.full((2, 1, 3, 3), 1 / 3)], discard=0.5)
    rows = np.array([[0, 0, 0], [0, 1, 1], [1, 1, 1]]) / 3 + np.eye(3)
    np.testing.assert_allclose(found["map"][0, 0], (rows / rows.sum(1, keepdims=True)).mean(0), atol=1e-7)


@pytest.mark.parametrize("discard", [0.0, 0.5])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named_where_they_begin(bad: float, discard: float) -> None:
    sites = [attention_site((2, 2), name=f"blocks.{i}.attn") for i in range(3)]
    tensors = [made(4, site.shape) for site in sites]
    tensors[1][2, 1, 3, 2] = bad
    found = run(sites, tensors, discard=discard)
    assert np.isfinite(found["own_share"]).tolist() == [True, False, False]
    assert "weights of `blocks.1.attn` are not finite" in str(found["said"])


def test_refused_sites() -> None:
    assert KIND.refuse(attention_site()) is None
    wanted = {
        "windows": Site("a", "attention", (3, 49, 49), "windows", 0.0),
        "different grids (49 and 10": Site("a", "attention", (3, 49, 10), "attention", 0.0),
        "not the model's patch grid": Site("a", "attention", (3, 49, 49), "attention", 0.0),
        "2.3 million numbers": attention_site((38, 40), 1),
    }
    for says, site in wanted.items():
        assert says in (KIND.refuse(site) or ""), says
    assert KIND.refuse(attention_site((37, 37), 5)) is None and 1374**2 < LARGEST


def test_a_model_with_windows_is_refused_though_its_last_blocks_have_none() -> None:
    assert "stays inside windows, so that its weights are not" in refusal_of_windows("attention_rollout")


def test_a_model_of_which_one_site_is_refused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(
        "some",
        data={"probe": "{source: digits, split: test, images: 8, batch: 4}"},
        models={"vit": {"arch": "vit_tiny_patch16_224", "options": OPTIONS, "weights": "random"}},
        metrics={"rollout": "{kind: attention_rollout, of: vit}"},
    )
    plan = bound(text)
    (priced,) = cost(plan).models
    monkeypatch.setattr(AttentionRollout, "held", lambda self, site, batch: 0)
    (without,) = cost(plan).models
    assert priced.memory - without.memory == 4 * 4 * 3 * 13**2, "float32, images of a batch, blocks, tokens^2"
    refuse = AttentionRollout.refuse
    monkeypatch.setattr(
        AttentionRollout,
        "refuse",
        lambda self, site: "not this one" if site.name == "blocks.1.attn" else refuse(self, site),
    )
    with pytest.raises(StudyError, match=r"at `blocks\.1\.attn`, not this one"):
        bound(text)
