"""Imports go one way: dsl <- runtime <- vitdsl, and runtime.results <- reports <- vitdsl."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "dsl": ("torch", "timm", "numpy", "xarray", "jinja2", "matplotlib", "vitdsl.runtime", "vitdsl.reports"),
    "runtime": (
        "jinja2",
        "matplotlib",
        "click",
        "rich",
        "vitdsl.reports",
        "vitdsl.cli",
        "vitdsl.commands",
    ),
    "reports": ("torch", "timm", "vitdsl.runtime", "vitdsl.cli"),
}
TORCH_FREE = sorted(path.stem for path in (ROOT / "runtime" / "results").glob("*.py"))
ALLOWED = {"reports": ("vitdsl.runtime.results",)}


def imported(path: Path, *, top_level: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("folder", list(FORBIDDEN))
def test_no_import_goes_up(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            if not within(name, ALLOWED.get(folder, ())):
                assert not within(name, FORBIDDEN[folder]), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_results_side_is_torch_free(name: str) -> None:
    for found in imported(ROOT / "runtime" / "results" / f"{name}.py"):
        assert not within(found, ("torch", "timm")), f"runtime/results/{name}.py imports {found}"
        if within(found, ("vitdsl",)):
            assert within(found, ("vitdsl.dsl", "vitdsl.runtime.results")), f"{name}.py imports {found}"


@pytest.mark.parametrize("folder", ["vitdsl", "dsl", "runtime", "reports"])
def test_one_spelling_for_each_module(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            assert name.partition(".")[0] not in ("dsl", "runtime", "reports", "specs"), (
                f"{path} imports {name}"
            )


def test_a_wrong_import_is_caught(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import torch.nn\n")
    assert any(within(name, FORBIDDEN["dsl"]) for name in imported(bad))


@pytest.mark.parametrize("folder", ["vitdsl", "dsl", "runtime", "reports"])
def test_every_module_says_what_it_owns(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path} has no docstring"


@pytest.mark.parametrize("folder", ["vitdsl", "reports"])
def test_no_circle(folder: str) -> None:
    """A module that is imported while it imports is half there; functions may import what they need later."""
    package = "vitdsl" if folder == "vitdsl" else f"vitdsl.{folder}"
    needs: dict[str, set[str]] = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        name = ".".join((package, *(part for part in parts if part != "__init__")))
        found = list(imported(path, top_level=True))
        needs[name] = {*found, *(one.rpartition(".")[0] for one in found)} - {name}
    while True:
        free = [name for name in needs if not needs[name] & needs.keys()]
        if not free:
            break
        for name in free:
            del needs[name]
    assert not needs, f"in or above a circle: {', '.join(sorted(needs))}"
