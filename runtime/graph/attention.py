"""The attention of a model: which softmaxes weigh values, where their weights stand, and which of them stand hidden.

A softmax is followed to the product in which its keys meet values: through transposes, dropout, talking heads, whatever
lies between. Its weights are read where they multiply the values, at the first node that has them with the keys last.
Weights that only exist inside a module that the graph keeps whole have no node: they are hidden. Does not own how
meanings are found (`flow`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from torch import fx
from torch.nn import functional as F

from vitdsl.runtime.graph.axes import Axis, Images, size_of
from vitdsl.runtime.graph.flow import AXES, PRODUCTS, Product
from vitdsl.runtime.graph.meaning import DIFFERENCE, VALUED, Meaning, keys_of, plain, sources_of
from vitdsl.runtime.graph.reading import has_padding, has_places, is_width
from vitdsl.runtime.graph.unit_names import owner

OF_NO_IMAGE = (
    "attention inside windows", "attention between the images of a batch",
    "attention whose first axis is not the image",
)  # fmt: skip
"""Kinds of attention of which one image's weights are not a slice of the tensor."""


@dataclass(frozen=True)
class Weights:
    """One attention.

    Attributes:
        node: The weights that multiply values.
        product: The node of the product: each head's output; None where its axes are in another order.
        shape: Heads, queries and keys.
        queries: What the axis of the queries means.
        keys: What that of the keys means.
        kind: What they are, where not shares of one image's tokens: `talking heads`, `channel attention`, `windows`.
        shares: Whether each query's weights sum to one.
        steps: The logits, the softmax, and all that has weights up to the product.
    """

    node: fx.Node
    product: fx.Node | None
    shape: tuple[int, int, int]
    queries: Axis
    keys: Axis
    kind: str
    shares: bool
    steps: frozenset[fx.Node]


@dataclass(frozen=True)
class Attention:
    """All attention of a graph, by the module that owns it.

    Attributes:
        weights: What can be read.
        fused: The products of those that are computed in one step, whose weights no node has.
        hidden: Those inside modules that the graph keeps whole, with the class of the module.
    """

    weights: dict[str, Weights]
    fused: dict[str, fx.Node]
    hidden: dict[str, str]


def attention_of(graph: fx.Graph, kinds: dict[str, str]) -> Attention:
    """The attention of a propagated graph.

    Args:
        graph: With the meaning of its tensors (`flow`).
        kinds: The class of each module by its path.
    """
    found = Attention({}, {}, {})
    nodes = list(graph.nodes)
    for node in nodes:
        for product in dict.fromkeys(node.meta.get(PRODUCTS, ())):
            taken = nodes[product.softmax]
            given = [one for one in node.all_input_nodes if product.source in _sources(one)]
            if not product.queries:
                given = [
                    one for mul in given for one in mul.all_input_nodes if product.source in _sources(one)
                ]
            if given:
                steps = frozenset((*taken.all_input_nodes, taken, *_steps(given[0], product.source)))
                weights = _weights(given[0], node, product, steps)
                if weights is None:
                    found.hidden[_free(found.hidden, owner(taken))] = kinds.get(owner(taken), "")
                else:
                    found.weights[_free(found.weights, owner(taken))] = weights
            elif node.target is F.scaled_dot_product_attention:
                found.fused[_free(found.fused, owner(node))] = node
            elif node.op == "call_module":
                found.hidden[_free(found.hidden, str(node.target))] = kinds.get(str(node.target), "")
            else:
                found.hidden[_free(found.hidden, owner(node))] = getattr(node.target, "__name__", "")
    return found


def _free(
    taken: dict[str, object] | dict[str, Weights] | dict[str, fx.Node] | dict[str, str], name: str
) -> str:
    """A name, with a number behind it where it is taken."""
    free, count = name, 0
    while free in taken:
        count += 1
        free = f"{name}:{count}"
    return free


def _meaning(node: fx.Node) -> Meaning | None:
    found: Meaning | None = node.meta.get(AXES)
    return found


def _sources(node: fx.Node) -> set[int]:
    meaning = _meaning(node)
    return set() if meaning is None else sources_of(meaning.axes)


def _steps(node: fx.Node, source: int) -> Iterator[fx.Node]:
    """A node and all before it that have weights of a softmax."""
    pending, seen = [node], set[fx.Node]()
    while pending:
        current = pending.pop()
        if current not in seen:
            seen.add(current)
            yield current
            pending += [one for one in current.all_input_nodes if source in _sources(one)]


def _weights(given: fx.Node, node: fx.Node, product: Product, steps: frozenset[fx.Node]) -> Weights | None:
    before = list(_unchanged(given, product.source))
    last = [one for one in before if _keys_last(one, product.source)]
    ranked = [one for one in last if len(one.meta[AXES].axes) == 4] or last
    if not ranked:
        return None
    chosen = ranked[-1]
    meaning = chosen.meta[AXES]
    *outer, queries, keys = meaning.axes
    keys = plain(keys)
    if is_width(keys) and not is_width(product.values):
        keys = product.values
    heads = prod(factor.size for axis in outer for factor in axis if not isinstance(factor, Images))
    kind = _kind(outer, queries, keys, meaning)
    if not product.queries and kind not in OF_NO_IMAGE:
        kind = "attention without queries"
    shape = (heads, size_of(queries), size_of(keys))
    return Weights(chosen, _heads(node, queries), shape, queries, keys, kind, not meaning.mixed, steps)


def _kind(outer: list[Axis], queries: Axis, keys: Axis, meaning: Meaning) -> str:
    if any(isinstance(factor, Images) for factor in (*queries, *keys)):
        return "attention between the images of a batch"
    if not outer or not outer[0] or not isinstance(outer[0][0], Images):
        return "attention whose first axis is not the image"
    if any(has_places(axis) for axis in outer) or has_padding(keys):
        return "attention inside windows"
    if meaning.mixed:
        how = DIFFERENCE if DIFFERENCE in meaning.mixed else meaning.mixed[0]
        return "changed weights" if how == VALUED else how
    if is_width(keys):
        return "channel attention" if is_width(queries) and queries else "attention over features"
    return "attention of features" if queries and is_width(queries) else ""


def _unchanged(node: fx.Node, source: int) -> Iterator[fx.Node]:
    """A node and those before it that have the same weights, in any shape."""
    current: fx.Node | None = node
    while current is not None:
        yield current
        meaning = current.meta[AXES]
        size = prod(map(size_of, meaning.axes))
        same = [
            one
            for one in current.all_input_nodes
            if source in _sources(one)
            and one.meta[AXES].mixed == meaning.mixed
            and prod(map(size_of, one.meta[AXES].axes)) == size
        ]
        current = same[0] if len(same) == 1 else None


def _keys_last(node: fx.Node, source: int) -> bool:
    axes: tuple[Axis, ...] = node.meta[AXES].axes
    return len(axes) > 1 and source in keys_of(axes[-1]) and not any(keys_of(axis) for axis in axes[:-1])


def _heads(node: fx.Node, queries: Axis) -> fx.Node | None:
    """The product, where queries come before features in it."""
    meaning = _meaning(node)
    if meaning is None or len(meaning.axes) < 3:
        return None
    return node if meaning.axes[-2] == queries and is_width(meaning.axes[-1]) else None
