"""From Python, a study that did not change is answered by its run, as on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vitdsl
from studies import TINY_VIT, study
from vitdsl.cli import run as command
from vitdsl.dsl.load import inspect_source, load_text
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.results.folder import REPORT
from vitdsl.unchanged import Asked

TEXT = study(
    "small",
    data={"probe": {"source": "folder", "path": "photos", "batch": 8}},
    models={"vit": TINY_VIT},
    layers={"blocks": '{of: vit, at: "blocks.*"}'},
    metrics={"within": "{kind: cka, x: blocks}"},
)


class Said(Silent):
    """Hears which runs answered."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard += [text] if text.startswith("unchanged") else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study and its images."""
    (tmp_path / "photos").mkdir()
    for number in range(16):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "photos" / f"{number:02d}.png")
    (tmp_path / "study.yaml").write_text(TEXT)
    return tmp_path


def test_python_is_answered_as_the_command_line_is(folder: Path) -> None:
    """By the same run, with its report drawn again where it is gone, and with nothing large imported otherwise."""
    assert command(["run", str(folder / "study.yaml"), "--out", str(folder / "runs"), "-q"]) == 0
    (found,) = (folder / "runs" / "small").iterdir()
    page = (found / REPORT).read_bytes()
    code = (
        "import sys, vitdsl; from pathlib import Path\n"
        f"ask = lambda **more: vitdsl.run({str(folder / 'study.yaml')!r}, out={str(folder / 'runs')!r}, **more)\n"
        "run = ask(); heavy = {'torch', 'timm', 'matplotlib'} & set(sys.modules); assert not heavy, heavy\n"
        "assert run.groups['within/vit']['cka'].size == 4; page = run.path / 'report.html'; page.unlink()\n"
        "assert ask(report=False).path == run.path and not page.exists()\n"
        "assert ask().path == run.path and page.exists(); print(run.path)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == f"{found}\n" and (found / REPORT).read_bytes() == page
    assert Asked(
        inspect_source(folder / "study.yaml"), folder / "runs", "auto", "float32", False
    ).has_report()


def test_what_python_ran_answers_both(folder: Path) -> None:
    """The same study, file or object; a plan, force, or another working directory is asked anew."""
    path, out = folder / "study.yaml", folder / "runs"
    said = Said()
    first = vitdsl.run(path, out=out, report=False, progress=said)
    assert not said.heard and Asked(inspect_source(path), out, "auto", "float32", False).answer() is not None
    assert vitdsl.run(path, out=out, report=False, progress=said).path == first.path
    assert said.heard == [f"unchanged: answered by {first.path}"]
    assert vitdsl.run(path, out=out, report=False, force=True).path != first.path
    assert vitdsl.run(vitdsl.compile(path), out=out, report=False, progress=said).path != first.path
    assert len(said.heard) == 1


def test_a_study_without_a_file_is_known_by_where_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for name in ("here", "there", "here"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        keys.append(Asked(load_text(TEXT), tmp_path, "auto", "float32", False).path)
    assert keys[0] == keys[2] != keys[1]
