"""What came before a run: seals, and earlier runs with other claims; as the user meets them."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from studies import TINY_RESNET, study
from vitdsl.cli import run as command
from vitdsl.dsl.load import load_source
from vitdsl.dsl.sealing import find_seal, seal, seal_path
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.run.before import before

TOP1 = "{metric: accuracy, value: top1}"
GOOD = f"{{say: It is good., left: {TOP1}, is: greater, right: 0.9}}"
BAD = f"{{say: It is bad., left: {TOP1}, is: less, right: 0.9}}"
OTHER = GOOD.replace("0.9", "0.05")
REWORDED = GOOD.replace("It is good.", "It is very good.")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(images: int = 16, **claims: str) -> Path:
    data = {"probe": f"{{source: noise, total: 32, images: {images}, size: 32, batch: 8, classes: 10}}"}
    text = study(
        "looked",
        data=data,
        models={"net": TINY_RESNET},
        metrics={"accuracy": "{kind: accuracy, of: net}"},
        claims=claims,
    )
    Path("study.yaml").write_text(text)
    return Path("study.yaml")


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Manifest, str]:
    """Run the study: its manifest, and what the terminal shows."""
    known = set(Path("runs").glob("*/*/manifest.json"))
    capsys.readouterr()
    assert command(["run", "study.yaml", "-q", "--no-report", *words]) == 0
    (path,) = set(Path("runs").glob("*/*/manifest.json")) - known
    return Manifest.model_validate_json(path.read_text()), capsys.readouterr().out


def age(hours: float) -> None:
    """Let all runs be older."""
    for path in Path("runs").glob("*/*/manifest.json"):
        found = json.loads(path.read_text())
        for field in ("started_at", "ended_at"):
            found[field] = (datetime.fromisoformat(found[field]) - timedelta(hours=hours)).isoformat()
        path.write_text(json.dumps(found))


def test_claims_that_changed_after_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(good=GOOD, words=GOOD, gone=BAD)
    first, said = ran(capsys)
    assert first.earlier is first.seal is None and first.warnings == ()
    assert first.written is not None and set(first.written.claims) == {"good", "words", "gone"}
    assert "changed" not in said and "sealed" not in said.lower()
    age(1)
    again, _ = ran(capsys)
    assert again.earlier is None and again.written == first.written

    write(good=OTHER, words=REWORDED, new=BAD)
    second, said = ran(capsys)
    assert second.earlier is not None and second.earlier.run.run_id == first.run_id
    found = second.earlier.changes
    assert (found.new, found.changed, found.reworded, found.gone) == (
        ("new",),
        ("good",),
        ("words",),
        ("gone",),
    )
    assert (second.earlier.runs, second.earlier.as_first, found.rest) == (2, False, ())
    date = f"{datetime.fromisoformat(second.earlier.run.started_at):%Y-%m-%d %H:%M} UTC"
    assert (
        f"These claims were changed after a run of this study on {date} (`{first.run_id}`); 2 earlier runs had other "
        "claims: `good` (changed), `words` (reworded), `new` (new), `gone` (gone). "
        "Nothing else in the study was changed."
    ) in said.splitlines()
    assert second.written is not None and first.written is not None
    assert second.written.rest_sha256 == first.written.rest_sha256

    age(1)
    third, _ = ran(capsys)
    assert third.earlier is not None and third.earlier.run.run_id == first.run_id
    assert third.earlier.changes == second.earlier.changes


def test_a_run_of_other_images_has_been_looked_at_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(images=8, good=GOOD)
    ran(capsys)
    age(1)
    write(images=16, good=OTHER, more=BAD)
    found, said = ran(capsys)
    assert found.earlier is not None and found.earlier.changes.rest == ("data.probe",)
    assert "Changed in the study as well: `data.probe`." in said
    assert json.loads(ran(capsys, "--json", "--force")[1])["earlier"]["changes"]["changed"] == ["good"]


def test_what_was_tried_in_between_is_not_forgotten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for claims in ({"good": GOOD}, {"good": GOOD, "tried": BAD}):
        write(**claims)
        ran(capsys)
        age(1)
    write(good=GOOD, second=BAD)
    found, _ = ran(capsys)
    assert found.earlier is not None and found.earlier.runs == 2
    assert found.earlier.changes.of_claims == {"second": "new", "tried": "gone"}

    age(1)
    write(good=GOOD)
    back, said = ran(capsys)
    assert back.earlier is not None and back.earlier.as_first and "tried" in back.earlier.changes.gone
    assert "These are the claims of the first run of this study. A run in between" in said


def test_runs_that_nobody_saw_do_not_count(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(good=GOOD)
    ran(capsys)
    write(good=OTHER)
    loaded, now = load_source(path), datetime.now(UTC)
    assert before(loaded, Path("runs"), now).earlier is not None
    assert before(loaded, Path("runs"), now - timedelta(hours=1)).earlier is None
    assert before(loaded, Path("elsewhere"), now).earlier is None
    (manifest,) = Path("runs").glob("*/*/manifest.json")
    whole = json.loads(manifest.read_text())
    for text in (json.dumps(whole | {"status": "failed"}), "{", "[]", json.dumps(whole | {"ended_at": None})):
        manifest.write_text(text)
        assert before(loaded, Path("runs"), now).earlier is None
    manifest.write_text(json.dumps(whole | {"written": None}))
    silent = before(loaded, Path("runs"), now)
    assert (
        silent.earlier is None and "1 earlier run of this study in `runs` does not say" in silent.warnings[0]
    )


def test_a_sealed_study(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(good=GOOD)
    assert command(["seal", "study.yaml"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    sealed = find_seal(path, now=datetime.now(UTC))
    assert sealed is not None and line == f"vitdsl seal looked {sealed.sealed_at} {sealed.sha256}"
    found, said = ran(capsys)
    assert found.seal is not None and not found.seal.changes and found.seal.run_before is None
    assert (found.seal.sha256, found.seal.file) == (sealed.sha256, "study.seal.json")
    date = f"{datetime.fromisoformat(sealed.sealed_at):%Y-%m-%d %H:%M} UTC"
    assert f"Sealed on {date} as {sealed.sha256[:12]}; claims and study are as sealed." in said.splitlines()

    write(images=8, good=REWORDED, more=BAD)
    found, said = ran(capsys, "--set", "seed=1")
    assert found.seal is not None and found.seal.changes.rest == ("data.probe", "seed")
    assert "; changed since: `good` (reworded), `more` (new), and in the study `data.probe`, `seed`." in said
    assert json.loads(ran(capsys, "--json", "--force")[1])["seal"]["changes"]["new"] == ["more"]


def test_a_seal_after_a_run_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(good=GOOD)
    first, _ = ran(capsys)
    age(1)
    assert command(["seal", "study.yaml"]) == 0
    found, said = ran(capsys)
    assert found.seal is not None and found.seal.run_before is not None
    assert found.seal.run_before.run_id == first.run_id
    assert f"(`{first.run_id}`), came before the seal." in said and "are as sealed." in said


def test_another_name_and_another_version_are_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(good=GOOD)
    other = load_source(path).study.model_copy(update={"study": "elsewhere"})
    seal_path(path).write_text(seal(other, vitdsl="0.0.9", now=datetime.now(UTC)).text)
    said = ran(capsys)[1]
    assert (
        "; changed since: the study's name, which was `elsewhere`. It was sealed with vitdsl 0.0.9 and run"
        in said
    )


def test_a_seal_is_not_replaced_unasked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(good=GOOD)
    assert command(["seal", "study.yaml"]) == 0
    line = capsys.readouterr().out
    os.utime(seal_path(path), (time.time() - 9,) * 2)
    kept = seal_path(path).read_text()
    assert command(["seal", "study.yaml"]) == 0 and capsys.readouterr().out == line
    write(good=OTHER)
    assert command(["seal", "study.yaml"]) == 2
    assert (
        "seals another form of this study" in capsys.readouterr().err and seal_path(path).read_text() == kept
    )
    assert command(["seal", "study.yaml", "--force"]) == 0
    assert capsys.readouterr().out != line and seal_path(path).read_text() != kept


def test_a_wrong_study_is_not_sealed_and_one_without_images_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(good=GOOD.replace("top1", "top7"))
    assert command(["seal", "study.yaml"]) == 2 and "VD250" in capsys.readouterr().err
    assert not seal_path(path).exists()
    path.write_text(
        path.read_text().replace("top7", "top1").replace("source: noise", "source: folder, path: x")
    )
    path.write_text(
        path.read_text().replace("total: 32, images: 16, size: 32,", "").replace(", classes: 10", "")
    )
    assert command(["seal", "study.yaml", "--set", "claims.good.left.value=top7"]) == 2
    assert "VD250" in capsys.readouterr().err and not seal_path(path).exists()
    assert command(["seal", "study.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("vitdsl seal looked ") and "sealed without a check of images: the image" in err


def test_a_seal_that_is_none_stops_the_run_before_it_begins(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(good=GOOD)
    assert command(["seal", "study.yaml"]) == 0
    whole: dict[str, Any] = json.loads(seal_path(path).read_text())
    seal_path(path).write_text(json.dumps(whole | {"sealed_at": "2020-01-01T00:00:00+00:00"}))
    capsys.readouterr()
    assert command(["run", "study.yaml", "-q"]) == 3
    err = capsys.readouterr().err
    assert "VD417" in err and "was changed after it was made" in err and "Traceback" not in err
    assert not Path("runs").exists()
