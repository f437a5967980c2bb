"""Matrix: every site with every site; across two models also the best match by depth."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Draw, Sheet
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._heatmap import Scale, colour_bar, flat, name_sites, note_cells, scale_of, show
from vitdsl.reports.figures._lines import Line, depth_axis, draw_lines, limits, reference_line
from vitdsl.reports.labels import fold, listing, number, sentence
from vitdsl.reports.names import BASELINE
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import NOTHING, mean
from vitdsl.reports.theme import FONT_PX, LIGHT


class Matrix(Figure):
    """A value of two sites."""

    def fits(self, part: Part) -> bool:
        """Sites of x and of y; more than one pair."""
        sizes = part.array.sizes
        return part.dims == {"site_x", "site_y"} and sizes["site_x"] * sizes["site_y"] > 1

    def calls(self, part: Part) -> tuple[str, ...]:
        """Its heading, else its models."""
        models = pair(part)
        return (
            part.title or models,
            f"{part.title}: {models}" if part.title else "",
            f"{models}, {part.metric}",
        )

    def heading(self, parts: Sequence[Part]) -> str:
        """What is compared, and in which models where these are few."""
        pairs = list(dict.fromkeys(map(pair, parts)))
        return f"{parts[0].name} between layers" + (f": {pairs[0]}" if len(pairs) == 1 else "")

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """A heatmap for each group and condition; for two models a panel of best matches."""
        scale = scale_of(parts)
        panels, constant = [], []
        for part in parts:
            array = part.array.transpose("condition", "site_x", "site_y")
            for i, condition in enumerate(part.conditions):
                values = np.asarray(array.values[i], np.float64)
                if not np.isfinite(values).any():
                    continue
                even = flat(part, values)
                if even:
                    constant.append(f"{part.label}, {part.condition(i)}: {even}, too near for a map.")
                    continue
                title = part.label + ("" if condition == BASELINE else f", {part.condition(i)}")
                draw: Draw = partial(_draw_matrix, part=part, values=values, scale=scale)
                panels.append(Panel(title, draw, height=430))
        for part in parts:
            if len(part.models) == 2 and part.array.sizes["site_x"] > 2:
                x, y = part.models
                title = f"Best match in {y} for each site of {x}"
                panels.append(Panel(title, partial(_draw_match, part=part), height=430))
        caption = (
            "Every site with every site; the first sites at the bottom left. One colour scale for all panels."
        )
        if not panels:
            caption = ""
        return assembled(id, parts, " ".join([caption, *constant]).strip(), _takeaway(parts), panels)


def pair(part: Part) -> str:
    """Which models are compared: `ViT`, or `ViT against ResNet`."""
    return " against ".join(part.models) or part.model


def _draw_matrix(sheet: Sheet, wide: bool, part: Part, values: Array, scale: Scale) -> None:
    """Sites against sites; the first layers at the bottom left. `values` is [site_x, site_y]."""
    axes = sheet.subplots()
    show(axes, values.T, scale)
    note_cells(axes, part.names("site_y"), part.names("site_x"), values.T)
    name_sites(axes, part, "site_x", "x")
    name_sites(axes, part, "site_y", "y")
    colour_bar(sheet, axes, part, scale, bool(np.isnan(values).any()))


def _best_match(part: Part) -> tuple[Array, Array, Array]:
    """For each site of x: its depth, the depth of the most similar site of y, and how similar that is."""
    values = np.asarray(part.array.values[0], np.float64)
    known = np.isfinite(values).any(1)
    sign = -1.0 if part.attr("direction") == "lower" else 1.0
    filled = np.where(np.isfinite(values), sign * values, -np.inf)
    depth = np.where(known, part.depths("site_y")[filled.argmax(1)], np.nan)
    return part.depths("site_x"), depth, np.where(known, sign * filled.max(1), np.nan)


def _draw_match(sheet: Sheet, wide: bool, part: Part) -> None:
    """Where in y each site of x finds its match (above), and how good the match is (below)."""
    above, below = sheet.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
    x, y = part.models
    depth, matched, value = _best_match(part)
    nothing = np.full_like(depth, np.nan)
    above.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 3)))
    under = np.nanmean(matched - depth) < 0 if np.isfinite(matched).any() else False
    above.annotate(
        "same depth",
        (0.6, 0.6) if under else (0.3, 0.3),
        (-6, 2) if under else (8, -2),
        textcoords="offset points",
        ha="right" if under else "left",
        va="bottom" if under else "top",
        color=LIGHT["muted"],
        fontsize=FONT_PX - 1,
    )
    draw_lines(above, [Line("", depth, matched, nothing, nothing, part.hue)])
    above.set_ylim(-0.05, 1.05)
    above.set_yticks([0, 0.5, 1])
    above.set_ylabel("depth of the\nbest match")
    line = Line("", depth, value, nothing, nothing, part.hue, 2, 2)
    draw_lines(below, [line])
    level = part.attr("baseline_line", None)
    below.set_ylim(*limits([line], [0.0] if level is None else [0.0, float(level)]))
    if level is not None:
        reference_line(below, float(level), str(part.attr("baseline_label")))
    below.set_ylabel(fold(part.name, 22))
    depth_axis(below, fold(f"Depth in {x}", 40))
    sheet.align_ylabels([above, below])


def _takeaway(parts: Sequence[Part]) -> str:
    """How alike first and last sites are, and where the best matches across models lie."""
    within = [part for part in parts if part.defined and len(part.models) == 1]
    across = [part for part in parts if part.defined and len(part.models) == 2]
    name = sentence(parts[0].name)
    found = [(part.model, *_thirds(part)) for part in within]
    lead = ""
    if found:
        far = listing([f"{number(far)} in {model}" for model, far, _ in found])
        near = listing([f"{number(near)} in {model}" for model, _, near in found])
        lead = f"{name}, mean between the first and the last third of the sites: {far}; "
        lead += f"between neighbours: {near}."
    said = [text for text in map(_match, across) if text]
    return "\n".join([lead, *said] if lead else said) or NOTHING


def _thirds(part: Part) -> tuple[float, float]:
    """Mean similarity of the first with the last third of the sites, and of neighbouring sites."""
    values = np.asarray(part.array.transpose("condition", "site_x", "site_y").values[0], np.float64)
    third = max(1, len(values) // 3)
    near = np.array([values[i, i + 1] for i in range(min(values.shape) - 1)])
    return mean(values[:third, -third:]), mean(near)


def _match(part: Part) -> str:
    """Where in y the sites of x find their best match."""
    x, y = part.models
    depth, matched, value = _best_match(part)
    if not np.isfinite(value).any():
        return ""
    early, late = depth <= 1 / 3, depth > 2 / 3
    early = early if early.any() else depth == depth.min()
    late = late if late.any() else depth == depth.max()
    first, last = mean(value[early]), mean(value[late])
    verb = "falls" if last < first else "rises"
    places = [number(mean(matched[part_]), 2) for part_ in (early, late)]
    return (
        f"The first third of {x} is most like {y} at depth {places[0]} (mean), the last third at {places[1]}"
        f"; the best match {verb} from {number(first)} to {number(last)}."
    )
