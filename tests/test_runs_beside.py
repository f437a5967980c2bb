"""`vitdsl diff`, `vitdsl open`, `vitdsl report` by name, and the page of several studies, from the command line."""

import html
import json
import re
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from vitdsl.cli import run as command

STUDY = """
vitdsl: 1
study: NAME
title: The study NAME
data: {probe: {source: noise, total: 64, size: 32, batch: 32, classes: 10}}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
metrics:
  accuracy: {kind: accuracy, of: vit}
  ratio: {kind: skip_ratio, of: vit}
claims:
  good: {say: "It is good & quick.", left: {metric: accuracy, value: top1}, is: greater, right: 0.9}
"""
TORCHLESS = (
    "import sys\n"
    "class None_:\n"
    "    def find_spec(self, name, *more):\n"
    "        if name in ('torch', 'torchvision', 'timm'): raise ImportError(f'{name} is not here')\n"
    "sys.meta_path.insert(0, None_())\n"
    "from vitdsl.cli import main; main(sys.argv[1:])\n"
)
"""The command line where none of these can be imported."""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two studies that ran as one, and the first once more with another seed."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "studies").mkdir()
    for name in ("one", "two"):
        (folder / "studies" / f"{name}.yaml").write_text(STUDY.replace("NAME", name))
    words = ["run", str(folder / "studies"), "--out", str(folder / "runs"), "-q"]
    assert command(words) == 0
    single = str(folder / "studies" / "one.yaml")
    assert command(["run", single, "--out", str(folder / "runs"), "--set", "seed=7", "-q"]) == 0
    return folder


@pytest.fixture
def folder(studies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the place where commands are given."""
    monkeypatch.chdir(studies)
    return studies


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert command([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_beside_itself_is_empty_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "diff", "one", "one")
    assert found["answer"] == "same" and found["numbers"]["moved"] == []
    assert command(["diff", "one", "one", "--check"]) == 0
    assert "The same run: nothing differs." in capsys.readouterr().out


def test_two_seeds_differ_where_they_must(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "diff", "one~1", "one")
    assert found["answer"] == "comparable"
    assert {one["topic"] for one in found["differs"]} == {"data", "weights", "seed"}
    assert [
        (one["path"], one["a"]["text"], one["b"]["text"], one["b"]["origin"]) for one in found["study"]
    ] == [("seed", "0", "7", "--set")]
    assert {one["path"] for one in found["numbers"]["moved"]} == {"ratio/vit"}
    assert all(one["how"] == "both" for one in found["numbers"]["moved"])
    assert command(["diff", "one~1", "one"]) == 0
    out = capsys.readouterr().out
    assert (
        out.index("Comparable: ")
        < out.index("The studies")
        < out.index("The numbers")
        < out.index("The claims")
    )
    assert command(["diff", "one~1", "one", "--check"]) == 1


def test_the_page_has_both_runs_and_loads_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first.html", "again.html"):
        assert command(["diff", "one~1", "one", "--html", name]) == 0
        assert capsys.readouterr().out.rstrip().endswith(f"page: {name}")
    page = (folder / "first.html").read_text()
    assert page == (folder / "again.html").read_text()
    assert "A: vit" in page and "B: vit" in page and "default-src 'none'" in html.unescape(page)
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_folders_that_are_no_runs_give_the_errors_of_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos").mkdir(exist_ok=True)
    for word in ("photos", "nowhere", "one~9"):
        assert command(["report", word]) == 3
        told = capsys.readouterr().err
        assert command(["diff", "one", word]) == 3
        assert capsys.readouterr().err == told
        assert "VD601" in told and "Traceback" not in told


def test_a_word_that_names_no_run_is_told_what_there_is(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = {}
    for word in ("onee", "one~9", "nothing like it"):
        assert command(["open", word]) == 3
        said[word] = capsys.readouterr().err
    assert "did you mean `one`?" in said["onee"] and "ended well" in said["one~9"]
    assert all("runs in `runs` are of" in one for one in said.values())
    assert command(["report", "latest", "--runs", str(tmp_path)]) == 3
    assert "`vitdsl run` makes one" in capsys.readouterr().err


def test_diff_and_report_need_no_torch(folder: Path, tmp_path: Path) -> None:
    for words in (
        ["diff", "one~1", "one", "--html", str(tmp_path / "d.html")],
        ["report", "one", "--out", str(tmp_path / "r.html")],
    ):
        done = subprocess.run(
            [sys.executable, "-c", TORCHLESS, *words], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    (newest,) = sorted((folder / "runs" / "one").iterdir())[-1:]
    assert (tmp_path / "r.html").read_bytes() == (newest / "report.html").read_bytes()


def test_the_page_of_a_folder_has_every_claim_and_leads_to_every_report(folder: Path) -> None:
    page = (folder / "runs" / "index.html").read_text()
    assert page.count("It is good &amp; quick.") == 2
    assert page.count('class="verdict refuted"') == 2
    links = re.findall(r'<h2[^>]*><a href="([^"]*)"', page)
    assert len(links) == 2 and all((folder / "runs" / link).is_file() for link in links)
    assert "default-src 'none'" in html.unescape(page) and not re.search(r'src="(?!data:)', page)


def test_open_shows_the_newest_report_or_only_says_where_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert command(["open"]) == 0
    path = capsys.readouterr().out.strip()
    assert opened == [] and path.startswith("runs/one/") and path.endswith("report.html")
    monkeypatch.setenv("DISPLAY", ":0")
    assert command(["open", "two"]) == 0
    assert opened == [Path(capsys.readouterr().out.strip()).absolute().as_uri()] and "/two/" in opened[0]


def test_the_last_line_is_a_link_where_terminals_know_links(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(["report", "one"]) == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert command(["report", "one"]) == 0
    linked = capsys.readouterr().out
    address = Path(plain.strip()).absolute().as_uri()
    assert re.fullmatch(
        rf"\x1b]8;[^;]*;{re.escape(address)}\x1b\\{re.escape(plain.strip())}\x1b]8;;\x1b\\\n", linked
    )
