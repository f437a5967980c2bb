"""What every tensor of a graph means, followed from the images on while the graph runs without data.

Every operation of PyTorch is seen, also those inside modules that the graph keeps whole. Leaves in `node.meta`: `axes`
(what is known of the node's tensor) and `products` (the products of attention weights and values that it made, with
the softmax that they come from), `sums` (how many sums of tensors of the images a module that is one node has inside).
Does not own the rules (`axis_rules`), or which sites these make (`attention`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from vitdsl.runtime.graph.axes import Axis, Images, Line, features
from vitdsl.runtime.graph.axis_rules import meaning_of
from vitdsl.runtime.graph.calls import Call
from vitdsl.runtime.graph.meaning import VALUED, Meaning, fixed, keys_of, plain, sources_of
from vitdsl.runtime.graph.reading import has_places

AXES = "axes"
PRODUCTS = "products"
SUMS = "sums"
PRODUCT_OPERATIONS = {"mm", "addmm", "bmm", "baddbmm"}


@dataclass(frozen=True)
class Product:
    """Weights times values.

    Attributes:
        source: The number of the softmax.
        softmax: The position of the node that took it.
        values: What the axis of the values means that the keys meet.
        queries: Whether there is a sum for each query, as a matrix product gives; otherwise there is one for all.
    """

    source: int
    softmax: int
    values: Axis
    queries: bool = True


class Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what every tensor means while operations run."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known: Any = WeakTensorKeyDictionary()
        self.softmaxes: list[int] = []
        self.position, self.sums = -1, 0
        self.products: list[Product] = []
        self.batch = images.shape[0]
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.known[tensor] = fixed(tuple(tensor.shape), (name,))
        if images.ndim == 4:
            height, width = images.shape[2:]
            rows, cols = Line(height, "row", Fraction(1)), Line(width, "col", Fraction(1))
            axes = ((Images(self.batch),), features(images.shape[1]), (rows,), (cols,))
            self.known[images] = Meaning(axes)

    def meaning(self, tensor: Tensor) -> Meaning:
        """What is known of a tensor."""
        found: Meaning | None = self.known.get(tensor)
        return fixed(tuple(tensor.shape)) if found is None else found

    @contextmanager
    def at(self, node: fx.Node, position: int) -> Iterator[None]:
        """While a node of the graph runs."""
        self.position, self.products, self.sums = position, [], 0
        yield
        value = node.meta.get("value")
        if isinstance(value, Tensor):
            node.meta[AXES] = self.meaning(value)
        if node.op == "call_module" and self.sums:
            node.meta[SUMS] = self.sums
        if self.products:
            node.meta[PRODUCTS] = tuple(dict.fromkeys(self.products))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what its results mean."""
        kwargs = kwargs or {}
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        name = func._schema.name.partition("::")[2]
        pointwise = torch.Tag.pointwise in func.tags
        source = len(self.softmaxes)
        if name in ("_softmax", "_safe_softmax"):
            self.softmaxes.append(self.position)
        if name in PRODUCT_OPERATIONS:
            self._note_products(*[one for one in args if isinstance(one, Tensor)][-2:])
        if name in ("add", "add_"):
            self.sums += self._joins_streams([one for one in args if isinstance(one, Tensor)])
        if name == "sum" and isinstance(args[0], Tensor):
            self._note_sum(args[0], given.get("dim"))
        results = func(*args, **kwargs)
        several = results if isinstance(results, (tuple, list)) else (results,)
        found = [
            meaning_of(Call(name, given, self.meaning, tuple(one.shape), nth, source, self.batch, pointwise))
            for nth, one in enumerate(several)
            if isinstance(one, Tensor)
        ]
        for one, meaning in zip((one for one in several if isinstance(one, Tensor)), found, strict=True):
            self.known[one] = meaning
        return results

    def _joins_streams(self, given: list[Tensor]) -> bool:
        """Whether a sum is of two tensors of the images that are no attention weights: what may be a residual add."""
        known = [self.meaning(one) for one in given]
        if len(given) != 2 or given[0].shape != given[1].shape:
            return False
        return all(one.images and not sources_of(one.axes) for one in known)

    def _note_products(self, left: Tensor, right: Tensor) -> None:
        inner = self.meaning(left).axes[-1], self.meaning(right).axes[-2]
        for weights, values in (inner, inner[::-1]):
            other = self.meaning(right if weights is inner[0] else left)
            for source in keys_of(weights):
                if other.images:
                    self.products.append(Product(source, self.softmaxes[source], plain(values)))

    def _note_sum(self, weighted: Tensor, dims: Any) -> None:
        """Values that tokens' weights were multiplied into, and that are summed over the tokens."""
        meaning = self.meaning(weighted)
        if VALUED not in meaning.mixed:
            return
        for place in dims or ():
            axis = meaning.axes[place]
            if has_places(axis):
                for source in keys_of(axis):
                    self.products.append(Product(source, self.softmaxes[source], plain(axis), queries=False))
