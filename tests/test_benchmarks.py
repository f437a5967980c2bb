"""The benchmark's own parts: its studies bind, its pairs are timed, its page says what was timed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def made() -> dict[str, Any]:
    machine = {
        "cpu": "a",
        "cores": 2,
        "threads": 2,
        "system": "b",
        "python": "3",
        "torch": "2",
        "device": "cpu",
    }
    row = {"what": "a pass", "eager": 0.75, "own": None, "asked": [0.8, None], "seconds": 0.125, "more": {}}
    default = {"seconds": 9.0, "more": {"again": 0.5, "check": 2.0, "help": 0.06}, "eager": None, "own": None}
    held = {"more": {"256": 100, "4096": 101, "ratio": 1.01, "asked": 1.03}, "eager": None, "own": None}
    peers = {
        "ours": {"seconds": 1.0, "largest": 1e-8, "off": 0, "of": 4, "field_seconds": 2.0},
        "other": {"seconds": 2.0, "largest": 1e-4, "off": 1, "of": 4},
        "broken": {"error": "RuntimeError: no"},
        "openerf": {"seconds": 3.0},
    }
    curve = {"over": "layers", "what": "ratio", "at": [1, 10], "values": [1.0, 1.5]}
    return {
        "machine": machine | {"images": 64, "batch": 32, "runs": 3, "vit": "v", "res": "r"},
        "rows": {"one": row, "default": default, "memory": held},
        "peers": peers,
        "curves": [curve] * 4,
    }


def test_the_page_says_what_was_timed_and_what_was_asked(tmp_path: Path) -> None:
    from page import write

    write(made(), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| a pass | 0.75 | 0.80 |  |  | 125 ms an image |" in text
    assert "9.0 s as a whole command (asked: 12), and 0.5 s" in text
    assert "| other | 2.0 | 0.0001 | 1 of 4 |" in text and "| broken | | `RuntimeError: no` | |" in text
    assert "openerf 3.0 s, this one 2.0 s" in text and "1: 1, 10: 1.5." in text
    drawn = (tmp_path / "performance.svg").read_bytes()
    write(made(), tmp_path)
    assert (tmp_path / "performance.svg").read_bytes() == drawn


def test_the_page_of_the_project_is_that_of_its_numbers(tmp_path: Path) -> None:
    from page import write

    docs = BENCHMARKS.parents[1] / "docs"
    write(json.loads((docs / "performance.json").read_text()), tmp_path)
    assert (tmp_path / "performance.md").read_text() == (docs / "performance.md").read_text()


def test_a_row_is_timed_in_a_process_of_its_own() -> None:
    words = [
        "--images",
        "4",
        "--batch",
        "4",
        "--runs",
        "1",
        "--vit",
        "vit_tiny_patch16_224",
        "--res",
        "resnet18",
    ]
    command = [sys.executable, str(BENCHMARKS / "run.py"), "cka", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1].removeprefix("cka "))
    assert 0 < row["own"] and 0 < row["eager"] and row["asked"] == [0.85, 1.08]


@pytest.mark.parametrize("name", ["CKA", "PANEL", "SWEEP_VIT", "SWEEP_RES", "LOCALISATION", "PROBE", "FIELD"])
def test_the_timed_studies_bind(name: str) -> None:
    import texts

    from vitdsl.dsl.load import load_text
    from vitdsl.runtime.plan.bind import bind

    pair = {key: text.replace("embed_dim", "depth: 2, embed_dim") for key, text in texts.MINI.items()}
    learned = f"{texts.noise(32)}, seed: 1" if name == "PROBE" else ""
    text = texts.text(getattr(texts, name), texts.noise(32), 64, 16, pair, learned)
    plan = bind(load_text(text, "bench"))
    assert plan.groups and (plan.conditions > 2) == name.startswith("SWEEP")
