"""Data entries that stand beside another one (`of`): what they take over from it, and that they keep its order.

Owns which fields are taken over when a study is read, and which must be alike. Does not own what a change does to
pixels, or how images are matched (the runtime).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.merging import merge
from vitdsl.dsl.nodes import Fields, Node, Scalar, at, replaced, with_fields
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.text import did_you_mean, shown, ticked

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

ORDER = ("images", "batch", "shuffle", "seed", "image_blocks")
"""The fields that decide which image stands where in a stream."""
TAKEN = (*ORDER, "preprocess")
"""The fields that an entry with a source of its own takes over."""
NOT_TAKEN = ("vary", "of", "transform")


def paired(root: Node, language: type[BaseModel]) -> Node:
    """The document with every entry that is `of` another holding what it takes over from it.

    Args:
        root: The document.
        language: The type of a whole study.
    """
    data = at(root, ("data",))
    for name, field in data.fields.items() if isinstance(data, Fields) else ():
        of = at(field.value, ("of",))
        if not isinstance(field.value, Fields) or not isinstance(of, Scalar) or of.value is None:
            continue
        base = _base(data, name, of)
        if base is None:
            continue
        own = "source" in field.value.fields
        taken = {
            key: one for key, one in base.fields.items() if (key in TAKEN if own else key not in NOT_TAKEN)
        }
        path = ("data", name)
        root = replaced(root, path, merge(with_fields(base, taken), field.value, language, path))
    return root


def _base(data: Node | None, name: str, of: Scalar) -> Fields | None:
    """The entry that another one stands beside; None where it is no mapping, which is said elsewhere."""
    entries = data.fields if isinstance(data, Fields) else {}
    wanted = str(of.value)
    if wanted not in entries or wanted == name:
        known = [key for key in entries if key != name]
        message = f"unknown data entry `{shown(wanted)}` in `data.{name}.of`"
        hint = did_you_mean(wanted, known) or f"there are {ticked(known)}"
        raise StudyError(Diagnostic("VD201", message, of.span, "no such data entry", (hint,)))
    base = entries[wanted].value
    above = at(base, ("of",))
    if isinstance(above, Scalar) and above.value is not None:
        message = f"`{shown(wanted)}` itself stands beside `{shown(str(above.value))}`"
        hint = f"write `of: {shown(str(above.value))}`, with a `source` where the images are others"
        raise StudyError(Diagnostic("VD247", message, of.span, "not here", (hint,)))
    return base if isinstance(base, Fields) else None


def pairing_problems(study: "Study", source: SourceMap) -> Iterator[Diagnostic]:
    """What is wrong with entries that stand beside others (VD247), and with metrics that compare them."""
    for name, entry in study.data.items():
        path = ("data", name)
        other = study.data.get(entry.of) if entry.of is not None else None
        if entry.transform is not None and entry.of is None:
            yield source.problem(
                "VD247",
                (*path, "transform"),
                f"`data.{name}` changes images and does not say whose",
                label="of which images?",
                help=("write `of:` with the data entry whose images are changed, in place of `source`",),
                key=True,
            )
        if other is None:
            continue
        for axis in entry.vary:
            if axis.partition(".")[0] in (*ORDER, "of"):
                yield source.problem(
                    "VD247",
                    (*path, "vary"),
                    f"`{name}` stands beside `{entry.of}` image by image, and cannot vary `{axis}`",
                    label="not here",
                    help=("vary what changes the images, such as `transform.strength`",),
                    key=True,
                )
        if other.vary:
            yield _wrong(
                source, path, f"`{entry.of}` makes several streams by `vary`", "name an entry without `vary`"
            )
        for field in ORDER:
            if getattr(entry, field) != getattr(other, field):
                yield source.problem(
                    "VD247",
                    (*path, field),
                    f"`{name}` stands beside `{entry.of}` image by image, and has another `{field}`",
                    label=f"{getattr(other, field)} in `{entry.of}`",
                    help=(f"leave `{field}` out: it is taken over",),
                )
    for name, metric in study.metrics.items():
        against = metric.against_data
        data = metric.data or next(iter(study.data), "")
        if against is None or against not in study.data or data not in study.data:
            continue
        one, two = study.data[data], study.data[against]
        if data == against or (one.of or data) != (two.of or against):
            near = [key for key, entry in study.data.items() if entry.of == against]
            yield source.problem(
                "VD247",
                ("metrics", name, "against"),
                f"`{data}` does not stand beside `{against}` image by image",
                label="not the same images",
                help=(
                    f"write `data:` with one of {ticked(near)}"
                    if near
                    else f"add the entry `{{of: {against}, transform: {{kind: blur, strength: 0.02}}}}` and name it",
                ),
            )
        if two.vary:
            yield source.problem(
                "VD203",
                ("metrics", name, "against"),
                f"`{against}` makes several streams by `vary`",
                label="which of them?",
                help=("name a data entry without `vary`, and the one with it in `data:`",),
            )


def _wrong(source: SourceMap, path: tuple[str, str], message: str, help: str) -> Diagnostic:
    return source.problem("VD247", (*path, "of"), message, label="not here", help=(help,))
