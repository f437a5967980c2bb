"""The other pool, against plain models whose pool was set to the other value."""

from typing import Any

import pytest
import torch

from ablated import TABLE, bench, bench_of, output, plain, refusals, refused, same
from studies import changed
from vitdsl import testing
from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations.swap_pool import Params, SwapPool

CLS, GAP = SwapPool(Params(to="cls")), SwapPool(Params(to="gap"))
VIT = TABLE["vit"]
POOLED_BY_MEAN = changed(VIT, {"global_pool": "avg"})
EVA: dict[str, Any] = {
    "arch": "eva02_tiny_patch14_224",
    "options": {"img_size": 56, "depth": 1, "num_classes": 5},
    "weights": "random",
}


@pytest.mark.parametrize(
    ("fields", "kind", "pool"),
    [
        (VIT, GAP, "avg"),
        (changed(VIT, {"reg_tokens": 2}), GAP, "avg"),
        (changed(VIT, {"fc_norm": True}), GAP, "avg"),
        (POOLED_BY_MEAN, CLS, "token"),
        (changed(POOLED_BY_MEAN, {"fc_norm": False}), CLS, "token"),
        (EVA, CLS, "token"),
        (changed(POOLED_BY_MEAN, {"pool_include_prefix": True}), CLS, "token"),
    ],
)
def test_the_norm_stays_where_the_model_has_it(fields: dict[str, Any], kind: SwapPool, pool: str) -> None:
    """As in timm where `global_pool` of a built model is set to another value."""
    found = bench(fields)
    same(output(found, (kind, "pool")), plain(found, ("", "global_pool", pool)))


def test_a_mean_with_the_prefix_in_it_is_another() -> None:
    found = bench(changed(POOLED_BY_MEAN, {"pool_include_prefix": True}))
    same(output(found, (GAP, "pool")), plain(found, ("", "pool_include_prefix", False)))


def test_the_mean_of_the_spatial_tokens_by_hand() -> None:
    found = bench(changed(VIT, {"reg_tokens": 2}))
    model: Any = found.sites.model
    with torch.inference_mode():
        tokens = model.forward_features(found.images).double()
        wanted = tokens[:, 3:].mean(1) @ model.head.weight.double().T + model.head.bias.double()
    same(output(found, (GAP, "pool")), wanted.float())


def test_laws() -> None:
    testing.check_ablation(GAP)
    testing.check_ablation(CLS, Model(**POOLED_BY_MEAN))


@pytest.mark.parametrize(
    ("name", "options", "to", "code", "says"),
    [
        ("vit", {}, "cls", "VD302", "reads the class token already"),
        ("gap", {}, "gap", "VD302", "reads the mean of the spatial tokens already"),
        ("gap", {}, "cls", "VD302", "has no class token"),
        ("swin", {}, "cls", "VD302", "has no class token"),
        ("resnet", {}, "cls", "VD302", "has no class token"),
        ("mixer", {}, "cls", "VD302", "has no class token"),
        ("resnet", {}, "gap", "VD302", "reads the mean of the spatial tokens already"),
        ("vit", {"global_pool": "map"}, "gap", "VD302", "attention pools stay"),
        (
            "vit",
            {"global_pool": "avgmax"},
            "cls",
            "VD210",
            "there is no pool that makes one vector of tokens",
        ),
    ],
)
def test_where_there_are_not_both(name: str, options: dict[str, Any], to: str, code: str, says: str) -> None:
    refused(refusals(name, options, kind="swap_pool", to=to), code, says)


def test_the_pool_can_be_named_and_read() -> None:
    for name in ("vit", "gap", "swin", "resnet", "mixer"):
        sites = bench_of(name).sites
        (site,) = (sites.site(one, "pool") for one in sites.names("pool"))
        assert (site.name, site.layout, site.class_token) == ("pool", "vector", name == "vit")
        head: Any = sites.model.get_submodule({"swin": "head.fc", "resnet": "fc"}.get(name, "head"))
        seen: list[torch.Tensor] = []
        handle = head.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        plain(bench_of(name))
        handle.remove()
        pooled = bench_of(name).intact[sites.nodes["pool"]["pool"]]
        if name == "gap":
            pooled = sites.model.get_submodule("fc_norm")(pooled)
        same(pooled, seen[0])
