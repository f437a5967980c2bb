"""A study that did not change is answered by its run, with nothing large imported; one that did, is not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from timm.models import _registry

from studies import TINY_VIT, changed, study
from vitdsl import unchanged
from vitdsl.cli import run as command
from vitdsl.dsl.load import inspect_source, load_text
from vitdsl.dsl.sealing import seal, seal_path
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.results import program
from vitdsl.runtime.results.folder import REPORT, Outcome, read_manifest
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.program import newest, stamp
from vitdsl.runtime.run.files import files_of
from vitdsl.unchanged import Asked

TEXT = study(
    "small",
    data={"probe": {"source": "folder", "path": "photos", "batch": 8}},
    models={"vit": TINY_VIT},
    layers={"blocks": '{of: vit, at: "blocks.*"}'},
    metrics={"within": "{kind: cka, x: blocks}"},
    claims={"alike": "{say: Alike., left: {metric: within, value: cka, take: mean}, is: greater, right: 0}"},
)


NOISE = "{source: noise, total: 16, size: 32, batch: 8, classes: 10}"
METRIC = {"accuracy": "{kind: accuracy, of: vit}"}


@pytest.fixture(autouse=True)
def _one_store(_own_store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for all tests, for where weights are kept counts."""
    monkeypatch.delenv("VITDSL_CACHE")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was run, with its report."""
    folder = tmp_path_factory.mktemp("unchanged")
    (folder / "photos").mkdir()
    for number in range(16):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / "photos" / f"{number:02d}.png")
    (folder / "study.yaml").write_text(TEXT)
    assert command(["run", str(folder / "study.yaml"), "--out", str(folder / "runs"), "-q"]) == 0
    return folder


def asked(
    folder: Path, *settings: str, device: str = "auto", dtype: str = "float32", fast: bool = False
) -> Asked:
    loaded = inspect_source(folder / "study.yaml", overrides=settings)
    assert not loaded.problems
    return Asked(loaded, folder / "runs", device, dtype, fast)


def outcome(folder: Path) -> Outcome:
    (found,) = (folder / "runs" / "small").iterdir()
    return Outcome(found, read_manifest(found / "manifest.json"))


@pytest.fixture
def answered(ran: Path) -> Path:
    """The same, answered by that run."""
    again = asked(ran)
    again.keep(bind(again.loaded), outcome(ran))
    found = again.answer()
    assert found is not None and found.folder == outcome(ran).folder and again.has_report()
    return ran


def test_the_second_time_nothing_is_computed_or_drawn(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(ran / "study.yaml"), "--out", str(ran / "runs")]
    code = (
        "import sys; from vitdsl.cli import run; "
        f"assert run({[*words, '--json']!r}) == 0; "
        "heavy = {'torch', 'timm', 'xarray', 'scipy', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    answer, (folder, manifest) = json.loads(found.stdout), (outcome(ran).folder, outcome(ran).manifest)
    assert answer["unchanged"] and answer["run"] == str(folder) and answer["report"] == f"{folder}/{REPORT}"
    assert answer["claims"]["alike"]["verdict"] == manifest.claims["alike"].verdict
    assert f"unchanged: answered by {folder}" in found.stderr
    capsys.readouterr()
    assert command([*words, "--check"]) == 0
    assert f"at {manifest.started_at}" in capsys.readouterr().out


def photo(folder: Path) -> None:
    Image.new("RGB", (32, 32), (9, 0, 0)).save(folder / "photos" / "03.png")


def another_photo(folder: Path) -> None:
    shutil.copyfile(folder / "photos" / "03.png", folder / "photos" / "99.png")


def results(folder: Path) -> None:
    found = outcome(folder).folder
    assert found is not None
    (found / "results.nc").touch()


@pytest.mark.parametrize("change", [photo, another_photo, results])
def test_a_file_that_changed_is_seen(answered: Path, change: Callable[[Path], None]) -> None:
    before = {path.name for path in (answered / "photos").iterdir()}
    change(answered)
    assert asked(answered).answer() is None
    for path in (answered / "photos").iterdir():
        if path.name not in before:
            path.unlink()


@pytest.mark.parametrize(
    ("text", "settings", "more"),
    [
        (TEXT + "# a remark\n", (), {}),
        (TEXT.replace("Alike.", "They are alike."), (), {}),
        (TEXT, ("seed=1",), {}),
        (TEXT, (), {"device": "cpu"}),
        (TEXT, (), {"dtype": "bf16"}),
        (TEXT, (), {"fast": True}),
    ],
)
def test_a_study_that_is_asked_otherwise_is_another(
    answered: Path, text: str, settings: tuple[str, ...], more: dict[str, Any]
) -> None:
    (answered / "study.yaml").write_text(text)
    assert asked(answered, *settings, **more).answer() is None
    (answered / "study.yaml").write_text(TEXT)
    assert asked(answered).answer() is not None  # it is the text that counts, not when it was written


def test_another_program_package_or_machine_is_seen(answered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("versions", "program", "_accelerators"):
        with monkeypatch.context() as patch:
            patch.setattr(unchanged, what, lambda: ["another"])
            assert asked(answered).answer() is None
    monkeypatch.setenv("VITDSL_CACHE", str(answered))
    assert asked(answered).answer() is None


def test_a_report_that_is_gone_or_another_is_drawn_again_and_the_numbers_stay(
    answered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcome(answered).folder
    assert found is not None
    page = (found / REPORT).read_bytes()
    (found / REPORT).write_text("another")
    assert asked(answered).answer() is not None and not asked(answered).has_report()
    assert command(["run", str(answered / "study.yaml"), "--out", str(answered / "runs"), "-q"]) == 0
    assert (found / REPORT).read_bytes() == page and outcome(answered).folder == found
    assert asked(answered).has_report()


def test_a_seal_and_other_claims_in_between_are_seen(answered: Path) -> None:
    """What a report says of earlier runs and of the seal would not be true any more."""
    path = answered / "study.yaml"
    seal_path(path).write_text(seal(asked(answered).loaded.study, vitdsl="1", now=datetime.now(UTC)).text)
    assert asked(answered).answer() is None
    seal_path(path).unlink()
    assert asked(answered).answer() is not None
    first = outcome(answered).folder
    assert first is not None
    shutil.copytree(first, first.with_name("another"))
    manifest = json.loads((first / "manifest.json").read_text())
    manifest["written"]["claims_sha256"] = "0" * 64
    (first.with_name("another") / "manifest.json").write_text(json.dumps(manifest))
    assert asked(answered).answer() is None
    shutil.rmtree(first.with_name("another"))
    assert asked(answered).answer() is not None


def test_a_run_that_is_gone_answers_nothing(answered: Path) -> None:
    found = outcome(answered).folder
    assert found is not None
    found.rename(answered / "elsewhere")
    assert asked(answered).answer() is None
    (answered / "elsewhere").rename(found)


def test_what_was_written_while_it_ran_is_not_kept(answered: Path) -> None:
    again = asked(answered)
    (answered / "photos" / "00.png").touch()
    again.path.unlink()
    again.keep(bind(again.loaded), outcome(answered))
    assert not again.path.exists()


def test_files_of_data_and_weights(tmp_path: Path) -> None:
    """All that is named, what lies beside a file of weights whether it is there or not, and one split of a folder."""
    for name in ("photos/val/a", "photos/val/b", "photos/train/a"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / name / "1.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    (tmp_path / "w.safetensors").write_bytes(b"")
    labels = "{classes: classes.txt, outputs: {a: 0, b: 1}}"
    text = study(
        "files",
        data={"probe": f"{{source: folder, path: photos, split: val, labels: {labels}, batch: 4}}"},
        models={"vit": changed(TINY_VIT, {"num_classes": 2}, weights="{file: w.safetensors}")},
        metrics=METRIC,
    )
    (tmp_path / "study.yaml").write_text(text)
    plan = bind(inspect_source(tmp_path / "study.yaml"))
    found = files_of(plan, Manifest.model_construct(models={}))
    assert found is not None
    beside = ("config.json", "open_clip_config.json", "preprocessor_config.json", "adapter_config.json")
    wanted = ("photos/val", "classes.txt", "w.safetensors", *beside)
    assert [str(path.relative_to(tmp_path)) for path in found] == list(wanted)


def test_what_reads_files_that_nobody_names_is_never_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds and models of other packages, and data sets that may fetch."""
    bound = bind(load_text(study("n", data={"p": NOISE}, models={"vit": TINY_VIT}, metrics=METRIC)))
    nothing = Manifest.model_construct(models={})
    assert files_of(bound, nothing) == ()
    entry = bound.data["p"]
    for other in (
        {"source": "timm", "params": {"name": "hfds/x"}},
        {"source": "timm", "params": {"name": ""}},
    ):
        assert files_of(replace(bound, data={"p": entry.model_copy(update=other)}), nothing) is None
    plugin = bound.models["vit"].entry.model_copy(update={"arch": "torchvision.models:resnet18"})
    models = {"vit": replace(bound.models["vit"], entry=plugin)}
    assert files_of(replace(bound, models=models), nothing) is None

    monkeypatch.setitem(_registry._model_entrypoints, "own_resnet", lambda **options: None)
    mine = bound.models["vit"].entry.model_copy(update={"arch": "own_resnet"})
    assert files_of(replace(bound, models={"vit": replace(bound.models["vit"], entry=mine)}), nothing) is None

    class Foreign(type(bound.groups[0].kind)):  # type: ignore[misc]
        __module__ = "elsewhere"

    group = replace(bound.groups[0], kind=Foreign(bound.groups[0].kind.params))
    assert files_of(replace(bound, passes=(replace(bound.passes[0], groups=(group,)),)), nothing) is None


def test_stamps_see_what_is_below_a_folder_and_through_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("one")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "away").mkdir()
    (tmp_path / "a" / "away").symlink_to(tmp_path / "away")
    seen = [stamp(tmp_path / "a")]
    for change in (
        lambda: (tmp_path / "a" / "b" / "file").write_text("two"),
        lambda: (tmp_path / "away" / "new").write_text(""),
        lambda: (tmp_path / "a" / "b" / "file").rename(tmp_path / "a" / "b" / "other"),
        lambda: (tmp_path / "a" / "b" / "other").unlink(),
    ):
        assert stamp(tmp_path / "a") == seen[-1]
        change()
        seen.append(stamp(tmp_path / "a"))
    assert len(set(seen)) == 5
    os.utime(tmp_path / "away" / "new", times=(4e9, 4e9))
    assert newest(tmp_path / "a") == 4e9 and newest(tmp_path / "none") == 0
    assert stamp(tmp_path / "none") == program.ABSENT
