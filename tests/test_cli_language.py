"""The command line: exit codes, formats, streams, speed, no torch where none is needed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitdsl.cli import hoisted, run
from vitdsl.commands._scan import summaries

HERE = Path(__file__)
SMALL = HERE.parent / "dsl" / "small.yaml"
HOLDS = HERE.parent / "dsl" / "holds.yaml"
ERRORS = HERE.parent / "dsl" / "errors"
BROKEN = ERRORS / "VD103_unknown.yaml"
NOT_YAML = ERRORS / "VD004_colon.yaml"


def process(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "vitdsl", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["check", "--help"], 0),
        (["show", str(SMALL), "--hash"], 0),
        (["explain", "VD210"], 0),
        (["explain", "VD999"], 2),
        (["check", str(BROKEN)], 2),
        (["check", "no_such_file.yaml"], 2),
        (["check"], 2),
        (["chekc"], 2),
        (["show", str(SMALL), "--set", "sede=1"], 2),
        (["show", str(SMALL), "--no-such-option"], 2),
        ([], 2),
    ],
)
def test_exit_codes(words, code, capsys):
    assert run(words) == code
    if code == 2:
        assert "".join(capsys.readouterr()).strip()


def test_a_study_that_holds(capsys):
    assert run(["check", str(HOLDS)]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{HOLDS}: ok; ") and last.endswith(" images")


def test_an_environment_problem_a_bug_and_an_interrupt(monkeypatch, capsys, tmp_path):
    from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    raised = {
        3: EnvironmentProblem(Diagnostic("VD408", "no device `cuda:7`")),
        70: RuntimeError("a bug"),
        130: KeyboardInterrupt(),
    }
    for code, error in raised.items():

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("vitdsl.dsl.load.load_source", fail)
        assert run(["show", str(SMALL)]) == code
        text = capsys.readouterr().err
        assert "Traceback" not in text and text
    crash = next(tmp_path.glob("vitdsl-crash-*.txt")).read_text()
    assert "RuntimeError: a bug" in crash
    monkeypatch.setattr("vitdsl.dsl.load.load_source", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["show", str(SMALL), "--debug"])


def test_several_files_and_folders(tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "bad.yaml").write_text(BROKEN.read_text())
    (tmp_path / "other.yaml").write_text("services: []\n")
    (tmp_path / "recipe.yaml").write_text("vitdsl: 1\nrecipe: r\ntrain: {epohcs: 1}\n")
    assert run(["check", str(tmp_path), str(ERRORS / "VD106_names.yaml"), "--output-format", "concise"]) == 2
    out, err = capsys.readouterr()
    assert {"bad.yaml", "recipe.yaml", "VD106_names.yaml"} == {
        Path(line.partition(":")[0]).name for line in out.splitlines()
    }
    assert "other.yaml" not in out
    assert run(["check", str(tmp_path / "deep" / "..")]) == 2
    assert "other.yaml" in capsys.readouterr().err


def test_formats_and_streams(capsys):
    assert run(["check", str(BROKEN), "--output-format=json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 7 and err == ""
    assert run(["--output-format", "github", "check", str(BROKEN)]) == 2
    assert capsys.readouterr().out.startswith("::error file=")
    assert run(["show", str(BROKEN), "--output-format", "concise"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and ": VD103 unknown key" in err


def test_color(capsys, monkeypatch):
    assert run(["check", str(BROKEN), "--color", "always"]) == 2
    assert "\x1b[" in capsys.readouterr().out
    for words in (["--color", "never"], []):
        assert run(["check", str(BROKEN), *words]) == 2
        assert "\x1b[" not in capsys.readouterr().out


def test_override_errors_point_into_the_argument(capsys):
    assert run(["show", str(SMALL), "--set", "models.vit.sede=1"]) == 2
    assert "--> --set:1:12" in capsys.readouterr().err


def test_shared_options_may_stand_anywhere():
    assert hoisted(["check", "a", "--color", "never", "--all"]) == ["--color", "never", "--all", "check", "a"]
    assert hoisted(["run", "--set", "--all", "--", "--debug"]) == ["run", "--set", "--all", "--", "--debug"]


def test_explain_prints_a_page(capsys):
    assert run(["explain", "vd211"]) == 0
    out = capsys.readouterr().out
    assert "Wrong:" in out and "Right:" in out


def test_show_resolved_names_origins(capsys):
    assert run(["show", str(SMALL), "--resolved", "--set", "seed=9"]) == 0
    out = capsys.readouterr().out
    assert "seed: 9  # --set" in out and "# default" in out and "# small.yaml:4" in out


def test_a_missing_word_has_an_example_and_a_wrong_choice_its_nearest(capsys):
    assert run(["run"]) == 2
    assert capsys.readouterr().err.endswith("Such as: vitdsl run specs/skip_ablation.yaml\n")
    assert run(["list", "metric"]) == 2
    assert capsys.readouterr().err.endswith("Did you mean `metrics`?\n")
    assert run(["list", "xyz"]) == 2
    assert capsys.readouterr().err.endswith("'models'.\n")


def test_every_command_has_help():
    for name in summaries():
        assert run([name, "--help"]) == 0


@pytest.mark.parametrize(
    "words",
    [["--help"], ["check", "--help"], ["check", str(NOT_YAML)], ["explain", "VD210"], ["show", str(SMALL)]],
)
def test_no_torch_and_no_wait(words):
    code = (
        "import sys; from vitdsl.cli import run; run(sys.argv[1:]);"
        "heavy = {'torch', 'timm', 'numpy', 'matplotlib', 'xarray'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    before = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - before < 3


def test_python_m_vitdsl():
    done = process("check", BROKEN, "--output-format", "concise")
    assert done.returncode == 2 and "VD103" in done.stdout and done.stderr == ""


def test_a_closed_pipe_is_quiet():
    command = f"{sys.executable} -m vitdsl schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == "{\n" and done.stderr == ""


def test_no_network(monkeypatch):
    import socket

    def refuse(*_, **__):
        raise AssertionError("network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run(["check", str(HOLDS)]) == 0
