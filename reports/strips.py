"""Strips: the images behind an effect, each with what the model answered before and under the condition.

For values that name images by their position and say how strongly (`pictured_by`); the strongest images of a group,
each once. Does not own which these are (`vitdsl.runtime.results.pictured`), or the list of all (`figures`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitdsl.reports.labels import number
from vitdsl.reports.parts import Part
from vitdsl.reports.seen import Picture, class_name
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import DataRecord
from vitdsl.runtime.results.pictured import pictured
from vitdsl.runtime.results.thumbnails import Thumbnail

RIGHT = " \N{CHECK MARK}"
ANSWERS = ("label", "before", "after", "confidence_before", "confidence_after")


@dataclass(frozen=True)
class Frame:
    """One image, both answers with how sure the model was, its label where neither is right, and the condition."""

    picture: Picture
    before: str
    after: str
    label: str
    condition: str


@dataclass(frozen=True)
class Strip:
    """The images of one group, the strongest first."""

    title: str
    caption: str
    frames: tuple[Frame, ...]


def strips(run: Run, parts: Sequence[Part]) -> tuple[Strip, ...]:
    """The images behind the results of some parts, where they name any and pictures of these were kept."""
    found = []
    for part in {part.path: part for part in parts}.values():
        frames = _frames(run, part)
        if frames:
            found.append(Strip(part.model, _caption(part), frames))
    return tuple(found)


def _caption(part: Part) -> str:
    before, after = (part.of(name).name for name in ("before", "after"))
    return (
        "The images whose answer moves most, the strongest first, each under the condition that moves it most: the "
        f"{before}, and how sure it is; then the {after}. A tick marks the answer that is the image's label. They are "
        "extremes, not what is typical."
    )


def _frames(run: Run, part: Part) -> tuple[Frame, ...]:
    name = str(part.dataset.coords["data"].item()) if "data" in part.dataset.coords else ""
    if name not in run.manifest.data or not all(one in part.dataset for one in ("image", *ANSWERS)):
        return ()
    values = {one: part.of(one).array.transpose("condition", "rank").values for one in ("image", *ANSWERS)}
    found = []
    for at in pictured(part.dataset):
        known = {one: float(array[at]) for one, array in values.items()}
        kept = run.thumbnails.of(name, part.ids[0] if part.ids else "", int(known["image"]))
        if kept is not None:
            found.append(_frame(run.manifest.data[name], known, kept, part.condition(at[0])))
    return tuple(found)


def _frame(data: DataRecord, known: Mapping[str, float], kept: Thumbnail, condition: str) -> Frame:
    label, before, after = (class_name(data, int(known[one])) for one in ("label", "before", "after"))
    picture = Picture(kept.source, f"image {kept.row:,}, labelled {label}", kept.format == "png")
    wrong = known["label"] not in (known["before"], known["after"])
    return Frame(
        picture,
        _answer(before, known, "before"),
        _answer(after, known, "after"),
        f"labelled {label}" if wrong else "",
        condition,
    )


def _answer(name: str, known: Mapping[str, float], when: str) -> str:
    tick = RIGHT if known[when] == known["label"] else ""
    return f"{name}{tick}, {number(100 * known[f'confidence_{when}'], 2)} %"
