"""Noise against numbers drawn with NumPy's integers, on the plain model with hooks; its draws, units and streams."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from hooked import CLOSE, FAMILIES, changed, edits, exact, output, places, plain
from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._chance import fingerprint
from vitdsl.runtime.ablations._gaussian import numbers, standard
from vitdsl.runtime.ablations.noise import Noise, Params, SpreadOfImages
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.graph.edit import Lane, Place
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Seen
from vitdsl.runtime.randomness import seed_of
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run
from vitdsl.testing.bench import EDITED, Bench

AT = {
    "vit": "blocks.1",
    "swin": "layers.0",
    "resnet": "layer2.0",
    "convnext": "stages.1",
    "mixer": "blocks.3",
}
UNIT = {"vit": "blocks.1.mlp", "swin": "layers.0.blocks.1.mlp", "mixer": "blocks.3.mlp_tokens"}
WEYL = np.uint64(0x9E3779B97F4A7C15)
Bits = npt.NDArray[np.uint64]


def kind(sd: float = 0.5, **fields: Any) -> Noise:
    return Noise(Params(sd=sd, **fields))


def absolute(sd: float = 0.5, **fields: Any) -> Noise:
    return kind(sd, unit="absolute", **fields)


def mixed(z: Bits) -> Bits:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def drawn(image: Tensor | None, shape: tuple[int, ...], *place: str, seed: int = 0) -> Tensor:
    """The noise of one image at a place (None: of all images), with unsigned integers and in double precision."""
    with np.errstate(over="ignore"):
        key = np.uint64(0)
        if image is not None:
            pixels = image.numpy().astype(np.float32).ravel().view(np.int32).astype(np.int64).view(np.uint64)
            at = mixed(np.arange(len(pixels), dtype=np.uint64) + WEYL)
            key = mixed((pixels ^ at) + WEYL).sum(dtype=np.uint64)
        state = mixed((mixed(np.uint64(seed_of("noise", seed, *place)) + WEYL) ^ key) + WEYL)
        half = (math.prod(shape) + 1) // 2
        bits = mixed(state + np.arange(1, 2 * half + 1, dtype=np.uint64) * WEYL)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[:half])), 2 * np.pi * uniform[half:]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return torch.from_numpy(both[: math.prod(shape)].reshape(shape))


def of_all(bench: Bench, place: Place, *, shared: bool = False, seed: int = 0) -> Tensor:
    """The noise of each image at a place."""
    site = place.site
    assert site is not None
    images = [None if shared else one for one in bench.images]
    return torch.stack([drawn(one, site.shape, site.role, site.name, seed=seed) for one in images])


# ---- the numbers


def test_the_integers_are_those_of_splitmix64() -> None:
    """The first five after the seed 1234567, as published for this generator."""
    known = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [int(one) % 2**64 for one in numbers(torch.tensor(1234567), 5)] == known


def test_they_are_standard_and_independent() -> None:
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[2] = images[1]
    images[2, 0, 0, 0] += 1e-6
    keys = fingerprint(images)
    noise = torch.stack([standard(keys, shape=(40000,), seed=seed) for seed in (1, 2)]).flatten(0, 1)
    n = noise.shape[1]
    assert (noise.mean(1).abs() < 4 / n**0.5).all() and ((noise.var(1) - 1).abs() < 4 * (2 / n) ** 0.5).all()
    assert ((noise**4).mean(1) - 3).abs().max() < 4 * (96 / n) ** 0.5
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 4 / n**0.5, (
        "of other images, of one pixel's last bits, and of other seeds"
    )
    halves = noise[:, : n // 2] * noise[:, n // 2 :]
    assert (halves.mean(1).abs() < 4 / (n / 2) ** 0.5).all()
    at = torch.linspace(-3, 3, 25, dtype=torch.float64)
    shares = (noise[..., None] < at).double().mean((0, 1))
    wanted = 0.5 * (1 + torch.erf(at / 2**0.5))
    assert (shares - wanted).abs().max() < 2 / (6 * n) ** 0.5


# ---- at places of five families


@pytest.mark.parametrize("draw", ["image", "shared"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_model_goes_on_from_the_noisy_value(name: str, draw: str) -> None:
    bench, at = exact(name), AT[name]
    (place,) = places(bench, "output", [at])
    noise = of_all(bench, place, shared=draw == "shared")
    found = output(bench, *edits(bench, absolute(0.5, draw=draw), [place]))
    torch.testing.assert_close(found, plain(bench, {at: lambda _, __, out: out + 0.5 * noise}), **CLOSE)


@pytest.mark.parametrize("unit", ["position", "all"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_its_unit_is_the_places_own_spread_over_images(name: str, unit: str) -> None:
    bench, at = exact(name, 5), AT[name]
    (place,) = places(bench, "output", [at])
    values: list[Tensor] = []
    plain(bench, {at: lambda _, __, out: values.append(out.clone())})
    spread = torch.from_numpy(values[0].numpy().std(0))
    if unit == "all":
        spread = torch.tensor(np.sqrt(values[0].numpy().var(0).mean()))
    noise = of_all(bench, place)
    found = output(bench, *edits(bench, kind(2, unit=unit), [place]))
    wanted = plain(bench, {at: lambda _, __, out: out + 2 * spread * noise})
    torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("name", list(UNIT))
def test_a_noisy_branch(name: str) -> None:
    bench, unit = exact(name), UNIT[name]
    (place,) = places(bench, "branch", [unit])
    noise = of_all(bench, place, seed=7)
    found = output(bench, *edits(bench, absolute(seed=7), [place]))

    def hook(module: Any, given: Any, out: Tensor) -> Tensor:
        return out + 0.5 * (noise.transpose(1, 2) if name == "mixer" else noise.view(out.shape))

    torch.testing.assert_close(found, plain(bench, {unit: hook}), **CLOSE)


def test_each_place_each_seed_and_each_image_has_its_own_and_a_sweep_follows_one_line() -> None:
    bench = exact("vit")
    node = bench.sites.nodes["stream"]

    def added(some: Noise, unit: str = "blocks.1.mlp") -> Tensor:
        found = changed(bench, *edits(bench, some, places(bench, "stream", [unit])))
        return found[node[unit]] - bench.intact[node[unit]]

    one = added(absolute(1))
    torch.testing.assert_close(added(absolute(3)), 3 * one, **CLOSE)
    assert not torch.allclose(one[0], one[1])
    shared = added(absolute(1, draw="shared"))
    torch.testing.assert_close(shared[0], shared[1], **CLOSE)
    for other in (added(absolute(1, seed=1)), added(absolute(1), "blocks.1.attn"), shared):
        assert abs(float(torch.corrcoef(torch.stack([one.ravel(), other.ravel()]))[0, 1])) < 0.15


@pytest.mark.parametrize("draw", ["image", "shared"])
def test_it_hangs_neither_on_the_batch_nor_on_the_place_in_it(draw: str) -> None:
    bench, order = exact("vit", 5), [3, 1, 4, 0, 2]
    some = edits(bench, absolute(draw=draw), places(bench, "output", ["blocks.1"]))
    node = bench.sites.traced.output
    whole = changed(bench, *some)[node]
    for rows in ([0], [1, 2], order):
        found = Bench(bench.sites, bench.images[rows], {}).read([Lane(EDITED, tuple(some))])[EDITED][node]
        torch.testing.assert_close(found, whole[rows], **CLOSE)


def test_some_tokens_get_what_they_would_get_among_all() -> None:
    bench = exact("vit")
    node = bench.sites.nodes["stream"]["blocks.1.mlp"]
    whole, some = (
        changed(bench, *edits(bench, absolute(), places(bench, "stream", ["blocks.1.mlp"], tokens)))[node]
        for tokens in ("all", "cls")
    )
    assert torch.equal(some[:, 0], whole[:, 0]) and torch.equal(some[:, 1:], bench.intact[node][:, 1:])


def test_with_a_removed_branch_in_the_order_of_the_study() -> None:
    bench = exact("vit")
    (place,) = places(bench, "branch", ["blocks.1.mlp"])
    noise, gone = edits(bench, absolute(), [place]), edits(bench, RemoveBranch(Entry()), [place])
    stream = bench.sites.nodes["stream"]["blocks.1.mlp"]
    skip = bench.intact[bench.sites.nodes["skip"]["blocks.1.mlp"]]
    wanted = skip + 0.5 * of_all(bench, place)
    torch.testing.assert_close(changed(bench, *gone, *noise)[stream], wanted, **CLOSE)
    assert torch.equal(changed(bench, *noise, *gone)[stream], skip)


def test_low_precision_keeps_its_type() -> None:
    bench = Bench.of(FAMILIES["vit"], Path(), seed=0)
    bench.sites.model.bfloat16()
    half = Bench(bench.sites, bench.images.bfloat16(), {})
    ((place, rewrite),) = edits(half, absolute(), places(half, "stream", ["blocks.1.mlp"]))
    assert half.at_place(place, [rewrite]).dtype == torch.bfloat16


# ---- the fit


def test_the_spread_is_that_of_numpy_however_the_images_are_split() -> None:
    values = torch.randn(30, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    values[:, 0, 0] = values[0, 0, 0]
    fit, site = SpreadOfImages(), Site("a", "output", (4, 5), "tokens", 0.5)
    reducer = fit.reducer()
    for sizes in ([30], [1] * 30, [7, 23]):
        sums: dict[str, Any] = {}
        for part in values.split(sizes):
            for name, value in fit.observe(Seen([reducer.function(part, site=site)])).items():
                sums[name] = sums.get(name, 0) + value.numpy()
        ((found,),) = fit.finish(sums, [site])
        wanted = values.numpy().std(0)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=0)
        assert found[0, 0] == 0 and found.shape == fit.shapes(site)[0]


# ---- laws, studies


def test_laws() -> None:
    testing.check_ablation(kind(unit="all"))


STUDY = study(
    "noisy",
    data="{probe: {source: noise, total: 10, batch: 4, image_blocks: 3}}",
    models={"vit": TINY_VIT},
    ablations={"shake": '{kind: noise, of: vit, at: "blocks.0.mlp", sd: 1}'},
    metrics={"ratio": "{kind: skip_ratio, of: vit}"},
)


def test_a_whole_run_gives_the_same_with_other_batches_and_other_numbers_with_another_seed(
    tmp_path: Path,
) -> None:
    found = {}
    for batch, seed in ((4, 0), (10, 0), (3, 0), (4, 1)):
        text = STUDY.replace("batch: 4", f"batch: {batch}").replace("sd: 1", f"sd: 1, seed: {seed}")
        outcome = run(bound(text), out=tmp_path / f"{batch}{seed}")
        assert outcome.folder is not None
        found[batch, seed] = open_run(outcome.folder).groups["ratio/vit"]["ratio"].values
    first = found[4, 0]
    assert not np.allclose(first[0], first[1])
    for other in ((10, 0), (3, 0)):
        np.testing.assert_allclose(found[other], first, rtol=1e-5, equal_nan=True)
    assert not np.allclose(found[4, 1][1], first[1])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("sd: 0", "more than 0"),
        ("sd: .inf", "number"),
        ("sd: 1, unit: pixels", "it takes `position`, `all`, `absolute`"),
        ("sd: 1, unit: absolute, over: probe", "`unit: absolute` needs none"),
        ("sd: 1, role: attention", "not on `attention`"),
        ("sd: 1, seed: -1", "at least 0"),
    ],
)
def test_errors(fields: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        bound(STUDY.replace("sd: 1", fields))
    assert says in str(caught.value), str(caught.value)
