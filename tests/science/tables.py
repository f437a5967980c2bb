"""Write the measured claims into docs/science.md: the newest finished run of each study, one table each.

    vitdsl run specs/findings --out runs/science && vitdsl run specs/questions --out runs/science
    python tests/science/tables.py runs/science

A table stands between `<!-- claims of STUDY -->` and `<!-- end -->`. Does not own the words around it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "science.md"
BLOCK = re.compile(r"(<!-- claims of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| claim | left | right | difference, 95 % interval | over | verdict |\n|---|---|---|---|---|---|\n"


def main(runs: Path) -> None:
    """Rewrite the page; a study without a finished run there keeps its table."""

    def table(match: re.Match[str]) -> str:
        found = newest(runs / match[2])
        if found is None:
            print(f"no finished run of {match[2]} in {runs}")
            return match[0]
        return match[1] + HEAD + "".join(map(row, found["claims"].values())) + match[3]

    PAGE.write_text(BLOCK.sub(table, PAGE.read_text("utf-8")), "utf-8")


def newest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the newest finished run in a study's folder."""
    for path in sorted(folder.glob("*/manifest.json"), reverse=True):
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if manifest["status"] == "success":
            return manifest
    return None


def row(claim: dict[str, Any]) -> str:
    """One claim as a row of the table."""
    gap = claim["difference"]
    cells = (
        claim["say"],
        number(claim["left"]["value"]),
        number(claim["right"]["value"]) if claim["right"] else "",
        f"{number(gap['value'])} [{number(gap['low'])}, {number(gap['high'])}]",
        " and ".join(claim["over"]),
        f"**{claim['verdict']}**",
    )
    return "| " + " | ".join(cells) + " |\n"


def number(value: float | None) -> str:
    """Three digits, or a dash for what is not defined."""
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
