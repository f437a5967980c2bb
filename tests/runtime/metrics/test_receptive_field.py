"""Receptive fields against hooks on the plain model, one backward pass for each image and channel.

Longer than 300 lines: the references by hooks and the laws share their models.
"""

import math
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitdsl import testing
from vitdsl.dsl.load import load_text
from vitdsl.dsl.study import Entry, Model
from vitdsl.runtime.ablations.mean_ablate import MeanAblate
from vitdsl.runtime.ablations.mean_ablate import Params as MeanParams
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.site import Layout, Site
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.receptive_field import Params, ReceptiveField, chosen_channels, scalars
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.plan.bind import bind, bind_diagnostics
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.lanes import rewriting

KIND = ReceptiveField(Params())
VIT = {"patch_size": 8, "embed_dim": 12, "num_heads": 3, "depth": 3, "num_classes": 5}
RESNET = {"channels": (8, 12, 16, 20), "num_classes": 5, "zero_init_last": False}
# name: the model, and the size of its images
MODELS: dict[str, tuple[Model, tuple[int, int]]] = {
    "vit": (Model(arch="vit_tiny_patch16_224", options={**VIT, "img_size": 32}, weights="random"), (32, 32)),
    "odd_vit": (
        Model(arch="vit_tiny_patch16_224", options={**VIT, "img_size": (40, 24)}, weights="random"),
        (40, 24),
    ),
    "registers": (
        Model(arch="vit_small_patch14_reg4_dinov2", options={**VIT, "img_size": 24}, weights="random"),
        (24, 24),
    ),
    "resnet": (Model(arch="resnet18", options=RESNET, weights="random", input_size=64), (64, 64)),
    "odd_resnet": (Model(arch="resnet18", options=RESNET, weights="random", input_size=65), (65, 65)),
    "swin": (
        Model(
            arch="swin_tiny_patch4_window7_224",
            options={"img_size": 56, "depths": (2, 2), "embed_dim": 12, "num_heads": (2, 4)},
            weights="random",
        ),
        (56, 56),
    ),
}


def built(name: str, *, double: bool = False) -> Sites:
    entry, size = MODELS[name]
    module = load(entry, seed=0, folder=Path()).module
    generator = torch.Generator().manual_seed(3)
    for module_ in module.modules():
        if isinstance(module_, nn.BatchNorm2d):  # statistics that a trained network might have
            assert module_.running_mean is not None and module_.running_var is not None
            nn.init.normal_(module_.running_mean, std=0.2, generator=generator)
            nn.init.uniform_(module_.running_var, 0.5, 2.0, generator=generator)
    return same_sites(module.double() if double else module, sites_of(skeleton(entry), (3, *size)))


def images_for(name: str, count: int = 2) -> Tensor:
    return torch.randn(count, 3, *MODELS[name][1], generator=torch.Generator().manual_seed(1))


def taps(sites: Sites, at: Sequence[tuple[str, str]], kind: ReceptiveField = KIND) -> list[Tap]:
    images = sites.traced.images
    return [
        Tap((sites.nodes[role][name], images), kind.reducer(), sites.site(name, role)) for name, role in at
    ]


def summed(
    sites: Sites, images: Tensor, lanes: Sequence[Lane], wanted: Sequence[Tap]
) -> dict[str, list[Tensor]]:
    """What the taps give in each lane of one merged graph, as a run calls it."""
    merged = merge(sites.model, sites.traced.graph, lanes, {lane.name: wanted for lane in lanes})
    with torch.enable_grad():
        found = merged.module(images.clone().requires_grad_())
    for total, count in found:
        assert total.dtype == torch.float64 and not total.requires_grad and count == len(images)
    assert all(parameter.grad is None for parameter in sites.model.parameters())
    return {lane.name: [found[merged.slots[lane.name, tap]][0] for tap in wanted] for lane in lanes}


def plain(sites: Sites, images: Tensor, at: Sequence[tuple[str, str]]) -> list[Tensor]:
    return summed(sites, images, [Lane("baseline")], taps(sites, at))["baseline"]


def hooked(
    model: nn.Module,
    images: Tensor,
    path: str,
    side: str,
    position: Any,
    channels: Sequence[int] | None = None,
) -> Array:
    """The sum over images of each image's field: plain hooks, one image and one channel after another."""
    seen: list[Tensor] = []
    part = model.get_submodule(path)
    if side == "output":
        handle = part.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    else:
        handle = part.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    total = np.zeros(images.shape[-2:])
    for image in images:
        one = image[None].clone().requires_grad_()
        seen.clear()
        model(one)
        centre = seen[0][(0, *position)]
        some = range(len(centre)) if channels is None else channels
        for channel in some:
            (gradient,) = torch.autograd.grad(centre[channel], one, retain_graph=True)
            total += np.abs(gradient[0].double().numpy()).sum(0) / len(some)
    handle.remove()
    return total


# model, site and role, the plain module and its side that are the same tensor, and the centre's place in it
PLACES: list[tuple[str, tuple[str, str], tuple[str, str], Any]] = [
    ("vit", ("blocks.1", "output"), ("blocks.1", "output"), (1 + 2 * 4 + 2,)),
    ("vit", ("blocks.2.attn", "output"), ("blocks.2.attn", "output"), (1 + 2 * 4 + 2,)),
    ("vit", ("blocks.1.attn", "stream"), ("blocks.1.norm2", "input"), (1 + 2 * 4 + 2,)),
    ("vit", ("blocks.1.mlp", "branch"), ("blocks.1.drop_path2", "output"), (1 + 2 * 4 + 2,)),
    ("vit", ("blocks.2.mlp", "skip"), ("blocks.2.norm2", "input"), (1 + 2 * 4 + 2,)),
    ("odd_vit", ("blocks.2", "output"), ("blocks.2", "output"), (1 + 2 * 3 + 1,)),
    ("registers", ("blocks.2", "output"), ("blocks.2", "output"), (5 + 1 * 3 + 1,)),
    ("resnet", ("layer2.0", "output"), ("layer2.0", "output"), (..., 4, 4)),
    ("resnet", ("layer2.1", "stream"), ("layer2.1.act2", "input"), (..., 4, 4)),
    ("resnet", ("layer3.0", "branch"), ("layer3.0.bn2", "output"), (..., 2, 2)),
    ("odd_resnet", ("maxpool", "output"), ("maxpool", "output"), (..., 8, 8)),
    ("odd_resnet", ("layer4.1", "output"), ("layer4.1", "output"), (..., 1, 1)),
    ("swin", ("layers.1", "output"), ("layers.1", "output"), (3, 3)),
]


@pytest.mark.parametrize(("name", "here", "module", "position"), PLACES, ids=lambda one: str(one)[:30])
def test_the_map_is_that_of_plain_hooks(
    name: str, here: tuple[str, str], module: tuple[str, str], position: Any
) -> None:
    """Float32 against hooks in float32 and in float64, and float64 against float64; of the map's largest."""
    sites, images = built(name), images_for(name)
    (single,) = plain(sites, images, [here])
    same = hooked(sites.model, images, *module, position)
    exact = built(name, double=True)
    (double,) = plain(exact, images.double(), [here])
    wanted = hooked(exact.model, images.double(), *module, position)
    assert wanted.any()
    for found, reference, tolerance in (
        (single, same, 2e-7),
        (single, wanted, 2e-6),
        (double, wanted, 1e-14),
    ):
        np.testing.assert_allclose(
            found.numpy() / wanted.max(), reference / wanted.max(), rtol=0, atol=tolerance
        )
    large = wanted > 1e-3 * wanted.max()
    np.testing.assert_allclose(single.numpy()[large], wanted[large], rtol=1e-4)


def test_some_channels() -> None:
    sites, images = built("resnet"), images_for("resnet")
    kind = ReceptiveField(Params(channels=3))
    (found,) = summed(sites, images, [Lane("baseline")], taps(sites, [("layer2.0", "output")], kind))[
        "baseline"
    ]
    wanted = hooked(sites.model, images, "layer2.0", "output", (..., 4, 4), [0, 6, 11])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=3e-7 * wanted.max())
    assert chosen_channels(12, 3) == [0, 6, 11]
    assert chosen_channels(12, 1) == [0]
    assert chosen_channels(12, 12) == chosen_channels(12, 99) == chosen_channels(12, None) == list(range(12))
    for wanted_ in range(1, 13):
        assert len(set(chosen_channels(12, wanted_))) == wanted_


def skipless(sites: Sites, name: str) -> Lane:
    place = sites.place(name, "skip")
    return Lane("edited", ((place, rewriting(RemoveSkip(Entry()), place)),))


def without_first_skip(self: Any, x: Tensor, **_: Any) -> Tensor:
    x = self.drop_path1(self.ls1(self.attn(self.norm1(x))))
    return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def test_beside_an_ablated_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes share what is above the edit, activations and backward passes alike, and do not meet."""
    sites, images = built("vit", double=True), images_for("vit").double()
    at = [("blocks.0", "output"), ("blocks.2", "output")]
    found = summed(sites, images, [Lane("baseline"), skipless(sites, "blocks.1.attn")], taps(sites, at))
    alone = plain(sites, images, at)
    for one, other in zip(found["baseline"], alone, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found["edited"][0], found["baseline"][0])
    block = sites.model.get_submodule("blocks.1")
    monkeypatch.setattr(block, "forward", MethodType(without_first_skip, block))
    wanted = hooked(sites.model, images, "blocks.2", "output", (1 + 2 * 4 + 2,))
    np.testing.assert_allclose(found["edited"][1].numpy(), wanted, rtol=1e-12, atol=1e-14 * wanted.max())
    assert not torch.allclose(found["edited"][1], found["baseline"][1])


def test_a_layer_that_depends_on_no_pixel_has_an_empty_field() -> None:
    """Behind a stream that is the same for all images; and at tokens that saw none yet."""
    sites, images = built("vit"), images_for("vit")
    place = sites.place("blocks.0.mlp", "stream")
    rewrite = rewriting(MeanAblate(MeanParams()), place, [torch.zeros(17, 12, dtype=torch.float64)])
    lanes = [Lane("baseline"), Lane("edited", ((place, rewrite),))]
    at = [("blocks.2", "output")]
    found = summed(sites, images, lanes, taps(sites, at))
    assert not found["edited"][0].any() and found["baseline"][0].any()
    group = testing.group_of(KIND, [sites.site(*at[0])])
    says = KIND.undefined({"sum": found["edited"][0][None].numpy()}, group.x.sites, group.x.sites)
    assert says == ["the centre of `blocks.2` depends on no pixel"]


class Counted:
    """A saved activation that can be counted."""

    alive: "weakref.WeakSet[Counted]" = weakref.WeakSet()
    most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # a saved result would hold its own graph
        Counted.alive.add(self)
        Counted.most = max(Counted.most, len(Counted.alive))


def most_saved(sites: Sites, lanes: Sequence[Lane], at: Sequence[tuple[str, str]]) -> int:
    """The most activations that are kept for backward passes at a time; none may be left."""
    merged = merge(sites.model, sites.traced.graph, lanes, {lane.name: taps(sites, at) for lane in lanes})
    images = images_for("vit").requires_grad_()
    Counted.most = 0
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(Counted, lambda one: one.tensor):
        found = merged.module(images)
    assert len(found) and not len(Counted.alive), "the graph outlives the call"
    return Counted.most


def test_the_graph_is_freed_with_the_call_and_each_lane_with_its_end() -> None:
    """`retain_graph` keeps what later layers need, and no more: three lanes need no more than one."""
    sites = built("vit")
    at = [("blocks.1", "output"), ("blocks.2", "output")]
    one = most_saved(sites, [Lane("baseline")], at)
    lanes = [Lane(f"edited{i}", skipless(sites, f"blocks.{i}.mlp").edits) for i in range(2)]
    assert most_saved(sites, [Lane("baseline"), *lanes], at) <= one + 2
    assert most_saved(sites, [Lane("baseline")], at[:1]) < one


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_under_autocast(name: str, dtype: torch.dtype) -> None:
    """Forward and backward run in the low precision; the sums do not, and small gradients do not vanish."""
    sites, images = built(name), images_for(name)
    at = [("blocks.2" if name == "vit" else "layer2.1", "output")]
    (wanted,) = plain(sites, images, at)
    with torch.autocast("cpu", dtype=dtype):
        (found,) = plain(sites, images, at)
    error = float((found - wanted).abs().sum() / wanted.sum())
    assert 0 < error < 0.03, "a unit near its kink may switch, which is all that may differ"
    assert int((found == 0).sum()) <= int((wanted == 0).sum()) * 1.02


# ---- laws, on made-up layers


def layer(site: Site, seed: int, scale: float = 1.0) -> Any:
    """A few channels that look mostly at the middle; not linear, so that each image has a field of its own."""
    assert site.pixels is not None
    rows, cols = site.pixels
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-2, 2, rows), torch.linspace(-2, 2, cols), indexing="ij")
    weights = torch.randn(site.shape[-1], 3, rows, cols, generator=generator) * (-(y**2) - x**2).exp()

    def forward(images: Tensor) -> Tensor:
        values = torch.tanh(torch.einsum("bcij,wcij->bw", images, weights.to(images.dtype)) / 4) * scale
        return values[:, None].expand(-1, site.shape[0], -1)

    return forward


def grid_site(
    grid: tuple[int, int], pixels: tuple[int, int], *, width: int = 3, prefix: int = 1, name: str = "blocks.0"
) -> Site:
    return testing.tokens_site(
        name, prefix + math.prod(grid), width, prefix=prefix, grid=grid, pixels=pixels, depth=0.5
    )


def reference(images: Tensor, sites: Sequence[Site], layers: Sequence[Any], cell: int) -> dict[str, Array]:
    """The formula: the field of each image and channel by itself, then each number from its words."""
    found: dict[str, list[Any]] = {}
    for site, forward in zip(sites, layers, strict=True):
        assert site.grid is not None and site.prefix is not None
        rows, cols = site.grid
        position = site.prefix + rows // 2 * cols + cols // 2
        field = np.zeros(images.shape[-2:])
        for image in images:
            one = image[None].clone().requires_grad_()
            centre = forward(one)[0, position]
            for channel in centre:
                (gradient,) = torch.autograd.grad(channel, one, retain_graph=True)
                field += gradient[0].abs().sum(0).numpy() / len(centre) / len(images)
        for name, value in by_hand(field, site.grid).items():
            found.setdefault(name, []).append(value)
        height, width = field.shape
        found.setdefault("map", []).append(
            [
                [field[i : i + cell, j : j + cell].mean() for j in range(0, width, cell)]
                for i in range(0, height, cell)
            ]
        )
    return {name: np.asarray(value)[None] for name, value in found.items()}


def by_hand(field: Array, grid: tuple[int, int]) -> dict[str, float]:
    """Every scalar of a map, pixel by pixel."""
    bounds = []
    for cells, pixels in zip(grid, field.shape, strict=True):
        bounds.append((round(cells // 2 * pixels / cells), round((cells // 2 + 1) * pixels / cells)))
    (top, bottom), (left, right) = bounds
    middle = ((top + bottom - 1) / 2, (left + right - 1) / 2)
    pixels = sorted(
        (math.dist((i, j), middle), field[i, j]) for i in range(field.shape[0]) for j in range(field.shape[1])
    )
    total, reached, radii = field.sum(), 0.0, {}
    for distance, mass in pixels:
        reached += mass
        for name, share in (("radius_50", 0.5), ("radius_90", 0.9)):
            if reached >= share * total:
                radii.setdefault(name, distance)
    return {
        "centre_share": field[top:bottom, left:right].sum() / total,
        **radii,
        "area": total**2 / (field**2).sum(),
        "luo": math.sqrt(sum(mass >= 0.0455 * field.max() for _, mass in pixels)),
    }


@pytest.mark.parametrize(
    ("grid", "pixels", "resolution", "cell"),
    [((4, 4), (16, 16), 56, 1), ((3, 5), (12, 20), 10, 2), ((5, 5), (17, 17), 6, 3), ((1, 1), (6, 6), 1, 6)],
)
def test_laws(grid: tuple[int, int], pixels: tuple[int, int], resolution: int, cell: int) -> None:
    sites = [grid_site(grid, pixels, prefix=prefix, name=f"blocks.{prefix}") for prefix in (0, 1, 5)]
    layers = [layer(site, seed) for seed, site in enumerate(sites)]
    images = torch.randn(9, 3, *pixels, generator=torch.Generator().manual_seed(4)).double()
    stream = testing.Stream({"baseline": ([(one,) for one in layers], None)}, pixels=images)
    group = testing.group_of(ReceptiveField(Params(resolution=resolution)), sites)
    wanted = reference(images, sites, layers, cell)
    assert testing.check_metric(group, stream, wanted, batch=4, any_batches=True, tolerance=1e-11) < 1e-11


def values(site: Site, forward: Any, images: Tensor) -> Any:
    stream = testing.Stream({"baseline": ([(forward,)], None)}, pixels=images)
    return testing.run(testing.group_of(KIND, [site]), stream, 4, 2)


def test_scaling_a_layer_scales_its_map_and_nothing_else() -> None:
    site = grid_site((4, 4), (16, 16))
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    one, eight = (values(site, layer(site, 0, scale), images) for scale in (1.0, 8.0))
    np.testing.assert_allclose(eight["map"], 8 * one["map"], rtol=1e-12)
    for name in ("centre_share", "radius_50", "radius_90", "area", "luo"):
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-12, err_msg=name)
        assert np.isfinite(one[f"{name}_low"]).all() and np.isfinite(one[f"{name}_high"]).all()


def test_gradients_that_are_not_finite_are_seen() -> None:
    sites = [grid_site((4, 4), (16, 16), name=f"blocks.{i}") for i in range(2)]
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))

    def broken(given: Tensor) -> Tensor:
        return layer(sites[1], 1)(given) * (given[:, :1, :1, :1].flatten(1)[:, :, None] * 0).sqrt()

    stream = testing.Stream({"baseline": ([(layer(sites[0], 0),), (broken,)], None)}, pixels=images)
    found = testing.run(testing.group_of(KIND, sites), stream, 3)
    for name in ("centre_share", "radius_50", "area", "luo"):
        assert np.isfinite(found[name].values[0, 0]) and np.isnan(found[name].values[0, 1])
    assert found.attrs["undefined"] == '["under `baseline`: gradients of `blocks.1` are not finite"]'


# ---- scalars of maps that are known


def test_a_single_pixel() -> None:
    """In the middle of the centre patch of an odd patch, or beside the middle of an even one."""
    field = np.zeros((15, 15))
    field[7, 7] = 3.0
    found = scalars(field, grid_site((3, 3), (15, 15)))
    assert found == {"centre_share": 1.0, "radius_50": 0.0, "radius_90": 0.0, "area": 1.0, "luo": 1.0}
    field = np.zeros((16, 16))
    field[9, 10] = 1e-9
    found = scalars(field, grid_site((4, 4), (16, 16)))
    assert found["radius_50"] == found["radius_90"] == pytest.approx(math.hypot(0.5, 0.5))
    assert (found["centre_share"], found["area"], found["luo"]) == (1, pytest.approx(1), 1)
    outside = np.zeros((16, 16))
    outside[0, 0] = 1.0
    found = scalars(outside, grid_site((4, 4), (16, 16)))
    assert found["centre_share"] == 0 and found["radius_50"] == pytest.approx(math.hypot(9.5, 9.5))


@pytest.mark.parametrize(
    ("grid", "pixels"), [((3, 3), (33, 33)), ((4, 4), (32, 32)), ((3, 5), (48, 80)), ((5, 5), (65, 65))]
)
def test_an_even_field(grid: tuple[int, int], pixels: tuple[int, int]) -> None:
    """Its area is the image; half of its mass is where half of the pixels are."""
    found = scalars(np.full(pixels, 0.25), grid_site(grid, pixels))
    count = math.prod(pixels)
    assert found["area"] == pytest.approx(count) and found["luo"] == pytest.approx(math.sqrt(count))
    assert found["centre_share"] == pytest.approx(1 / math.prod(grid), rel=0.1)
    middle = [(n // 2 * s / n + (n // 2 + 1) * s / n - 1) / 2 for n, s in zip(grid, pixels, strict=True)]
    i, j = np.indices(pixels)
    distance = np.hypot(i - middle[0], j - middle[1])
    for name, share in (("radius_50", 0.5), ("radius_90", 0.9)):
        inside = (distance <= found[name] + 1e-9).sum()
        ring = (abs(distance - found[name]) < 1e-9).sum()
        assert inside - ring < share * count <= inside


def test_a_gaussian() -> None:
    """Sigma 6 about the middle: each number as the integral gives it."""
    sigma, size = 6.0, 105
    i = np.arange(size) - size // 2
    field = np.exp(-(i[:, None] ** 2 + i**2) / (2 * sigma**2))
    found = scalars(field, grid_site((21, 21), (size, size)))
    assert found["area"] == pytest.approx(4 * math.pi * sigma**2, rel=1e-6)
    assert found["luo"] == pytest.approx(sigma * math.sqrt(2 * math.pi * math.log(1 / 0.0455)), rel=0.005)
    assert found["radius_50"] == pytest.approx(sigma * math.sqrt(2 * math.log(2)), abs=0.5)
    assert found["radius_90"] == pytest.approx(sigma * math.sqrt(2 * math.log(10)), abs=0.5)
    share = math.erf(2.5 / sigma / math.sqrt(2)) ** 2
    assert found["centre_share"] == pytest.approx(share, rel=0.02)


def test_an_empty_field_says_nothing() -> None:
    for field in (np.zeros((8, 8)), np.full((8, 8), np.nan), np.full((8, 8), np.inf)):
        assert all(map(math.isnan, scalars(field, grid_site((2, 2), (8, 8))).values()))


def test_a_grid_finer_than_the_pixels_has_a_centre_pixel() -> None:
    assert scalars(np.ones((4, 4)), grid_site((9, 9), (4, 4)))["centre_share"] == pytest.approx(1 / 16)


# ---- where it is defined


@pytest.mark.parametrize(
    ("pixels", "resolution", "rows", "last"),
    [((224, 224), 56, 56, 220), ((65, 65), 56, 33, 64), ((97, 97), 56, 49, 96), ((40, 24), 56, 40, 39)],
)
def test_labels_are_first_pixels(pixels: tuple[int, int], resolution: int, rows: int, last: int) -> None:
    kind = ReceptiveField(Params(resolution=resolution))
    found = kind.coordinates([grid_site((2, 2), pixels)])
    assert len(found["row"]) == rows and found["row"][0] == 0 and found["row"][-1] == last
    assert len(found["col"]) <= resolution


def test_cells_are_square_and_keep_the_mean() -> None:
    kind = ReceptiveField(Params(resolution=10))
    site = grid_site((3, 5), (13, 25))
    field = np.random.default_rng(0).random((1, 13, 25))
    found = kind.estimate({"sum": 2 * field, "images": np.asarray(2.0)}, [site])["map"]
    assert found.shape == (1, 5, 9)
    assert found[0, 0, 0] == pytest.approx(field[0, :3, :3].mean())
    assert found[0, 4, 8] == pytest.approx(field[0, 12, 24])


LAYOUTS: list[tuple[Layout, tuple[int, ...], dict[str, Any], str]] = [
    ("vector", (10,), {}, "no grid over the image"),
    ("windows", (49, 12), {}, "no grid over the image"),
    ("attention", (3, 17, 17), {"grid": (4, 4)}, "no grid over the image"),
    ("tokens", (30, 12), {"grid": None}, "no grid over the image"),
    ("tokens", (17, 12), {"grid": (4, 4), "tokens": "cls"}, "write `tokens: all`"),
    ("tokens", (17, 12), {"grid": (4, 4), "tokens": (3,)}, "write `tokens: all`"),
]


@pytest.mark.parametrize(("layout", "shape", "fields", "says"), LAYOUTS)
def test_refused_sites(layout: Layout, shape: tuple[int, ...], fields: dict[str, Any], says: str) -> None:
    site = Site("a", "output", shape, layout, 0.5, **{"pixels": (32, 32), **fields})
    assert says in (KIND.refuse(site) or "")


def test_sites_of_real_models_are_taken_or_refused() -> None:
    for name, taken, refused in (
        ("vit", ["patch_embed", "blocks.1", "blocks.1.attn", "norm"], ["head", "fc_norm"]),
        ("odd_resnet", ["conv1", "layer1.0", "layer4.1"], ["global_pool", "fc"]),
        ("swin", ["patch_embed", "layers.0", "layers.1.blocks.0"], ["layers.0.blocks.0.attn", "head"]),
    ):
        sites = built(name)
        assert [one for one in taken if KIND.refuse(sites.site(one, "output")) is not None] == []
        assert [one for one in refused if KIND.refuse(sites.site(one, "output")) is None] == []


def test_page() -> None:
    testing.check_page(ReceptiveField)


STUDY = """vitdsl: 1
study: field
data: {{probe: {{source: noise, total: 8, batch: 4}}}}
models:
  vit: {{arch: vit_tiny_patch16_224, weights: random,
        options: {{img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 5}}}}
  swin: {{arch: swin_tiny_patch4_window7_224, weights: random,
         options: {{img_size: 56, depths: [2, 2], embed_dim: 24, num_heads: [2, 4], num_classes: 5}}}}
layers:
  l: {{{layer}}}
metrics:
  field: {{kind: receptive_field, x: l, under: baseline}}
"""


@pytest.mark.parametrize(
    ("layer_", "marked", "says"),
    [
        ("of: vit, at: head", "head", "`head` of `vit`: one image's tensor has shape [5], which is no grid"),
        ("of: swin, at: layers.0.blocks.0.attn.qkv", "layers.0.blocks.0.attn.qkv", "windows of images"),
        ('of: vit, at: "blocks.*", tokens: cls', "cls", "it reads the centre position alone"),
        ('of: vit, at: "blocks.0.attn", role: attention', '"blocks.0.attn"', "no grid over the image"),
    ],
)
def test_layers_that_it_cannot_read_are_told_at_their_place(layer_: str, marked: str, says: str) -> None:
    text = STUDY.format(layer=layer_)
    (problem,) = bind_diagnostics(load_text(text))
    assert problem.span is not None and says in problem.message
    line = text.splitlines()[problem.span.line - 1]
    assert line[problem.span.column - 1 : problem.span.end_column - 1] == marked


def test_frames_hold_the_pixels() -> None:
    plan = bind(load_text(STUDY.format(layer='of: vit, at: "blocks.*"')))
    found = frame(plan, plan.groups[0])
    assert found["map"].dims == ("condition", "site", "row", "col")
    assert found["row"].values.tolist() == list(range(0, 32, 2)) and found["luo"].attrs["units"] == "px"
