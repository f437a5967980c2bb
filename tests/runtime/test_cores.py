"""Cores that a process may use, and what threads are told before PyTorch is imported."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitdsl.runtime.cores import cores, quota, settle_threads


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000\n", 2.0),
        ("150000 100000\n", 1.5),
        ("max 100000\n", math.inf),
        ("nonsense\n", math.inf),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, text: str, expected: float) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert quota(tmp_path) == expected


@pytest.mark.parametrize(("limit", "expected"), [("50000", 0.5), ("-1", math.inf)])
def test_the_quota_of_an_older_container(tmp_path: Path, limit: str, expected: float) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(limit)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert quota(tmp_path) == expected


def test_no_quota_leaves_the_cores_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert cores(tmp_path) == 5
    (tmp_path / "cpu.max").write_text("250000 100000")
    assert cores(tmp_path) == 3
    (tmp_path / "cpu.max").write_text("1000 100000")
    assert cores(tmp_path) == 1


def test_threads_spin_shortly_and_are_as_many_as_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    found: dict[str, str] = {}
    settle_threads(found, tmp_path)
    assert found == {"GOMP_SPINCOUNT": "1000"}
    (tmp_path / "cpu.max").write_text("400000 100000")
    settle_threads(found, tmp_path)
    assert found == {"GOMP_SPINCOUNT": "1000", "OMP_NUM_THREADS": "4"}
    for waiting in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        own = {waiting: "7", "OMP_NUM_THREADS": "1"}
        kept = dict(own)
        settle_threads(own, tmp_path)
        assert own == kept


def test_the_command_line_says_so_before_pytorch_is_there() -> None:
    code = (
        "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); os.environ.pop('GOMP_SPINCOUNT', None)\n"
        "from vitdsl import cli; assert 'torch' not in sys.modules\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["1000", "False"]
