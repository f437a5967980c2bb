"""The harness never passes a broken kind: each kind here breaks one law, and the error names it.

Longer than 300 lines: one broken kind for each law.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from vitdsl_sample.fade_branch import FadeBranch, scaled
from vitdsl_sample.fade_branch import Params as FadeParams
from vitdsl_sample.gratings import Gratings
from vitdsl_sample.stream_norm import StreamNorm, mean_norm

from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import Item
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Fit, Metric, Seen, Value
from vitdsl.testing import LawBroken

IMAGES = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(0))
SITE = testing.tokens_site("blocks.0.mlp", 5, 3)


def check_norm(kind: type[Metric], any_batches: bool = True, wrong: float = 0.0) -> None:
    wanted = np.linalg.norm(IMAGES.double().numpy(), axis=-1).mean() + wrong
    group = testing.group_of(kind(kind.Params()), [SITE])
    stream = testing.Stream({"baseline": ([(IMAGES,)], None)})
    testing.check_metric(group, stream, {"norm": wanted}, batch=4, any_batches=any_batches, tolerance=1e-6)


class Norm(StreamNorm):
    """Each of its broken forms is explained by the page of the metric that it comes from."""

    def __init_subclass__(cls) -> None:
        cls.__module__ = StreamNorm.__module__


class ChangesWhatItReads(Norm):
    def reducer(self) -> Reducer:
        return Reducer(normalising)


def normalising(stream: Tensor, *, site: Site) -> Tensor:
    found = mean_norm(stream, site=site)
    stream /= 2
    return found


class KeepsEveryImage(Norm):
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        rows = torch.zeros(1, seen.rows.stop, dtype=torch.float64)
        rows[:, seen.rows.start :] = seen.x[0][0]
        return {"rows": rows}


class SumsInFloat32(Norm):
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        return {name: value.float() for name, value in super().observe(seen).items()}


class SumsInFloat32AndHidesIt(Norm):
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        norms = torch.stack([reads[0] for reads in seen.x]).float()
        return {"norm": norms.sum(1).double(), "images": torch.tensor(float(norms.shape[1])).double()}


class DependsOnTheOrder(Norm):
    """The first batch that it sees counts twice as much as the one after it, which counts half."""

    last: float = 0.0

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        found = super().observe(seen)
        norm, self.last = found["norm"] + 1e-8 * self.last, float(found["norm"][0])
        return found | {"norm": norm}


class FillsGaps(Norm):
    """Counts more where images are missing before a batch, as where the shards of a run are merged."""

    end = 0

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        found = super().observe(seen)
        gap, self.end = seen.rows.start > self.end > 0, seen.rows.stop
        return found | {"norm": found["norm"] + 1e-8 * gap}


class MeansOfBatches(Norm):
    """Right for equal batches, which is all that one reference sees."""

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        found = super().observe(seen)
        return {"norm": found["norm"] / found["images"], "images": torch.ones((), dtype=torch.float64)}


class Remembers(Norm):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.seen: list[Tensor] = []

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        self.seen.append(seen.x[0][0])
        return super().observe(seen)


class CountsOnOneLeadingAxis(Norm):
    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        return {"norm": statistics["norm"] / statistics["images"].reshape(-1, 1)}


class AveragesOverTheLeadingAxis(Norm):
    """Each condition gets the mean of all: unseen where there is one condition."""

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        found = statistics["norm"] / statistics["images"][..., None]
        return {"norm": np.zeros_like(found) + found.mean()}


class LeavesItsRange(Norm):
    VALUES = {"norm": replace(StreamNorm.VALUES["norm"], range=(0.0, 1.0))}


class MakesNumbersFromNothing(Norm):
    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        return {"norm": statistics["norm"] / np.maximum(statistics["images"][..., None], 1)}


class GivesAnotherValue(Norm):
    def values(self, *, paired: bool) -> Mapping[str, Value]:
        return {**self.VALUES, "extra": self.VALUES["norm"]}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        found = super().estimate(statistics, sites)
        return {**found, "extra": found["norm"]}


class WithoutAPage(StreamNorm):
    """Its page would be the docstring of this file."""


def test_a_metric_that_obeys_passes() -> None:
    check_norm(StreamNorm)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (WithoutAPage, "page"),
        (ChangesWhatItReads, "pure taps"),
        (KeepsEveryImage, "bounded statistics"),
        (SumsInFloat32, "float64 sums"),
        (GivesAnotherValue, "reference"),
        (DependsOnTheOrder, "any order"),
        (FillsGaps, "merging"),
        (MeansOfBatches, "any batches"),
        (SumsInFloat32AndHidesIt, "any batches"),
        (Remembers, "no memory"),
        (CountsOnOneLeadingAxis, "vectorised estimate"),
        (AveragesOverTheLeadingAxis, "vectorised estimate"),
        (LeavesItsRange, "declared range"),
        (MakesNumbersFromNothing, "nothing from nothing"),
    ],
)
def test_a_metric_that_breaks_a_law_is_told_which(kind: type[Metric], law: str) -> None:
    with pytest.raises(LawBroken, match=f"^law `{law}`"):
        check_norm(kind)


class MeanNorm(Fit):
    """The mean norm of other images, and how far from it these lie at most."""

    name = "mean_norm"

    def __init__(self) -> None:
        super().__init__(Entry())

    def reducer(self) -> Reducer:
        return Reducer(mean_norm)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        norms = torch.stack([reads[0].double() for reads in seen.x])
        return {"norm": norms.sum(1), "images": norms.new_tensor(norms.shape[1])}

    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        return [(mean,) for mean in statistics["norm"] / statistics["images"]]

    def shapes(self, site: Site) -> tuple[tuple[int, ...], ...]:
        return ((),)


class SpreadOfNorms(MeanNorm):
    """Needs the mean first: a fit of a fit."""

    name = "spread_of_norms"
    inner: type[Fit] = MeanNorm

    def fit(self) -> Fit:
        return self.inner()  # type: ignore[call-arg]

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        away = torch.stack(
            [(reads[0].double() - mean).abs() for reads, (mean,) in zip(seen.x, seen.fitted, strict=True)]
        )
        return {"norm": away.sum(1), "images": away.new_tensor(away.shape[1])}


class MeanNormOfBatches(MeanNorm):
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        found = super().observe(seen)
        return {"norm": found["norm"] / found["images"], "images": torch.ones((), dtype=torch.float64)}


class SpreadAboutBatches(SpreadOfNorms):
    inner = MeanNormOfBatches


class InSpreads(Norm):
    """How far above the norm of other images these are, in their spread."""

    def fit(self) -> Fit:
        return SpreadOfNorms()

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        found = super().observe(seen)
        mean, spread = torch.stack([torch.stack(known) for known in seen.fitted]).T
        return {"norm": (found["norm"] - found["images"] * mean) / spread, "images": found["images"]}


class InSpreadsAboutBatches(InSpreads):
    def fit(self) -> Fit:
        return SpreadAboutBatches()


def check_in_spreads(kind: type[Metric]) -> float:
    learned, measured = IMAGES / 2, IMAGES
    before, here = (np.linalg.norm(one.double().numpy(), axis=-1).mean(1) for one in (learned, measured))
    wanted = (here.mean() - before.mean()) / np.abs(before - before.mean()).mean()
    train = testing.Stream({"baseline": ([(learned[:7],)], None)})
    whole = testing.Stream({"baseline": ([(learned,)], None)})
    group = testing.group_of(kind(kind.Params()), [SITE])
    stream = testing.Stream({"baseline": ([(measured,)], None)}, train=whole)
    with pytest.raises(LawBroken, match="^law `reference`"):
        testing.check_metric(
            group, replace(stream, train=train), {"norm": wanted}, batch=4, any_batches=True, tolerance=1e-6
        )
    return testing.check_metric(group, stream, {"norm": wanted}, batch=4, any_batches=True, tolerance=1e-4)


def test_a_metric_is_fitted_to_the_images_that_it_learns_from_and_so_is_its_fit() -> None:
    assert check_in_spreads(InSpreads) < 1e-5


def test_a_fit_whose_sums_hang_on_batches_is_told() -> None:
    with pytest.raises(LawBroken, match="^law `sums of fits`"):
        group = testing.group_of(InSpreadsAboutBatches(Entry()), [SITE])
        stream = testing.Stream({"baseline": ([(IMAGES,)], None)})
        testing.check_metric(group, stream, {"norm": 0.0}, batch=5, any_batches=True, tolerance=1.0)


class KeepsGradients(Norm):
    """What it gives holds the model's activations."""

    gradients = True


class GathersGradients(Norm):
    """Each call adds to the gradient of the images."""

    gradients = True
    inputs = replace(StreamNorm.inputs, image=True)

    def reducer(self) -> Reducer:
        return Reducer(gathering)


def gathering(stream: Tensor, images: Tensor, *, site: Site) -> Tensor:
    stream.sum().backward()
    return mean_norm(stream.detach(), site=site)


@pytest.mark.parametrize(
    ("kind", "law"), [(KeepsGradients, "no graph kept"), (GathersGradients, "pure taps")]
)
def test_a_metric_that_differentiates_and_breaks_a_law_is_told_which(kind: type[Metric], law: str) -> None:
    stream = testing.Stream({"baseline": ([(torch.tanh,)], None)}, pixels=IMAGES)
    with pytest.raises(LawBroken, match=f"^law `{law}`"):
        group = testing.group_of(kind(kind.Params()), [SITE])
        testing.check_metric(group, stream, {"norm": 0.0}, batch=4, any_batches=True, tolerance=1.0)


def test_a_metric_with_other_numbers_than_its_reference() -> None:
    with pytest.raises(AssertionError, match="^law `reference`"):
        check_norm(StreamNorm, wrong=1e-3)


class Scale(FadeBranch):
    def __init_subclass__(cls) -> None:
        cls.__module__ = FadeBranch.__module__

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__(FadeParams(factor=factor))
        self.calls = 0


class ChangesWhatItWasGiven(Scale):
    """In place: what the branch adds is changed for the intact model too."""

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        return build.call(Operation(halved), build.before)


def halved(tensor: Tensor) -> Tensor:
    return tensor.mul_(0.5)


class ChangesWhatComesBefore(Scale):
    """In place, in the stream that enters the unit."""

    roles = ("branch",)

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        (other,) = [node for node in next(iter(place.readers)).all_input_nodes if node is not place.node]
        return build.call(Operation(draining), build.before, build.value(other))


def draining(branch: Tensor, stream: Tensor) -> Tensor:
    stream += 1
    return branch * 0.5


class Draws(Scale):
    def rewrite(self, place: Place, build: Rewriter) -> Any:
        return build.call(Operation(noisy), build.before)


def noisy(tensor: Tensor) -> Tensor:
    return tensor + torch.randn_like(tensor)


class Counts(Scale):
    """Another factor each time that a graph is made."""

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        self.calls += 1
        return build.call(Operation(scaled, (("factor", 1 / (1 + self.calls)),)), build.before)


class GivesAnotherShape(Scale):
    def rewrite(self, place: Place, build: Rewriter) -> Any:
        return build.call(Operation(first_image), build.before)


def first_image(tensor: Tensor) -> Tensor:
    return tensor[:1]


class ChangesNothing(Scale):
    def __init__(self) -> None:
        super().__init__(factor=1.0)


class GivesNaN(Scale):
    def rewrite(self, place: Place, build: Rewriter) -> Any:
        return build.call(Operation(root), build.before)


def root(tensor: Tensor) -> Tensor:
    return (-tensor.abs() - 1).sqrt()


class KnowsItsCompany(Scale):
    """Its factor depends on what else is read in the graph, which is none of its business."""

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        others = len(build._values.builder.slots)
        return build.call(Operation(scaled, (("factor", 1 / (2 + others)),)), build.before)


class GivesWay(Scale):
    """Does nothing where another edit was before."""

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        other = str(getattr(build.before, "target", "")).startswith("edit")
        return build.before if other else super().rewrite(place, build)


class MindsTheTokens(Scale):
    """Another factor where tokens are named."""

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        assert place.site is not None
        factor = 0.5 if place.site.tokens == "all" else 0.25
        return build.call(Operation(scaled, (("factor", factor),)), build.before)


class RefusesAll(Scale):
    def refuse(self, site: Site) -> str | None:
        return "it is never right"


class ScaleWithoutAPage(FadeBranch):
    pass


def test_an_ablation_that_obeys_passes() -> None:
    testing.check_ablation(FadeBranch(FadeParams(factor=0.5)))


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (ScaleWithoutAPage(FadeParams(factor=0.5)), "page"),
        (RefusesAll(), "places"),
        (Draws(), "same twice"),
        (Counts(), "same twice"),
        (ChangesNothing(), "something changes"),
        (GivesNaN(), "something changes"),
        (GivesAnotherShape(), "something changes"),
        (ChangesWhatItWasGiven(), "nothing else changes"),
        (ChangesWhatComesBefore(), "nothing else changes"),
        (KnowsItsCompany(), "merged as alone"),
        (GivesWay(), "in order"),
        (MindsTheTokens(), "chosen tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_ablation_that_breaks_a_law_is_told_which(kind: FadeBranch, law: str) -> None:
    with pytest.raises(LawBroken, match=f"^law `{law}` is broken") as caught:
        testing.check_ablation(kind)
    assert law in ("page", "places") or "`blocks." in str(caught.value)


class Drawn(Gratings):
    def __init_subclass__(cls) -> None:
        cls.__module__ = Gratings.__module__

    loads = 0


class NewIds(Drawn):
    def id(self, index: int) -> str:
        return uuid.uuid4().hex


class OneId(Drawn):
    def id(self, index: int) -> str:
        return "image"


class IdsOfThisOpening(Drawn):
    opened = 0

    def __init__(self, params: Any, **where: Any) -> None:
        super().__init__(params, **where)
        type(self).opened += 1
        self.number = type(self).opened

    def id(self, index: int) -> str:
        return f"{self.number}/{index}"


class LabelsBeyond(Drawn):
    def label(self, index: int) -> int:
        return index


class OtherPixels(Drawn):
    """The second time."""

    def load(self, index: int) -> Item:
        self.loads += 1
        found = super().load(index)
        return replace(found, image=Image.eval(found.image, lambda v: v // self.loads))


class OtherHash(Drawn):
    def load(self, index: int) -> Item:
        return replace(super().load(index), sha256=uuid.uuid4().hex)


class OneHash(Drawn):
    def load(self, index: int) -> Item:
        return replace(super().load(index), sha256="0" * 64)


class OtherLabel(Drawn):
    def load(self, index: int) -> Item:
        return replace(super().load(index), label=0)


class Grey(Drawn):
    def load(self, index: int) -> Item:
        found = super().load(index)
        return replace(found, image=found.image.convert("L"))


class Tires(Drawn):
    """Images fade after many were read."""

    def load(self, index: int) -> Item:
        type(self).loads += 1
        found = super().load(index)
        return found if type(self).loads < 70 else replace(found, sha256="f" * 64)


class Empty(Drawn):
    def __len__(self) -> int:
        return 0


class GratingsWithoutAPage(Gratings):
    pass


def check_gratings(kind: type[Gratings]) -> None:
    testing.check_source(kind, {"total": 20, "size": 16}, Path())


def test_a_source_that_obeys_passes() -> None:
    check_gratings(Gratings)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (GratingsWithoutAPage, "page"),
        (Empty, "length"),
        (NewIds, "stable ids"),
        (OneId, "stable ids"),
        (LabelsBeyond, "labels"),
        (OtherLabel, "labels"),
        (OtherPixels, "same image twice"),
        (OtherHash, "same image twice"),
        (Grey, "same image twice"),
        (OneHash, "honest hash"),
        (IdsOfThisOpening, "opening twice"),
        (Tires, "any batches"),
    ],
)
def test_a_source_that_breaks_a_law_is_told_which(kind: type[Gratings], law: str) -> None:
    with pytest.raises(LawBroken, match=f"^law `{law}` is broken"):
        check_gratings(kind)
