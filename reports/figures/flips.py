"""Flips: a list of images under each condition, with both answers and how sure the model was of them.

Fits what has ranks; draws where the group also says `before` and `after`. Images are named by their position in the
stream: the page has neither their pixels nor their ids, which `images.csv` has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.lines import Line2D

from vitdsl.reports.canvas import Draw, Sheet, note_points
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.labels import estimate, listing, number, plural, sentence, short
from vitdsl.reports.parts import Part
from vitdsl.reports.sentences import lead_and_details
from vitdsl.reports.theme import FONT_PX, LIGHT

MOST_CONDITIONS, MOST_IMAGES = 4, 6
LINE, HEAD, AROUND = 21, 30, 104
"""Heights in CSS pixels: of an image's line, of a condition's, and of the legend and axis."""
NEEDED = ("label", "before", "after", "confidence_before", "confidence_after")
ARROW = "\N{RIGHTWARDS ARROW}"
LOOKS = {
    "right, then wrong": ("bad", "v"),
    "wrong, then right": ("good", "^"),
    "wrong both times": ("s1", "o"),
}
"""Colour and marker of each direction; the label beside them says the same in words."""


@dataclass(frozen=True)
class Flip:
    """One image that changed its answer."""

    image: int
    label: int
    before: int
    after: int
    sure_before: float
    sure_after: float

    @property
    def direction(self) -> str:
        """Which of both answers was right."""
        if self.before == self.label:
            return "right, then wrong"
        return "wrong, then right" if self.after == self.label else "wrong both times"

    @property
    def words(self) -> str:
        """All of it as a line."""
        return (
            f"image {self.image}, label {self.label}: {self.before} with confidence {number(self.sure_before, 2)} "
            f"{ARROW} {self.after} with {number(self.sure_after, 2)}"
        )


class Flips(Figure):
    """Ranked images."""

    draws_conditions = True

    def fits(self, part: Part) -> bool:
        """Ranks."""
        return part.dims == {"rank"}

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel for each model, of its conditions with most flips; the table alone for what is listed beside."""
        drawn = [part for part in parts if part.value == "image" and _complete(part)]
        if not drawn:
            caption = f"{sentence(parts[0].name)}, in the order of the list."
            return assembled(id, parts, caption, _range(parts))
        panels = []
        for part in drawn:
            some = _conditions(part)
            if some:
                draw: Draw = partial(_draw_flips, part=part, conditions=some)
                lines = sum(min(MOST_IMAGES, len(flips_of(part, i))) for i in some)
                height = AROUND + HEAD * len(some) + LINE * lines
                panels.append(Panel(part.label, draw, False, height, height))
        caption = (
            "Images by their position in the stream (images.csv has their ids) with their label and the answer of "
            f"the intact model {ARROW} under the condition, the strongest flips first. Hollow: confidence in the "
            "answer of the intact model; filled: in the answer under the condition."
        )
        most = max((len([i for i in part.ablated if flips_of(part, i)]) for part in drawn), default=0)
        if most > MOST_CONDITIONS:
            caption += (
                f" The {MOST_CONDITIONS} conditions with most flips of {most} are drawn; the data has all."
            )
        return replace(assembled(id, parts, caption, _takeaway(drawn), panels), open=bool(panels))


def _complete(part: Part) -> bool:
    return all(name in part.dataset for name in NEEDED)


def flips_of(part: Part, condition: int) -> list[Flip]:
    """The listed images of a condition, in order."""
    names = ("image", *NEEDED)
    columns = [part.of(name).array.transpose("condition", "rank").values[condition] for name in names]
    known = [row for row in zip(*columns, strict=True) if np.isfinite(row).all()]
    return [Flip(int(i), int(label), int(a), int(b), float(p), float(q)) for i, label, a, b, p, q in known]


def _share(part: Part, condition: int) -> float:
    """Which share of all images changed their answer; NaN where the group does not say."""
    if "flips" in part.dataset:
        flips = part.of("flips")
        if flips.scalar:
            return float(flips.array.values[condition])
    return float("nan")


def _conditions(part: Part) -> list[int]:
    """The conditions with most flips, the most first."""
    having = [i for i in part.ablated if flips_of(part, i)]
    return sorted(having, key=lambda i: -np.nan_to_num(_share(part, i)))[:MOST_CONDITIONS]


def _draw_flips(sheet: Sheet, wide: bool, part: Part, conditions: Sequence[int]) -> None:
    """A list on the left, and on the right each image's two confidences, joined."""
    grid = sheet.add_gridspec(1, 2, width_ratios=(0.36, 0.64) if wide else (0.5, 0.5), wspace=0)
    left, right = sheet.add_subplot(grid[0, 0]), sheet.add_subplot(grid[0, 1])
    columns = (0.02, 0.42, 0.68) if wide else (0.0, 0.42, 0.66)
    at, most = 0.0, 0.0
    seen: set[str] = set()
    for x, words in zip(columns, ("image", "label", "answer"), strict=True):
        left.text(x, at, words, color=LIGHT["muted"], va="center", fontsize=FONT_PX - 1)
    for condition in conditions:
        at += HEAD / LINE
        share = _share(part, condition)
        name = part.condition(condition)
        words = name
        words += f": {number(100 * share, 2)} % flip" if np.isfinite(share) else ""
        left.text(0, at, words, color=LIGHT["ink"], va="center", weight="bold").set_in_layout(False)
        for flip in flips_of(part, condition)[:MOST_IMAGES]:
            at += 1
            texts = (f"{flip.image:,}", str(flip.label), f"{flip.before} {ARROW} {flip.after}")
            for x, text in zip(columns, texts, strict=True):
                left.text(x, at, text, color=LIGHT["ink"], va="center").set_in_layout(False)
            colour, marker = LOOKS[flip.direction]
            hue = LIGHT[colour]
            right.plot([flip.sure_before, flip.sure_after], [at, at], color=hue, linewidth=1.4, zorder=2)
            # The hollow mark is larger, so that both are seen where they meet.
            right.plot(flip.sure_after, at, marker, color=hue, markersize=5, zorder=3)
            right.plot(
                flip.sure_before, at, marker, color=hue, markerfacecolor="none", markersize=9, zorder=4
            )
            note_points(
                right,
                (flip.sure_before, flip.sure_after),
                (at, at),
                [f"{name}: {flip.words}"] * 2,
            )
            seen.add(flip.direction)
            most = max(most, flip.sure_before, flip.sure_after)
    for axes in (left, right):
        axes.set_ylim(at + 0.8, -0.6)
        axes.set_yticks([])
    left.set_xlim(0, 1)
    left.set_axis_off()
    right.grid(True, axis="x")
    right.grid(False, axis="y")
    end = next(end for end in (0.25, 0.5, 1.0) if end >= most)
    right.set_xlim(-0.04 * end, 1.04 * end)
    right.set_xticks([0, end / 2, end], ["0", short(end / 2), short(end)])
    right.set_xlabel("confidence")
    right.spines["left"].set_visible(False)
    _legend(sheet, wide, [one for one in LOOKS if one in seen])


def _legend(sheet: Sheet, wide: bool, directions: Sequence[str]) -> None:
    handles = [
        Line2D([], [], color=LIGHT[LOOKS[one][0]], marker=LOOKS[one][1], linestyle="-", markersize=7)
        for one in directions
    ]
    sheet.legend(
        handles,
        directions,
        loc="outside upper left",
        ncols=len(directions) if wide else 2,
        borderaxespad=0.2,
        fontsize=FONT_PX - 0.5,
    )


def _takeaway(parts: Sequence[Part]) -> str:
    """For each model, the condition with most flips and the strongest of them."""
    said = []
    for part in parts:
        some = _conditions(part)
        if not some:
            said.append(f"{part.label}: no image changes its answer.")
            continue
        share, top = _share(part, some[0]), flips_of(part, some[0])[0]
        many = f"{_percent(part, some[0])} of the images flip" if np.isfinite(share) else "images flip"
        where = part.condition(some[0])
        said.append(f"{part.label}: {many} under {where}; the strongest is {top.words}.")
    return lead_and_details("Images that change their answer most.", said)


def _percent(part: Part, condition: int) -> str:
    """The share of images that flip under a condition, in percent with its interval."""
    flips = part.of("flips")
    value, low, high = (100 * float(array.values[condition]) for array in (flips.array, *flips.bounds))
    return estimate(value, low, high, "%")


def _range(parts: Sequence[Part]) -> str:
    """How many numbers are listed, and from what to what."""
    said = []
    for part in parts:
        known = part.array.values[np.isfinite(part.array.values)]
        if len(known):
            ends = listing([number(float(end)) for end in (known.min(), known.max())])
            said.append(f"{part.label}: {plural(len(known), 'number')} between {ends}.")
    return lead_and_details(f"{sentence(parts[0].name)}, for each listed image.", said)
