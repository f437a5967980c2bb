"""Running a model's program on values that know their shapes, and noting what it does as a graph.

Beside each tensor of the program goes an empty one of the same shape, so that sizes, numbers of dimensions and lengths
are plain Python numbers: the program branches, loops and asserts on them as it does on images of this size. Only what
depends on the numbers in a tensor cannot be decided. Tensors that the program makes itself become nodes, too.

Owns the graph under construction. Does not own how a value of the program behaves (`followed`), what is made of the
graph (`trace`), or how the number of images, a plain number here, becomes free again (`batch`).
"""

import operator
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import torch
from timm.layers import get_notrace_modules
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_map_only

from vitdsl.runtime.graph.batch import DependsOnBatch
from vitdsl.runtime.graph.counts import BATCH, Doubts
from vitdsl.runtime.graph.followed import SAMPLE, Followed, number, symbolic

MAKERS = {
    torch.arange, torch.zeros, torch.ones, torch.full, torch.empty, torch.eye, torch.linspace, torch.logspace,
    torch.tensor, torch.as_tensor, torch.tril_indices, torch.triu_indices, torch.rand, torch.randn, torch.randint,
    torch.randperm,
}  # fmt: skip
"""Functions that make a tensor from numbers."""
MANY = 10_000
"""Operations of few programs; of one that goes through the images, if there are more of them."""
OFTEN = 100
"""A call of one module counts as so many operations beside its earlier ones."""


class Tracer(fx.Tracer):
    """A tracer that evaluates as it goes, and records what each module took and returned.

    Layers of timm that are marked as not to be traced stay whole; modules that are made of layers are opened where
    that goes, and stay whole where it does not.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images
        self.doubts = Doubts()
        self.marked = tuple(get_notrace_modules())
        self.whole: set[str] = set()
        self.sampling = 0
        self.limit = MANY if images.shape[0] == BATCH else BATCH
        self.outputs: dict[str, fx.Node] = {}
        self.inputs: dict[str, fx.Node] = {}
        self.when: dict[tuple[str, str], int] = {}
        self.names: dict[int, str] = {}
        self.held: dict[str, Any] = {}

    def run(self, model: nn.Module, defaults: dict[str, Any]) -> fx.Graph:
        """Trace a model on the meta device; arguments other than the images keep their defaults."""
        held = (*model.named_buffers(), *model.named_parameters())
        self.names = {id(tensor): name for name, tensor in held}
        with torch.no_grad(), _Program(self):
            return self.trace(model, concrete_args=defaults)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value of the program."""
        return Followed(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **others: Any) -> Any:
        """A node for an operation of the program, and what the program is to see of it."""
        self.refuse_loops(len(self.graph.nodes))
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **others)
        value = self._sampled(proxy.node)
        if kind == "placeholder" or _wrapped(target):
            return proxy
        if symbolic(value):
            return self._spread(proxy, value)
        if target is not operator.setitem and kind != "call_module":
            self.graph.erase_node(proxy.node)
        return self.doubts.counted(value)

    def create_arg(self, a: Any) -> Any:
        """What the program gives to an operation; its device is that of the images."""
        if isinstance(a, torch.device) and a == self.images.device:
            (images, *_) = self.graph.find_nodes(op="placeholder")
            return self.create_proxy("call_function", getattr, (Followed(images, self), "device"), {}).node
        return super().create_arg(a)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A module's attribute: parameters and buffers are nodes."""
        name = self.names.get(id(attr_val)) if isinstance(attr_val, Tensor) and not self.sampling else None
        if name is None:
            return attr_val
        if name not in self.held:
            self.held[name] = self.create_proxy("get_attr", name, (), {})
        return self.held[name]

    def to_bool(self, obj: fx.Proxy) -> bool:
        """A decision of the program: by a tensor there is none."""
        return bool(number(obj))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module becomes one node."""
        marked = isinstance(m, self.marked)
        return (
            marked
            and (not _composed(m) or module_qualified_name in self.whole)
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a module's call and record it under its path."""
        if self.sampling:
            return forward(*args, **kwargs)
        path, calls = self.path_of_module(m), 0
        name = path
        while name in self.inputs or name in self.outputs:
            calls += 1
            name = f"{path}:{calls}"
        self.refuse_loops(calls * (OFTEN if self.limit < BATCH else 1))
        given = [value.node for value in args if isinstance(value, fx.Proxy)]
        if given:
            self.inputs[name] = given[0]
            self.when["input", name] = len(self.graph.nodes)
        elif isinstance(m, self.marked):
            self.whole.add(path)
        result = self._opened(m, path, forward, args, kwargs)
        first = _first(result)
        if first is not None:
            self.outputs[name] = first.node
            self.when["output", name] = len(self.graph.nodes)
        return result

    def asked(self, node: fx.Node, name: str) -> Any:
        """An attribute of what a node gives, or its length."""
        with _Sampling(self):
            sample = node.meta[SAMPLE]
            return self.doubts.counted(len(sample) if name == "__len__" else getattr(sample, name))

    def _opened(self, m: nn.Module, path: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A module's call; one that is marked and cannot be opened is called whole."""
        if not isinstance(m, self.marked) or self.is_leaf_module(m, path):
            return super().call_module(m, forward, args, kwargs)
        before = set(self.graph.nodes)
        records = (self.outputs, self.inputs, self.when, self.held, self.num_calls, self.module_stack)
        kept = [dict(one) for one in records]
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # whatever a program does that cannot be traced
            for node in [node for node in reversed(self.graph.nodes) if node not in before]:
                self.graph.erase_node(node)
            for one, content in zip(records, kept, strict=True):
                one.clear()  # type: ignore[attr-defined]
                one.update(content)  # type: ignore[attr-defined]
            self.whole.add(path)
            return super().call_module(m, forward, args, kwargs)

    def _spread(self, proxy: fx.Proxy, value: Any) -> Any:
        """What a node gives, as the program sees it: a tensor, or several in the form in which they come."""
        if not isinstance(value, (tuple, list, dict)):
            return proxy
        self.refuse_loops(len(value))
        keys: Iterable[Any] = value if isinstance(value, dict) else range(len(value))
        parts = {
            key: self.create_proxy("call_function", operator.getitem, (proxy, key), {})
            if symbolic(value[key])
            else self.doubts.counted(value[key])
            for key in keys
        }
        if isinstance(value, dict):
            return parts
        kind = type(value)
        return kind(*parts.values()) if hasattr(value, "_fields") else kind(parts.values())

    def refuse_loops(self, count: int) -> None:
        """A program that goes through the images one by one does as many operations as there are images.

        Of so many images some operations are enough to doubt it; a trace with few images then tells.
        """
        if count >= self.limit:
            self.doubts.any = True
            raise DependsOnBatch("its number of operations depends on the number of images")

    def _sampled(self, node: fx.Node) -> Any:
        """Evaluate a node on empty tensors."""
        args, kwargs = map_arg((node.args, node.kwargs), self._value)
        target: Any = node.target
        with _Sampling(self):
            if node.op == "placeholder":
                value = args[0] if args else self.images
            elif node.op == "get_attr":
                value = operator.attrgetter(target)(self.root)
            elif node.op == "call_function":
                value = target(*args, **kwargs)
            elif node.op == "call_method":
                value = getattr(args[0], target)(*args[1:], **kwargs)
            else:
                value = self.root.get_submodule(target)(*args, **kwargs)
        if isinstance(value, Tensor) and (node.op == "get_attr" or target in MAKERS):
            value = value.to(self.images.device)
        node.meta[SAMPLE] = value
        return value

    def _value(self, node: fx.Node) -> Any:
        return node.meta[SAMPLE] if SAMPLE in node.meta else self._sampled(node)


class _Program(TorchFunctionMode):
    """What the program computes from its own tensors and numbers, before images come in, is part of the graph."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Give a node for a function that makes a tensor, or takes one that is not yet a node."""
        kwargs = kwargs or {}
        if self.tracer.sampling or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        if func in MAKERS:
            return self.tracer.create_proxy("call_function", func, args, kwargs)
        if not tree_any(lambda one: isinstance(one, Tensor), (args, kwargs)):
            return func(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, self._named, (args, kwargs))
        return Followed.__torch_function__(func, types, args, kwargs)

    def _named(self, tensor: Tensor) -> fx.Proxy:
        node = self.tracer.create_arg(tensor)
        self.tracer._value(node)
        return Followed(node, self.tracer)


class _Sampling:
    """While it lasts, modules and functions run as they are."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def __enter__(self) -> None:
        self.tracer.sampling += 1

    def __exit__(self, *error: object) -> None:
        self.tracer.sampling -= 1


def _wrapped(target: Any) -> bool:
    """Whether a function is one of timm's that stay whole."""
    return isinstance(target, FunctionType) and target.__module__.partition(".")[0] != "torch"


def _composed(module: nn.Module) -> bool:
    """Whether a module is made of others that have parameters."""
    return any(next(child.parameters(), None) is not None for child in module.children())


def _first(result: Any) -> fx.Proxy | None:
    """The first tensor that a module returned."""
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    return result if isinstance(result, fx.Proxy) else None
