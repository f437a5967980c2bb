"""The door for packages outside: a real one, installed by pip, brings a metric, an ablation, a source and a model."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from vitdsl_sample import stream_norm

from vitdsl.cli import run
from vitdsl.runtime import kinds

SAMPLE = Path(__file__).parent / "plugin"
PARTS = ("gratings", "fade_branch", "stream_norm")
COMMANDS = [
    ["list", "metrics"],
    ["list", "ablations"],
    ["list", "sources"],
    ["explain", "stream_norm"],
    ["explain", "fade_branch"],
    ["explain", "gratings"],
    ["schema"],
    ["check", "study.yaml"],
    ["run", "study.yaml", "--out", "runs", "-q", "--device", "cpu"],
    ["run", "net.yaml", "--out", "runs", "-q", "--device", "cpu"],
    ["list", "metrics", "stream*", "--json"],
]


def ask(commands: list[list[str]], *, path: Path, folder: Path) -> list[dict[str, Any]]:
    """What an installation with one more folder on its path answers to some commands."""
    words = [sys.executable, str(SAMPLE / "commands.py"), json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(path), "COLUMNS": "200"}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample package, installed; built from a copy, for building writes into the folder."""
    source, target = tmp_path_factory.mktemp("plugin") / "source", tmp_path_factory.mktemp("site")
    shutil.copytree(SAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def answers(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("work")
    for name in ("study.yaml", "net.yaml"):
        shutil.copy(SAMPLE / name, folder)
    found = {" ".join(one["words"]): one for one in ask(COMMANDS, path=installed, folder=folder)}
    for words, one in found.items():
        assert one["code"] == 0, f"{words}: {one['err']}"
    return found | {"folder": {"path": folder}}


def test_its_kinds_are_listed(answers: dict[str, dict[str, Any]]) -> None:
    for section, name, line in (
        ("metrics", "stream_norm", "Stream norm: how long the tokens"),
        ("ablations", "fade_branch", "Fade a unit's branch"),
        ("sources", "gratings", "Gratings: sine waves"),
    ):
        (row,) = [row for row in answers[f"list {section}"]["out"].splitlines() if row.startswith(name)]
        assert line in row
    (listed,) = json.loads(answers["list metrics stream* --json"]["out"])["metrics"]
    assert listed["name"] == "stream_norm"


def test_its_kinds_are_explained(answers: dict[str, dict[str, Any]]) -> None:
    norm, scale, gratings = (
        answers[f"explain {name}"]["out"] for name in ("stream_norm", "fade_branch", "gratings")
    )
    assert "Formula:" in norm and "norm [site]: mean norm of a token of the stream" in norm
    assert "What it does not show:" in scale and "factor: float\n      What the branch" in scale
    assert "What it gives" in gratings and "orientations: int = 4" in gratings


def test_its_kinds_are_in_the_schema(answers: dict[str, dict[str, Any]]) -> None:
    schema = answers["schema"]["out"]
    for word in (
        "stream_norm",
        "fade_branch",
        "gratings",
        "orientations",
        "What the branch is multiplied by",
    ):
        assert word in schema


def test_a_study_of_all_three_runs_to_a_report(answers: dict[str, dict[str, Any]]) -> None:
    from vitdsl.runtime.results.folder import open_run

    (folder,) = (answers["folder"]["path"] / "runs" / "sample").iterdir()
    found = open_run(folder)
    norms = found.groups["norms/vit"]
    assert norms["norm"].sizes == {"condition": 3, "site": 4}
    assert norms["condition"].values.tolist() == ["baseline", "half@blocks.0.attn", "half@blocks.1.attn"]
    assert (norms["norm"].values > 0).all() and len(set(norms["norm"].values[:, -1])) == 3
    assert found.manifest.data["probe"].source == "gratings"
    assert found.manifest.claims["longer"].verdict in ("supported", "refuted", "undecided")
    page = (folder / "report.html").read_text("utf-8")
    assert "stream_norm" in page and "fade_branch" in page and "mean norm of a token" in page


def test_its_model_is_named_in_a_study(answers: dict[str, dict[str, Any]]) -> None:
    from vitdsl.runtime.results.folder import open_run

    (folder,) = (answers["folder"]["path"] / "runs" / "net").iterdir()
    found = open_run(folder)
    across = found.groups["across/vit~mixer"]["cka"].sel(condition="baseline")
    assert across.sizes["site_x"] == across.sizes["site_y"] == 2 and (across > 0).all()
    assert found.manifest.models["mixer"].arch == "vitdsl_sample.nets:patch_mixer"


def test_it_is_gone_without_the_package(tmp_path: Path) -> None:
    (answer,) = ask([["explain", "stream_norm"]], path=tmp_path, folder=tmp_path)
    assert answer["code"] == 2 and "stream_norm" in answer["err"]


def test_one_that_does_not_import_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "half_there.py").write_text("raise ValueError('its other half is missing')\n")
    metadata = tmp_path / "half-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[vitdsl.plugins]\nhalf = half_there\n")
    (answer,) = ask([["list", "metrics"]], path=tmp_path, folder=tmp_path)
    assert answer["code"] == 3 and not answer["out"]
    for word in ("VD413", "plugin `half`", "`half_there`", "its other half is missing", "the package `half`"):
        assert word in answer["err"]


def test_a_crash_in_its_code_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    points = [EntryPoint(f"sample-{name}", f"vitdsl_sample.{name}", kinds.PLUGINS) for name in PARTS]
    monkeypatch.setattr(kinds, "entry_points", lambda group: points)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    wrong: Any = None
    monkeypatch.setattr(
        "vitdsl.dsl.load.load_source", lambda *_, **__: stream_norm.mean_norm(wrong, site=wrong)
    )
    assert run(["show", str(SAMPLE / "study.yaml")]) == 70
    said = capsys.readouterr().err
    assert "a bug in the plugin `sample-stream_norm` (module `vitdsl_sample.stream_norm`)" in said
    assert "report it to its authors" in said and "Traceback" not in said
