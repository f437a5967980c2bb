"""Drawn shapes in a whole run: labels and columns that are true, numbers that a plain model gives, as many as asked."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from studies import TINY_VIT, bound, changed, loaded, study
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources.shapes import Shapes
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.models.preprocessing import transform
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run
from vitdsl.runtime.run.warnings import image_warnings

FIELDS = "source: shapes, split: test, label: position, size: 48, difficulty: medium, batch: 7"
MODEL = changed(TINY_VIT, options={"num_classes": 9})


def study_of(first: str, second: str = "") -> str:
    data = {"probe": f"{{{first}}}"} | ({"more": f"{{{second}}}"} if second else {})
    metrics = {"accuracy": "{kind: accuracy, of: net, data: probe}"}
    if second:
        metrics["again"] = "{kind: accuracy, of: net, data: more}"
    return study("s", data=data, models={"net": MODEL}, metrics=metrics)


def test_a_run_is_right_and_says_what_is_true_of_each_image(tmp_path: Path) -> None:
    plan = bound(study_of(f"{FIELDS}, images: 40", f"{FIELDS}, images: 24"))
    folder = run(plan, out=tmp_path).folder
    found = open_run(folder)
    source = open_source(plan.data["probe"], seed=0, folder=Path())
    assert isinstance(source, Shapes)
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["data"] for row in rows] == ["probe"] * 40 + ["more"] * 24
    rows = rows[:40]
    numbers = [int(row["id"].rpartition("/")[2]) for row in rows]
    assert sorted(numbers) == list(range(40)) and numbers != list(range(40))
    for row, number in zip(rows, numbers, strict=True):
        truth = source.truth(number)
        assert int(row["label"]) == 3 * truth.row + truth.col
        assert (row["shape"], row["texture"], row["colour"]) == (truth.shape, truth.texture, truth.colour)
        read = [float(row[name]) for name in ("x", "y", "diameter", "left", "upper", "right", "lower")]
        assert read == pytest.approx([truth.x, truth.y, truth.diameter, *truth.box])
    model = loaded(plan, "net")
    look = transform(model.config)
    with torch.no_grad():
        images = torch.stack([look(source.load(number).image) for number in numbers])
        answers = model.module.eval()(images).argmax(1).tolist()
    right = np.mean([answer == int(row["label"]) for answer, row in zip(answers, rows, strict=True)])
    top1 = found.groups[plan.groups[0].path]["top1"]
    assert top1.sel(condition="baseline").item() == pytest.approx(right)


def test_any_number_is_there_and_one_must_be_asked_for() -> None:
    first, second = (
        open_stream(Data(source="shapes", split="train", images=n), seed=0, folder=Path(), transforms={})
        for n in (30, 100_000)
    )
    assert (first.n, second.n) == (30, 100_000) and sorted(first.order) == list(range(30))
    with pytest.raises(StudyError, match="VD101.*no end.*images: 1000"):
        bound(study_of(FIELDS))


def test_few_images_can_be_more() -> None:
    plan = bound(study_of(f"{FIELDS}, images: 7"))
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={})
    (warning,) = image_warnings(plan, {"probe": stream})
    assert "Write `images: " in warning
