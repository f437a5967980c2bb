"""A command is one file: it is listed and run without being named anywhere else; the list imports none."""

import subprocess
import sys
from pathlib import Path

import pytest

from vitdsl.cli import group, run
from vitdsl.commands._scan import summaries

HELLO = '''\
"""Say hello to NAME."""

import click

PLACE = 5


@click.command(epilog="\\b\\nExample:\\n  vitdsl hello you\\n")
@click.argument("name")
def hello(name: str) -> None:
    """Say hello."""
    click.echo(f"hello, {name}")
'''
LATER = '"""Come last in the help."""\n\nPLACE = 7\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands in place of the program's."""
    found = tmp_path / "brought_commands"
    found.mkdir()
    (found / "__init__.py").write_text('"""Commands."""\n')
    (found / "_shared.py").write_text("raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(group, "package", found.name)
    for name in [name for name in sys.modules if name.partition(".")[0] == found.name]:
        monkeypatch.delitem(sys.modules, name)
    return found


def test_a_file_is_a_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "last.py").write_text(LATER)
    (folder / "hello.py").write_text(HELLO)
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()[:3]
    assert listed == ["  hello  Say hello to NAME.", "  last   Come last in the help.", ""]
    assert run(["hello", "you"]) == 0
    assert capsys.readouterr().out == "hello, you\n"
    assert run(["helo", "you"]) == 2
    assert "no such command `helo`; did you mean `hello`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("PLACE = 1\n", "has no docstring"),
        ('"""Do it."""\n', "has no line such as `PLACE = 10`"),
        (LATER, "holds no click commands"),
        (HELLO + "\n\nagain = click.Command('again')\n", "holds 2 click commands"),
    ],
)
def test_a_file_that_is_no_command_is_named(folder: Path, text: str, says: str) -> None:
    (folder / "wrong.py").write_text(text)
    with pytest.raises(RuntimeError, match=r"brought_commands.wrong\.py " + says):
        run(["wrong", "--debug"])


def test_the_order_of_the_help() -> None:
    known = [
        "run", "check", "seal", "plan", "sites", "report", "runs", "clean", "init", "train", "list", "show", "explain",
        "schema",
    ]  # fmt: skip
    assert [name for name in summaries() if name in known] == known


def test_the_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys; from vitdsl.cli import run; run(['--help']);"
        "heavy = {'torch', 'rich', 'jinja2', 'matplotlib', 'numpy'} & set(sys.modules);"
        "ours = [name for name in sys.modules if name.startswith('vitdsl.commands.')];"
        "sys.exit(f'imported {heavy} {ours}' if heavy or ours != ['vitdsl.commands._scan'] else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
