"""Reads imports from the sources, and finds circles in them; nothing is imported.

Does not own the rules (`test_layering`).
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def folders(root: Path) -> dict[str, Path]:
    """The folders of a project laid out as this one, each under the name of its package."""
    return {
        "vitdsl": root / "vitdsl",
        "vitdsl.dsl": root / "dsl",
        "vitdsl.runtime": root / "runtime",
        "vitdsl.reports": root / "reports",
    }


FOLDERS = folders(ROOT)


def modules(root_folders: Mapping[str, Path]) -> dict[str, Path]:
    """The file of each module.

    Args:
        root_folders: The folders to read, by the name of their package.
    """
    files: dict[str, Path] = {}
    for package, folder in root_folders.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return files


def circles(root_folders: Mapping[str, Path]) -> list[list[str]]:
    """Modules that import one another in a circle, each group sorted; imports inside functions count.

    Imports under `if TYPE_CHECKING:` do not count, nor does that importing `a.b` also runs `a/__init__.py`.

    Args:
        root_folders: The folders to read, by the name of their package.
    """
    files = modules(root_folders)
    edges = {name: set(imports(path, files)) for name, path in files.items()}
    reached = {name: _reached(name, edges) for name in files}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in files
        if name in reached[name]
    }
    return sorted(map(list, groups))


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The known modules that a file imports when it runs."""
    for found in _imported(_running(ast.parse(path.read_text("utf-8")))):
        if found in known:
            yield found
        elif found.rpartition(".")[0] in known:
            yield found.rpartition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """Everything that a file imports, also what only a type checker reads; `from a import b` is `a.b`."""
    return _imported(ast.walk(ast.parse(path.read_text("utf-8"))))


def _imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but what only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in child.orelse:
                yield from _running(statement)
        else:
            yield from _running(child)


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """What a module imports, at any remove."""
    found: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += edges[name]
    return found
