"""Reads one strict YAML document into nodes with spans.

Owns the dialect: YAML 1.2 core scalars (`scalars`), no tags, no merge keys, no duplicate keys, text keys
only, one document, and limits that a hostile file cannot get round. Does not own what the document means.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vitdsl.dsl.diagnostics import Diagnostic, Span, StudyError
from vitdsl.dsl.lines import Lines
from vitdsl.dsl.nodes import Field, Fields, Items, Node, Scalar
from vitdsl.dsl.scalars import NumberError, resolve
from vitdsl.dsl.syntax import explained
from vitdsl.dsl.text import UNPRINTABLE, file_name, near_files, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 10_000

FINITE = "write a number, quote what is a text, or leave the key out"
_ENDINGS = (".yaml", ".yml")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ANCHOR = re.compile(r"&\S+\s*")


def read_text(path: Path, name: str) -> str:
    """The text of a study file.

    Raises:
        StudyError: VD001 to VD003: the file is not there, not a file, too large or not UTF-8.
    """
    try:
        if not path.exists():
            hint = near_files(path, name, _ENDINGS) or "`vitdsl init` writes a first study"
            raise _refused("VD001", f"there is no file `{file_name(name)}`", hint)
        if not path.is_file():
            inside = near_files(path / "study.yaml", f"{name.rstrip('/')}/study.yaml", _ENDINGS)
            what = "is a folder, not a study file" if path.is_dir() else "is not a file"
            hint = (
                inside or "give the path of a study file, or of a folder with YAML files that have a `study:`"
            )
            raise _refused("VD001", f"`{file_name(name)}` {what}", hint)
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(name, path.stat().st_size)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "give yourself the right to read it, or name another file"
        raise _refused("VD001", f"`{file_name(name)}` cannot be read: {reason}", hint) from None
    if len(data) > MAX_BYTES:
        raise _too_large(name, len(data))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        span = Lines(before, name).span(len(before), len(before))
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = "it looks like UTF-16; save it as UTF-8" if utf16 else "save it as UTF-8"
        message = f"the file is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise StudyError(Diagnostic("VD003", message, span, help=(hint,))) from None


def read(text: str, name: str, source: str | None = None) -> Node | None:
    """The document in `text` as nodes; None where there is none.

    Args:
        text: The document.
        name: What to call it in spans: a file's path as the user gave it.
        source: The text that spans show, of the same length; None shows `text`.

    Raises:
        StudyError: VD002 to VD013: everything wrong with its syntax.
    """
    if len(text) > MAX_BYTES:
        raise _too_large(name, len(text))
    text = text.removeprefix("\ufeff")
    lines = Lines(text if source is None else source, name)
    bad = UNPRINTABLE.search(text)
    if bad:
        span = lines.span(bad.start(), bad.end())
        message = f"control character U+{ord(bad.group()):04X} in the text"
        raise StudyError(Diagnostic("VD012", message, span, help=("remove it",)))
    composer = _Composer(lines)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            composer.take(event)
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        composer.problems.append(explained(error, lines.text, lines.span))
    except yaml.YAMLError as error:
        composer.problems.append(Diagnostic("VD004", f"not YAML: {error}", lines.span(0, 0)))
    if composer.problems:
        raise StudyError(composer.problems)
    return composer.root


class _Stop(Exception):
    """Reading further makes no sense."""


@dataclass
class _Frame:
    """A collection that is still open."""

    start: int
    anchor: str | None
    mapping: bool
    items: list[Node] = field(default_factory=list)
    fields: dict[str, Field] = field(default_factory=dict)
    key: tuple[str, Span] | None = None
    end: int = 0


class _Composer:
    """Builds the tree from parser events, without recursion, and checks the dialect on the way."""

    def __init__(self, lines: Lines) -> None:
        self.root: Node | None = None
        self.problems: list[Diagnostic] = []
        self._lines = lines
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Take the parser's next event."""
        assert event.start_mark is not None and event.end_mark is not None
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.DocumentStartEvent):
            self._document(event, start, end)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), start, end)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, start, end)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event, start)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._close(start, end)

    def _document(self, event: yaml.DocumentStartEvent, start: int, end: int) -> None:
        self._documents += 1
        if self._documents > 1:
            self._fatal("VD009", "a second document starts here", start, end, "one file holds one study")
        if event.version or event.tags:
            self._problem("VD007", "a `%` directive", start, start + 1, "remove it: the language is fixed")

    def _alias(self, anchor: str, start: int, end: int) -> None:
        node = self._anchors.get(anchor)
        if node is None:
            open_ = any(frame.anchor == anchor for frame in self._stack)
            reason = "stands inside what it names" if open_ else "names no anchor above it"
            hint = "write the value out" if open_ else "quote a text that starts with `*`"
            self._problem("VD013", f"alias `{shown('*' + anchor)}` {reason}", start, end, hint)
            node = Scalar(None, "", True, self._lines.span(start, end))
        self._add(node, start, end)

    def _scalar(self, event: yaml.ScalarEvent, start: int, end: int) -> None:
        start = self._properties(event, start)
        span = self._lines.span(start, end)
        value: str | int | float | bool | None = event.value
        is_plain = event.style in (None, "")
        if is_plain:
            try:
                value = resolve(event.value)
            except NumberError as error:
                self._problem("VD011", f"`{shown(event.value)}` is {error}", start, end, FINITE)
        bad = UNPRINTABLE.search(event.value)
        if bad:
            name = f"U+{ord(bad.group()):04X}"
            self._problem("VD012", f"control character {name} in a text", start, end, "remove its escape")
        node = Scalar(value, event.value, is_plain, span)
        self._keep(event.anchor, node)
        self._add(node, start, end)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, start: int) -> None:
        start = self._properties(event, start)
        if len(self._stack) >= MAX_DEPTH:
            hint = "a study needs a handful of levels"
            self._fatal("VD002", f"nested more than {MAX_DEPTH} deep", start, start + 1, hint)
        self._stack.append(_Frame(start, event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _close(self, start: int, end: int) -> None:
        frame = self._stack.pop()
        last = end if end > start else max(frame.end, frame.start)
        span = self._lines.span(frame.start, last)
        node: Node
        if frame.mapping:
            size = 1 + sum(item.value.size for item in frame.fields.values())
            node = Fields(frame.fields, span, size)
        else:
            node = Items(tuple(frame.items), span, 1 + sum(item.size for item in frame.items))
        self._keep(frame.anchor, node)
        self._add(node, frame.start, last, fresh=1)

    def _properties(self, event: yaml.NodeEvent, start: int) -> int:
        """Refuse a tag; return where the value itself starts."""
        tag = getattr(event, "tag", None)
        if tag is not None:
            found = re.compile(r"(&\S+\s+)?(!\S*)").match(self._lines.text, start)
            first, last = found.span(2) if found else (start, start + 1)
            written = self._lines.text[first:last]
            double = written.startswith("!!")
            hint = "a study is data: write the value alone" if double else "quote a text that starts with `!`"
            self._problem("VD007", f"tag `{shown(written)}`", first, last, hint)
        anchor = _ANCHOR.match(self._lines.text, start) if event.anchor else None
        return anchor.end() if anchor else start

    def _keep(self, anchor: str | None, node: Node) -> None:
        if anchor:
            self._anchors[anchor] = node

    def _add(self, node: Node, start: int, end: int, fresh: int | None = None) -> None:
        """Put a finished node where it belongs; `fresh` is how many nodes it adds to the count."""
        self._nodes += node.size if fresh is None else fresh
        if self._nodes > MAX_NODES:
            self._fatal(
                "VD002",
                f"more than {MAX_NODES:,} values",
                start,
                end,
                "aliases count each time they are used",
            )
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.end = max(frame.end, end)
        if not frame.mapping:
            frame.items.append(node)
        elif frame.key is None:
            frame.key = self._key(node, start, end), self._lines.span(start, end)
        else:
            (name, span), frame.key = frame.key, None
            self._field(frame, name, span, node)

    def _key(self, node: Node, start: int, end: int) -> str:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            if node.value == "<<" and node.plain:
                self._problem("VD008", "merge key `<<`", start, end, "use `extends`, or write the fields out")
            return node.value
        written = node.text if isinstance(node, Scalar) else "a list or mapping"
        hint = f'quote it: "{written}"' if isinstance(node, Scalar) and written else "a key is a text"
        self._problem("VD010", f"key `{shown(written)}` is not a text", start, end, hint)
        return written

    def _field(self, frame: _Frame, name: str, span: Span, node: Node) -> None:
        first = frame.fields.get(name)
        if first is None:
            frame.fields[name] = Field(span, node)
        elif name != "<<":
            message = f"key `{shown(name)}` appears twice in one mapping"
            self.problems.append(
                Diagnostic(
                    "VD006",
                    message,
                    span,
                    "again here",
                    ("keep one of the two",),
                    secondary=((first.key, "first here"),),
                )
            )

    def _problem(self, code: str, message: str, start: int, end: int, hint: str = "") -> None:
        help_ = (hint,) if hint else ()
        self.problems.append(Diagnostic(code, message, self._lines.span(start, end), help=help_))

    def _fatal(self, code: str, message: str, start: int, end: int, hint: str = "") -> None:
        self._problem(code, message, start, end, hint)
        raise _Stop


def _refused(code: str, message: str, *help_: str) -> StudyError:
    return StudyError(Diagnostic(code, message, help=tuple(line for line in help_ if line)))


def _too_large(name: str, size: int) -> StudyError:
    message = f"`{file_name(name)}` is larger than a study can be: {size:,} bytes, at most {MAX_BYTES:,}"
    return StudyError(Diagnostic("VD002", message, Span(name, 1, 1, 1, 1)))
