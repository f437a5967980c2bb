"""Accuracy against numpy and scikit-learn; ties, few classes, logits that are not finite."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from torch import Tensor

from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.accuracy import Accuracy
from vitdsl.runtime.plan.plan import Group

KIND = Accuracy(Entry())


def probabilities(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def reference(logits: Tensor, intact: Tensor, labels: Tensor) -> dict[str, float]:
    """All values from whole arrays, in float64; stable sorting gives ties to the first class."""
    q, p = (probabilities(one.double().numpy()) for one in (logits, intact))
    order = np.argsort(-logits.double().numpy(), axis=1, kind="stable")
    truth, before = labels.numpy(), np.argmax(intact.double().numpy(), 1)
    top1 = float(np.mean(order[:, 0] == truth))
    few = logits.shape[1] <= 5
    return {
        "top1": top1,
        "top5": np.nan
        if few
        else float(np.mean([label in row[:5] for label, row in zip(truth, order, strict=True)])),
        "loss": float(-np.mean(np.log(q[np.arange(len(q)), truth]))),
        "drop": float(np.mean(before == truth)) - top1,
        "agreement": float(np.mean(order[:, 0] == before)),
        "kl": float(np.mean(np.sum(p * np.log(p / q), 1))),
    }


def made(n: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    intact = 3 * torch.randn(n, classes, generator=generator) + 3 * torch.nn.functional.one_hot(
        labels, classes
    )
    return intact + 4 * torch.randn(n, classes, generator=generator), intact, labels


def group(classes: int, views: tuple[str, ...] = ("baseline",)) -> Group:
    site = testing.vector_site("", classes)
    return testing.group_of(KIND, [site], [site], views=views)


def run(logits: Tensor, intact: Tensor, labels: Tensor, batch: int = 16, blocks: int = 1) -> xr.Dataset:
    stream = testing.Stream({"baseline": ([(logits,)], [(intact,)])}, labels)
    return testing.run(group(logits.shape[1]), stream, batch, blocks)


def test_page() -> None:
    testing.check_page(Accuracy)


@pytest.mark.parametrize("classes", [2, 5, 6, 10, 100])
def test_laws(classes: int) -> None:
    logits, intact, labels = made(70, classes)
    stream = testing.Stream(
        {"baseline": ([(intact,)], [(intact,)]), "cut": ([(logits,)], [(intact,)])}, labels
    )
    parts = [reference(intact, intact, labels), reference(logits, intact, labels)]
    wanted = {name: [part[name] for part in parts] for name in parts[0]}
    both = group(classes, ("baseline", "cut"))
    worst = testing.check_metric(both, stream, wanted, batch=16, any_batches=True, tolerance=1e-12)
    assert worst < 1e-12
    assert wanted["drop"][0] == wanted["kl"][0] == 0 and wanted["agreement"][0] == 1
    assert 0 < wanted["top1"][1] < wanted["top1"][0]


def test_agrees_with_scikit_learn() -> None:
    logits, intact, labels = made(200, 12)
    found = run(logits, intact, labels)
    p = probabilities(logits.double().numpy())
    every = np.arange(12)
    assert float(found["top1"][0]) == pytest.approx(accuracy_score(labels, logits.argmax(1)), abs=1e-15)
    assert float(found["top5"][0]) == pytest.approx(
        top_k_accuracy_score(labels, p, k=5, labels=every), abs=1e-15
    )
    assert float(found["loss"][0]) == pytest.approx(log_loss(labels, p, labels=every), abs=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_ties_go_to_the_first_class_everywhere(seed: int, classes: int) -> None:
    """Coarse logits, as bfloat16 gives them, tie often; the intact model must then agree with itself."""
    generator = torch.Generator().manual_seed(seed)
    logits, intact = (torch.randint(0, 3, (40, classes), generator=generator).float() for _ in range(2))
    labels = torch.randint(classes, (40,), generator=generator)
    found = run(logits, intact, labels)
    for name, wanted in reference(logits, intact, labels).items():
        np.testing.assert_allclose(found[name].values, [wanted], atol=1e-12, err_msg=name)
    same = run(intact, intact.clone(), labels)
    assert float(same["agreement"][0]) == 1 and float(same["drop"][0]) == 0 and float(same["kl"][0]) == 0


def test_many_equal_logits() -> None:
    """torch.topk may name any of equal logits: a model that says nothing must still agree with itself."""
    logits = torch.zeros(64, 1000)
    labels = torch.arange(64)
    found = run(logits, logits.clone(), labels)
    assert float(found["agreement"][0]) == 1.0
    assert float(found["top1"][0]) == 1 / 64
    assert float(found["top5"][0]) == 5 / 64
    assert float(found["loss"][0]) == pytest.approx(np.log(1000), abs=1e-12)


def test_top5_of_few_classes_is_undefined_and_says_so_once() -> None:
    logits, intact, labels = made(30, 5)
    stream = testing.Stream({name: ([(logits,)], [(intact,)]) for name in ("baseline", "a", "b")}, labels)
    found = testing.run(group(5, ("baseline", "a", "b")), stream, 10)
    assert np.isnan(found["top5"].values).all() and np.isfinite(found["top1"].values).all()
    assert (
        found.attrs["undefined"] == '["under every condition: top5 is undefined for five classes or fewer"]'
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_seen(bad: float) -> None:
    logits, intact, labels = made(40, 10)
    logits = logits.clone()
    logits[7, 3] = logits[21, 0] = bad
    stream = testing.Stream(
        {"baseline": ([(intact,)], [(intact,)]), "cut": ([(logits,)], [(intact,)])}, labels
    )
    found = testing.run(group(10, ("baseline", "cut")), stream, 8, 5)
    for name in KIND.VALUES:
        assert np.isfinite(found[name].values[0]) and np.isnan(found[name].values[1]), name
    assert "under `cut`: the model's logits are not finite for 2 of 40 images" in found.attrs["undefined"]


def test_an_intact_model_that_is_not_finite_leaves_only_what_needs_no_comparison() -> None:
    logits, intact, labels = made(40, 10)
    intact = intact.clone()
    intact[3] = np.nan
    found = run(logits, intact, labels)
    for name, value in KIND.VALUES.items():
        assert np.isnan(found[name].values).all() == value.relative, name
    assert "the intact model's logits are not finite for 1 of 40" in found.attrs["undefined"]


def test_large_logits_keep_loss_and_kl_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0, 0, 0, 0], [0, 8e4, 0, 0, 0, -3e4]])
    found = run(logits, torch.zeros(2, 6), torch.tensor([1, 1]))
    assert float(found["loss"][0]) == pytest.approx(1e4, rel=1e-12)
    assert np.isfinite(float(found["kl"][0])) and float(found["kl"][0]) > 0


def test_half_precision_output_is_summed_in_float64() -> None:
    logits, intact, labels = made(300, 10)
    logits, intact = logits.half(), intact.half()
    found = run(logits, intact, labels)
    for name, wanted in reference(logits, intact, labels).items():
        np.testing.assert_allclose(found[name].values, [wanted], atol=1e-12, err_msg=name)


def test_interval_of_accuracy_is_that_of_a_share() -> None:
    """Over equal image groups the jackknife of a mean is the classical standard error of their means."""
    logits, intact, labels = made(320, 10, seed=3)
    found = run(logits, intact, labels, batch=10, blocks=32)
    right = (logits.argmax(1) == labels).double().numpy().reshape(10, 32).mean(0)
    reach = stats.t.ppf(0.975, 31) * right.std(ddof=1) / np.sqrt(32)
    assert float(found["top1_high"][0] - found["top1_low"][0]) / 2 == pytest.approx(reach, rel=1e-12)


def test_refuses_outputs_that_are_not_logits() -> None:
    assert KIND.refuse(testing.vector_site("", 10)) is None
    why = KIND.refuse(Site("", "output", (10, 8, 8), "map", 1.0, grid=(8, 8)))
    assert why is not None and "[10, 8, 8]" in why
