"""What ships: every study finds its weights, every file has a study; rounded files; how long the rest takes."""

import json
from pathlib import Path

import pytest
import safetensors
import torch

from studies import TINY
from vitdsl.dsl.load import load_source, load_text
from vitdsl.dsl.study import Model
from vitdsl.dsl.sweeps import variants
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.train import loop as train
from vitdsl.runtime.train import store
from vitdsl.runtime.train.without import training_form

SPECS = store.shipped_store().parents[1]
DATA = {"source": "digits", "split": "train", "images": 48, "batch": 16}


def model(seed: int | None = None) -> Model:
    return Model.model_validate(
        {
            "arch": "vit_tiny_patch16_224",
            "options": {**TINY, "patch_size": 16, "depth": 1, "num_heads": 2},
            "train": {"data": DATA, "epochs": 1, **({} if seed is None else {"seed": seed})},
        }
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITDSL_CACHE", str(tmp_path / "cache"))


STUDIES = sorted(path for path in SPECS.rglob("*.yaml") if "\nstudy:" in path.read_text("utf-8"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.relative_to(SPECS)))
def test_shipped_studies_need_no_training(path: Path) -> None:
    """A model trained without ablations must be in the shipped store, under the key of its recipe."""
    loaded = load_source(path)
    for name, entry in loaded.study.models.items():
        for variant in variants(name, entry):
            recipe = variant.entry.train
            if recipe is None or recipe.without:
                continue
            wanted = store.recipe_key(variant.entry, seed=loaded.study.seed, folder=loaded.folder)
            assert store.find(wanted, store.shipped_store()), f"{variant.name}: run `make zoo`"


TRAINED = ("zoo/digits.yaml", "zoo/shapes.yaml", "questions/families.yaml")
"""The studies that `make zoo` trains."""


def test_every_shipped_file_belongs_to_the_zoo_and_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", None)
    paths = set()
    for name in TRAINED:
        loaded = load_source(SPECS / name)
        forms = {model: training_form(planned) for model, planned in bind(loaded).models.items()}
        without = {model: form["without"] for model, form in forms.items() if form}
        found = store.train_study(loaded, without=without)
        assert not any(one.trained for one in found)
        paths |= {one.path for one in found}
    assert paths == set(store.shipped_store().glob("*.safetensors"))
    assert all(path.stat().st_size <= 1_000_000 for path in paths)
    loaded = load_source(SPECS / TRAINED[0])
    assert [one.name for one in store.train_study(loaded, names=["vit"])] == ["vit"]


def test_half_the_bytes_for_rounded_parameters_that_are_read_as_they_were_written() -> None:
    exact = store.obtain(model(), seed=0, folder=Path())
    whole = Path(exact.weights.detail["file"])
    ready = store.obtain(model(), seed=0, folder=Path(), force=True, half=True)
    path = Path(ready.weights.detail["file"])
    assert path == whole and ready.weights.detail["training"]["rounded"] == "float16"
    with safetensors.safe_open(str(path), framework="pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118  (no mapping)
    assert kinds == {torch.float16}
    for (name, read_), (_, was) in zip(
        ready.module.named_parameters(), exact.module.named_parameters(), strict=True
    ):
        assert read_.dtype == torch.float32
        assert torch.equal(read_, was.half().float()), name
    again = store.obtain(model(), seed=0, folder=Path())
    assert again.weights.sha256 == ready.weights.sha256 != exact.weights.sha256


def test_buffers_of_batch_norms_are_not_rounded() -> None:
    small = Model.model_validate(
        {
            "arch": "resnet18",
            "options": {"channels": [4, 4, 4, 4], "num_classes": 10},
            "input_size": 32,
            "train": {"data": DATA, "epochs": 1},
        }
    )
    exact = store.obtain(small, seed=0, folder=Path())
    ready = store.obtain(small, seed=0, folder=Path(), force=True, half=True)
    for (name, read_), (_, was) in zip(
        ready.module.named_buffers(), exact.module.named_buffers(), strict=True
    ):
        assert torch.equal(read_, was), name
    assert any(not torch.equal(was, was.half().float()) for _, was in exact.module.named_buffers())


def test_what_is_left_is_said_after_each_model() -> None:
    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    text = (
        "vitdsl: 1\nstudy: two\ndata: {probe: {source: digits, split: test}}\nmodels:\n"
        + "".join(
            f"  m{seed}: {json.dumps(model(seed=seed).model_dump(mode='json', exclude_none=True))}\n"
            for seed in (1, 2)
        )
        + "metrics: {accuracy: {kind: accuracy, of: m1}}\n"
    )
    store.train_study(load_text(text), progress=Told())
    assert said[0] == "2 models to train, 2 epochs in all"
    assert said[1].startswith("1 of 2 models trained in ") and said[1].endswith(" left")
    assert said[2].endswith(", none left")
    said.clear()
    store.train_study(load_text(text), progress=Told())
    assert not [line for line in said if "models" in line]
