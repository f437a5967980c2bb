"""Two resolved studies beside each other, field by field, with the place of each. Free of torch.

Where the folder of a study lies does not count, nor a default of a field that one version of the language alone has.
Does not own what was computed of them (`diff_numbers`), or whether the
runs can be compared (`diff_facts`).
"""

from dataclasses import dataclass

from vitdsl.dsl.emit import flow
from vitdsl.dsl.nodes import Fields, Items, Node, Path, plain, walk
from vitdsl.dsl.reader import read
from vitdsl.runtime.results.folder import RESOLVED, Run

PLACES = ("folder", "folder_was")
"""Fields that say where a study lies."""
COMMENT = "# "
DEFAULT = "default"


@dataclass(frozen=True)
class FieldValue:
    """A field as one run has it: its value on one line, its line in the resolved study, and who wrote it."""

    text: str
    line: int
    origin: str

    @property
    def place(self) -> str:
        """Such as `spec.resolved.yaml:13`."""
        return f"{RESOLVED}:{self.line}"


@dataclass(frozen=True)
class FieldChange:
    """A field that differs; None where a run has no such field."""

    path: str
    a: FieldValue | None
    b: FieldValue | None


def field_changes(a: Run, b: Run) -> list[FieldChange]:
    """The fields of the two resolved studies that differ, in the order of A, then those of B alone.

    Raises:
        StudyError: A resolved study is not YAML any more.
    """
    left, right = (_leaves(run) for run in (a, b))
    found = []
    for path in dict.fromkeys((*left, *right)):
        one, other = left.get(path), right.get(path)
        new = [side for side in (one, other) if side is not None]
        if len(new) == 1 and new[0].origin == DEFAULT:
            continue
        if (one and one.text) != (other and other.text):
            found.append(FieldChange(".".join(map(str, path)), one, other))
    return found


def _leaves(run: Run) -> dict[Path, FieldValue]:
    """Every field that holds no further fields."""
    root = read(run.resolved, str(run.path / RESOLVED))
    lines = run.resolved.splitlines()
    found: dict[Path, FieldValue] = {}
    for path, node in walk(root) if root is not None else ():
        if _is_leaf(node) and not _inside_leaf(path, found) and path[:1] not in {(p,) for p in PLACES}:
            line = lines[node.span.end_line - 1]
            origin = line[node.span.end_column - 1 :].partition(COMMENT)[2]
            found[path] = FieldValue(flow(plain(node)), node.span.line, origin.strip())
    return found


def _is_leaf(node: Node) -> bool:
    if isinstance(node, Fields):
        return not node.fields
    return not isinstance(node, Items) or not any(isinstance(item, Fields) for item in node.items)


def _inside_leaf(path: Path, found: dict[Path, FieldValue]) -> bool:
    return any(path[:end] in found for end in range(1, len(path)))
