"""Streams of made-up tensors: a metric fed as a run feeds it, without a model.

A `Stream` holds whole tensors, all images at once; for a metric that differentiates, the images and functions of them
instead. `walk` cuts them into batches and image blocks, reduces and observes each, and adds the sums; what a metric
must know first is `learned` from the images that it names, or from these. Does not own what must hold then (`metric`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array, Fit, Metric, Observer, Reads, Seen
from vitdsl.runtime.plan.passes import fit_of
from vitdsl.runtime.plan.plan import Group, Kind, Reading, View
from vitdsl.runtime.run.fits import constants_of
from vitdsl.runtime.run.statistics import Statistics, estimate
from vitdsl.testing.law import hold, law

Tensors = Sequence[tuple[Tensor | Callable[[Tensor], Tensor], ...]]
"""For each site, the tensors `[image, ...]`, or functions from images `[image, 3, row, col]` to them."""


@dataclass(frozen=True)
class Stream:
    """All images of a stream.

    Attributes:
        views: For each view (condition), the tensors by site of x and of y, `[image, ...]`, a tuple for each site
            with one tensor for each role that the metric reads. Without y (None), y is x. For a metric of models, y
            is the intact model's. Where the stream has pixels, a tensor may be a function of them.
        labels: `[image]`, for a metric that needs them.
        pixels: The images `[image, 3, row, col]`, for a metric that reads them; where it differentiates
            (`gradients`), all tensors must be functions of them.
        classes: How many classes the labels are of; None: as many as they show.
        train: The images that the metric's fit is made on, with the same views; None: these.
        fitted: The constants of the metric's fit under each view, which `learned` adds.
    """

    views: Mapping[str, tuple[Tensors, Tensors | None]]
    labels: Tensor | None = None
    pixels: Tensor | None = None
    classes: int | None = None
    train: "Stream | None" = None
    fitted: Mapping[str, Reads] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images."""
        if self.pixels is not None:
            return len(self.pixels)
        first = next(iter(self.views.values()))[0][0][0]
        assert isinstance(first, Tensor), "a function of pixels that are not there"
        return len(first)

    def cut(self, kind: Observer, tensors: Tensors, part: slice) -> list[tuple[Tensor, ...]]:
        """Some images of some tensors as a metric's reducer gets them, with the images behind them where it asks.

        Call it where gradients are on, if the metric differentiates.
        """
        images = torch.empty(0)
        if self.pixels is not None:
            images = self.pixels[part].clone().requires_grad_(kind.gradients)
        behind = (images,) if kind.inputs.image else ()
        return [
            (*(one[part].clone() if isinstance(one, Tensor) else one(images) for one in some), *behind)
            for some in tensors
        ]


def tokens_site(name: str, count: int, width: int, *, prefix: int = 1, **fields: Any) -> Site:
    """A site of a ViT, with a square grid unless `grid` says otherwise.

    Args:
        name: Its path, such as `blocks.0.mlp`.
        count: Number of tokens, prefix tokens included.
        width: Features of a token.
        prefix: Number of prefix tokens; the first is a class token unless `class_token` says otherwise.
        **fields: Other fields of `Site`.
    """
    side = round((count - prefix) ** 0.5)
    settings: dict[str, Any] = {
        "grid": (side, side),
        "patch": (4, 4),
        "class_token": prefix > 0,
        "depth": 0.5,
    } | fields
    return Site(name, "output", (count, width), "tokens", prefix=prefix, **settings)


def vector_site(name: str = "", width: int = 10, role: str = "output") -> Site:
    """A site with one vector for each image, such as the model's own output (the name "")."""
    return Site(name, role, (width,), "vector", 1.0)


def group_of(
    kind: Metric,
    x: Sequence[Site],
    y: Sequence[Site] | None = None,
    *,
    views: Sequence[str] = ("baseline",),
    paired: bool = False,
) -> Group:
    """A metric with its sites and conditions, as a plan holds it.

    Args:
        kind: The metric with its parameters.
        x: What is read.
        y: What it is compared with, where that is not x.
        views: Names of the conditions, as in the stream.
        paired: Whether sites are compared one by one with the intact model's (`against: baseline`).
    """
    reading = Reading("model", tuple(x), kind.inputs.roles)
    other = reading if y is None else Reading("model" if paired else "other", tuple(y), kind.inputs.roles)
    entries = tuple(View(view, view, "baseline" if paired else view, "model") for view in views)
    return Group("metric", "metric/model", kind, reading, other, entries, paired, "probe")


def empty_frame(group: Group) -> xr.Dataset:
    """Labels and NaN, as a plan lays them out."""
    sizes = {
        "condition": len(group.views),
        "site": len(group.x.sites),
        "site_x": len(group.x.sites),
        "site_y": len(group.y.sites),
    } | {dim: len(labels) for dim, labels in group.kind.coordinates(group.x.sites).items()}
    values = group.kind.values(paired=group.paired)
    return xr.Dataset(
        {
            name: (
                ("condition", *value.dims),
                np.full([sizes[dim] for dim in ("condition", *value.dims)], np.nan),
                value.attributes(),
            )
            for name, value in values.items()
        }
    )


def reduced(
    kind: Observer, given: Sequence[tuple[Tensor, ...]], sites: Sequence[Site], *, of_y: bool = False
) -> Reads:
    """What a metric's reducer makes of some tensors; as in a graph, it does not see the names of sites."""
    reducer = kind.reducer_y() if of_y else kind.reducer()
    found = [
        reducer.function(*some, site=site.nameless(), **dict(reducer.constants))
        for some, site in zip(given, sites, strict=True)
    ]
    reads = [one if isinstance(one, tuple) else (one,) for one in found]
    with law("no graph kept"):
        held = any(tensor.requires_grad for read in reads for tensor in read)
        hold(not held, "what reduce gives has gradients of its own: it keeps the model's activations alive")
    return reads


def cuts_of(images: int, batch: int) -> list[slice]:
    """Batches of one size; the last may be short."""
    return [slice(start, min(start + batch, images)) for start in range(0, images, batch)]


def learned(group: Group[Observer], stream: Stream, batch: int) -> Stream:
    """A stream with the constants of the metric's fit, and of its fit's fit, made on `train` in batches of one size."""
    fit = fit_of(group)
    if fit is None or stream.fitted:
        return stream
    train = training(fit, stream, batch)
    cuts = cuts_of(train.images, batch)
    own = constants_of(walk(fit, train, cuts, [0] * len(cuts), 1))
    nothing: Reads = [()] * len(fit.x.sites)
    return replace(
        stream,
        fitted={
            view: [
                (*before, *after)
                for before, after in zip(train.fitted.get(view, nothing), constants, strict=True)
            ]
            for view, constants in own.items()
        },
    )


def training(fit: Group[Fit], stream: Stream, batch: int) -> Stream:
    """The stream that a fit is made on, with the constants of the fit's own fit."""
    train = stream.train or stream
    views = {view: (left, None) for view, (left, _) in train.views.items()}
    return learned(fit, replace(train, views=views, fitted={}), batch)


def _nth(labels: Tensor) -> Tensor:
    """For each label, how often it came before, `[image]`."""
    return (labels[:, None] == labels).tril(-1).sum(1)


def observed(group: Group[Observer], stream: Stream, view: str, cut: slice) -> dict[str, Tensor]:
    """The statistics of one batch under one condition."""
    kind = group.kind
    left, right = stream.views[view]
    with torch.set_grad_enabled(kind.gradients):
        x = reduced(kind, stream.cut(kind, left, cut), group.x.sites)
        y = x if right is None else reduced(kind, stream.cut(kind, right, cut), group.y.sites, of_y=True)
    of_models = kind.inputs.of == "models"
    rows = range(cut.start, cut.stop)
    seen = Seen(
        x,
        None if of_models else y,
        y if of_models else None,
        rows=rows,
        paired=group.paired,
        fitted=stream.fitted.get(view, ()),
    )
    if kind.labels and stream.labels is not None:
        classes = int(stream.labels.max()) + 1 if stream.classes is None else stream.classes
        seen = replace(seen, labels=stream.labels[cut], nth=_nth(stream.labels)[cut], classes=classes)
    found = kind.observe(seen)
    with law("float64 sums"):
        for name, value in found.items():
            hold(value.dtype == torch.float64, f"`{name}` is {value.dtype}")
    return found


def walk(
    group: Group[Kind], stream: Stream, cuts: Sequence[slice], of: Sequence[int], blocks: int
) -> Statistics[Kind]:
    """The sums of some batches, the i-th in image block `of[i]`; the stream has `learned` what they need."""
    statistics = Statistics(group, blocks)
    for cut, block in zip(cuts, of, strict=True):
        statistics.saw(block, range(cut.start, cut.stop))
        for view in stream.views:
            statistics.add(view, block, observed(group, stream, view, cut))
    return statistics


def values_of(group: Group, statistics: Statistics) -> dict[str, Array]:
    """The estimates of some sums, `[condition, ...]`."""
    with np.errstate(divide="ignore", invalid="ignore"):  # all images may lie in the block that is left out
        found = estimate(statistics, empty_frame(group))
    return {name: found[name].values for name in group.kind.values(paired=group.paired)}


def run(group: Group, stream: Stream, batch: int, blocks: int = 1) -> xr.Dataset:
    """Estimates, intervals, replicates and reasons, as a run gives them.

    Args:
        group: The metric and its sites.
        stream: The images.
        batch: Images in a batch.
        blocks: Image blocks; there are intervals from two on.
    """
    stream, cuts = learned(group, stream, batch), cuts_of(stream.images, batch)
    of = [index * blocks // len(cuts) for index in range(len(cuts))]
    return estimate(walk(group, stream, cuts, of, blocks), empty_frame(group))
