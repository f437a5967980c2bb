"""Flips against a loop over images in float64, and on a small ViT without a skip against plain forward passes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.metrics.prediction_flips import KEPT, Params, PredictionFlips
from vitdsl.runtime.models import loading
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.cost import cost
from vitdsl.runtime.run.run import run as run_plan

LISTED = ("image", "label", "before", "after", "confidence_before", "confidence_after", "strength")


def kind(listed: int = 4) -> PredictionFlips:
    return PredictionFlips(Params(listed=listed))


def probabilities(logits: Any) -> list[float]:
    powers = [np.exp(np.float64(one) - np.float64(max(logits))) for one in logits]
    return [float(one / sum(powers)) for one in powers]


def reference(here: Tensor, intact: Tensor, labels: Tensor, listed: int) -> dict[str, Any]:
    """Image by image; the list by sorting tuples."""
    counts = {"flips": 0, "to_wrong": 0, "to_right": 0}
    drops, flips = [], []
    for position, (h, i, label) in enumerate(
        zip(here.tolist(), intact.tolist(), labels.tolist(), strict=True)
    ):
        q, p = probabilities(h), probabilities(i)
        b, a = h.index(max(h)), i.index(max(i))
        drops.append(p[a] - q[a])
        if a == b:
            continue
        counts["flips"] += 1
        counts["to_wrong"] += a == label
        counts["to_right"] += b == label
        strength = 0.5 * ((p[a] - p[b]) + (q[b] - q[a]))
        flips.append((-strength, position, label, a, b, p[a], q[b], strength))
    rows = [flip[1:] for flip in sorted(flips)[:listed]]
    rows += [(np.nan,) * len(LISTED)] * (listed - len(rows))
    table = dict(zip(LISTED, np.array(rows).T, strict=True))
    shares = {name: count / len(labels) for name, count in counts.items()}
    return {**shares, "confidence_drop": np.mean(drops), **table}


def made(images: int, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    intact = 2 * torch.randn(images, classes, generator=generator)
    here = intact + 1.5 * torch.randn(images, classes, generator=generator)
    labels = torch.where(torch.rand(images, generator=generator) < 0.6, intact.argmax(1), here.argmax(1))
    return here, intact, torch.where(torch.arange(images) % 5 == 0, 0, labels)


def stream_of(here: Tensor, intact: Tensor, labels: Tensor) -> testing.Stream:
    views = {"baseline": ([(intact,)], [(intact,)]), "no_skip": ([(here,)], [(intact,)])}
    return testing.Stream(views, labels)


def group_of(listed: int = 4, classes: int = 5) -> Any:
    return testing.group_of(
        kind(listed), [testing.vector_site(width=classes)], [testing.vector_site(width=classes)],
        views=("baseline", "no_skip"),
    )  # fmt: skip


def test_page() -> None:
    testing.check_page(PredictionFlips)


@pytest.mark.parametrize(("images", "listed"), [(40, 4), (9, 20)])
def test_laws(images: int, listed: int) -> None:
    """More flips than are listed; and fewer images than are listed."""
    here, intact, labels = made(images)
    parts = [reference(one, intact, labels, listed) for one in (intact, here)]
    assert 0 < parts[1]["to_wrong"] < 1 and 0 < parts[1]["flips"] < 1 and parts[0]["flips"] == 0
    assert images < 40 or parts[1]["to_right"] > 0
    wanted = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    stream = stream_of(here, intact, labels)
    testing.check_metric(group_of(listed), stream, wanted, batch=7, any_batches=True, tolerance=1e-12)


def test_ties_go_to_the_first_class_and_the_earlier_image() -> None:
    intact = torch.tensor([[2.0, 2, 0]] * 40)
    here = torch.tensor([[0.0, 2, 2]] * 40)
    found = testing.run(group_of(3, 3), stream_of(here, intact, torch.zeros(40).long()), 9).isel(condition=1)
    assert found["image"].values.tolist() == [0, 1, 2]
    assert found["before"].values.tolist() == [0, 0, 0] and found["after"].values.tolist() == [1, 1, 1]
    assert float(found["to_wrong"]) == 1.0


def test_shares_have_intervals_and_listed_images_have_none() -> None:
    here, intact, labels = made(320)
    found = testing.run(group_of(), stream_of(here, intact, labels), 32, blocks=4).isel(condition=1)
    flipped = (here.argmax(1) != intact.argmax(1)).double().numpy()
    without = [flipped[np.arange(320) % 32 != part].mean() for part in range(32)]
    np.testing.assert_allclose(found["flips_replicates"].values, without, atol=1e-15)
    assert float(found["flips_low"]) < float(found["flips"]) < float(found["flips_high"])
    for name in LISTED:
        assert np.isfinite(found[name].values).all()
        assert (
            np.isnan(found[f"{name}_low"].values).all() and np.isnan(found[f"{name}_replicates"].values).all()
        )


def test_an_image_without_an_answer_leaves_no_number() -> None:
    here, intact, labels = made(12)
    here[5, 2] = np.nan
    found = testing.run(group_of(), stream_of(here, intact, labels), 5)
    assert np.isnan(found["flips"].values[1]) and np.isnan(found["image"].values[1]).all()
    assert found["flips"].values[0] == 0
    assert "not finite for 1 of 12 images" in found.attrs["undefined"]
    assert found.attrs["undefined"].count("images") == 1


def test_refuses_what_is_no_vector_of_logits() -> None:
    assert kind().refuse(testing.vector_site()) is None
    assert "not one logit" in (kind().refuse(testing.tokens_site("", 5, 4)) or "")


STUDY = study(
    "f",
    data={"probe": {"source": "digits", "split": "test", "images": 90, "batch": 16}},
    models={"vit": TINY_VIT},
    ablations={"no_skip": {"kind": "remove_skip", "of": "vit", "at": '"blocks.1.mlp"', "each": False}},
    metrics={"flips": {"kind": "prediction_flips", "of": "vit", "listed": 6}},
)


def test_a_small_vit_without_a_skip_against_plain_forward_passes(tmp_path: Path) -> None:
    plan = bound(STUDY)
    assert plan.groups[0].kind.row_size([]) == len(KEPT) and cost(plan).models[0].memory > 8 * 90 * 2 * len(
        KEPT
    )
    outcome = run_plan(plan, out=tmp_path)
    assert outcome.folder is not None
    found = open_run(outcome.folder).groups["flips/vit"]
    planned = plan.models["vit"]
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={"vit": planned.config})
    intact = loading.load(planned.entry, seed=0, folder=Path()).module
    changed = copy.deepcopy(intact)
    block = changed.blocks[1]
    block.forward = lambda x: block.mlp(block.norm2(x + block.attn(block.norm1(x))))
    logits: list[list[Tensor]] = [[], []]
    labels = []
    with torch.no_grad():
        for batch in stream:
            for kept, module in zip(logits, (changed, intact), strict=True):
                kept.append(module(batch.images["vit"]).double())
            labels.append(batch.labels)
    wanted = reference(torch.cat(logits[0]), torch.cat(logits[1]), torch.cat(labels), 6)
    here = found.isel(condition=1)
    assert wanted["flips"] > 0
    for name, value in wanted.items():
        np.testing.assert_allclose(here[name].values, value, atol=1e-6, err_msg=name)
