"""CKA against the formula of Song et al. 2012 in float64, written over whole data; and its laws.

Longer than 300 lines: the references and the laws share one set of features.
"""

import warnings

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tokens import refuse_tokens, select, token_count
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics._gram import SAMPLE, _seems_far, gram, u_center, u_gram
from vitdsl.runtime.metrics.cka import CKA

KIND = CKA(Entry())


def song(k: Array, l: Array) -> float:  # noqa: E741
    """n (n - 3) times the unbiased HSIC, by the formula of traces and sums; nothing is U-centred."""
    n = len(k)
    k, l = k * (1 - np.eye(n)), l * (1 - np.eye(n))  # noqa: E741
    one = np.ones(n)
    return float(
        np.trace(k @ l)
        + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ l @ one)
    )


def reference(x: Array, y: Array, batch: int) -> float:
    """Minibatch CKA in float64: sums over batches of n (n - 3) HSIC, then one ratio."""
    x, y = (np.asarray(one, np.float64).reshape(len(one), -1) for one in (x, y))
    sums = np.zeros(3)
    for start in range(0, len(x), batch):
        a, b = x[start : start + batch], y[start : start + batch]
        if len(a) < 4:
            continue
        # Uncentred, float64 itself would lose too much to the means that are used here.
        a, b = a - a.mean(0), b - b.mean(0)
        k, l = a @ a.T, b @ b.T  # noqa: E741
        sums += song(k, l), song(k, k), song(l, l)
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def within(features: list[Tensor], batch: int, blocks: int = 1, sites: list[Site] | None = None) -> Array:
    sites = sites or [testing.vector_site(f"layer{i}", x[0].numel()) for i, x in enumerate(features)]
    stream = testing.Stream({"baseline": ([(x,) for x in features], None)})
    found = testing.run(testing.group_of(KIND, sites), stream, batch, blocks)
    return np.asarray(found["cka"].values[0])


def pair(x: Tensor, y: Tensor, batch: int = 10**6) -> float:
    return float(within([x, y], batch)[0, 1])


def related(n: int, widths: list[int], seed: int = 0, mean: float = 0.0) -> list[Tensor]:
    """Layers that share some directions, so that CKA is neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, 8, generator=generator)
    return [
        shared @ torch.randn(8, width, generator=generator) / 3
        + torch.randn(n, width, generator=generator)
        + mean
        for width in widths
    ]


def matrix(xs: list[Tensor], ys: list[Tensor], batch: int) -> Array:
    return np.asarray([[reference(x.double().numpy(), y.double().numpy(), batch) for y in ys] for x in xs])


def test_page() -> None:
    testing.check_page(CKA)


@pytest.mark.parametrize(("n", "batch"), [(64, 16), (70, 16), (66, 16), (40, 40)])
def test_within_obeys_the_laws(n: int, batch: int) -> None:
    layers = related(n, [5, 40, 200])
    sites = [testing.vector_site(f"layer{i}", x.shape[1]) for i, x in enumerate(layers)]
    stream = testing.Stream({"baseline": ([(x,) for x in layers], None)})
    group = testing.group_of(KIND, sites)
    wanted = {"cka": matrix(layers, layers, batch)[None]}
    worst = testing.check_metric(group, stream, wanted, batch=batch, any_batches=False, tolerance=1e-6)
    assert worst < 1e-6


def test_across_and_paired_obey_the_laws() -> None:
    xs, ys = related(52, [5, 40, 30]), related(52, [12, 7, 25], seed=0)
    x_sites = [testing.vector_site(f"x{i}", x.shape[1]) for i, x in enumerate(xs)]
    y_sites = [testing.vector_site(f"y{i}", y.shape[1]) for i, y in enumerate(ys)]
    stream = testing.Stream({"baseline": ([(x,) for x in xs], [(y,) for y in ys])})
    wanted = matrix(xs, ys, 12)
    across = testing.group_of(KIND, x_sites, y_sites)
    testing.check_metric(across, stream, {"cka": wanted[None]}, batch=12, any_batches=False, tolerance=1e-6)
    paired = testing.group_of(KIND, x_sites, y_sites, paired=True)
    diagonal = {"cka": np.diagonal(wanted)[None]}
    testing.check_metric(paired, stream, diagonal, batch=12, any_batches=False, tolerance=1e-6)
    assert wanted.min() < wanted.max() - 0.05


def test_published_vector() -> None:
    """The debiased value of Google's demonstration of CKA, 0.51346."""
    state = np.random.RandomState(1337)
    x = state.randn(100, 10)
    y = state.randn(100, 10) + x
    found = pair(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    assert found == pytest.approx(0.51346, abs=5e-6)
    assert found == pytest.approx(reference(x, y, 100), abs=1e-6)


@given(st.integers(4, 24), st.integers(1, 40), st.integers(0, 10**6))
def test_u_centred_form_is_the_formula_of_song(n: int, width: int, seed: int) -> None:
    x, y = related(n, [width, 3], seed)
    (u, power), (v, other) = (u_gram(one, site=testing.vector_site()) for one in (x, y))
    ours = float((u.double() * v.double()).sum()) * 2.0 ** float(power + other)
    k, l = ((a := one.double().numpy()) @ a.T for one in (x, y))  # noqa: E741
    assert ours == pytest.approx(
        song(k, l), rel=1e-4, abs=1e-5 * float(np.linalg.norm(k) * np.linalg.norm(l))
    )


def test_short_last_batch_is_weighted_and_a_tail_is_left_out() -> None:
    layers = related(64 + 6, [20, 30])
    found = within(layers, 32)
    np.testing.assert_allclose(found, matrix(layers, layers, 32), atol=1e-6)
    averaged = np.mean([matrix([x[s] for x in layers], [x[s] for x in layers], 32)[0, 1] for s in
                        (slice(0, 32), slice(32, 64), slice(64, 70))])  # fmt: skip
    assert abs(found[0, 1] - averaged) > 1e-3
    for tail in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            longer = [torch.cat([x[:64], torch.randn(tail, x.shape[1])]) for x in layers]
            np.testing.assert_array_equal(within(longer, 32), within([x[:64] for x in layers], 32))


def test_batches_too_small_for_any_estimate_say_so() -> None:
    layers = related(9, [4, 5])
    sites = [testing.vector_site(f"layer{i}", x.shape[1]) for i, x in enumerate(layers)]
    stream = testing.Stream({"baseline": ([(x,) for x in layers], None)})
    found = testing.run(testing.group_of(KIND, sites), stream, 3)
    assert np.isnan(found["cka"].values).all()
    assert "no batch has 4 images" in found.attrs["undefined"] and "constant" not in found.attrs["undefined"]


def test_far_from_zero() -> None:
    """Mean 100, standard deviation 1: the float32 Gram matrix of uncentred features has no digit left."""
    layers = related(192, [768, 3072, 100], mean=100.0)
    found = within(layers, 64)
    error = np.abs(found - matrix(layers, layers, 64)).max()
    assert error < 1e-5


def activations(name: str, size: int, at: tuple[str, ...], n: int) -> list[Tensor]:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    kept: dict[str, Tensor] = {}
    for path in at:
        model.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: kept.__setitem__(path, output)
        )
    with torch.inference_mode():
        model(torch.randn(n, 3, size, size))
    return [kept[path] for path in at]


@pytest.mark.parametrize(
    ("name", "size", "at"),
    [
        ("vit_tiny_patch16_224", 224, ("patch_embed", "blocks.0", "blocks.5.mlp", "blocks.11", "norm")),
        ("resnet18", 64, ("maxpool", "layer1.0", "layer2.1", "layer4.1", "global_pool")),
    ],
)
def test_real_activations(name: str, size: int, at: tuple[str, ...]) -> None:
    layers = activations(name, size, at, 12)
    found = within(layers, 8)
    np.testing.assert_allclose(found, matrix(layers, layers, 8), atol=1e-5)
    np.testing.assert_array_equal(np.diagonal(found), 1.0)


def test_self_is_exactly_one_however_it_is_computed() -> None:
    layers = related(40, [5, 300, 17], mean=3.0)
    sites = [testing.vector_site(f"layer{i}", x.shape[1]) for i, x in enumerate(layers)]
    tensors = [(x,) for x in layers]
    assert (np.diagonal(within(layers, 16)) == 1.0).all()
    paired = testing.group_of(KIND, sites, sites, paired=True)
    result = testing.run(paired, testing.Stream({"baseline": (tensors, tensors)}), 16, 3)
    assert (result["cka"].values == 1.0).all() and (result["cka_replicates"].values == 1.0).all()


def test_invariances() -> None:
    x, y = related(48, [24, 40])
    plain = pair(x, y, 24)
    turn = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64)).Q.float()
    assert pair(x @ turn, y, 24) == pytest.approx(plain, abs=1e-5)
    assert pair(x[:, torch.randperm(24)], y, 24) == pytest.approx(plain, abs=1e-6)
    assert pair(8 * x, y / 64, 24) == plain
    assert pair(x + 5 * torch.randn(24), y - 7, 24) == pytest.approx(plain, abs=1e-5)
    assert pair(y, x, 24) == pytest.approx(plain, abs=1e-12)
    order = torch.randperm(24)
    assert pair(x[:24][order], y[:24][order]) == pytest.approx(pair(x[:24], y[:24]), abs=1e-6)
    assert abs(pair(x * torch.logspace(-1, 1, 24), y, 24) - plain) > 0.01, (
        "scaling single features is not free"
    )


def test_permutation_null_is_centred_on_zero_and_keeps_its_sign() -> None:
    n, trials = 64, 60
    found = []
    for seed in range(trials):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(n, 300, generator=generator) for _ in range(2))
        found.append(pair(x, y))
    deviation = np.sqrt(2 / (n * (n - 3)))
    assert abs(np.mean(found)) < 3 * deviation / np.sqrt(trials)
    assert np.std(found) == pytest.approx(deviation, rel=0.3)
    assert min(found) < 0, "negative values are legitimate and stay"
    x, y = related(n, [300, 300])
    shuffled = [pair(x, y[torch.randperm(n, generator=torch.Generator().manual_seed(s))]) for s in range(40)]
    assert abs(np.mean(shuffled)) < 4 * np.std(shuffled) / np.sqrt(40) < 0.05 < pair(x, y)


def test_across_is_a_block_of_the_joint_matrix() -> None:
    xs, ys = related(45, [10, 20]), related(45, [30, 15, 5])
    joint = within([*xs, *ys], 16)
    x_sites = [testing.vector_site(f"x{i}", x.shape[1]) for i, x in enumerate(xs)]
    y_sites = [testing.vector_site(f"y{i}", y.shape[1]) for i, y in enumerate(ys)]
    stream = testing.Stream({"baseline": ([(x,) for x in xs], [(y,) for y in ys])})
    across = testing.run(testing.group_of(KIND, x_sites, y_sites), stream, 16)["cka"].values[0]
    np.testing.assert_allclose(across, joint[:2, 2:], atol=1e-12)
    np.testing.assert_allclose(joint, joint.T, atol=1e-12)


def undefined_of(layers: list[Tensor], batch: int = 16) -> tuple[Array, str]:
    sites = [testing.vector_site(f"layer{i}", x.shape[1]) for i, x in enumerate(layers)]
    stream = testing.Stream({"baseline": ([(x,) for x in layers], None)})
    found = testing.run(testing.group_of(KIND, sites), stream, batch, 2)
    return found["cka"].values[0], found.attrs["undefined"]


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1234.567, 1e-20, 1e20])
def test_constant_layer_is_undefined_by_name(value: float) -> None:
    x, y = related(48, [30, 20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, reasons = undefined_of([x, torch.full((48, 33), value), y])
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    assert np.isfinite(found[[0, 2]][:, [0, 2]]).all()
    assert "`layer1 (output, tokens all)` is constant over the images" in reasons
    assert "layer0" not in reasons and "layer2" not in reasons


def test_layer_that_is_constant_but_for_float32_rounding() -> None:
    row = torch.randn(500) * 30
    wobble = row.repeat(48, 1) * (1 + 6e-8 * torch.randint(-1, 2, (48, 500)))
    found, reasons = undefined_of([torch.randn(48, 10), wobble])
    assert (wobble != row).any() and np.isnan(found[1, 1]) and "layer1" in reasons
    small = row + 1e-4 * torch.randn(48, 500)
    found, reasons = undefined_of([torch.randn(48, 10), small])
    assert np.isfinite(found).all() and reasons == "[]"


def test_layer_constant_within_some_batches_only() -> None:
    x, y = related(48, [30, 20])
    x[:16] = 3.0
    found, reasons = undefined_of([x, y])
    assert np.isfinite(found).all() and reasons == "[]"
    assert found[0, 1] == pytest.approx(reference(x.numpy(), y.numpy(), 16), abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_and_stay_apart(bad: float) -> None:
    x, y = related(48, [30, 20])
    x[5, 3] = bad
    found, reasons = undefined_of([x, y])
    assert np.isnan(found[0]).all() and found[1, 1] == 1.0
    assert (
        "`layer0 (output, tokens all)` has values that are not finite" in reasons and "layer1" not in reasons
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-6, 1e4, 1e15, 1e20, 1e30])
def test_any_scale_that_float32_holds(scale: float) -> None:
    x, y = related(40, [30, 20], mean=2.0)
    assert pair(x * scale, y, 20) == pytest.approx(pair(x, y, 20), abs=1e-5)
    assert pair(x * scale, x * scale, 20) == 1.0
    assert pair(x * scale, y / scale, 20) == pytest.approx(pair(x, y, 20), abs=1e-5)


def test_scales_that_differ_between_batches_are_not_normalised_away() -> None:
    x, y = related(48, [30, 20])
    x, y = x * torch.repeat_interleave(torch.tensor([1.0, 10.0, 0.1]), 16)[:, None], y
    assert pair(x, y, 16) == pytest.approx(reference(x.numpy(), y.numpy(), 16), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_do_not_overflow(dtype: torch.dtype) -> None:
    """A self product of 197 x 768 features of size 20 is 6e7; float16 ends at 65504."""
    generator = torch.Generator().manual_seed(0)
    x = (20 * torch.randn(12, 197, 768, generator=generator) + 100).to(dtype)
    y = (x.float() + 15 * torch.randn(12, 197, 768, generator=generator)).to(dtype)
    wanted = reference(x.double().numpy(), y.double().numpy(), 12)
    assert pair(x, y) == pytest.approx(wanted, abs=1e-5)
    assert u_gram(x, site=testing.vector_site())[0].dtype == torch.float32


def test_gram_is_exact_to_float32_and_chunked() -> None:
    x = torch.randn(40, 70_000) + 10
    centred = x.double() - x.double().mean(0)
    wanted = u_center(centred @ centred.T)
    np.testing.assert_allclose(u_center(gram(x)), wanted, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("far", "seems"), [(0, False), (1, False), (SAMPLE**2 // 2, True), (SAMPLE**2, True)]
)
def test_wide_layers_are_shifted_where_a_sample_or_the_whole_says_so(far: int, seems: bool) -> None:
    x = torch.randn(8, SAMPLE**2, generator=torch.Generator().manual_seed(0))
    x[:, 1 : 1 + far] += 1e4 if far == 1 else 100
    assert _seems_far(x) is seems
    centred = x.double() - x.double().mean(0)
    wanted = u_center(centred @ centred.T)
    np.testing.assert_allclose(u_center(gram(x)), wanted, atol=1e-5 * float(wanted.abs().max()))


TOKEN_CASES = ["all", "cls", "spatial", "mean", (0,), (2, 5), (-1,)]


@pytest.mark.parametrize("tokens", TOKEN_CASES)
def test_tokens_of_a_transformer(tokens: str | tuple[int, ...]) -> None:
    x, y = related(24, [11 * 6, 30])
    x = x.reshape(24, 11, 6)
    wanted = {
        "all": x,
        "cls": x[:, 0],
        "spatial": x[:, 2:],
        "mean": x[:, 2:].mean(1),
        (0,): x[:, :1],
        (2, 5): torch.stack([x[:, 2], x[:, 5]], 1),
        (-1,): x[:, 10],
    }[tokens]
    site = testing.tokens_site("blocks.0", 11, 6, prefix=2, tokens=tokens)
    assert refuse_tokens(site) is None
    found = within([x, y], 24, sites=[site, testing.vector_site("y", 30)])[0, 1]
    assert found == pytest.approx(reference(wanted.numpy(), y.numpy(), 24), abs=1e-6)


@pytest.mark.parametrize("tokens", ["all", "spatial", "mean", (0,), (7,), (4, -1)])
@pytest.mark.parametrize("layout", ["map", "map_last"])
def test_tokens_of_a_map(tokens: str | tuple[int, ...], layout: str) -> None:
    x, y = related(24, [6 * 3 * 4, 30])
    maps = x.reshape(24, 6, 3, 4)
    rows = [maps[:, :, r, c] for r in range(3) for c in range(4)]
    wanted = {
        "all": maps,
        "spatial": maps,
        "mean": maps.mean((2, 3)),
        (0,): rows[0],
        (7,): maps[:, :, 1, 3],
        (4, -1): torch.stack([maps[:, :, 1, 0], maps[:, :, 2, 3]], 1),
    }[tokens]
    tensor = maps if layout == "map" else maps.permute(0, 2, 3, 1).contiguous()
    site = Site("layer1", "output", tuple(tensor.shape[1:]), layout, 0.5, grid=(3, 4), tokens=tokens)
    assert refuse_tokens(site) is None and token_count(site) == 12
    found = within([tensor, y], 24, sites=[site, testing.vector_site("y", 30)])[0, 1]
    assert found == pytest.approx(reference(wanted.numpy(), y.numpy(), 24), abs=1e-6)
    channels_last = maps.contiguous(memory_format=torch.channels_last) if layout == "map" else tensor
    torch.testing.assert_close(select(channels_last, site), select(tensor, site))


def test_layouts_of_the_same_map_are_one_layer() -> None:
    maps = torch.randn(20, 6, 3, 4)
    sites = [
        Site("a", "output", (6, 3, 4), "map", 0.0, grid=(3, 4)),
        Site("b", "output", (3, 4, 6), "map_last", 0.0, grid=(3, 4)),
        Site("c", "output", (12, 6), "tokens", 0.0, grid=(3, 4)),
    ]
    forms = [maps, maps.permute(0, 2, 3, 1), maps.flatten(2).transpose(1, 2)]
    np.testing.assert_allclose(within(forms, 20, sites=sites), 1.0, atol=1e-6)


def test_mean_of_half_precision_tokens_is_taken_in_float32() -> None:
    x = (300 + torch.randn(16, 401, 4)).half()
    site = testing.tokens_site("b", 401, 4, tokens="mean")
    assert select(x, site).dtype == torch.float32
    np.testing.assert_allclose(select(x, site), x[:, 1:].double().mean(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (testing.tokens_site("b", 10, 4, prefix=0, grid=(2, 5), tokens="cls"), "no class token"),
        (testing.tokens_site("b", 10, 4, prefix=0, grid=None, tokens="mean"), "not the model's patch grid"),
        (testing.tokens_site("b", 10, 4, grid=(3, 3), tokens=(3, 10)), "no token 10"),
        (testing.tokens_site("b", 10, 4, grid=(3, 3), tokens=(-11,)), "no token -11"),
        (Site("f", "output", (10,), "vector", 1.0, tokens="mean"), "no tokens"),
        (Site("m", "output", (4, 3, 3), "map", 1.0, grid=(3, 3), tokens="cls"), "no class token"),
        (Site("w", "output", (49, 4), "windows", 1.0), "windows"),
    ],
)
def test_tokens_that_a_site_does_not_have_are_refused(site: Site, says: str) -> None:
    assert says in (KIND.refuse(site) or "")


def test_intervals_shrink_with_images_and_hold_the_value() -> None:
    layers = related(512, [20, 30])
    sites = [testing.vector_site(f"layer{i}", x.shape[1]) for i, x in enumerate(layers)]
    widths = []
    for n in (128, 512):
        stream = testing.Stream({"baseline": ([(x[:n],) for x in layers], None)})
        found = testing.run(testing.group_of(KIND, sites), stream, 16, 8)
        low, high = (float(found[f"cka_{end}"].values[0, 0, 1]) for end in ("low", "high"))
        assert low < float(found["cka"].values[0, 0, 1]) < high
        assert float(found["cka_low"].values[0, 0, 0]) == float(found["cka_high"].values[0, 0, 0]) == 1.0
        widths.append(high - low)
    assert widths[1] < widths[0]
