"""Files that mean harm are refused within a second and 200 MB, and never with a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_source
from vitdsl.dsl.render import FORMATS, render

BOMB = "\n".join(
    ["x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    + [f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
)


def many(count, text):
    """A text repeated, with its number put in."""
    return "".join(text.format(i) for i in range(count))


HEAD = """\
vitdsl: 1
study: s
models: {m: {arch: a, weights: random}}
data:
  d: {source: x}
metrics:
  k: {kind: k, of: m}
"""
HOSTILE = {
    "alias bomb": BOMB,
    "deep flow": "a: " + "[" * 100_000,
    "deep flow, closed": "a: " + "[" * 100_000 + "]" * 100_000,
    "deep mappings": "{a: " * 100_000,
    "deep block": "- " * 100_000,
    "deep keys": "? " * 100_000,
    "many values": "a: [" + "1," * 400_000 + "]",
    "many duplicates on one line": "{" + "a: 1, " * 4_000 + "}",
    "many tags on one line": "[" + "!t x, " * 4_000 + "]",
    "python object": "a: !!python/object/apply:os.system ['true']",
    "long number": "a: " + "9" * 500_000,
    "long key": "a" * 500_000 + ": 1",
    "terminal escapes": 'vitdsl: 1\n"\\e]0;owned\\a\\e[2J": 1\n',
    "right to left": "vitdsl: 1\nmodels: {'vit\u202egnp': {arch: a}}\nx\u200f: 1\n",
    "many unknown keys": "vitdsl: 1\n" + "".join(f"key{i}: {i}\n" for i in range(4_000)),
    "slow selector": "vitdsl: 1\nstudy: s\ndata: {d: {source: x}}\nmodels: {m: {arch: a, weights: random}}\n"
    "layers: {l: {of: m, at: '" + "*a" * 240 + "'}}\nmetrics: {k: {kind: cka, y: l}}\n",
    "many unknown names": HEAD
    + "layers:\n"
    + "".join(f"  layer{i}: {{of: some{i}, at: a, x{i}: 1}}\n" for i in range(1_500))
    + "ablations:\n"
    + "".join(f"  abl{i}: {{kind: k, of: layer{i}}}\n" for i in range(1_500)),
    "many unknown references": HEAD.replace("of: m", f"of: [{many(4_000, 'm{}, ')}]")
    + "".join(f"  k{i}: {{kind: k, x: laye{i}, under: ab{i}}}\n" for i in range(900)),
    "many data entries": HEAD.replace("metrics:", many(1_500, "  d{}: {{source: x}}\n") + "metrics:")
    + many(1_500, "  k{}: {{kind: k, of: m}}\n"),
    "many axes": HEAD.replace("weights", f"vary: {{{many(3_000, 'options.o{}: [1], ')}}}, weights"),
    "many values of an axis": HEAD.replace("weights", "vary: {seed: [" + "0, " * 8_000 + "]}, weights"),
    "many empty lists": HEAD + "".join(f"  k{i}: {{kind: k, of: [], under: []}}\n" for i in range(1_900)),
    "long names": "vitdsl: 1\nstudy: s\nmodels: {m: {arch: a, wei" + "g" * 100_000 + "hts: random}}\n",
}
MOST = 12
"""Seconds that a file may take, over those that Python takes for as many small objects, some 0.08 on a machine at its
usual speed: so a second there, and as much more as a machine is slower."""
LIMITED = """
import json, sys, time
from pathlib import Path
from vitdsl.dsl.load import load_source
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.render import render

def yardstick():
    before = time.process_time()
    json.loads(json.dumps([{str(i): [i]} for i in range(50_000)]))
    return time.process_time() - before

before = time.process_time()
try:
    load_source(sys.argv[1])
except StudyError as error:
    render(error.diagnostics)
    render(error.diagnostics, "json")
    seconds = time.process_time() - before
    status = Path("/proc/self/status").read_text()
    unit = min(yardstick() for _ in range(3))
    print(seconds / unit, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_time_and_memory(name, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr[-2000:]
    units, megabytes = map(float, done.stdout.split())
    assert units < MOST and megabytes < 200


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "study.yaml"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(StudyError, match="VD002"):
        load_source(path)


@pytest.mark.parametrize("name", ["terminal escapes", "right to left", "long names", "many tags on one line"])
@pytest.mark.parametrize("output_format", FORMATS)
def test_no_control_character_reaches_the_terminal(name, output_format, tmp_path):
    path = tmp_path / "\x1b[31mred.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load_source(path)
    text = render(caught.value.diagnostics, output_format)
    assert not [
        c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u200f")
    ]
    if output_format == "full":
        assert max(map(len, text.splitlines())) < 400


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../secret.yaml", "~/x.yaml", "link.yaml", "file:///etc/x"]
)
def test_extends_cannot_leave_the_project(target, tmp_path):
    outside = tmp_path / "secret.yaml"
    outside.write_text("vitdsl: 1\n")
    project = tmp_path / "project"
    (project / "deep").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    (project / "deep" / "link.yaml").symlink_to(outside)
    study = project / "deep" / "study.yaml"
    study.write_text(f"extends: {target}\n")
    with pytest.raises(StudyError, match="VD015"):
        load_source(study)
    assert Path(outside).exists()


def test_recipes_cannot_leave_the_project(tmp_path):
    (tmp_path / "secret.yaml").write_text("vitdsl: 1\nrecipe: secret\ntrain: {epochs: 1}\n")
    (tmp_path / "project").mkdir()
    study = tmp_path / "project" / "study.yaml"
    study.write_text("vitdsl: 1\nmodels: {vit: {arch: a, train: {recipe: ./../secret.yaml}}}\n")
    with pytest.raises(StudyError, match="VD017.*leaves the project"):
        load_source(study)
