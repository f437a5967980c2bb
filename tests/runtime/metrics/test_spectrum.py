"""Spectra against singular values of all rows at once, and on a small ViT against hooks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.spectrum import Params, Spectrum
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan import bind_memory
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.cost import cost
from vitdsl.runtime.run.run import run

STUDY = study(
    "s",
    data={"probe": {"source": "digits", "split": "test", "images": 30, "batch": 8, "image_blocks": 3}},
    models={"vit": TINY_VIT},
    layers={
        "means": {"of": "vit", "at": '"blocks.*"', "tokens": "mean"},
        "patches": {"of": "vit", "at": '"blocks.*"', "tokens": "spatial"},
    },
    metrics={
        "images": {"kind": "spectrum", "x": "means"},
        "tokens": {"kind": "spectrum", "x": "patches", "rows_are": "tokens"},
    },
)


def kind(**fields: Any) -> Spectrum:
    return Spectrum(Params(**fields))


def entropy_rank(shares: Array) -> float:
    kept = shares[shares > 0]
    return float(np.exp(-(kept * np.log(kept)).sum()))


def reference(rows: Any, centered: bool = True) -> dict[str, float]:
    """From the singular values of `[row, feature]`, those of rounding left out."""
    x = np.asarray(rows, np.float64)
    whole = np.linalg.svd(x, compute_uv=False)
    own = np.linalg.svd(x - x.mean(0), compute_uv=False) if centered else whole
    own = own[own > 1e-12 * whole[0]]
    return {
        "effective_rank": entropy_rank(own / own.sum()),
        "participation_ratio": (own**2).sum() ** 2 / (own**4).sum(),
        "stable_rank": (own**2).sum() / own[0] ** 2,
        "pc1_share": own[0] ** 2 / (own**2).sum(),
        "rankme": entropy_rank(whole / whole.sum() + 1e-7),
        "largest_rank": min(len(x) - centered, x.shape[1]),
    }


def made(*shape: int, seed: int = 0) -> Tensor:
    """Features whose scales fall off, far from zero."""
    generator = torch.Generator().manual_seed(seed)
    scales = 2.0 ** -torch.arange(shape[-1])
    return torch.randn(shape, generator=generator, dtype=torch.float64) * scales + 1


def test_page() -> None:
    testing.check_page(Spectrum)


@pytest.mark.parametrize("centered", [True, False])
def test_laws_with_images_as_rows(centered: bool) -> None:
    """Layers of two widths: the class token of one, the whole of another."""
    given = [made(40, 5, 6), made(40, 7, seed=1)]
    sites = [testing.tokens_site("blocks.0", 5, 6, tokens="cls"), testing.vector_site("head", 7)]
    parts = [reference(given[0][:, 0], centered), reference(given[1], centered)]
    wanted = {name: np.array([[part[name] for part in parts]]) for name in parts[0]}
    group = testing.group_of(kind(centered=centered), sites)
    stream = testing.Stream({"baseline": ([(one,) for one in given], None)})
    testing.check_metric(group, stream, wanted, batch=9, any_batches=True, tolerance=1e-9)


@pytest.mark.parametrize(
    ("tokens", "chosen"),
    [("all", slice(None)), ("spatial", slice(1, None)), ("cls", slice(1)), ((1, -1), [1, -1])],
)
def test_laws_with_tokens_as_rows(tokens: Any, chosen: Any) -> None:
    given = made(12, 5, 4)
    wanted = {name: [[value]] for name, value in reference(given[:, chosen].flatten(0, 1)).items()}
    group = testing.group_of(kind(rows_are="tokens"), [testing.tokens_site("b", 5, 4, tokens=tokens)])
    stream = testing.Stream({"baseline": ([(given,)], None)})
    testing.check_metric(group, stream, wanted, batch=5, any_batches=True, tolerance=1e-9)


@pytest.mark.parametrize("layout", ["map", "map_last"])
def test_positions_of_a_map_are_tokens(layout: Any) -> None:
    maps = made(6, 3, 2, 4).permute(0, 3, 1, 2)
    tensor = maps if layout == "map" else maps.permute(0, 2, 3, 1)
    site = Site("s", "output", tuple(tensor.shape[1:]), layout, 0.5, grid=(3, 2))
    found = one_site(tensor, site, rows_are="tokens")
    for name, value in reference(maps.permute(0, 2, 3, 1).reshape(-1, 4)).items():
        assert float(found[name].squeeze()) == pytest.approx(value, abs=1e-9), name


def one_site(tensor: Tensor, site: Site, **fields: Any) -> Any:
    stream = testing.Stream({"baseline": ([(tensor,)], None)})
    return testing.run(testing.group_of(kind(**fields), [site]), stream, 4)


@pytest.mark.parametrize("centered", [True, False])
def test_fewer_rows_than_features(centered: bool) -> None:
    """The rank ends at the rows; rounding of the other eigenvalues adds nothing."""
    rows = torch.randn(10, 60, generator=torch.Generator().manual_seed(0)) + 5
    found = one_site(rows, testing.vector_site("f", 60), centered=centered)
    wanted = reference(rows, centered)
    assert wanted["largest_rank"] == 10 - centered
    for name, value in wanted.items():
        assert float(found[name].squeeze()) == pytest.approx(value, rel=1e-6), name


def test_known_spectra() -> None:
    even = torch.cat([torch.eye(8), -torch.eye(8)])
    found = one_site(even, testing.vector_site("f", 8))
    for name in ("effective_rank", "participation_ratio", "stable_rank", "rankme"):
        assert float(found[name].squeeze()) == pytest.approx(8, abs=2e-5), name
    line = torch.arange(9.0)[:, None] * torch.tensor([[1.0, -2.0, 3.0]]) + 7
    found = one_site(line, testing.vector_site("f", 3))
    for name in ("effective_rank", "participation_ratio", "stable_rank", "pc1_share"):
        assert float(found[name].squeeze()) == pytest.approx(1, abs=1e-9), name


@pytest.mark.parametrize(
    ("tensor", "says"), [(torch.ones(6, 3), "the same"), (torch.full((6, 3), np.inf), "finite")]
)
def test_layers_without_a_rank_are_named(tensor: Tensor, says: str) -> None:
    found = one_site(tensor, testing.vector_site("f", 3))
    assert np.isnan(found["effective_rank"].values).all() and says in found.attrs["undefined"]


@pytest.mark.parametrize(
    ("site", "fields", "says"),
    [
        (testing.tokens_site("b", 17, 4, tokens="mean"), {"rows_are": "tokens"}, "rows_are: images"),
        (testing.vector_site(), {"rows_are": "tokens"}, "has no tokens"),
        (testing.tokens_site("b", 197, 768), {}, "174,640 MiB"),
        (testing.tokens_site("b", 197, 768, tokens="spatial"), {}, "150,528 features"),
        (testing.tokens_site("b", 17, 4, tokens="cls", class_token=False), {}, "no class token"),
    ],
)
def test_refuses(site: Site, fields: dict[str, Any], says: str) -> None:
    assert says in (kind(**fields).refuse(site) or "")


def test_products_are_priced_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory() -> float:
        return cost(bound(STUDY)).models[0].memory

    whole = memory()
    with monkeypatch.context() as patch:
        patch.setattr(Spectrum, "sum_size", lambda self, sites: 0)
        assert whole - memory() == 8 * (2 * 24**2) * 3 * 2
    monkeypatch.setattr(bind_memory, "MOST_ROWS", 8 * 2 * 24**2 * 3 - 1)
    with pytest.raises(StudyError) as raised:
        bound(STUDY)
    assert [problem.code for problem in raised.value.diagnostics] == ["VD303", "VD303"]
    assert "fewer `image_blocks`" in raised.value.diagnostics[0].help[0]


def test_a_small_vit_against_hooks(tmp_path: Path) -> None:
    plan = bound(STUDY)
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None
    groups = open_run(outcome.folder).groups
    planned = plan.models["vit"]
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={"vit": planned.config})
    module = loading.load(planned.entry, seed=0, folder=Path()).module
    kept: list[list[Tensor]] = [[] for _ in module.blocks]
    for at, block in enumerate(module.blocks):
        block.register_forward_hook(lambda _, __, out, at=at: kept[at].append(out.double()))
    with torch.no_grad():
        for batch in stream:
            module(batch.images["vit"])
    for i, parts in enumerate(kept):
        spatial = torch.cat(parts)[:, 1:]
        for name, rows in (("images", spatial.mean(1)), ("tokens", spatial.flatten(0, 1))):
            for value, wanted in reference(rows).items():
                found = float(groups[f"{name}/vit"][value].sel(condition="baseline")[i])
                assert found == pytest.approx(wanted, rel=1e-4), (name, value)
    assert np.isfinite(groups["tokens/vit"]["effective_rank_low"].values).all()
