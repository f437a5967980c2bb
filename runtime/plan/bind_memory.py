"""Whether what a metric keeps of each of so many images, or sums to learn from, fits in memory.

Does not own how many images there are (`bind_data`).
"""

from collections.abc import Mapping, Sequence

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.runtime.plan.passes import fit_of
from vitdsl.runtime.plan.plan import Group

GIB = 2**30
MOST_ROWS = 4 * GIB
"""Bytes that a metric may keep of a stream, rows and large sums; they are in memory at once when it estimates."""
EXACT = 8
"""Bytes of a kept number, float64."""


def _large_sums(loaded: Loaded, group: Group) -> list[Diagnostic]:
    """A metric whose fit, or the fit of it, sums more numbers than memory should hold."""
    problems = []
    fit = fit_of(group)
    while fit is not None:
        size = EXACT * fit.kind.sum_size(fit.x.sites) * len(fit.views)
        if size > MOST_ROWS:
            problems.append(
                loaded.problem(
                    "VD303",
                    ("metrics", group.metric),
                    f"`{group.kind.name}` would sum {size / GIB:.3g} GiB of numbers to learn from",
                    label=f"at most {MOST_ROWS / GIB:g} GiB are kept",
                    help=("name fewer sites, fewer tokens, or fewer conditions with `under`",),
                )
            )
        fit = fit_of(fit)
    return problems


def large_rows(loaded: Loaded, groups: Sequence[Group], images: Mapping[str, int]) -> list[Diagnostic]:
    """Metrics that keep more numbers than memory should hold: of each image, in large sums, or in what they learn from.

    Args:
        loaded: The study.
        groups: What will be measured.
        images: The number of images by stream, where it is known.
    """
    problems = [problem for group in groups for problem in _large_sums(loaded, group)]
    for group in groups:
        data, sums = group.data.partition("[")[0], group.kind.sum_size(group.x.sites)
        of_image = group.kind.rows_of_both(group.x.sites, group.y.sites, paired=group.paired)
        numbers = of_image * images.get(group.data, 0) + sums * loaded.study.data[data].image_blocks
        size = EXACT * numbers * len(group.views)
        if size > MOST_ROWS:
            problems.append(
                loaded.problem(
                    "VD303",
                    ("metrics", group.metric),
                    f"`{group.kind.name}` would keep {size / GIB:.3g} GiB of numbers"
                    + (f" of {images[group.data]} images" if group.data in images else ""),
                    label=f"at most {MOST_ROWS / GIB:g} GiB are kept",
                    help=(
                        f"take fewer {'`image_blocks`' if sums else '`images`'}, name fewer sites, or fewer conditions "
                        "with `under`",
                    ),
                    secondary_paths=((("data", data), "these images"),),
                )
            )
    return problems
