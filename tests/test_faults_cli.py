"""The command line where the machine does not do as it should: streams, paths, signals, memory, folders that vanish."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from studies import FAULTLESS as STUDY
from studies import RUN
from vitdsl.cli import run
from vitdsl.runtime.run import engine
from vitdsl.runtime.run.engine import Engine


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(line: str, here: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `V` is the program."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; V() {{ "{sys.executable}" -m vitdsl "$@"; }}; {line}'],
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("V explain VD210 >&-", 0, ""),
        ("V explain nothing 2>&-", 2, ""),
        ("V explain VD210 >/dev/full", 3, "No space left"),
        ("V explain nothing 2>/dev/full", 3, ""),
        ("V explain VD210 | true", 141, ""),
        ("V list models | head -1 >/dev/null", 141, ""),
    ],
)  # fmt: skip
def test_streams(here: Path, line: str, code: int, words: str) -> None:
    done = shell(line, here)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and "internal error" not in done.stderr


def test_paths_that_are_not_utf8(here: Path) -> None:
    name = os.fsdecode(b"\xffs.yaml")
    shutil.copy("study.yaml", name)
    done = shell("V run $'\\xffs.yaml' -q --json --device cpu --out $'o\\xff'", here)
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["run"])
    assert (folder / "report.html").is_file() and folder.parts[0] == os.fsdecode(b"o\xff")
    assert "\\udcffs.yaml" in json.loads((folder / "manifest.json").read_text("utf-8"))["argv"]
    missing = shell("V check $'\\xffx.yaml'", here)
    assert missing.returncode == 2 and "\\udcffx.yaml" in missing.stdout + missing.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["check", "x" * 300 + ".yaml"],
        [*RUN, "--out", "x" * 300],
        [*RUN, "--out", "study.yaml/x"],
        [*RUN, "--out", "loop/x"],
        ["runs", "--out", "x" * 300],
    ],
    ids=["name", "out", "file", "loop", "runs"],
)
def test_paths_that_cannot_be(here: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (here / "loop").symlink_to("loop")
    assert run(words) in (2, 3)
    err = capsys.readouterr().err
    assert "internal error" not in err and ("error[" in err or "no runs" in err)


def test_no_home(here: Path) -> None:
    """No HOME, and a user whom the system does not know."""
    text = STUDY.replace(
        "weights: random", "train: {data: {source: digits, split: train, images: 8}, epochs: 1}"
    )
    (here / "trained.yaml").write_text(text)
    code = (
        "import os, pwd\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "for name in ('HOME', 'VITDSL_CACHE', 'XDG_CACHE_HOME'): os.environ.pop(name, None)\n"
        "from vitdsl.cli import main; main()\n"
    )
    for words, wanted in ((RUN, 0), (["run", "trained.yaml", "-q", "--device", "cpu"], 3)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == wanted, done.stderr
        assert ("VITDSL_CACHE" in done.stderr) == (wanted == 3)


def test_no_temporary_folder_for_a_crash(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(**_: Any) -> Any:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkstemp", none)
    monkeypatch.setattr("vitdsl.dsl.load.inspect_source", lambda *_, **__: 1 / 0)
    assert run(["check", "study.yaml"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err and "the details are above" in err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError("Unable to allocate 4.00 GiB"), "VD409", "4.00 GiB"),
        (RuntimeError("could not create a primitive"), "VD409", "create a primitive"),
        (OSError(28, "No space left on device", "somewhere"), "VD414", "`somewhere`"),
        (PermissionError(13, "Permission denied", "a\x1b[31m"), "VD414", "\\x1b"),
    ],
)
def test_memory_and_disk(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: str,
    words: str,
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Engine, "_walk", fails)
    assert run(RUN) == 3
    err = capsys.readouterr().err
    assert code in err and words in err and "\x1b" not in err
    (manifest,) = (json.loads(path.read_text()) for path in here.glob("runs/s/*/manifest.json"))
    assert manifest["status"] == "failed"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("manifest.json", '{"schema": "vitdsl.run/3", "status": 1}'),
        ("manifest.json", "\x00"),
        ("results.nc", "no netCDF"),
        ("results.nc", ""),
    ],
)
def test_broken_run_folders(here: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(RUN) == 0
    (folder,) = here.glob("runs/s/*")
    (folder / name).write_text(text)
    capsys.readouterr()
    assert run(["report", str(folder)]) == 3
    assert "VD601" in capsys.readouterr().err
    assert run(["runs"]) == 0 and run(["clean", "--hours", "0"]) == 0


def _listen() -> None:
    """A shell's background ignores one of them, `nohup` the other; a child inherits that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_signals_are_interruptions(here: Path, number: str, code: int) -> None:
    (here / "study.yaml").write_text(
        STUDY.replace("split: test, images: 24, batch: 8", "split: all, images: 1700, batch: 4")
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "vitdsl", *RUN],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen,
    )
    while process.poll() is None and not list(here.glob("runs/.store/blocks/*/*/*.block")):
        time.sleep(0.05)
    process.send_signal(getattr(signal, number))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "image blocks that are done are kept" in err and "Traceback" not in err
    (manifest,) = (json.loads(path.read_text()) for path in here.glob("runs/s/*/manifest.json"))
    assert manifest["status"] == "interrupted"


def test_a_run_folder_that_is_removed_midway_is_no_success(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = engine.walk

    def removing(*args: Any, **more: Any) -> Any:
        for path in here.glob("runs/s/*"):
            shutil.rmtree(path)
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "walk", removing)
        assert run(RUN) == 3
    assert "VD415" in capsys.readouterr().err and not list(here.glob("runs/s/*"))
    monkeypatch.setattr(engine, "walk", lambda *_, **__: pytest.fail("computed again"))
    assert run(RUN) == 0


def test_a_full_disk_keeps_what_is_done(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, written = os.replace, []

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".block"):
            if len(written) == 2:
                raise OSError(28, "No space left on device", str(target))
            written.append(target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert run(RUN) == 3
    assert "VD407" in capsys.readouterr().err
    assert run(RUN[:2] + ["--no-report", "--device", "cpu"]) == 0
    assert "2 of 3 image blocks are there" in capsys.readouterr().err


def test_nothing_that_a_terminal_acts_on_reaches_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = (
        'claims:\n  c: {say: "red \\e[31m \\u202e", left: {metric: within, value: cka, take: mean}, '
        "is: greater, right: 0}\n"
    )
    (here / "study.yaml").write_text(STUDY + 'title: "t \\e[2J"\n' + claim)
    code = run(["run", "study.yaml", "--no-report", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert code in (0, 2) and not set("\x1b\u202e") & set(out + err)
    assert run(["runs"]) in (0, 2) and "\x1b" not in capsys.readouterr().out
