"""A kind is one file: dropped into a copy of the program, it is listed, explained, in the schema, and runs.

The files are those of the sample plugin, as they are; only where they lie differs.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "tests" / "plugin"
HOMES = {
    "stream_norm": ("metrics", "runtime/metrics"),
    "fade_branch": ("ablations", "runtime/ablations"),
    "gratings": ("sources", "runtime/data/sources"),
}
RUN = ["run", "study.yaml", "--out", "runs", "-q", "--device", "cpu"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program as it is installed, with one more file of each kind."""
    site = tmp_path_factory.mktemp("site")
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vitdsl", site / "vitdsl", ignore=unwanted)
    for folder in ("dsl", "runtime", "reports", "specs"):
        shutil.copytree(ROOT / folder, site / "vitdsl" / folder, ignore=unwanted)
    for name, (_, home) in HOMES.items():
        shutil.copy(SAMPLE / "vitdsl_sample" / f"{name}.py", site / "vitdsl" / home)
    return site


@pytest.fixture(scope="module")
def answers(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("work")
    shutil.copy(SAMPLE / "study.yaml", folder)
    commands = [["list", section] for section, _ in HOMES.values()]
    commands += [["explain", name] for name in HOMES] + [["schema"], RUN]
    code = "import vitdsl, runpy, sys; print(vitdsl.__file__, file=sys.stderr)\n"
    code += f"runpy.run_path({str(SAMPLE / 'commands.py')!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(program), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert str(program) in done.stderr, "another copy of the program answered"
    found = {" ".join(one["words"]): one for one in json.loads(done.stdout)}
    for words, one in found.items():
        assert one["code"] == 0, f"{words}: {one['err']}"
    return found | {"folder": folder}


@pytest.mark.parametrize("name", list(HOMES))
def test_it_is_listed_explained_and_in_the_schema(answers: dict[str, Any], name: str) -> None:
    page = (
        (SAMPLE / "vitdsl_sample" / f"{name}.py").read_text("utf-8").removeprefix('"""').partition('\n"""')[0]
    )
    (row,) = [r for r in answers[f"list {HOMES[name][0]}"]["out"].splitlines() if r.startswith(f"{name} ")]
    assert page.splitlines()[0] in row
    assert page.strip() in answers[f"explain {name}"]["out"]
    assert f'"{name}"' in answers["schema"]["out"]


def test_a_study_of_all_three_runs_to_a_report(answers: dict[str, Any]) -> None:
    (run,) = (answers["folder"] / "runs" / "sample").iterdir()
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    assert manifest["status"] == "success" and manifest["data"]["probe"]["source"] == "gratings"
    page = (run / "report.html").read_text("utf-8")
    assert "stream_norm" in page and "fade_branch" in page
