"""What programs keep on themselves while they are traced is gone afterwards, and real models run after a trace."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, fx, nn

import studies
from vitdsl.runtime.graph.sites import same_sites, sites_of
from vitdsl.runtime.graph.trace import trace
from vitdsl.runtime.graph.undisturbed import undisturbed
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

LEVIT = {"img_size": 64, "embed_dim": (32, 64), "key_dim": 8, "depth": (1, 1), "num_heads": (2, 4)}
EFFICIENT = {"embed_dims": (16, 24, 32, 48), "depths": (1, 1, 1, 2), "num_vit": 1}
CACHING = {
    "levit_128s": LEVIT,
    "efficientformer_l1": EFFICIENT,
    "efficientformerv2_s0": {**EFFICIENT, "mlp_ratios": (2, 2, 2, (2, 2)), "img_size": 64},
}


class Keeps(nn.Module):
    """Keeps what it computed in a dictionary, a list, a set, a nested dictionary and an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(4, 4)
        self.by_name: dict[str, Tensor] = {}
        self.nested: dict[str, list[Tensor]] = {"all": []}
        self.seen: set[str] = {"old"}
        self.pair: tuple[list[Tensor], int] = ([], 0)

    def forward(self, x: Tensor) -> Tensor:
        if "y" not in self.by_name:
            self.by_name["y"] = self.f(x)
        self.nested["all"].append(x)
        self.nested["more"] = [x]
        self.seen.add("new")
        self.pair[0].append(x)
        self.last = x
        return self.by_name["y"] * 2


def test_a_trace_leaves_attributes_and_containers_as_they_were() -> None:
    model = Keeps().eval()
    places = (model.by_name, model.nested, model.nested["all"], model.seen, model.pair)
    x = torch.randn(2, 4)
    for _ in range(2):
        graph = trace(model, (4,)).graph
        assert model.by_name == {} and model.nested == {"all": []} and model.seen == {"old"}
        assert model.pair == ([], 0) and not hasattr(model, "last")
        now = (model.by_name, model.nested, model.nested["all"], model.seen, model.pair)
        assert all(one is other for one, other in zip(places, now, strict=True))
        assert torch.equal(fx.GraphModule(model, graph)(x), model.f(x) * 2)


def test_state_comes_back_after_an_error() -> None:
    model = Keeps()
    with pytest.raises(ZeroDivisionError), undisturbed(model):
        model(torch.randn(2, 4))
        assert model.by_name and model.last is not None
        raise ZeroDivisionError
    assert model.by_name == {} and not hasattr(model, "last")


@pytest.mark.parametrize("arch", CACHING)
def test_graphs_of_models_that_cache_their_biases_equal_them(arch: str) -> None:
    def built() -> nn.Module:
        model: nn.Module = timm.create_model(arch, num_classes=5, **CACHING[arch]).eval()
        return model

    with torch.device("meta"):
        skeleton = built()
    size = 64 if "img_size" in CACHING[arch] else 224
    sites = sites_of(skeleton, (3, size, size))
    sites = sites_of(skeleton, (3, size, size), unfuse=frozenset())  # as for a plan without attention
    torch.manual_seed(0)
    model = built()
    for name, parameter in model.named_parameters():
        if name.endswith("attention_biases"):
            nn.init.normal_(parameter)
    there = same_sites(model, sites)
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        graph = fx.GraphModule(model, there.traced.graph)
        torch.testing.assert_close(graph(images), model(images), rtol=1e-5, atol=1e-5)


def test_a_study_of_such_a_model_runs_as_its_check_says(tmp_path: Path) -> None:
    text = studies.study(
        "caches",
        data={"probe": "{source: noise, total: 16, size: 64, classes: 5, batch: 8}"},
        models={"levit": {"arch": "levit_128s", "options": {**LEVIT, "num_classes": 5}, "weights": "random"}},
        metrics={
            "ratio": "{kind: skip_ratio, of: levit}",
            "entropy": "{kind: attention_entropy, of: levit}",
        },
    )
    found = open_run(run(studies.bound(text), out=tmp_path).folder)
    assert all(check.ok for check in found.manifest.trust)
    assert np.isfinite(found.groups["entropy/levit"]["entropy"]).any("head").all()
