"""Write the measured claims into docs/science.md: the newest finished run of each study, one table each.

    vitdsl run specs/findings --out runs/science && vitdsl run specs/questions --out runs/science
    python tests/science/tables.py runs/science

A table stands between `<!-- claims of STUDY -->` and `<!-- end -->`. Does not own the words around it, nor how a number
is written (`vitdsl.reports`).
"""

import re
import sys
from pathlib import Path

from vitdsl.reports.sentences import quantity
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.results.listing import runs_in
from vitdsl.runtime.results.verdicts import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "science.md"
BLOCK = re.compile(r"(<!-- claims of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| claim | left | right | difference, 95 % interval | over | verdict |\n|---|---|---|---|---|---|\n"


def main(runs: Path) -> None:
    """Rewrite the page; a study without a finished run there keeps its table."""

    def table(match: re.Match[str]) -> str:
        finished = [one for one in runs_in(runs, match[2]) if one.status == "success"]
        if not finished:
            print(f"no finished run of {match[2]} in {runs}")
            return match[0]
        claims = open_run(finished[-1].folder).manifest.claims
        return match[1] + HEAD + "".join(map(row, claims.values())) + match[3]

    PAGE.write_text(BLOCK.sub(table, PAGE.read_text("utf-8")), "utf-8")


def row(claim: Verdict) -> str:
    """One claim as a row of the table."""
    cells = (
        claim.say,
        quantity(claim.left),
        quantity(claim.right) if claim.right else "",
        quantity(claim.difference),
        " and ".join(claim.over),
        f"**{claim.verdict}**",
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
