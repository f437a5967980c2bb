"""Places of errors that only the runtime finds: which field of an entry a code speaks of.

A module that builds a model or opens a source knows nothing of files. Whoever calls it for an entry of a study
puts the errors at the field that they are about.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from vitdsl.dsl.diagnostics import Diagnostic, VitdslError
from vitdsl.dsl.source import SourceMap

Where = tuple[str | int, ...]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "VD220": ("source",),
    "VD230": ("arch",),
    "VD231": ("options", "arch"),
    "VD232": ("weights", "arch"),
    "VD233": ("input_size", "options.img_size", "arch"),
    "VD243": ("images",),
    "VD244": ("labels", "target_key", "path", "name"),
    "VD245": ("first", "name"),
    "VD251": ("train.optimizer",),
    "VD252": ("train.augment.auto_augment", "train.augment"),
    "VD253": ("train",),
    "VD301": ("arch",),
    "VD401": ("path", "root", "weights.file", "weights"),
    "VD402": ("path", "root"),
    "VD403": ("path", "root", "name"),
    "VD405": ("weights.file", "weights.hub", "weights"),
    "VD406": ("weights.hub", "weights"),
    "VD410": ("name",),
    "VD503": ("train.learning_rate", "train"),
    "VD411": ("name",),
}
"""The fields that an error may be about, the likeliest first; the first that was written takes the caret."""

LABELS = {
    "VD230": "no such architecture",
    "VD232": "not there",
    "VD233": "does not fit",
    "VD243": "more than there are",
    "VD251": "no such optimizer",
    "VD252": "no such policy",
    "VD401": "cannot be opened",
    "VD403": "no images",
    "VD405": "does not fit",
    "VD406": "cannot be fetched",
    "VD503": "diverged",
}
"""What stands under the caret."""


def placed(source: SourceMap, where: Where, diagnostic: Diagnostic) -> Diagnostic:
    """A diagnostic about an entry, at the field that it speaks of; one that has a place keeps it."""
    if diagnostic.span is not None:
        return diagnostic
    path, key = where, True
    for field in FIELDS.get(diagnostic.code, ()):
        inner = (*where, *field.split("."))
        if source.exists(inner):
            path, key = inner, False
            break
    if diagnostic.code == "VD231":
        path, key = _option(source, where, path, diagnostic.message)
    span = source.span(path, key=key)
    return replace(diagnostic, span=span, label=diagnostic.label or LABELS.get(diagnostic.code, ""))


@contextmanager
def placing(source: SourceMap, where: Where) -> Iterator[None]:
    """Errors inside get the place of an entry."""
    try:
        yield
    except VitdslError as error:
        found = [placed(source, where, one) for one in error.diagnostics]
        raise type(error)(found) from error.__cause__


def _option(source: SourceMap, where: Where, path: Where, message: str) -> tuple[Where, bool]:
    """The key of the one option that a message names, else the value of a swept one, else all options."""
    options = (*where, "options")
    names = list(getattr(source.node(options), "fields", ()))
    swept = [str(one[-1]) for one in source.elsewhere if one[:-1] == options]
    for found in (
        [name for name in (*names, *swept) if re.search(rf"`(options: {{)?{re.escape(name)}\b", message)],
        swept,
        names,
    ):
        if len(found) == 1:
            return (*options, found[0]), found is not swept
    return path, True
