"""Answers against a stable sort in numpy, and on a small model against its plain forward pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from studies import TINY_VIT, bound, loaded, study
from vitdsl import testing
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.answers import Answers, Params
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run


def reference(logits: Tensor, images: int, classes: int) -> dict[str, Array]:
    """One image after another, its classes sorted by hand; NaN for images that are not there."""
    found = {name: np.full((images, classes), np.nan) for name in ("class", "confidence")}
    for i, row in enumerate(logits.double().numpy()[:images]):
        ranked = sorted(range(len(row)), key=lambda c: (-row[c], c))[:classes]
        total = np.exp(row - row.max()).sum()
        found["class"][i] = ranked
        found["confidence"][i] = [np.exp(row[c] - row.max()) / total for c in ranked]
    return found


@pytest.mark.parametrize(("images", "classes"), [(1, 5), (4, 3), (30, 10), (64, 1)])
def test_laws(images: int, classes: int) -> None:
    """Logits are coarse, so that many tie."""
    logits = torch.randint(-4, 5, (37, 10), generator=torch.Generator().manual_seed(0)).float()
    kind = Answers(Params(images=images, classes=classes))
    site = testing.vector_site("", 10)
    group = testing.group_of(kind, [site], [site])
    stream = testing.Stream({"baseline": ([(logits,)], [(logits,)])})
    wanted = {name: value[None] for name, value in reference(logits, images, classes).items()}
    worst = testing.check_metric(group, stream, wanted, batch=7, any_batches=True, tolerance=1e-14)
    assert worst < 1e-14


def test_large_and_broken_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, float("nan"), 1.0], [0.0, 0.0, 0.0]])
    site = testing.vector_site("", 3)
    kind = Answers(Params(images=3, classes=2))
    stream = testing.Stream({"baseline": ([(logits,)], [(logits,)])})
    found = testing.run(testing.group_of(kind, [site], [site]), stream, 2, 1)
    assert found["class"].values[0, 0].tolist() == [0, 2] and found["class"].values[0, 2].tolist() == [0, 1]
    assert found["confidence"].values[0, 0].tolist() == [1.0, 0.0]
    assert np.isnan(found["class"].values[0, 1]).all()
    assert "the logits of 1 images are not finite: no answer" in found.attrs["undefined"]


def test_refuses_what_is_no_head() -> None:
    kind = Answers(Params())
    assert kind.refuse(testing.vector_site("", 5)) is None
    why = kind.refuse(testing.vector_site("", 3))
    assert why is not None and "`classes: 3` or fewer" in why
    why = kind.refuse(Site("", "output", (10, 8, 8), "map", 1.0, grid=(8, 8)))
    assert why is not None and "[10, 8, 8]" in why


def test_a_run_agrees_with_the_plain_model(tmp_path: Path) -> None:
    text = study(
        "answers",
        data={"probe": {"source": "digits", "split": "test", "images": 6, "batch": 4}},
        models={"vit": TINY_VIT},
        metrics={"answers": {"kind": "answers", "of": "vit", "images": 3}},
    )
    plan = bound(text)
    folder = run(plan, out=tmp_path).folder
    assert folder is not None
    found = open_run(folder).groups["answers/vit"]
    model = loaded(plan, "vit")
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={"vit": model.config})
    images = torch.cat([batch.images["vit"] for batch in stream])
    with torch.inference_mode():
        wanted = reference(model.module(images), 3, 5)
    for name in wanted:
        np.testing.assert_allclose(found[name].values[0], wanted[name], atol=1e-6, err_msg=name)
