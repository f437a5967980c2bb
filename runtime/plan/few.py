"""Streams of so few images that intervals rest on almost nothing: known before a run, and said of one after it.

Owns when that is so, and its words. Does not own how images make groups (`metrics._groups`).
"""

from vitdsl.dsl.text import counted
from vitdsl.runtime.metrics._groups import GROUPS
from vitdsl.runtime.plan.plan import Plan

FEWEST = 8
"""Images, each in a group of its own, below which an interval is rough."""


def few_images(name: str, images: int, *, more: bool) -> str | None:
    """That a stream has too few images for intervals, and what to write; None where it has enough.

    Args:
        name: The stream.
        images: How many images it has.
        more: Whether its source has enough.
    """
    if images >= FEWEST:
        return None
    instead = f"Write `images: {FEWEST}` or more" if more else "Take a source with more"
    return (
        f"`{name}` has {counted(images, 'image')}, so that intervals come from {counted(images, 'group')} of "
        f"images at most; from fewer than {FEWEST} they are rough. {instead}: {GROUPS} make as many groups as there "
        "can be."
    )


def few_of(plan: Plan) -> list[str]:
    """What `few_images` says of the streams of a plan that are measured, once for each data entry.

    A stream whose study says how many images it takes may have more.
    """
    found: dict[str, str] = {}
    for group in plan.groups:
        count, entry = plan.images.get(group.data), plan.data[group.data]
        said = few_images(group.data, count, more=entry.images is not None) if count is not None else None
        if said is not None:
            found.setdefault(group.data.partition("[")[0], said)
    return list(found.values())
