"""One graph for all conditions of a model: what they have in common is computed once.

Every condition is the intact graph with some values replaced. Walking a condition, each operation is looked up by
what it does and what it does it to; if it is there already, it is shared. So a condition costs only what lies
downstream of its edit, whatever the edits are. Lanes are laid so that few activations live at a time: the intact
model is walked, and where a condition's first edit lies, its whole lane is laid before the walk goes on. A tap is laid
right after the tensors that it reads, so that no activation outlives its last use.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.fold import Folded, fold
from vitdsl.runtime.graph.functional import OUT_OF_PLACE
from vitdsl.runtime.graph.hooks import HOOKED, Calls, readers
from vitdsl.runtime.graph.lanes import Values
from vitdsl.runtime.graph.overwrite import overwrite
from vitdsl.runtime.graph.propagate import FLOPS, OPS, VALUE, modules_of
from vitdsl.runtime.graph.tap import Reduce, Tap

RANDOM = {
    torch.rand, torch.randn, torch.randint, torch.randperm, torch.bernoulli, torch.rand_like, torch.randn_like,
    torch.normal, torch.multinomial, "bernoulli", "multinomial", "random_", "normal_", "uniform_",
}  # fmt: skip
ORIGIN = "origin"


@dataclass(frozen=True)
class Merged:
    """The merged graph.

    Attributes:
        module: From images `[batch, channel, row, col]` to a tuple of tuples of small tensors.
        slots: For each lane and tap, its position in that tuple.
        work: Floating point operations for one image: `merged`, and `separate` for each lane run alone.
        live: Largest number of activation values alive at a time, for one image.
        kept: Number of activation values of the whole graph, for one image: what gradients keep.
        folded: Number of batch norms that were folded into convolutions.
    """

    module: fx.GraphModule
    slots: dict[tuple[str, Tap], int]
    work: dict[str, float]
    live: int
    kept: int
    folded: int = 0

    @property
    def saved(self) -> float:
        """Share of the work that merging saves, 0 to 1."""
        merged, separate = self.work["merged"], self.work["separate"]
        return 1 - merged / separate if separate else 0.0


def merge(
    model: nn.Module,
    graph: fx.Graph,
    lanes: Sequence[Lane],
    taps: Mapping[str, Sequence[Tap]],
    *,
    over: bool = False,
    folds: Folded | None = None,
) -> Merged:
    """Merge the lanes of a model into one graph.

    Args:
        model: The model whose graph it is.
        graph: Its traced graph, free of in-place operations, annotated.
        lanes: Its conditions; one of them is the intact model, without edits.
        taps: What to read, by lane. In training mode nothing is shared: modules may draw or remember.
        over: Let values be written over others that nobody reads again; not where gradients are taken, nor where
            types are not those that the graph says (autocast).
        folds: Fold batch norms into the convolutions before them; numbers then differ by rounding. Holds those that
            other graphs of the model have folded, and takes the others. None folds nothing.
    """
    builder = _Builder(graph, training=model.training)
    builder.lay(lanes, taps)
    modules = modules_of(model, graph) | readers(model, builder.graph) | builder.modules
    alone = sum(_work(_needed(graph, taps[lane.name])) for lane in lanes)
    work = {"merged": _work(builder.graph.nodes), "separate": alone}
    folded = 0 if folds is None else fold(builder.graph, modules, folds)
    if over:
        overwrite(builder.graph, modules)
    used = {str(n.target) for n in builder.graph.nodes if n.op in ("call_module", "get_attr")}
    module = fx.GraphModule({name: value for name, value in modules.items() if name in used}, builder.graph)
    kept = sum(node.meta[HOOKED].all if HOOKED in node.meta else _size(node) for node in builder.graph.nodes)
    return Merged(module, builder.slots, work, _live(builder.graph), kept, folded)


class _Builder:
    """The graph under construction, and what is in it by what it computes."""

    def __init__(self, base: fx.Graph, *, training: bool) -> None:
        self.base, self.training = base, training
        self.position = {node: i for i, node in enumerate(base.nodes)}
        self.graph = fx.Graph()
        self.known: dict[Hashable, fx.Node] = {}
        self.modules: dict[str, nn.Module | torch.Tensor] = {}
        self.slots: dict[tuple[str, Tap], int] = {}
        self.results: dict[fx.Node, int] = {}

    def lay(self, lanes: Sequence[Lane], taps: Mapping[str, Sequence[Tap]]) -> None:
        first = next(iter(self.base.nodes))
        edited = sorted(
            (lane for lane in lanes if lane.edits), key=lambda lane: self.position[self._start(lane)]
        )
        intact = [lane for lane in lanes if not lane.edits] or [Lane("")]
        starts: dict[fx.Node, list[Lane]] = {}
        for lane in intact[1:]:
            starts.setdefault(first, []).append(lane)
        for lane in edited:
            starts.setdefault(self._start(lane), []).append(lane)
        self._walk(intact[0], starts, taps)
        self.graph.output(tuple(self.results))
        for node in reversed(self.graph.nodes):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)
        self.graph.lint()

    def _start(self, lane: Lane) -> fx.Node:
        """Where a lane leaves the intact model."""
        seen = (node for place, _ in lane.edits for node in (place.readers or (place.node,)))
        return min(seen, key=lambda node: self.position[node])

    def _walk(
        self, lane: Lane, starts: Mapping[fx.Node, list[Lane]], taps: Mapping[str, Sequence[Tap]]
    ) -> None:
        """Lay a lane, and at the first edit of another, that one whole."""
        mine = taps.get(lane.name, ())
        last: dict[fx.Node, list[Tap]] = {}
        for tap in mine:
            last.setdefault(max(tap.nodes, key=lambda node: self.position[node]), []).append(tap)
        needed = set(_needed(self.base, mine))
        values = Values(self, lane)
        for node in self.base.nodes:
            for other in starts.get(node, ()):
                self._walk(other, {}, taps)
            if node in needed:
                values.of(node)
                for tap in last.get(node, ()):
                    self._tap(lane, tap, values)

    def copy(self, node: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        """A node of the intact graph with other inputs."""
        shared = not (_is_random(node) or self.training and node.op.startswith("call"))
        key = (node.op, node.target, _key(args), _key(kwargs), None if shared else object())
        return self._emit(key, node.op, node.target, args, kwargs, node)

    def _tap(self, lane: Lane, tap: Tap, values: Values) -> None:
        args = tuple(values.of(node) for node in tap.nodes)
        site = tap.site.nameless()
        node = self.call("tap", (tap.reducer, site), Reduce(tap.reducer, site), args)
        self.slots[lane.name, tap] = self.results.setdefault(node, len(self.results))

    def call(self, what: str, identity: Hashable, module: nn.Module, args: tuple[Any, ...]) -> fx.Node:
        """A call of a module of ours."""
        key = (what, identity, _key(args))
        if key not in self.known:
            name = f"{what}_{len(self.modules)}"
            self.modules[name] = module
            return self._emit(key, "call_module", name, args, {}, None)
        return self.known[key]

    def constant(self, tensor: torch.Tensor) -> fx.Node:
        """A tensor that is the same for every batch."""
        key = ("constant", id(tensor))
        if key not in self.known:
            name = f"constant_{len(self.modules)}"
            self.modules[name] = tensor
            return self._emit(key, "get_attr", name, (), {}, None)
        return self.known[key]

    def _emit(
        self, key: Hashable, op: str, target: Any, args: Any, kwargs: Any, origin: fx.Node | None
    ) -> fx.Node:
        if key not in self.known:
            node = self.graph.create_node(op, target, args, kwargs)
            if origin is not None:
                node.meta.update(
                    {k: origin.meta[k] for k in (VALUE, FLOPS, OPS, OUT_OF_PLACE, HOOKED) if k in origin.meta}
                )
                node.meta[ORIGIN] = origin
            self.known[key] = node
        return self.known[key]


def _needed(graph: fx.Graph, taps: Sequence[Tap]) -> list[fx.Node]:
    """The nodes that some taps depend on, in order."""
    needed = {node for tap in taps for node in tap.nodes}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed or node.op == "placeholder"]


def _is_random(node: fx.Node) -> bool:
    """Whether a node draws at every call; modules do so in training only, where nothing is shared."""
    chance = node.kwargs.get("dropout_p")
    return (
        node.target in RANDOM
        or node.kwargs.get("training") is True
        or isinstance(chance, (int, float))
        and chance > 0
    )


def _key(value: Any) -> Hashable:
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, *(_key(item) for item in value))
    if isinstance(value, dict):
        return ("dict", *((name, _key(item)) for name, item in sorted(value.items())))
    if isinstance(value, slice):
        return ("slice", _key(value.start), _key(value.stop), _key(value.step))
    if isinstance(value, (float, complex)):
        return (type(value).__name__, repr(value))  # 0.0 == -0.0
    return (type(value).__name__, value)


def _work(nodes: Any) -> float:
    return float(sum(node.meta.get(FLOPS, 0.0) for node in nodes))


def _live(graph: fx.Graph) -> int:
    """Most activation values alive at a time, for one image, when each is freed after its last use."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        for source in node.all_input_nodes:
            last[source] = node
    alive = peak = 0
    for node in graph.nodes:
        alive += _size(node)
        peak = max(peak, alive)
        alive -= sum(_size(source) for source in node.all_input_nodes if last[source] is node)
    return peak


def _size(node: fx.Node) -> int:
    value = node.meta.get(VALUE)
    if HOOKED in node.meta:
        calls: Calls = node.meta[HOOKED]
        return sum(_numbers(one.meta[VALUE]) for one in node.users) + calls.largest
    if any(HOOKED in source.meta for source in node.all_input_nodes):
        return 0  # counted where it is taken
    if node.op in ("get_attr", "output") or not isinstance(value, torch.Tensor):
        return 0
    return _numbers(value)


def _numbers(value: torch.Tensor) -> int:
    """Values of one image, or of one window."""
    return value.numel() // value.shape[0] if value.ndim else 0
