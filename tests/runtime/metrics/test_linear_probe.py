"""Linear probe against scikit-learn's ridge on whole rows, on made-up tensors."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from probe_reference import reference, split
from vitdsl import testing
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._readout import Readout, vectors
from vitdsl.runtime.metrics.linear_probe import LinearProbe, Params

CLASSES = 4


def kind(**fields: Any) -> LinearProbe:
    return LinearProbe(Params(train="train", **fields))


def made(images: int, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Tensors that hold their classes, weakly; features far from zero and of all scales, one of them constant."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (images,), generator=generator)
    centres = torch.randn(CLASSES, *shape, generator=torch.Generator().manual_seed(9))
    scale = torch.logspace(-3, 3, shape[-1])
    tensor = (centres[labels] + 2.5 * torch.randn(images, *shape, generator=generator) + 10) * scale
    tensor[..., 1] = 3.0
    return tensor, labels


def streams(*pairs: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> testing.Stream:
    """Streams of some sites: for each, tensors with labels to learn from and to measure."""
    (_, labels), (_, wanted) = pairs[0]
    train = testing.Stream({"baseline": ([(a,) for (a, _), _ in pairs], None)}, labels, classes=CLASSES)
    return testing.Stream({"baseline": ([(b,) for _, (b, _) in pairs], None)}, wanted, None, CLASSES, train)


def both(shape: tuple[int, ...], train: int = 90, test: int = 40) -> Any:
    return made(train, shape, 0), made(test, shape, 1)


def test_page() -> None:
    testing.check_page(LinearProbe)


@pytest.mark.parametrize(
    ("fields", "tokens", "read"),
    [
        ({}, "all", lambda x: x.reshape(len(x), -1)),
        ({}, "mean", lambda x: x[:, 1:].mean(1)),
        ({"ridge": [3.0]}, "cls", lambda x: x[:, 0]),
        ({"shots": 5, "held_out": 2}, (1, -1), lambda x: x[:, [1, 4]].reshape(len(x), -1)),
        ({"shots": 3, "ridge": [0.25]}, "all", lambda x: x.reshape(len(x), -1)),
        ({"ridge": [1e3, 1e-2, 10.0], "held_out": 4}, "spatial", lambda x: x[:, 1:].reshape(len(x), -1)),
    ],
)
def test_laws(fields: dict[str, Any], tokens: Any, read: Any) -> None:
    """More features than images (30 and 12 shots) among them."""
    probe = kind(**fields)
    pair = both((5, 6))
    site = testing.tokens_site("blocks.0", 5, 6, tokens=tokens)
    (train, labels), (test, wanted) = [(x.double().numpy(), y.numpy()) for x, y in pair]
    one = reference(
        read(train),
        labels,
        read(test),
        wanted,
        probe.own.ridges,
        classes=CLASSES,
        shots=fields.get("shots"),
        held_out=fields.get("held_out", 10),
    )
    assert 0.2 < one["accuracy"] < 1
    worst = testing.check_metric(
        testing.group_of(probe, [site]),
        streams(pair),
        {name: [[value]] for name, value in one.items()},
        batch=11,
        any_batches=True,
        tolerance=1e-8,
    )
    assert worst < 1e-9


def test_a_probe_for_every_token_and_the_mean_over_them() -> None:
    """Of two sites with other tokens, each named by its place on the token axis."""
    probe = kind(each="token", ridge=[1.0, 100.0])
    pairs = [both((5, 6)), both((3, 6))]
    sites = [
        testing.tokens_site("a", 5, 6, tokens="spatial"),
        testing.tokens_site("b", 3, 6, prefix=0, grid=(1, 3), tokens=(0, -1)),
    ]
    columns = [[1, 2, 3, 4], [0, 2]]
    assert probe.coordinates(sites) == {"token": [0, 1, 2, 3, 4]}
    found = {name: np.full((1, 2, 5), np.nan) for name in ("accuracy", "margin", "train_accuracy", "ridge")}
    for i, (((train, _), (test, _)), tokens) in enumerate(zip(pairs, columns, strict=True)):
        labels, wanted = (one[1].numpy() for one in pairs[0])
        for token in tokens:
            x, t = train[:, token].double().numpy(), test[:, token].double().numpy()
            for name, value in reference(x, labels, t, wanted, [1.0, 100.0], classes=CLASSES).items():
                found[name][0, i, token] = value
    mean = np.nanmean(found["accuracy"], -1)
    worst = testing.check_metric(
        testing.group_of(probe, sites),
        streams(*pairs),
        {**found, "mean_accuracy": mean},
        batch=16,
        any_batches=True,
        tolerance=1e-8,
    )
    assert worst < 1e-9 and mean.min() > 0.3


@pytest.mark.parametrize("constant", [0.0, 3.0, 12345.6, 123456.7, -1e-7])
def test_a_feature_that_never_varies_where_it_is_learned_from_says_nothing(constant: float) -> None:
    """The mean of three tokens is no float32, so that its sums are rounded."""
    (train, labels), (test, wanted) = both((4, 6), 91)
    train[..., 1] = constant * torch.tensor([0.0, 1.0, 1.0, 1.1])
    test[..., 1] = constant + 10 * torch.randn(40, 4, generator=torch.Generator().manual_seed(2))
    site = testing.tokens_site("b", 4, 6, tokens="mean", grid=(1, 3))
    group = testing.group_of(kind(ridge=[0.5]), [site])
    found = testing.run(group, streams(((train, labels), (test, wanted))), 10)
    others = [0, 2, 3, 4, 5]
    x, t = (one[:, 1:, others].double().mean(1).numpy() for one in (train, test))
    for name, value in reference(x, labels.numpy(), t, wanted.numpy(), [0.5], classes=CLASSES).items():
        assert float(found[name].squeeze()) == pytest.approx(value, abs=1e-8)


def test_the_ridge_is_chosen_where_it_matters_and_never_on_the_measured_images() -> None:
    pair = both((5, 6))
    site = testing.tokens_site("b", 5, 6)
    group = testing.group_of(kind(ridge=[1e-6, 1e4], held_out=3), [site])
    chosen = testing.run(group, streams(pair), 10)["ridge"].values
    train, (test, wanted) = pair
    other = testing.run(group, streams((train, (test, (wanted + 1) % CLASSES))), 10)
    assert np.array_equal(other["ridge"].values, chosen)
    shares = []
    for ridge in (1e-6, 1e4):
        x, labels = train[0].double().numpy().reshape(90, -1), train[1].numpy()
        learned, held = split(labels, None, 3)
        result = reference(x[learned], labels[learned], x[held], labels[held], [ridge], classes=CLASSES)
        shares.append(result["accuracy"])
    assert shares[0] != shares[1] and chosen == (1e-6, 1e4)[int(np.argmax(shares))]


@pytest.mark.parametrize("layout", ["map", "map_last"])
@pytest.mark.parametrize(("limit", "side"), [(None, 1), (4, 1), (20, 2), (10**6, 4)])
def test_maps_are_joined_and_averaged_as_the_paper_does(layout: str, limit: int | None, side: int) -> None:
    x = torch.randn(3, 5, 12, 8, generator=torch.Generator().manual_seed(0))
    wanted = F.adaptive_avg_pool2d(F.pixel_unshuffle(x.double(), side), (3, 2))
    readout = Readout(None, (3, 2), limit)
    shape, given = ((5, 12, 8), x) if layout == "map" else ((12, 8, 5), x.permute(0, 2, 3, 1))
    site = Site("layer1", "output", shape, layout, 0.5, grid=(12, 8))  # type: ignore[arg-type]
    flat = wanted.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(vectors(given, site=site, readout=readout)[:, 0], flat, rtol=1e-12, atol=1e-12)
    each = vectors(given, site=site, readout=replace(readout, each="token"))
    torch.testing.assert_close(each.flatten(1), flat, rtol=1e-12, atol=1e-12)
    mean = vectors(given, site=replace(site, tokens="mean"), readout=readout)
    torch.testing.assert_close(mean[:, 0], wanted.mean((2, 3)), rtol=1e-12, atol=1e-12)
    assert readout.width(site) == flat.shape[1] and readout.refuse(site) is None
    assert replace(readout, each="token").tokens(site) == tuple(range(6))


def test_classes_without_images_are_never_answered_and_said() -> None:
    (train, labels), (test, wanted) = both((5, 6))
    kept = (labels != 2).nonzero()[:, 0]
    pair = ((train[kept], labels[kept]), (test, wanted))
    site = testing.tokens_site("b", 5, 6)
    found = testing.run(testing.group_of(kind(shots=8, ridge=[1.0]), [site]), streams(pair), 10)
    x, t = (one.double().numpy().reshape(len(one), -1) for one in (train[kept], test))
    result = reference(x, labels[kept].numpy(), t, wanted.numpy(), [1.0], shots=8, classes=CLASSES)
    assert float(found["accuracy"].squeeze()) == pytest.approx(result["accuracy"], abs=1e-12)
    assert result["accuracy"] <= 1 - (wanted == 2).double().mean()
    assert "no image to learn from of 1 of 4 classes, which no probe answers: `2`" in found.attrs["undefined"]


@pytest.mark.parametrize(
    ("change", "fields", "words"),
    [
        ("one class", {}, "fewer than two classes"),
        ("all are shots", {"shots": 90}, "no image left that is held out"),
        ("train", {}, "`b` has values that are not finite in `train`"),
        ("test", {}, "`b` has values that are not finite: no probe"),
    ],
)
def test_what_cannot_be_learned_is_said(change: str, fields: dict[str, Any], words: str) -> None:
    (train, labels), (test, wanted) = both((5, 6))
    if change == "one class":
        labels = torch.ones_like(labels)
    if change in ("train", "test"):
        (train if change == "train" else test)[7, 2, 3] = torch.inf
    site = testing.tokens_site("b", 5, 6)
    stream = streams(((train, labels), (test, wanted)))
    found = testing.run(testing.group_of(kind(**fields), [site]), stream, 10)
    assert np.isnan(found["accuracy"].values).all() and words in found.attrs["undefined"]
    assert np.isnan(found["ridge"].values).all() == (change != "test")


def test_chance_is_known_once_images_are() -> None:
    site = testing.tokens_site("b", 5, 6)
    found = testing.run(testing.group_of(kind(), [site]), streams(both((5, 6))), 10)
    assert found["accuracy"].attrs["baseline_line"] == 0.25
    assert "baseline_line" not in found["ridge"].attrs


@pytest.mark.parametrize(
    ("fields", "site", "words"),
    [
        ({}, testing.tokens_site("b", 197, 768), "151,296 features"),
        ({"each": "token"}, testing.tokens_site("b", 5, 6, tokens="mean"), "one vector"),
        ({"each": "token"}, testing.vector_site("f", 10), "no tokens"),
        ({"grid": [2, 2]}, testing.vector_site("f", 10), "no tokens"),
        ({"grid": [2, 2]}, testing.tokens_site("b", 17, 6), "`tokens: spatial`"),
        ({"grid": [3, 2]}, testing.tokens_site("b", 17, 6, tokens="spatial"), "4 x 4 positions"),
        ({"space_to_depth": 64}, testing.tokens_site("b", 17, 6), "write the `grid`"),
        ({}, replace(testing.tokens_site("b", 17, 6), layout="windows"), "windows"),
        ({}, replace(testing.tokens_site("b", 17, 6, tokens="mean"), prefix=None), "not known which"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], site: Site, words: str) -> None:
    assert words in (kind(**fields).refuse(site) or "")
    assert kind().refuse(testing.vector_site("f", 10)) is None
