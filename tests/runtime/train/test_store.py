"""The store: one recipe, one hash, one file; what is shipped is found; damage is named."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from studies import TINY
from vitdsl.dsl.diagnostics import EnvironmentProblem, VitdslError
from vitdsl.dsl.load import load_source, load_text
from vitdsl.dsl.study import Model
from vitdsl.dsl.sweeps import variants
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.models import checkpoints
from vitdsl.runtime.models.loading import LoadedModel, load
from vitdsl.runtime.train import loop as train
from vitdsl.runtime.train import store
from vitdsl.runtime.train.weights import read

SPECS = store.shipped_store().parents[1]
OPTIONS = {**TINY, "patch_size": 16, "depth": 1, "num_heads": 2}
DATA = {"source": "digits", "split": "train", "images": 48, "batch": 16}


def model(
    options: dict[str, Any] | None = None, weights: Any = None, data: Any = None, **recipe: Any
) -> Model:
    fields = {
        "arch": "vit_tiny_patch16_224",
        "options": {**OPTIONS, **(options or {})},
        "train": {"data": {**DATA, **(data or {})}, "epochs": 1, **recipe},
    }
    return Model.model_validate({**fields, **({"weights": weights} if weights else {})})


def key(study_seed: int = 0, folder: Path = Path(), without: Any = (), **fields: Any) -> str:
    return store.recipe_key(model(**fields), seed=study_seed, folder=folder, without=without)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITDSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    original = train.train

    def counted(trained: Model, **more: Any) -> train.Trained:
        done.append(trained.arch)
        return original(trained, **more)

    monkeypatch.setattr(train, "train", counted)
    return done


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"depth": 2}}, {"weights": "pretrained"}, {"weights": {"hub": "a/b"}}, {"seed": 1},
        {"epochs": 2}, {"learning_rate": 0.5}, {"fraction": 0.5}, {"optimizer": "sgd"},
        {"data": {"images": 32}}, {"data": {"batch": 8}}, {"data": {"split": "all"}},
        {"augment": {"hflip": 0.5}}, {"study_seed": 1},
        {"without": [{"kind": "remove_skip", "at": ["blocks.0.attn"]}]},
    ],
)  # fmt: skip
def test_what_the_weights_depend_on_changes_the_hash(change: dict[str, Any]) -> None:
    assert key(**change) != key()


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "some_name"}, {"data": {"image_blocks": 4}}, {"data": {"preprocess": "vit"}},
        {"weights": "random"}, {"optimizer": "adamw"}, {"study_seed": 1, "seed": 0},
    ],
)  # fmt: skip
def test_what_they_do_not_depend_on_does_not(change: dict[str, Any]) -> None:
    assert key(**change) == (key(seed=0) if "seed" in change else key())


def test_a_start_from_a_file_counts_by_its_content(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (key(folder=tmp_path, weights={"file": name}) for name in ("a.pth", "b.pth", "c.pth"))
    assert a == b != c


def test_the_same_relative_path_elsewhere_is_another_folder(tmp_path: Path) -> None:
    data = {"source": "folder", "path": "./train"}
    one, two = (
        store.recipe_key(
            Model.model_validate({"arch": "resnet18", "train": {"data": data}}),
            seed=0,
            folder=tmp_path / name,
        )
        for name in ("one", "two")
    )
    assert one != two


def test_the_version_of_a_source_counts_from_the_second_on(monkeypatch: pytest.MonkeyPatch) -> None:
    first = key()
    assert "version" not in store.resolved_recipe(model(), seed=0, folder=Path())["data"]
    monkeypatch.setattr(SOURCES.find(model().train.data.source), "version", 2)  # type: ignore[union-attr]
    assert key() != first
    labels = {"csv": "l.csv", "outputs": {"cat": 0}}
    data = {"source": "folder", "path": "./train", "labels": labels}
    entry = Model.model_validate({"arch": "resnet18", "train": {"data": data}})
    found = store.resolved_recipe(entry, seed=0, folder=Path("/a"))["data"]
    assert found["labels"] == labels | {"csv": "/a/l.csv"} and found["version"] == 2


def test_a_recipe_is_trained_once_and_an_edited_one_again(cache: Path, trainings: list[str]) -> None:
    first = store.obtain(model(), seed=0, folder=Path())
    again = store.obtain(model(), seed=0, folder=Path())
    assert len(trainings) == 1 and first.weights == again.weights
    assert first.weights.origin == "trained" and first.weights.detail["key"] == key()
    store.obtain(model(learning_rate=0.002), seed=0, folder=Path())
    assert len(trainings) == 2 and len(list(cache.iterdir())) == 2
    store.obtain(model(), seed=0, folder=Path(), force=True)
    assert len(trainings) == 3 and len(list(cache.iterdir())) == 2


def test_equal_trainings_leave_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store.obtain(model(), seed=0, folder=Path(), store=tmp_path / name)
    (one,), (two,) = ((tmp_path / name).iterdir() for name in ("one", "two"))
    assert one.name == two.name and one.read_bytes() == two.read_bytes()


def test_a_file_says_what_it_holds(cache: Path) -> None:
    store.obtain(model(), seed=0, folder=Path())
    (path,) = cache.iterdir()
    with safetensors.safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["vitdsl"])
    assert header["key"] == key() and path.stem == key()[:16]
    assert header["recipe"]["train"]["epochs"] == 1 and header["versions"]["torch"] == torch.__version__
    assert {"train_loss", "train_accuracy", "images", "epochs"} <= set(header["training"])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def swap(path: Path) -> None:
    other = store.obtain(model(seed=1), seed=0, folder=Path(), store=path.parent / "other")
    path.write_bytes(Path(other.weights.detail["file"]).read_bytes())


def zero_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000] + bytes(4000))


def flip_bits(path: Path, seed: int = 0) -> None:
    content = bytearray(path.read_bytes())
    for bit in random.Random(seed).sample(range(8 * len(content)), 200):
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def rewrite(path: Path, **said: Any) -> None:
    """The same tensors under a header that says something else."""
    with safetensors.safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["vitdsl"]) | said
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = {name: value for name, value in header.items() if value is not None}
    safetensors.torch.save_file(state, str(path), {"vitdsl": json.dumps(header)})


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        swap,
        lambda path: path.write_bytes(b""),
        zero_the_end,
        flip_bits,
        lambda path: rewrite(path, training={"train_loss": 0.0}),
        lambda path: rewrite(path, sha256=None),
        lambda path: rewrite(path, sha256=None, header_sha256=None),
        lambda path: rewrite(path, sha256="0" * 64),
    ],
)
def test_a_damaged_file_is_named(cache: Path, damage: Any, trainings: list[str]) -> None:
    store.obtain(model(), seed=0, folder=Path())
    (path,) = cache.iterdir()
    damage(path)
    before = len(trainings)
    with pytest.raises(EnvironmentProblem, match="VD412") as caught:
        store.obtain(model(), seed=0, folder=Path())
    assert str(path) in str(caught.value) and "delete that file" in caught.value.diagnostics[0].help[0]
    assert len(trainings) == before


def test_no_flipped_bits_of_shipped_weights_give_a_number(tmp_path: Path) -> None:
    """Wherever they fall: in the lengths, the names, the recipe, what is said of the training, the numbers."""
    loaded = load_source(SPECS / "zoo" / "digits.yaml")
    ((variant),) = variants("resnet", loaded.study.models["resnet"])
    key = store.recipe_key(variant.entry, seed=loaded.study.seed, folder=loaded.folder)
    shipped = store.find(key, store.shipped_store())
    assert shipped is not None and read(shipped, variant.entry, key).weights.origin == "trained"
    path, content = tmp_path / shipped.name, shipped.read_bytes()
    start = int.from_bytes(content[:8], "little") + 8
    for position in (*range(0, start, 97), *range(start, len(content), 60_000), len(content) - 1):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(EnvironmentProblem, match="VD412"):
            read(path, variant.entry, key)


def test_the_hash_in_the_file_is_that_of_what_is_loaded(cache: Path) -> None:
    ready = store.obtain(model(), seed=0, folder=Path())
    (path,) = cache.iterdir()
    with safetensors.safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["vitdsl"])
    assert header["sha256"] == ready.weights.sha256 == checkpoints.digest(ready.module)


def test_a_failed_training_leaves_nothing(cache: Path) -> None:
    with pytest.raises(Exception, match="VD503"):
        store.obtain(model(learning_rate=1e30, optimizer="sgd"), seed=0, folder=Path())
    assert not cache.exists() or not list(cache.iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITDSL_CACHE", str(tmp_path / "file"))
    with pytest.raises(EnvironmentProblem, match="VD407") as caught:
        store.obtain(model(), seed=0, folder=Path())
    assert "VITDSL_CACHE" in caught.value.diagnostics[0].help[0]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ("train: {data: {source: folder, path: ./nowhere}}", "path: ./nowhere"),
        ("weights: pretrained, train: {data: {source: folder, path: ./nowhere}}", "path: ./nowhere"),
        ("train: {data: {source: digits, split: train, images: 9999}}", "images: 9999"),
    ],
)
def test_images_that_cannot_be_trained_on_are_pointed_at(
    fields: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.models, "load", lambda model, **_: untrained(model))
    options = "img_size: 32, patch_size: 16, embed_dim: 24, depth: 1, num_heads: 2, num_classes: 10"
    text = (
        "vitdsl: 1\nstudy: s\ndata: {p: {source: digits, split: test}}\n"
        f"models: {{m: {{arch: vit_tiny_patch16_224, options: {{{options}}}, {fields}}}}}\n"
        "metrics: {a: {kind: accuracy, of: m}}\n"
    )
    with pytest.raises(VitdslError) as caught:
        store.train_study(load_text(text))
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert text.splitlines()[3][: found.span.end_column - 1].endswith(line)


def untrained(model: Model) -> LoadedModel:
    return load(model.model_copy(update={"weights": "random"}), seed=0, folder=Path())
