"""What the reader of a run should know of its images: copies, order, how few, and how small the batches.

Owns when each of these is worth a warning, and its words: what was found, in numbers, what it does, what to write
instead. A warning is said once for a data entry, for the variant of a sweep where it is worst. Does not own what stops
a run (`vitdsl.runtime.data`), or how warnings are shown.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from vitdsl.dsl.text import counted, shown, ticked
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.plan.few import FEWEST, few_images
from vitdsl.runtime.plan.plan import Group, Plan

SMALLEST = 32
"""Images in a batch below which a comparison within batches is inefficient."""
SORTED = 0.5
"""Share of the runs of one label that a shuffled order would have, below which an order is sorted."""
MOST_SETS, MOST_IDS = 3, 4

Found = tuple[float, str]
"""How bad it is, and the warning."""
Look = Callable[[str, Stream, list[Group]], Found | None]


def image_warnings(plan: Plan, streams: Mapping[str, Stream]) -> tuple[str, ...]:
    """The warnings of all streams that are measured; none of an ordinary study.

    Args:
        plan: The plan.
        streams: Its streams by name; no image is decoded that was not already.
    """
    looks: tuple[Look, ...] = (_copies, _in_order_of_class, _few, _small_batches)
    return tuple(text for look in looks for text in _said(plan, streams, look))


def _said(plan: Plan, streams: Mapping[str, Stream], look: Look) -> Iterator[str]:
    """What one look finds, once for each data entry."""
    by_entry: dict[str, list[Found]] = {}
    for name, stream in streams.items():
        groups = plan.groups_on(name)
        found = look(name, stream, groups) if groups else None
        if found is not None:
            by_entry.setdefault(name.partition("[")[0], []).append(found)
    for entry, every in by_entry.items():
        more = f" The same holds for {counted(len(every) - 1, 'other variant')} of `{entry}`."
        yield max(every)[1] + (more if len(every) > 1 else "")


def _copies(name: str, stream: Stream, groups: list[Group]) -> Found | None:
    """Images of equal content."""
    if stream.source.drawn:
        return None
    same: dict[str, list[int]] = {}
    for block in range(stream.image_blocks):
        for row, (content, _) in zip(stream.rows_of_block(block), stream.contents(block), strict=True):
            same.setdefault(str(content), []).append(row)
    sets = [rows for rows in same.values() if len(rows) > 1]
    if not sets:
        return None
    copies = sum(len(rows) - 1 for rows in sets)
    which = "; ".join(_equal(stream, rows) for rows in sets[:MOST_SETS])
    more = f"; and {counted(len(sets) - MOST_SETS, 'more set')}" if len(sets) > MOST_SETS else ""
    are = "is a copy" if copies == 1 else "are copies"
    return copies, (
        f"{copies:,} of the {counted(stream.n, 'image')} of `{name}` {are} of another one ({which}{more}). A copy "
        "counts as one more image, so that every interval is too narrow. Remove the copies: `images.csv` in the run "
        "folder has the hash of each image."
    )


def _equal(stream: Stream, rows: list[int]) -> str:
    ids = " = ".join(f"`{shown(stream.id(row))}`" for row in rows[:MOST_IDS])
    return ids + (f" = {len(rows) - MOST_IDS} more" if len(rows) > MOST_IDS else "")


def _in_order_of_class(name: str, stream: Stream, groups: list[Group]) -> Found | None:
    """The order of a source that is sorted by class."""
    if stream.data.shuffle or not stream.labelled or stream.classes is None:
        return None
    labels = [stream.label(row) for row in range(stream.n)]
    counts, classes, n = Counter(labels), len(stream.classes), stream.n
    runs = [len(list(same)) for _, same in groupby(labels)]
    pairs = sum(count * (count - 1) for count in counts.values())
    shuffled = 1 + (n - 1) * (1 - pairs / max(1, n * (n - 1)))
    cut_off = len(counts) == 1 < classes and n < len(stream.source)
    if not cut_off and len(runs) > SORTED * shuffled:
        return None
    size = min(stream.data.batch, n)
    batches = [labels[start : start + size] for start in range(0, n, size)]
    seen = sum(len(set(batch)) for batch in batches) / len(batches)
    return n / len(runs), (
        f"`{name}` is read in the order of its source (`shuffle: false`), which is sorted by class: its "
        f"{counted(n, 'image')} are {counted(len(runs), 'run')} of one label, the longest of {max(runs):,}; shuffled, "
        f"there would be about {shuffled:,.0f}. A batch of {size} holds {seen:.1f} classes on average, and what is "
        f"compared within batches sees no more; the stream has {len(counts):,} of all {classes:,}. Leave "
        "`shuffle: false` out."
    )


def _few(name: str, stream: Stream, groups: list[Group]) -> Found | None:
    """So few images that intervals rest on almost nothing."""
    said = few_images(name, stream.n, more=stream.source.endless or len(stream.source) >= FEWEST)
    return None if said is None else (-stream.n, said)


def _small_batches(name: str, stream: Stream, groups: list[Group]) -> Found | None:
    """Batches too small for what is compared within them."""
    size = min(stream.data.batch, stream.n)
    within = {group.metric: group.kind.name for group in groups if group.kind.smallest_batch > 1}
    if not within or size >= SMALLEST:
        return None
    kinds = ", ".join(dict.fromkeys(within.values()))
    compare = "compares" if len(within) == 1 else "compare"
    instead = f"Write `batch: {SMALLEST}` or more"
    if stream.n < SMALLEST:
        instead = f"Take {SMALLEST} images or more, and write `batch: {SMALLEST}` or more"
    return -size, (
        f"{ticked(list(within))} ({kinds}) {compare} images within a batch, and a batch of `{name}` has {size}: below "
        f"{SMALLEST} such an estimate is inefficient, and its intervals are wide. {instead}."
    )
