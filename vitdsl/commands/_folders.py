"""What the YAML files of a folder say they are. Does not own which of them a command takes."""

import re
from pathlib import Path

HEAD = 1 << 20
_TOP = re.compile(r"^(study|recipe)\s*:", re.MULTILINE)


def kind_of(path: Path) -> str | None:
    """`study` or `recipe`, by the first key at the top level that says so; None for any other file."""
    found = _TOP.search(path.read_bytes()[:HEAD].decode("utf-8", errors="replace"))
    return found[1] if found else None
