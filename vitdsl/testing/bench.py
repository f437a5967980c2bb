"""A small model on a bench: its lanes laid and read at every tensor, for the laws of ablations (`ablation`)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Lane, Operation, Place, Rewrite, Rewriter
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.propagate import VALUE
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.metrics._base import Seen
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.models.preprocessing import preprocessing
from vitdsl.runtime.plan.lanes import rewriting

BASELINE, EDITED = "baseline", "edited"
ANYWHERE = Site("", "", (), "other", 0.0)
Values = dict[fx.Node, Tensor]


@dataclass(frozen=True)
class Bench:
    """A model with weights, what can be named in it, some images, and every tensor of it that is intact."""

    sites: Sites
    images: Tensor
    intact: Values

    @classmethod
    def of(cls, entry: Model, folder: Path, seed: int) -> "Bench":
        """Build a model; parameters that start at zero, behind which nothing would change, are drawn."""
        module, empty = load(entry, seed=seed, folder=folder).module, skeleton(entry)
        generator = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            if not parameter.any():
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
        size = preprocessing(module, entry).input_size
        images = torch.randn(2, *size, generator=generator)
        sites = same_sites(module, sites_of(empty, size))
        return cls(sites, images, cls(sites, images, {}).read([Lane(BASELINE)])[BASELINE])

    def read(
        self, lanes: Sequence[Lane], *, times: int = 1, nodes: Collection[fx.Node] | None = None
    ) -> dict[str, Values]:
        """All tensors of the model, or those of some nodes, in lanes of one graph, the last of several times."""
        taps = {
            node: Tap((node,), Reducer(_kept), ANYWHERE)
            for node in (self.sites.traced.graph.nodes if nodes is None else nodes)
            if node.op != "output" and isinstance(node.meta.get(VALUE), Tensor)
        }
        merged = merge(
            self.sites.model,
            self.sites.traced.graph,
            lanes,
            {lane.name: list(taps.values()) for lane in lanes},
        )
        with torch.inference_mode():
            for _ in range(times):
                found = merged.module(self.images.clone())
        return {
            lane.name: {node: found[merged.slots[lane.name, tap]][0] for node, tap in taps.items()}
            for lane in lanes
        }

    def rewrite(self, kind: Ablation, place: Place) -> Rewrite:
        """What an ablation does at a place, its fit made on the bench's images in the intact model."""
        fit, site = kind.fit(), place.site
        if fit is None or site is None:
            return rewriting(kind, place)
        reducer = fit.reducer()
        small = reducer.function(self.intact[place.node], site=site, **dict(reducer.constants))
        seen = Seen([small if isinstance(small, tuple) else (small,)])
        sums = {name: value.cpu().numpy() for name, value in fit.observe(seen).items()}
        (constants,) = fit.finish(sums, [site])
        return rewriting(kind, place, [torch.from_numpy(constant) for constant in constants])

    def at_place(self, place: Place, rewrites: Sequence[Rewrite]) -> Tensor:
        """The value at a place after some edits there: what one more edit sees."""
        seen: list[Tensor] = []

        def see(tensor: Tensor) -> Tensor:
            seen.append(tensor.clone())
            return tensor

        def last(build: Rewriter) -> object:
            return build.call(Operation(see), build.before)

        lane = Lane(EDITED, tuple((place, rewrite) for rewrite in (*rewrites, last)))
        self.read([lane], nodes=place.readers or (place.node,))
        return seen[-1]

    def by_hand(self, place: Place, rewrite: Rewrite, before: Tensor) -> Tensor:
        """What a rewrite makes of a marked value, its operations applied at once, without a graph.

        Args:
            place: Where it acts.
            rewrite: What it does.
            before: The intact value.
        """
        around = self.read([Lane(EDITED, ((place, marked),))])[EDITED]
        with torch.inference_mode():
            result = rewrite(_ByHand(mark(before), around | {place.node: mark(before)}))
        assert isinstance(result, Tensor), f"it gave {type(result).__name__}, not a value of `build`"
        return result

    def behind(self, place: Place) -> set[fx.Node]:
        """The nodes whose values may change with a place."""
        found = set(place.readers or {place.node})
        for node in self.sites.traced.graph.nodes:
            if not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found & set(self.intact)


def mark(tensor: Tensor) -> Tensor:
    """An edit that no other undoes or repeats by chance."""
    return tensor * 2 + 1


def marked(build: Rewriter) -> object:
    """The rewrite of `mark`."""
    return build.call(Operation(mark), build.before)


class _ByHand:
    """A rewriter whose values are tensors."""

    def __init__(self, before: Tensor, around: Mapping[fx.Node, Tensor]) -> None:
        self.before, self._around = before, around

    @property
    def nothing(self) -> Tensor:
        return torch.zeros_like(self.before)

    def value(self, node: fx.Node) -> Tensor:
        return self._around[node].clone()

    def ahead(self, node: fx.Node) -> Tensor:
        return self._around[node].clone()

    def constant(self, tensor: Tensor) -> Tensor:
        return tensor

    def call(self, operation: Operation, *values: Any) -> Tensor:
        return operation.function(*values, **dict(operation.constants))


def _kept(tensor: Tensor, *, site: Site) -> Tensor:
    return tensor.clone()
