"""The command line as a newcomer meets it: tables, help, resolved studies; the language page at its word."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import vitdsl
from studies import TINY_VIT, changed, study
from vitdsl.cli import run
from vitdsl.commands._scan import summaries
from vitdsl.dsl.load import load, load_source, load_text, loaded_of
from vitdsl.runtime.plan.bind import bind

ROOT = Path(__file__).parent.parent
HOLDS = ROOT / "tests" / "dsl" / "holds.yaml"
STUDIES = [
    path
    for folder in ("specs", "vitdsl/templates")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
    if "\nstudy:" in path.read_text("utf-8")
]
SWEEP = study(
    "sweep",
    data="{probe: {source: digits, split: test, images: 64, batch: 16, vary: {seed: [0, 1]}}}",
    models={"vit": changed(TINY_VIT, vary="{seed: [0, 1]}")},
    ablations={"no_skip": '{kind: remove_skip, of: vit, at: "blocks[0]", each: true}'},
    metrics={"acc": "{kind: accuracy, of: vit}"},
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_plan_keeps_its_names(
    here: Path, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for color in ("always", "never"):
        assert run(["plan", "sweep.yaml", "--color", color]) == 0
        out = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
        lines = out.splitlines()
        assert lines[0] == "sweep: 6 conditions, 2 passes over images"
        assert [line.partition(" ")[0] for line in lines[2:4]] == ["vit[seed=0]", "vit[seed=1]"]
        assert lines[4].startswith("pass over") and "acc/vit[seed=1]@probe[seed=1]" in out
        assert color == "always" or not any(line.endswith(" ") for line in lines)


def test_a_plan_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "sweep.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "vitdsl.plan/1"


def test_help_has_examples_and_a_word_on_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for name in summaries():
        assert run([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert "Example" in out and f"vitdsl {name}" in out
        options = re.findall(r"(?m)^  (-[^\n]*)\n?( {10}[^\n]*)?", out)
        assert all(re.search(r" {2,}\S|\]\s+\S", one) or more.strip() for one, more in options), name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["explain", "ckka"], "did you mean `cka`?"),
        (["explain", "VD9"], "a code looks like VD210"),
        (["explain", "VD29"], "there are VD2"),
        (["sites", "resnet10t", "layr1.*"], "nearest: `layer1.*`"),
        (["list", "models", "nosuch*"], "none of the models is named like `nosuch*`"),
        (["check", "."], "there is no study in the folder `.`"),
        (["sites", "vti", "--study", str(HOLDS)], "it has vit"),
    ],
)
def test_a_slip_on_the_command_line(
    tmp_path: Path,
    words: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    assert says in capsys.readouterr().err


def test_check_tells_a_wrong_study_from_a_machine_that_lacks_something(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "photos.yaml").write_text(
        SWEEP.replace("source: digits, split: test", "source: folder, path: ./photos")
    )
    assert run(["check", "photos.yaml", "--need-images"]) == 3
    assert run(["check", "photos.yaml", "sweep.yaml", "--need-images"]) == 3
    (here / "wrong.yaml").write_text(SWEEP.replace("accuracy", "acuracy"))
    assert run(["check", "photos.yaml", "wrong.yaml", "--need-images", "--output-format", "concise"]) == 2
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.partition(":")[0] for line in lines] == ["photos.yaml", "wrong.yaml"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_resolved_study_is_the_same_study(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--set", "seed=7", "--set", "title=a = b # c: 'd'"], ["--set", "claims=null"]):
        assert run(["show", str(path), "--resolved", *more]) == 0
        text = capsys.readouterr().out
        resolved = tmp_path / "resolved.yaml"
        resolved.write_text(text)
        assert run(["show", str(path), "--hash", *more]) == 0
        assert run(["show", str(resolved), "--hash"]) == 0
        first, second = capsys.readouterr().out.split()
        assert first == second
        assert all("  # " in line or line.endswith(":") or not line for line in text.splitlines())
        if "seed=7" in more:
            assert "seed: 7  # --set" in text and """title: "a = b # c: 'd'"  # --set""" in text


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_load_dump_load(path: Path) -> None:
    first = load(path)
    again = load_text(first.to_yaml()).study
    assert again == first and again.hash == first.hash and again.to_yaml() == first.to_yaml()
    assert list(again.metrics) == list(first.metrics)
    assert loaded_of(first).study == first


def test_a_resolved_study_with_a_base(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.yaml").write_text("vitdsl: 1\nextends: ./sweep.yaml\nstudy: mine\nablations: null\n")
    assert run(["show", "mine.yaml", "--resolved"]) == 0
    text = capsys.readouterr().out
    assert "study: mine  # mine.yaml:3" in text and "# sweep.yaml:" in text and "extends" not in text
    assert load_text(text).study.hash == load_source("mine.yaml").study.hash


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            lambda: vitdsl.Model(arch="a", wieghts="random"),
            "VD103 unknown key `wieghts` in a model .did you mean",
        ),
        (lambda: vitdsl.Claim(say="x", is_="greater", right=1), "VD101 the claim lacks `left`"),
        (lambda: vitdsl.Data(source=3), 'VD102 `source` takes a text, not the number `3` .quote it: "3"'),
        (lambda: vitdsl.Quantity(metric="a", value="b", take="avg"), "VD104 `take` cannot be the text `avg`"),
        (lambda: vitdsl.Range(from_="low"), "VD102 `from_?` takes a number, not the text `low`"),
    ],
)
def test_wrong_objects(build: Any, says: str) -> None:
    with pytest.raises(vitdsl.StudyError, match=says):
        build()


def test_the_language_page_holds() -> None:
    page = (ROOT / "docs" / "language.md").read_text("utf-8")
    first = re.search(r"```yaml\n(.*?)```", page, re.S)
    code = re.search(r"## In Python\n\n```python\n(.*?)```", page, re.S)
    assert first and code
    assert bind(load_text(first.group(1))).conditions == 14
    said: dict[str, Any] = {"print": lambda *_: None}
    exec(code.group(1), said)
    assert vitdsl.compile(said["study"]).conditions == 1
