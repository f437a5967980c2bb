"""Where a model is looked at: its blocks or chosen layers, its attention, and why something is not shown.

Owns the choice of sites for `vitdsl look`. Does not own the study around them (`looking`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.selectors import SelectorError, check, nearest
from vitdsl.dsl.text import did_you_mean, shown, ticked
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.metrics._gram import SMALLEST_BATCH
from vitdsl.runtime.metrics.answers import Answers
from vitdsl.runtime.metrics.attention_map import AttentionMap
from vitdsl.runtime.metrics.attention_rollout import AttentionRollout
from vitdsl.runtime.metrics.token_norms import TokenNorms
from vitdsl.runtime.plan.matching import chosen

ANSWERS = 5
FIELDS = 4
"""Receptive fields are measured at so many layers at most: each costs a backward pass for each channel."""
STEPS = 12
"""Of a model without residual units, so many modules are looked at."""


@dataclass(frozen=True)
class Places:
    """Where a model is looked at, and why where not.

    Attributes:
        layers: Sites whose norms are shown.
        compared: Those of them that are compared with one another; fewer than two: none.
        fields: Those of them whose receptive fields are shown.
        attention: Attention modules whose maps are shown.
        rollout: Whether attention is followed through all blocks.
        grid: Rows and columns that layers are averaged to before they are compared; None leaves them.
        answers: How many classes are given; 0 where there is no head.
        absent: What is not shown, with the reason.
    """

    layers: tuple[str, ...]
    compared: tuple[str, ...]
    fields: tuple[str, ...]
    attention: tuple[str, ...]
    rollout: bool
    grid: tuple[int, int] | None
    answers: int
    absent: dict[str, str]


def places_of(sites: Sites, at: Sequence[str], *, classes: int) -> Places:
    """Where a model is looked at.

    Args:
        sites: Everything that can be named in it.
        at: Selectors of layers; none takes its blocks.
        classes: How many classes its head has; 0 where it has none.

    Raises:
        StudyError: A selector matches nothing (VD210), or no layer has a place for each part of the image (VD240).
    """
    norms = TokenNorms(TokenNorms.Params.model_validate({}))
    names = selected(sites, at) if at else blocks(sites) or _steps(sites)
    every = {name: sites.site(name, "output") for name in names}
    layers = {name: site for name, site in every.items() if norms.refuse(site) is None}
    if not layers:
        why = (
            norms.refuse(next(iter(every.values())))
            if every
            else "none has a place for each part of the image"
        )
        raise StudyError(
            Diagnostic(
                "VD240",
                f"there is no layer to look at: {why}",
                help=("name layers that have a place for each part of the image with `--at`",
                      "`vitdsl sites ARCH` lists those of an architecture"),
            )
        )  # fmt: skip
    grids = {
        name: site.grid for name, site in layers.items() if site.grid and prod(site.grid) >= SMALLEST_BATCH
    }
    coarsest = tuple(min(sizes) for sizes in zip(*grids.values(), strict=True)) if grids else ()
    absent: dict[str, str] = {}
    attention, whole = _attention(sites, at, absent)
    return Places(
        tuple(layers),
        tuple(grids),
        tuple(evenly(list(layers), FIELDS)),
        attention,
        whole,
        (coarsest[0], coarsest[1]) if len(set(grids.values())) > 1 else None,
        _answers(sites, classes, absent),
        absent,
    )


def _answers(sites: Sites, classes: int, absent: dict[str, str]) -> int:
    output, count = sites.site("", "output"), min(ANSWERS, classes)
    if not count:
        absent["answers"] = "This model has no head, so that it gives features and no answers."
        return 0
    why = Answers(Answers.Params(images=1, classes=count)).refuse(output)
    if why is None and output.shape[-1] != classes:
        why = f"its output has {output.shape[-1]} numbers, and its head {classes} classes"
    if why is not None:
        absent["answers"] = f"No answers: {why}."
        return 0
    return count


def _attention(sites: Sites, at: Sequence[str], absent: dict[str, str]) -> tuple[tuple[str, ...], bool]:
    """The attention modules that are shown, and whether a rollout through all of them is defined."""
    names = sites.names("attention")
    if not names:
        absent["attention"] = (
            "This model has no attention, so that there are no attention maps and no rollout."
        )
        return (), False
    every = [sites.site(name, "attention") for name in names]
    maps, rollout = (kind(kind.Params.model_validate({})) for kind in (AttentionMap, AttentionRollout))
    refused = {site.name: why for site in every if (why := maps.refuse(site)) is not None}
    fine = [site for site in every if site.name not in refused]
    if not fine:
        absent["attention"] = f"No attention maps and no rollout: {next(iter(refused.values()))}."
        return (), False
    last = fine[-1]
    shown_ = [site.name for site in fine if _geometry(site) == _geometry(last)]
    near = [name for name in shown_ if name in chosen(sites, "attention", list(at))] if at else []
    why = next(filter(None, map(rollout.refuse, every)), None)
    if why is None and len(shown_) < len(every):
        why = "its blocks have different patch grids"
    if why is not None:
        absent["rollout"] = f"No attention rollout: {why}."
    return tuple(near or shown_), why is None


def _geometry(site: Site) -> Any:
    return site.grid, site.prefix, site.shape[-1]


def blocks(sites: Sites) -> list[str]:
    """The modules of which a model is a chain: residual units, or the blocks that hold an attention and an MLP."""
    known = set(sites.names("output"))
    found = dict.fromkeys(
        unit if unit.rpartition(".")[2].isdecimal() else unit.rpartition(".")[0] or unit
        for unit in sites.names("stream")
    )
    return [name for name in found if name in known]


def _steps(sites: Sites) -> list[str]:
    """Of a model without residual units: some of its modules that have a place for each part of the image."""
    norms = TokenNorms(TokenNorms.Params.model_validate({}))
    names = sites.names("output")
    return evenly([name for name in names if norms.refuse(sites.site(name, "output")) is None], STEPS)


def selected(sites: Sites, at: Sequence[str]) -> list[str]:
    """The outputs that selectors pick.

    Raises:
        StudyError: One of them cannot be read (VD211) or matches nothing (VD210).
    """
    names = sites.names("output")
    try:
        check([*at])
    except SelectorError as error:
        text = " ".join(at)
        raise StudyError(Diagnostic("VD211", f"`--at {shown(text)}`: {error}", help=(error.hint,))) from error
    for selector in at:
        if not chosen(sites, "output", [selector.removeprefix("!")]):
            near = nearest(selector, names)
            hint = did_you_mean(selector, names) or (f"nearest: {ticked(near)}" if near else "")
            raise StudyError(
                Diagnostic(
                    "VD210",
                    f"`--at {shown(selector)}` matches no site of the model",
                    help=(hint, "`vitdsl sites ARCH` lists the sites of an architecture"),
                )
            )
    return chosen(sites, "output", list(at))


def evenly(names: Sequence[str], most: int) -> list[str]:
    """All of some names, or some evenly spaced, the first and the last among them."""
    if not names:
        return []
    return [names[round(float(i))] for i in np.linspace(0, len(names) - 1, min(len(names), most))]


def centre_of(site: Site) -> tuple[float, float]:
    """The middle of a layer's centre position, to the right and down, in pixels of the model's input."""
    assert site.grid is not None and site.pixels is not None
    down, right = (
        (round(cells // 2 * pixels / cells) + round((cells // 2 + 1) * pixels / cells)) / 2
        for cells, pixels in zip(site.grid, site.pixels, strict=True)
    )
    return right, down
