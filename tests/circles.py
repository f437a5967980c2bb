"""Finds import circles by reading the sources; nothing is imported."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "vitdsl": ROOT / "vitdsl",
    "vitdsl.dsl": ROOT / "dsl",
    "vitdsl.runtime": ROOT / "runtime",
    "vitdsl.reports": ROOT / "reports",
}
"""The folders of the project, each under the name of its package."""


def circles(root_folders: Mapping[str, Path]) -> list[list[str]]:
    """Modules that import one another in a circle, each group sorted; imports inside functions count.

    Imports under `if TYPE_CHECKING:` do not count, nor does that importing `a.b` also runs `a/__init__.py`.

    Args:
        root_folders: The folders to read, by the name of their package.
    """
    files: dict[str, Path] = {}
    for package, folder in root_folders.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join([package, *(part for part in parts if part != "__init__")])] = path
    edges = {name: set(imports(path, files)) for name, path in files.items()}
    reached = {name: _reached(name, edges) for name in files}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in files
        if name in reached[name]
    }
    return sorted(map(list, groups))


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The known modules that a file imports."""
    for node in _running(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in known else str(node.module)
                if found in known:
                    yield found


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
