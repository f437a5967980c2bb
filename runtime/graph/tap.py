"""Taps: reading tensors of a graph, reduced at once inside it; a tap never changes what it reads."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx, nn

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.rounding import products_in


@dataclass(frozen=True)
class Reducer:
    """`function(*tensors, site=site, **constants)`, pure, from a site's tensors to small ones.

    The function sees batch-first tensors in the model's dtype and must compute in float32 or better. The site that it
    sees has no name: equal tensors are reduced once, whatever they are called.
    """

    function: Callable[..., Tensor | tuple[Tensor, ...]]
    constants: tuple[tuple[str, Hashable], ...] = ()


@dataclass(frozen=True)
class Tap:
    """A reduction of some tensors of a site; equal taps on equal tensors are computed once."""

    nodes: tuple[fx.Node, ...]
    reducer: Reducer
    site: Site


class Reduce(nn.Module):
    """A tap in the graph; runs in float32 or better, whatever the model computes in.

    What it gives never shares memory with what it reads: a few small numbers do not keep a whole activation, which
    may then be written over.
    """

    def __init__(self, reducer: Reducer, site: Site) -> None:
        super().__init__()
        self.reducer, self.site = reducer, site

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Reduce a site's tensors `[batch, ...]` to small ones; weights in any shape are seen as those of heads."""
        first, *others = tensors
        if self.site.layout == "attention" and tuple(first.shape[1:]) != self.site.shape:
            tensors = (first.reshape(-1, *self.site.shape), *others)
        with _uncast(first), _whole(first):
            result = self.reducer.function(*tensors, site=self.site, **dict(self.reducer.constants))
        results = result if isinstance(result, tuple) else (result,)
        return tuple(one.clone() if any(map(partial(_shares, one), tensors)) else one for one in results)


def _uncast(tensor: Tensor) -> AbstractContextManager[object]:
    """Without autocast, which there is none of for tensors without data."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def _whole(tensor: Tensor) -> AbstractContextManager[None]:
    """Products in all bits of float32 where the model may be computed otherwise."""
    return products_in("float32") if tensor.is_cuda else nullcontext()


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
