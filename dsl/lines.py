"""Turns offsets in a text into spans."""

import re
from bisect import bisect_right

from vitdsl.dsl.diagnostics import Span

_LINE_END = re.compile(r"\r\n|\r|\n")


class Lines:
    """Turns offsets in a text into spans; only LF, CR and CRLF end a line, as in an editor."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self._name = name
        ends = list(_LINE_END.finditer(text))
        self._starts = [0, *(end.end() for end in ends)]
        self._ends = [*(end.start() for end in ends), len(text)]
        self._sources: dict[int, str] = {}

    def span(self, start: int, end: int) -> Span:
        """The stretch between two offsets."""
        line, column = self._place(start)
        end_line, end_column = self._place(max(start, end))
        source = self._sources.get(line)
        if source is None:
            source = self._sources[line] = self.text[self._starts[line] : self._ends[line]]
        return Span(self._name, line + 1, column + 1, end_line + 1, end_column + 1, source)

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset) - 1
        return line, offset - self._starts[line]
