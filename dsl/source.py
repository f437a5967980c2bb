"""Where the values of a study come from: spans in files, origins in words, diagnostics that point there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from vitdsl.dsl.diagnostics import Diagnostic, Span, VitdslError
from vitdsl.dsl.nodes import Fields, Node, Path, Scalar, at


@dataclass(frozen=True)
class SourceMap:
    """The merged document of a study, each value with its span; empty for a study built in Python.

    Attributes:
        root: The merged tree; None for a study that was never text.
        texts: The text of each file that took part, by the name that spans use.
        labels: What to call each of these files in an origin.
        via: How a file came in, where it is not the study's own: `extended by study.yaml:1`.
        elsewhere: Paths whose value was written at another path: a field that a sweep varies, at its axis.
    """

    root: Node | None = None
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    via: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    elsewhere: Mapping[Path, Path] = field(default_factory=lambda: MappingProxyType({}))

    def moved(self, elsewhere: Mapping[Path, Path]) -> "SourceMap":
        """The same places, where the values of some paths were written at others."""
        return replace(self, elsewhere=elsewhere) if elsewhere else self

    def node(self, path: Sequence[str | int]) -> Node | None:
        """The value at a path as it was written, if there is one."""
        return at(self.root, self.written(path)) if self.root is not None else None

    def written(self, path: Sequence[str | int]) -> Path:
        """The path at which the value of a path was written."""
        whole = tuple(path)
        for end in range(len(whole), 0, -1):
            if whole[:end] in self.elsewhere:
                return (*self.elsewhere[whole[:end]], *whole[end:])
        return whole

    def span(self, path: Sequence[str | int], *, key: bool = False) -> Span | None:
        """The span of a value, or of its key; of the nearest ancestor that was written where it was not.

        Args:
            path: Keys and list positions from the top.
            key: Point at the key instead of the value.
        """
        if self.root is None:
            return None
        real = self.written(path)
        if key and real != tuple(path) and isinstance(real[-1], int):
            real = real[:-1]
        path = real
        node, span = self.root, _start(self.root)
        for index, part in enumerate(path):
            found = node.fields.get(part) if isinstance(node, Fields) and isinstance(part, str) else None
            inner = at(node, (part,))
            if inner is None:
                return span
            last = index == len(path) - 1
            wants_key = found is not None and (key or not last or isinstance(inner, Fields))
            node, span = inner, found.key if found is not None and wants_key else inner.span
        return span

    def exists(self, path: Sequence[str | int]) -> bool:
        """Whether the value was written somewhere and is not a default."""
        return self.root is not None and at(self.root, self.written(path)) is not None

    def text(self, path: Sequence[str | int]) -> Scalar | None:
        """The scalar at a path as it was written, if there is one."""
        node = at(self.root, self.written(path)) if self.root is not None else None
        return node if isinstance(node, Scalar) else None

    def origin(self, path: Sequence[str | int]) -> str:
        """Where a value comes from, in words: `default`, `base.yaml:4`, `--set`, `recipe digits_vit:3`."""
        node = at(self.root, tuple(path)) if self.root is not None else None
        if node is None:
            return "default"
        span = self.span(path, key=isinstance(node, Fields)) or node.span
        label = self.labels.get(span.file, span.file)
        return label if label == "--set" else f"{label}:{span.line}"

    def problem(
        self,
        code: str,
        path: Sequence[str | int],
        message: str,
        *,
        label: str = "",
        help: Iterable[str] = (),
        notes: Iterable[str] = (),
        key: bool = False,
        secondary_paths: Iterable[tuple[Sequence[str | int], str]] = (),
        within: tuple[int, int] | None = None,
        about: Iterable[Sequence[str | int]] = (),
    ) -> Diagnostic:
        """A diagnostic about the value at a path.

        Args:
            code: The code, such as `VD210`.
            path: Keys and list positions from the top of the study.
            message: What is wrong; it must stand alone.
            label: A few words under the caret.
            help: What to do; empty lines are dropped.
            notes: What else to know; empty lines are dropped.
            key: Point at the key instead of the value.
            secondary_paths: Other places to show, each with a few words; their keys are pointed at.
            within: Offsets into the value's text, to point at a part of it.
            about: What else it is about and need not be shown, such as an entry or `("arch", "resnet18")`: it tells
                two mistakes at one place apart.
        """
        span = self.span(path, key=key)
        scalar = self.text(path)
        if span is not None and within is not None and scalar is not None and not key:
            span = _within(span, scalar, within)
        secondary, concerned = [], [tuple(path), *map(tuple, about)]
        for other, words in secondary_paths:
            concerned.append(tuple(other))
            beside = self.span(other, key=True)
            if beside is not None and self.exists(other):
                secondary.append((beside, words))
        found = [line for line in notes if line]
        if span is None and path:
            found.append(f"at `{dotted(path)}`")
        if span is not None and span.file in self.via:
            found.append(self.via[span.file])
        return Diagnostic(
            code, message, span, label, tuple(help), tuple(found), tuple(secondary), tuple(concerned)
        )

    def placed(self, diagnostic: Diagnostic, where: Sequence[str | int]) -> Diagnostic:
        """A diagnostic of an entry, at the first field that it is about and that was written, else at the entry's key.

        Where a sweep varies one part of such a field, that part is meant; a name that is meant (`at_key`) is that of
        the field's only part. A diagnostic that has a place keeps it.

        Args:
            diagnostic: Its `about` are paths inside the entry.
            where: The entry's path.
        """
        if diagnostic.span is not None:
            return diagnostic
        for fields in diagnostic.about:
            inner = (*where, *fields)
            varied = [one for one in self.elsewhere if one[: len(inner)] == inner]
            if len(varied) == 1 and varied[0] != inner:
                return self._at(diagnostic, varied[0], key=False)
            if self.exists(inner):
                node = self.node(inner)
                only = (
                    list(node.fields) if isinstance(node, Fields) and diagnostic.at_key and not varied else []
                )
                path = (*inner, *only) if len(only) == 1 else inner
                parts = [self.written(one) for one in varied if one != inner]
                return self._at(diagnostic, path, key=diagnostic.at_key, parts=parts)
        return self._at(diagnostic, where, key=True)

    def _at(
        self, diagnostic: Diagnostic, path: Sequence[str | int], *, key: bool, parts: Iterable[Path] = ()
    ) -> Diagnostic:
        about = (tuple(path), *parts, *diagnostic.about)
        return replace(diagnostic, span=self.span(path, key=key), about=about)

    def joined(
        self,
        diagnostic: Diagnostic,
        where: Sequence[str | int],
        secondary_paths: Iterable[tuple[Sequence[str | int], str]] = (),
    ) -> Diagnostic:
        """A diagnostic of an entry as a problem of the whole study: at its first field, with other places to show.

        Args:
            diagnostic: Its `about` are paths inside the entry.
            where: The entry's path.
            secondary_paths: See `problem`.
        """
        return self.problem(
            diagnostic.code,
            (*where, *diagnostic.about[0]),
            diagnostic.message,
            label=diagnostic.label,
            help=diagnostic.help,
            notes=diagnostic.notes,
            secondary_paths=secondary_paths,
        )


@contextmanager
def placing(source: SourceMap, where: Sequence[str | int]) -> Iterator[None]:
    """Errors inside get their place in an entry."""
    try:
        yield
    except VitdslError as error:
        raise type(error)([source.placed(one, where) for one in error.diagnostics]) from error.__cause__


def dotted(path: Sequence[str | int]) -> str:
    """A path in words: `metrics.cka.of[1]`."""
    words = ""
    for part in path:
        if isinstance(part, int):
            words += f"[{part}]"
        else:
            words += ("." if words else "") + (f'"{part}"' if "." in part else part)
    return words


def _start(root: Node) -> Span:
    """Where a document starts: its first key."""
    if isinstance(root, Fields) and root.fields:
        return next(iter(root.fields.values())).key
    return root.span


def _within(span: Span, scalar: Scalar, part: tuple[int, int]) -> Span:
    """A part of a scalar's text, where the text was written without escapes on one line."""
    written = span.end_column - span.column
    opening = (written - len(scalar.text)) // 2
    if span.line != span.end_line or written - len(scalar.text) not in (0, 2):
        return span
    return span.within(part[0] + opening, part[1] + opening)
