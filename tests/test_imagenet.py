"""The studies of `specs/imagenet` are right: checked and priced without images and weights, not run without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from timm.data import ImageNetInfo
from timm.models import is_model_pretrained

from vitdsl.cli import run
from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.load import load_source
from vitdsl.dsl.study import Model
from vitdsl.runtime.plan import bind as binding
from vitdsl.runtime.run.cost import cost

FOLDER = Path(__file__).parent.parent / "specs" / "imagenet"
FILES = sorted(FOLDER.glob("*.yaml"))
IMAGES = FOLDER / "0_images.yaml"
_BUILT: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network; skeletons and sites are built once for all studies."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    skeleton, sites_of = binding.skeleton, binding.sites_of

    def once(key: str, make: Callable[[], Any]) -> Any:
        if key not in _BUILT:
            _BUILT[key] = make()
        return _BUILT[key]

    def key_of(model: Model) -> str:
        return canonical([model.arch, model.options, model.input_size])

    monkeypatch.setattr(binding, "skeleton", lambda model: once(key_of(model), lambda: skeleton(model)))
    monkeypatch.setattr(
        binding,
        "sites_of",
        lambda module, size, **more: once(f"{id(module)} {size}", lambda: sites_of(module, size, **more)),
    )


def test_there_is_a_study_for_each_finding() -> None:
    assert [path.stem.partition("_")[0] for path in FILES] == [str(number) for number in range(9)]
    findings = sorted(path.name for path in (FOLDER.parent / "findings").glob("*.yaml"))
    assert [path.name for path in FILES[1:]] == findings


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_binds_without_images(path: Path) -> None:
    missing: list[Diagnostic] = []
    loaded = load_source(path)
    plan = binding.bind(loaded, missing=missing)
    assert loaded.study.study == f"imagenet_{path.stem.partition('_')[0]}" or path == IMAGES
    assert path == IMAGES or loaded.bases[0].name == IMAGES.name
    assert {one.code for one in missing} == {"VD401"}
    used = {one.data for one in plan.passes if plan.data[one.data].source == "folder"}
    assert {one.about[0] for one in missing} == {("data", name, "path") for name in used}
    assert len(loaded.study.claims) > 4 or path == IMAGES
    assert {"images_are_right"} <= {name for name, one in loaded.study.claims.items() if one.family}
    for planned in plan.models.values():
        arch, weights = planned.entry.arch, planned.entry.weights
        assert (weights == "pretrained" and is_model_pretrained(arch)) or weights == "random"


def test_the_numbers_of_images_are_the_papers() -> None:
    data = load_source(IMAGES).study.data
    assert (data["cka"].images, data["cka"].batch) == (10_240, 1_024)
    assert (data["val"].images, data["few"].images) == (5_000, 32)
    for path in FILES:
        for metric in load_source(path).study.metrics.values():
            if metric.kind == "cka":
                assert metric.data in ("cka", "noise")
            if metric.kind == "linear_probe":
                assert metric.params["shots"] == 10


@pytest.mark.parametrize("number", [0, 3])
def test_a_study_is_priced_without_images(number: int) -> None:
    plan = binding.bind(load_source(FILES[number]), missing=[])
    price = cost(plan)
    assert {one.data: one.images for one in price.passes}["val"] == 5_000
    assert all(0 < one.memory < 80 * 2**30 for one in price.models)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(IMAGES)]) == 0
    assert "missing: data.val: the image folder `./val` does not exist" in capsys.readouterr().out
    assert run(["plan", str(IMAGES)]) == 0
    assert "missing: data.val: " in capsys.readouterr().out
    assert run(["run", str(IMAGES), "-q"]) == 3
    assert "error[VD401]" in capsys.readouterr().err


def test_images_are_given_by_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, name in enumerate(ImageNetInfo("imagenet-1k").label_names()[:4]):
        place = tmp_path / "images" / "val" / name
        place.mkdir(parents=True)
        Image.effect_noise((240, 240), 60 + index).convert("RGB").save(place / "a.png")
    few = ["--set", "data.val.images=4", "--set", "data.val.batch=4"]
    where = ["--set", f"data.val.path={tmp_path / 'images' / 'val'}"]
    assert run(["check", str(IMAGES), *few, *where]) == 0
    *notes, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{IMAGES}: ok; ") and last.endswith(", 4 images")
    assert any("intervals come from 4 groups" in one for one in notes)
    whole = ["--set", f"folder={tmp_path / 'images'}", "--set", "models.resnet50_in1k.weights=random"]
    out = ["--out", str(tmp_path / "runs"), "-q", "--no-report"]
    assert run(["run", str(IMAGES), *few, *whole, *out]) == 0
    assert "Control. ResNet-50 is right on" in capsys.readouterr().out
