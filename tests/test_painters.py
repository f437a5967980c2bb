"""Painters draw what this process would draw, byte by byte; what they do not give is drawn here, errors as well."""

import os
import pickle
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from studies import TINY_VIT, study
from vitdsl import painters
from vitdsl.cli import run as command
from vitdsl.painters import Painters, spare
from vitdsl.reports.canvas import Drawing
from vitdsl.reports.render import render, write_report
from vitdsl.runtime.results.folder import REPORT, Run, open_run

NOISE = "{source: noise, total: 16, size: 32, batch: 8, classes: 10}"
TEXT = study(
    "painted",
    data={"probe": NOISE},
    models={"vit": TINY_VIT},
    layers={"blocks": '{of: vit, at: "blocks.*"}'},
    ablations={"no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}'},
    metrics={"accuracy": "{kind: accuracy, of: vit}", "within": "{kind: cka, x: blocks}"},
)
PID = "__import__('os').getpid()"


def of(expression: str) -> Any:
    """A call that a painter can be told: pickles know nothing of what is in a test's file."""
    return partial(eval, expression)


def awake(one: Painters) -> Painters:
    """Painters of which each has drawn, so that they take part in what follows."""
    until = time.monotonic() + 240
    pids: set[Any] = set()
    while len(pids - {os.getpid()}) < len(one._all):
        assert time.monotonic() < until, "no painter draws"
        pids.update(one([of(f"__import__('time').sleep(0.02) or {PID}")] * 8))
    return one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("painted")
    (out / "study.yaml").write_text(TEXT)
    assert command(["run", str(out / "study.yaml"), "--out", str(out / "runs"), "-q", "--no-report"]) == 0
    (found,) = (out / "runs" / "painted").iterdir()
    return found


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return open_run(folder)


def test_pages_and_figures_are_the_same_bytes(run: Run, tmp_path: Path) -> None:
    alone: dict[str, str] = {}
    page = render(run, alone)
    assert len(alone) > 8
    with awake(Painters().start(2)) as two:
        before, beside = two.drawn, {}
        assert render(run, beside, two) == page and beside == alone and list(beside) == list(alone)
        assert two.drawn > before
        assert write_report(run, tmp_path / "page.html", two).read_text() == page
    ended = [painter.process.returncode for painter in two._all]
    assert len(ended) == 2 and None not in ended


def test_every_drawing_can_be_told_to_another_process(run: Run) -> None:
    """Drawn again from its pickle, each is the same; that of every figure is held by the studies that ship."""
    told: list[Any] = []

    def make(calls: Any) -> list[Drawing]:
        told.extend(
            (call(), copy()) for call, copy in zip(calls, pickle.loads(pickle.dumps(calls)), strict=True)
        )
        return [drawing for drawing, _ in told]

    render(run, make=make)
    assert told and all(drawing == copy for drawing, copy in told)


def test_drawings_come_in_the_order_of_their_calls_from_all_who_draw() -> None:
    with awake(Painters().start(2)) as two:
        found: Any = two([of(f"__import__('time').sleep(0.02) or ({number}, {PID})") for number in range(20)])
    assert [number for number, _ in found] == list(range(20))
    assert len({pid for _, pid in found}) == 3


def test_a_drawing_that_fails_raises_what_it_raises_here() -> None:
    calls = [*[of(f"__import__('time').sleep(0.02) or {PID}")] * 6, of("1 / 0"), of(PID), of(PID)]
    with awake(Painters().start(1)) as one, pytest.raises(ZeroDivisionError):
        one(calls)
    assert not Painters().start(0)._all
    with pytest.raises(ZeroDivisionError):
        Painters().start(0)(calls)


def test_what_a_painter_does_not_give_is_drawn_here() -> None:
    """One that dies, and one that refuses: nothing is missing, and nobody waits."""
    mine = f"{PID} == {os.getpid()}"
    for refusal in ("__import__('os')._exit(3)", "1 / 0"):
        with awake(Painters().start(1)) as one:
            found: Any = one([of(f"__import__('time').sleep(0.05) or ({mine}) or {refusal}")] * 6)
            assert found == [True] * 6
            assert one([of(PID)] * 3) == [os.getpid()] * 3, "a painter that failed is asked no more"


def test_a_painter_ends_with_the_process_that_started_it() -> None:
    """Whose end may be sudden: its input ends."""
    code = (
        "import os; from vitdsl.painters import Painters; "
        "print(Painters().start(1)._all[0].process.pid, flush=True); os._exit(1)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    until = time.monotonic() + 240
    while _runs(int(said.stdout)):
        assert time.monotonic() < until, "the painter is still there"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_report_is_drawn_with_painters_where_cores_are_free_and_is_the_same(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start = Painters.start

    def note(self: Painters, count: int | None = None) -> Painters:
        found = start(self, count)
        started.append(len(self._all))
        return found

    monkeypatch.setattr(Painters, "start", note)
    pages = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setattr(painters, "cores", lambda: 2)
        assert command(["report", str(folder)]) == 0
        pages.append((folder / REPORT).read_bytes())
    assert started == [0, 1] and pages[0] == pages[1]


def test_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(free: int, threads: str) -> int:
        monkeypatch.setattr(painters, "cores", lambda: free)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        return spare()

    assert [found(free, "") for free in (1, 2, 3, 4, 16)] == [0, 1, 2, 3, 3]
    assert [found(16, threads) for threads in ("1", "2", "many", "0")] == [0, 1, 3, 0]
    monkeypatch.setattr(sys, "executable", "/usr/bin/notebook-app")
    assert found(16, "") == 0, "a program that holds Python would start itself again"


def test_figures_that_painters_draw_need_no_pytorch() -> None:
    code = (
        "import sys; from vitdsl.reports.figures._base import figures; import vitdsl.reports.canvas; figures(); "
        "assert not {'torch', 'timm', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    """Nothing of what a user writes runs again in a painter."""
    (tmp_path / "study.yaml").write_text(TEXT)
    script = tmp_path / "mine.py"
    script.write_text(
        "print('mine')\nimport vitdsl\nfrom vitdsl import api, painters\n"
        "class Noted(painters.Painters):\n"
        "    def __exit__(self, *raised):\n        print(len(self._all)); super().__exit__(*raised)\n"
        "api.Painters, painters.cores = Noted, lambda: 2\n"
        "print((vitdsl.run('study.yaml').path / 'report.html').stat().st_size > 10_000)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    found = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.stdout.split() == ["mine", "1", "True"], found.stderr
