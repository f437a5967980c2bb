"""What a model's plain forward does, operation by operation: a second reading, made without the program's graph.

The model runs as it is, on the meta device, and every operation of PyTorch is noted with the module that ran it. From
that alone are told which sums are residual and which softmaxes weigh values by a product. It is what the census holds
the program's own finders against, so nothing of `vitdsl` is imported here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = set(
    "view _unsafe_view reshape _reshape_alias permute transpose t squeeze unsqueeze squeeze_ unsqueeze_ expand clone "
    "_to_copy alias detach constant_pad_nd roll native_dropout lift_fresh copy_ contiguous".split()
)
PARTS = set("slice select split split_with_sizes unbind narrow index".split())
PRODUCTS = set("mm addmm bmm baddbmm convolution mul mul_ div div_ addcmul".split())
AVERAGES = set(
    "native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm avg_pool2d _adaptive_avg_pool2d mean sum "
    "amax max_pool2d_with_indices native_layer_norm native_group_norm upsample_nearest2d upsample_bilinear2d "
    "add add_ sub sub_ neg".split()
)
NORMS = {"native_layer_norm", "native_group_norm"}
SUMS = {"add", "add_"}
SOFTMAX = {"_softmax", "_safe_softmax"}
MATRIX = {"mm", "addmm", "bmm", "baddbmm"}


@dataclass
class Step:
    """One operation on something of the images."""

    name: str
    path: str
    sources: tuple[int, ...]
    shape: tuple[int, ...]
    learned: bool
    behind: int = 0
    weighs: frozenset[int] = frozenset()
    number: int = -1
    over: int = 0


@dataclass
class Plainly:
    """What was seen: residual sums and products with softmaxes, each by the module that ran it.

    Other softmaxes are `gates`: how many each is over, by the module.
    """

    residual: Counter[str] = field(default_factory=Counter)
    attention: Counter[str] = field(default_factory=Counter)
    gates: dict[str, list[int]] = field(default_factory=dict)


def plainly(model: nn.Module, input_size: tuple[int, ...]) -> Plainly:
    """Run a model on the meta device, its attention in steps, and read what it does."""
    fused = [module for module in model.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False
    try:
        return _read(model, input_size)
    finally:
        for module in fused:
            module.fused_attn = True


def _read(model: nn.Module, input_size: tuple[int, ...]) -> Plainly:
    seen = _Seen(model)
    images = torch.empty(11, *input_size, device="meta")
    with torch.no_grad(), _paths(model, seen), seen:
        seen.known[id(images)] = images, 0
        seen.sharing[images.untyped_storage()._cdata].add(id(images))
        seen.steps.append(Step("images", "", (), tuple(images.shape), False, 1, number=0))
        model(images)
    found = Plainly()
    found.residual.update(
        step.path for step in seen.steps if step.name in SUMS and _Reading(seen).residual(step)
    )
    weighing: set[int] = set()
    for taken in seen.products:
        found.attention[seen.steps[min(taken)].path] += 1
        weighing |= taken
    for step in seen.steps:
        if step.name in SOFTMAX and step.number not in weighing:
            found.gates.setdefault(step.path, []).append(step.shape[step.over])
    return found


@contextmanager
def _paths(model: nn.Module, seen: "_Seen") -> Iterator[None]:
    """Tell which module's forward runs."""
    handles = []
    for name, module in model.named_modules():
        path = name.rpartition(".")[0] if isinstance(module, nn.Softmax) else name
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: seen.stack.append(path)))
        handles.append(module.register_forward_hook(lambda *_: seen.stack.pop() and None, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation on something of the images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[str] = [""]
        self.steps: list[Step] = []
        self.known: dict[int, tuple[Tensor, int]] = {}
        self.sharing: dict[int, set[int]] = defaultdict(set)
        self.learned = {id(one): one for one in (*model.parameters(), *model.buffers())}
        self.products: list[frozenset[int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((*args, *kwargs.values())))
        results = func(*args, **kwargs)
        name = func._schema.name.partition("::")[2]
        of_images = [self.known[id(one)][1] for one in given if id(one) in self.known]
        learned = any(id(one) in self.learned for one in given)
        if not of_images:
            for one in _tensors((results,)):
                if learned:
                    self.learned[id(one)] = one
            return results
        writes = any(
            argument.alias_info and argument.alias_info.is_write for argument in func._schema.arguments
        )
        sources = tuple(dict.fromkeys(of_images))
        for one in _tensors((results,)):
            self._note(name, sources, one, learned, func, args[1] if name in SOFTMAX else 0)
            if writes:
                self._others_see(one)
        return results

    def _note(
        self, name: str, sources: tuple[int, ...], result: Tensor, learned: bool, func: Any, over: int
    ) -> None:
        here = len(self.steps)
        works = learned and name != "addcmul"
        step = Step(name, self.stack[-1], sources, tuple(result.shape), works, number=here)
        step.behind = 1 << here
        for source in sources:
            step.behind |= self.steps[source].behind
        weights = [self.steps[source].weighs for source in sources]
        together = frozenset().union(*weights)
        shared = frozenset.intersection(*weights)
        if name in SOFTMAX:
            step.weighs, step.over = frozenset({here}), over
        elif name in MATRIX and len(sources) > 1:
            self.products += [together - shared] if together - shared else []
        elif (
            len(sources) == 1
            and name not in ("sum", "mean")
            or together == shared
            or name in ("cat", "stack")
        ):
            step.weighs = together
        elif torch.Tag.pointwise in func.tags:
            step.weighs = together
        self.steps.append(step)
        self.known[id(result)] = result, here
        self.sharing[result.untyped_storage()._cdata].add(id(result))

    def _others_see(self, written: Tensor) -> None:
        """Other tensors of the same memory hold what was written to one of them."""
        new = self.known[id(written)][1]
        for other in self.sharing[written.untyped_storage()._cdata]:
            tensor, old = self.known[other]
            if other != id(written) and tensor.numel():
                whole = tensor.numel() == written.numel()
                sources = (new,) if whole else (old, new)
                step = Step(
                    "alias" if whole else "written", self.stack[-1], sources, tuple(tensor.shape), False
                )
                step.number = len(self.steps)
                step.behind = 1 << step.number
                for source in sources:
                    step.behind |= self.steps[source].behind
                    step.weighs |= self.steps[source].weighs
                self.steps.append(step)
                self.known[other] = tensor, step.number


class _Reading:
    """Which sums are residual: one operand is what the other was computed from, through steps that carry."""

    def __init__(self, seen: _Seen) -> None:
        self.steps = seen.steps

    def residual(self, step: Step) -> bool:
        """Whether a sum is that of a branch and its skip."""
        if len(step.sources) != 2:
            return False
        one, other = (self.steps[source] for source in step.sources)
        found = [self._skip(one, other), self._skip(other, one)]
        kinds = [kind for kind in found if kind]
        return len(kinds) == 1 or len(kinds) == 2 and kinds[0] != kinds[1]

    def _skip(self, skip: Step, branch: Step) -> str:
        """Whether an operand carries what the other comes from: `same`, `projected`, or not at all."""
        here: Step | None = skip
        projected = cut = False
        while here is not None:
            if here is not branch and branch.behind >> here.number & 1:
                between = self._between(here, branch)
                works = any(step.learned for step in between)
                works = works and (not projected or any(self._bends(step) for step in between))
                if works and not (cut and self._parts_alone(here, between)):
                    return "projected" if projected else "same"
                if between:
                    return ""
            projected = projected or here.name in PRODUCTS | AVERAGES or here.name in ("cat", "written")
            cut = cut or here.name in PARTS
            here = self._before(here)
        return ""

    def _before(self, step: Step) -> Step | None:
        if step.name in ("cat", "written"):
            ways = [self._way(self.steps[source]) for source in step.sources]
            return next((one for one in ways[0] if all(one in way for way in ways)), None)
        carries = step.name in VIEWS | PARTS | PRODUCTS | AVERAGES | {"alias"}
        if step.name in NORMS and not any(word in step.path for word in ("shortcut", "downsample", "skip")):
            return None
        return self.steps[step.sources[0]] if carries and len(step.sources) == 1 else None

    def _way(self, step: Step) -> list[Step]:
        found, here = [], step
        while here is not None and len(found) < 50:
            found.append(here)
            here = None if here.name == "cat" else self._before(here)  # type: ignore[assignment]
        return found

    def _between(self, source: Step, end: Step) -> list[Step]:
        return [
            step
            for step in self.steps[source.number + 1 : end.number + 1]
            if step.behind >> source.number & 1 and end.behind >> step.number & 1
        ]

    def _parts_alone(self, source: Step, between: list[Step]) -> bool:
        whole = {source.number}
        for step in between:
            if whole.isdisjoint(step.sources) or step.name in PARTS:
                continue
            if step.name not in VIEWS | {"alias"}:
                return False
            whole.add(step.number)
        return True

    def _bends(self, step: Step) -> bool:
        """Whether a step is not linear in the images."""
        if step.name in NORMS or len(step.sources) > 1 and step.name in PRODUCTS:
            return True
        return step.name not in VIEWS | PARTS | PRODUCTS | AVERAGES | {"cat", "stack", "alias", "written"}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
