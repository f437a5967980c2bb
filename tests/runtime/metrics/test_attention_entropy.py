"""Attention entropy against loops over queries in float64, and against hooks on plain timm models."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from attentions import PREFIX, attention_site, by_graph, by_hooks, images_of, made, refusal_of_windows
from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.attention_entropy import AttentionEntropy

KIND = AttentionEntropy(Entry())


def entropy_of(row: Array) -> float:
    """Of one query's weights, from the formula, one key after another."""
    row = row / math.fsum(row)
    return -math.fsum(float(p) * math.log(p) for p in row if p > 0)


def reference(attention: Tensor, prefix: int, class_token: bool) -> dict[str, Array]:
    """Each value, `[head]`."""
    weights = attention.double().numpy()
    images, heads, queries, keys = weights.shape
    each = np.array([[[entropy_of(row) for row in head] for head in image] for image in weights])
    entropy = each.sum((0, 2)) / (images * queries)
    mass = [math.fsum(weights[:, h, :, :prefix].ravel()) / (images * queries) for h in range(heads)]
    return {
        "entropy": entropy,
        "share": entropy / math.log(keys),
        "effective": np.e**entropy,
        "prefix_mass": np.asarray(mass),
        "cls_entropy": each[:, :, 0].mean(0) if class_token else np.full(heads, np.nan),
    }


@pytest.mark.parametrize(("prefix", "class_token"), [(1, True), (2, True), (5, True), (4, False), (0, False)])
def test_laws(prefix: int, class_token: bool) -> None:
    sites = [
        attention_site((2, 3), prefix, name=f"blocks.{i}.attn", class_token=class_token) for i in range(2)
    ]
    tensors = [made(9, site.shape, seed) for seed, site in enumerate(sites)]
    parts = [reference(one, prefix, class_token) for one in tensors]
    wanted = {name: np.stack([part[name] for part in parts])[None] for name in KIND.VALUES}
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    group = testing.group_of(KIND, sites)
    testing.check_metric(group, stream, wanted, batch=4, any_batches=True, tolerance=1e-6)
    assert np.ptp(wanted["entropy"]) > 0.5, "the heads must differ for this to say anything"


def test_page() -> None:
    testing.check_page(AttentionEntropy)


@pytest.mark.parametrize("name", list(PREFIX))
def test_a_real_model_against_hooks(name: str) -> None:
    images = images_of(5)
    found, sites = by_graph(KIND, name, images, 2)
    assert [site.prefix for site in sites] == [PREFIX[name]] * 3
    for i, attention in enumerate(by_hooks(name, images)):
        wanted = reference(attention, PREFIX[name], PREFIX[name] > 0)
        for value, one in wanted.items():
            np.testing.assert_allclose(found[value].values[0, i], one, atol=2e-5, err_msg=value)
        assert wanted["share"].max() < 0.99, "attention is too even for this to say anything"


def run(site: Site, attention: Tensor) -> dict[str, Array]:
    stream = testing.Stream({"baseline": ([(attention,)], None)})
    found = testing.run(testing.group_of(KIND, [site]), stream, 2)
    return {name: found[name].values[0, 0] for name in KIND.VALUES} | {"said": found.attrs["undefined"]}


@pytest.mark.parametrize("count", [3, 196])
def test_even_attention_is_at_the_line_and_one_key_at_zero(count: int) -> None:
    site = attention_site((1, count), 1, heads=1)
    keys = count + 1
    even = run(site, torch.full((2, 1, keys, keys), 1 / keys))
    for name in KIND.VALUES:
        line = KIND.line(name, [site])
        assert line is not None and line[1] == "uniform attention"
        assert even[name][0] == pytest.approx(line[0], rel=1e-12), name
    one = torch.zeros(2, 1, keys, keys)
    one[..., 0] = 1.0
    sharp = run(site, one)
    assert [float(sharp[name][0]) for name in KIND.VALUES] == [0.0, 0.0, 1.0, 1.0, 0.0]


def test_no_line_where_sites_have_other_numbers_of_keys() -> None:
    sites = [attention_site((1, 3)), attention_site((1, 4))]
    assert KIND.line("entropy", sites) is None
    assert KIND.line("prefix_mass", [attention_site((1, 3), 0)]) is None


def test_half_precision_weights_are_scaled_to_one() -> None:
    site = attention_site((4, 3), heads=4)
    attention = made(3, site.shape).to(torch.bfloat16)
    found, wanted = run(site, attention), reference(attention, 1, True)
    for name in ("entropy", "share", "effective", "cls_entropy"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12, err_msg=name)


def test_other_heads_and_other_keys() -> None:
    """Pooled keys have an entropy, but it is not known which are prefix tokens, nor which query is a class token's."""
    few = attention_site((2, 3), heads=1, name="few")
    pooled = Site("pooled", "attention", (2, 12, 4), "attention", 0.5, None, False)
    tensors = [made(4, few.shape), made(4, pooled.shape)]
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    found = testing.run(testing.group_of(KIND, [few, pooled]), stream, 4)
    wanted = reference(tensors[1], 0, False)
    np.testing.assert_allclose(found["share"].values[0, 1], wanted["share"], rtol=1e-6)
    assert np.isnan(found["entropy"].values[0, 0, 1]) and np.isnan(found["prefix_mass"].values[0, 1]).all()
    said = found.attrs["undefined"]
    assert "prefix mass of `pooled`" in said and "class token: `pooled` has no query" in said
    assert "not finite" not in said, "a head that does not exist is not an undefined one"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_seen(bad: float) -> None:
    site = attention_site((2, 2))
    attention = made(4, site.shape)
    attention[2, 1, 3] = bad
    found = run(site, attention)
    assert np.isfinite(found["entropy"]).tolist() == [True, False, True]
    assert "`blocks.0.attn` are not finite" in str(found["said"])


def test_windows_are_refused_with_the_reason() -> None:
    assert "stays inside windows" in refusal_of_windows("attention_entropy", at='"layers.0.blocks.*"')
    assert KIND.refuse(attention_site()) is None
