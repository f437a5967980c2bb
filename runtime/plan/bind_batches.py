"""Batches meet what acts or is estimated within them: none parts images that belong together, or is too small.

Owns the errors. Does not own how a stream is cut into batches (`data.stream`), or which images belong together (each
ablation's file).
"""

from collections.abc import Mapping, Sequence

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.stream import rows_of_batch
from vitdsl.runtime.plan.plan import Group, Plan, lanes_of


def cut_apart(loaded: Loaded, plan: Plan, images: Mapping[str, int]) -> list[Diagnostic]:
    """Streams whose batches part images that act on one another under some condition.

    Args:
        loaded: The study.
        plan: Its plan, with its passes.
        images: The number of images by stream, where it is known.
    """
    problems = []
    for one in plan.passes:
        entry, name = plan.data[one.data], one.data.partition("[")[0]
        count = images.get(one.data) or entry.images
        used = {
            (model, lane) for group in one.groups for model in group.models for lane in lanes_of(group, model)
        }
        for model, lane in sorted(used):
            condition = plan.condition(model, lane)
            for edit in (*plan.models[model].always, *condition.edits):
                why = _parted(edit.kind.together(), entry, count)
                if why is None:
                    continue
                said, instead = why
                about = ((("ablations", condition.ablation), "the ablation"),) if condition.ablation else ()
                field = next(
                    f for f in ("images", "batch", "source") if loaded.source.exists(("data", name, f))
                )
                problems.append(
                    loaded.problem(
                        "VD302",
                        ("data", name, field),
                        f"`{edit.kind.name}` acts on {said}",
                        label="parts images that belong together",
                        help=(instead,),
                        secondary_paths=about,
                    )
                )
    return list(dict.fromkeys(problems))


def small_batches(loaded: Loaded, groups: Sequence[Group], data: Mapping[str, Data]) -> list[Diagnostic]:
    """Streams whose batches are too small for what a metric estimates from one batch.

    Args:
        loaded: The study.
        groups: What will be measured.
        data: The streams by name, sweeps resolved.
    """
    problems = []
    for group in groups:
        needed, entry = group.kind.smallest_batch, data[group.data]
        if min(entry.batch, entry.images or entry.batch) < needed:
            name = group.data.partition("[")[0]
            field = "batch" if entry.batch < needed else "images"
            problems.append(
                loaded.problem(
                    "VD302",
                    ("data", name, field),
                    f"`{group.kind.name}` needs batches of at least {needed} images",
                    label="too few",
                    help=("write `batch: 32` or so; larger batches make single cells less noisy",),
                    secondary_paths=((("metrics", group.metric), "the metric"),),
                )
            )
    return list(dict.fromkeys(problems))


def _parted(size: int, entry: Data, count: int | None) -> tuple[str, str] | None:
    """Why batches part groups of so many images, and what to write instead; None where they do not.

    A group begins at every multiple of its size in the stream; the last may have fewer images, or one more.
    """
    if size == 1:
        return None
    said = f"groups of {size} images"
    if count is None:
        return f"{said}, and it is not known how many images there are", "say how many with `images:`"
    if count == 1:
        return f"{said}, and there is one image", "take more images"
    batches = -(-count // entry.batch)
    if all(rows_of_batch(count, batches, batch).start % size == 0 for batch in range(batches)):
        return None
    sizes = sorted({len(rows_of_batch(count, batches, batch)) for batch in range(batches)})
    batch = max(size, entry.batch // size * size)
    total = max(1, count // batch) * batch
    return (
        f"{said}, and {count} images make {batches} batches of {' or '.join(map(str, sizes))}",
        f"write `batch: {batch}` and `images: {total}`, or so",
    )
