"""The rules of the house, read from the sources: which way imports go, and what each file says and is.

Each rule is a function from the folder of a project to what is wrong there, so that it is tested twice: this project
breaks none, and a made-up project that breaks it is caught.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from circles import ROOT, circles, folders, imported, modules

Rule = Callable[[Path], Iterator[str]]
FOLDERS = ("dsl", "runtime", "reports", "vitdsl")

LIBRARIES = {
    "vitdsl.dsl": ("torch", "timm", "numpy", "xarray", "jinja2", "matplotlib", "click", "rich"),
    "vitdsl.runtime": ("jinja2", "matplotlib", "click", "rich"),
    "vitdsl.runtime.results": ("torch", "torchvision", "timm"),
    "vitdsl.reports": ("torch", "torchvision", "timm", "click", "rich"),
}
"""What each package does without."""

TOWARDS = {
    "vitdsl.dsl": ("vitdsl.dsl",),
    "vitdsl.runtime": ("vitdsl.dsl", "vitdsl.runtime", "vitdsl.__version__"),
    "vitdsl.runtime.results": ("vitdsl.dsl", "vitdsl.runtime.results"),
    "vitdsl.reports": ("vitdsl.reports", "vitdsl.runtime.results", "vitdsl.dsl.diagnostics"),
}
"""What each package imports of the project."""

ROOMS = ("results", "graph", "models", "data", "metrics", "ablations", "plan", "train", "run")
"""The folders of the machine: each imports itself and those before it."""

EVERYWHERE = ("cores", "full", "kinds", "paths", "progress", "randomness", "ranks", "rounding", "transfer")
"""The files beside the rooms: every room may import them, and they import no room."""

LIMIT = 300


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports_of(root: Path) -> Iterator[tuple[str, str]]:
    """Each module and each name that it imports."""
    for module, path in modules(folders(root)).items():
        for found in imported(path):
            yield module, found


def libraries(root: Path) -> Iterator[str]:
    """The language needs no torch, the machine draws nothing, and results and reports read without torch."""
    for module, found in imports_of(root):
        for package, without in LIBRARIES.items():
            if within(module, (package,)) and within(found, without):
                yield f"{module} imports {found}"


def direction(root: Path) -> Iterator[str]:
    """Imports go one way: dsl <- runtime <- vitdsl, and runtime.results <- reports <- vitdsl."""
    for module, found in imports_of(root):
        for package, allowed in TOWARDS.items():
            if within(module, (package,)) and within(found, ("vitdsl",)) and not within(found, allowed):
                yield f"{module} imports {found}"


def rooms(root: Path) -> Iterator[str]:
    """Each room of the machine imports itself, rooms before it, and the files beside the rooms."""
    places = {name: place for place, name in enumerate(ROOMS)} | dict.fromkeys(EVERYWHERE, -1)
    for path in sorted((root / "runtime").iterdir()):
        name = path.stem
        if name not in places and name != "__init__" and (path.suffix == ".py" or any(path.glob("*.py"))):
            yield f"{path.name} is no room of the machine and no file beside the rooms"
    for module, found in imports_of(root):
        if within(module, ("vitdsl.runtime",)) and within(found, ("vitdsl.runtime",)):
            own = module.removeprefix("vitdsl.runtime").lstrip(".").partition(".")[0]
            other = found.removeprefix("vitdsl.runtime").lstrip(".").partition(".")[0]
            if places.get(other, len(ROOMS)) > places.get(own, -1):
                yield f"{module} imports {found}"


def graph_words(root: Path) -> Iterator[str]:
    """The graph knows no kind, plan or study: none is imported there or named in its code."""
    unknown = {"vitdsl.dsl.study", "vitdsl.dsl.loaded", "vitdsl.dsl.load", "vitdsl.runtime.kinds"}
    kinds = {
        path.stem for room in ("metrics", "ablations") for path in (root / "runtime" / room).glob("[!_]*.py")
    }
    own = ("full", "graph", "progress", "randomness", "rounding", "transfer")
    words = {"plan", "study", "metric", "ablation", "registry", *kinds}
    for path in sorted((root / "runtime" / "graph").glob("*.py")):
        for found in imported(path):
            if (
                within(found, tuple(unknown))
                or within(found, ("vitdsl.runtime",))
                and not within(found, tuple(f"vitdsl.runtime.{name}" for name in own))
            ):
                yield f"graph/{path.name} imports {found}"
        for word in sorted({word.lower() for word in _words(ast.parse(path.read_text("utf-8")))} & words):
            yield f"graph/{path.name} names {word}"


def _words(tree: ast.AST) -> Iterator[str]:
    """Names, attributes, arguments and whole strings; what a docstring or a comment says does not count."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.keyword(arg=str(word))
            ):
                yield word
            case ast.FunctionDef(name=word) | ast.ClassDef(name=word) | ast.Constant(value=str(word)):
                yield word


def no_circles(root: Path) -> Iterator[str]:
    """No module imports itself at any remove, also not inside functions."""
    yield from (" <-> ".join(group) for group in circles(folders(root)))


def spelling(root: Path) -> Iterator[str]:
    """A module has one name: no bare `dsl`, which would load every class twice, and no relative import."""
    for module, found in imports_of(root):
        if found.partition(".")[0] in ("", "dsl", "runtime", "reports", "specs"):
            yield f"{module} imports {found}"


def docstrings(root: Path) -> Iterator[str]:
    """Every file says what it owns."""
    for module, path in modules(folders(root)).items():
        if not ast.get_docstring(ast.parse(path.read_text("utf-8"))):
            yield f"{module} has no docstring"


def lengths(root: Path) -> Iterator[str]:
    """A file is short enough to read, or its docstring has a line that says why not; tests as well."""
    tests = {path.relative_to(root).as_posix(): path for path in (root / "tests").rglob("*.py")}
    for module, path in {**modules(folders(root)), **tests}.items():
        text = path.read_text("utf-8")
        lines, said = len(text.splitlines()), ast.get_docstring(ast.parse(text)) or ""
        if lines > LIMIT and not any(line.startswith("Longer than 300 lines") for line in said.splitlines()):
            yield f"{module} has {lines} lines"


BROKEN: dict[Rule, list[tuple[Mapping[str, str], str]]] = {
    libraries: [
        ({"dsl/a.py": "def f():\n    import torch.nn"}, "vitdsl.dsl.a imports torch.nn"),
        ({"runtime/run/a.py": "import rich"}, "vitdsl.runtime.run.a imports rich"),
        ({"runtime/results/a.py": "from torch import nn"}, "vitdsl.runtime.results.a imports torch.nn"),
        ({"reports/a.py": "import timm"}, "vitdsl.reports.a imports timm"),
    ],
    direction: [
        ({"dsl/a.py": "import vitdsl.runtime"}, "vitdsl.dsl.a imports vitdsl.runtime"),
        ({"runtime/run/a.py": "from vitdsl import cli"}, "vitdsl.runtime.run.a imports vitdsl.cli"),
        ({"runtime/run/a.py": "import vitdsl.reports.a"}, "vitdsl.runtime.run.a imports vitdsl.reports.a"),
        (
            {"runtime/results/a.py": "from vitdsl.runtime import kinds"},
            "vitdsl.runtime.results.a imports vitdsl.runtime.kinds",
        ),
        (
            {"reports/figures/a.py": "from vitdsl.dsl import study"},
            "vitdsl.reports.figures.a imports vitdsl.dsl.study",
        ),
        ({"reports/a.py": "import vitdsl.runtime.run.b"}, "vitdsl.reports.a imports vitdsl.runtime.run.b"),
    ],
    rooms: [
        (
            {"runtime/graph/a.py": "from vitdsl.runtime.plan.b import c"},
            "vitdsl.runtime.graph.a imports vitdsl.runtime.plan.b.c",
        ),
        (
            {"runtime/metrics/a.py": "if True:\n    from vitdsl.runtime import ablations"},
            "vitdsl.runtime.metrics.a imports vitdsl.runtime.ablations",
        ),
        (
            {"runtime/kinds.py": "def f():\n    import vitdsl.runtime.results.a"},
            "vitdsl.runtime.kinds imports vitdsl.runtime.results.a",
        ),
        (
            {"runtime/attic/a.py": "", "runtime/run/b.py": ""},
            "attic is no room of the machine and no file beside the rooms",
        ),
    ],
    graph_words: [
        (
            {"runtime/graph/a.py": "from vitdsl.dsl.study import Study"},
            "graph/a.py imports vitdsl.dsl.study.Study",
        ),
        ({"runtime/graph/a.py": "import vitdsl.runtime.kinds"}, "graph/a.py imports vitdsl.runtime.kinds"),
        ({"runtime/graph/a.py": "def f(plan):\n    '''No study.'''"}, "graph/a.py names plan"),
        (
            {"runtime/metrics/cka.py": "", "runtime/graph/a.py": "x = name == 'cka'"},
            "graph/a.py names cka",
        ),
    ],
    no_circles: [
        (
            {"dsl/a.py": "def f():\n    import vitdsl.dsl.b", "dsl/b.py": "from vitdsl.dsl.a import f"},
            "vitdsl.dsl.a <-> vitdsl.dsl.b",
        ),
    ],
    spelling: [
        ({"vitdsl/a.py": "from dsl import code"}, "vitdsl.a imports dsl.code"),
        ({"dsl/a.py": "from . import code"}, "vitdsl.dsl.a imports ..code"),
    ],
    docstrings: [({"dsl/a.py": "x = 1"}, "vitdsl.dsl.a has no docstring")],
    lengths: [({"dsl/a.py": "'''Too long.'''\n" + "x = 1\n" * LIMIT}, "vitdsl.dsl.a has 301 lines")],
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    assert not list(rule(ROOT))


@pytest.mark.parametrize(
    ("rule", "files", "wrong"),
    [(rule, files, wrong) for rule, cases in BROKEN.items() for files, wrong in cases],
    ids=[f"{rule.__name__}{number}" for rule, cases in BROKEN.items() for number in range(len(cases))],
)
def test_what_breaks_a_rule_is_caught(
    rule: Rule, files: Mapping[str, str], wrong: str, tmp_path: Path
) -> None:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(rule(tmp_path)) == [wrong]


def test_a_long_file_may_say_why(tmp_path: Path) -> None:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    said = "'''One table.\n\nLonger than 300 lines: it lists what there is.\n'''\n"
    (tmp_path / "dsl" / "table.py").write_text(said + "x = 1\n" * LIMIT)
    assert not list(lengths(tmp_path))
