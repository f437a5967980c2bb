"""One batch through the compiled models of a stream, one turn of conditions after the other, into every group's sums.

Owns how a graph is run, and what a group reads of what it gave. Does not own which batches are run (`walk`), or which
conditions run together (`turns`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from vitdsl.runtime.data.stream import Batch
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.graph.hooks import OtherwiseError
from vitdsl.runtime.metrics._base import Observer, Reads
from vitdsl.runtime.plan.plan import Group, Plan
from vitdsl.runtime.rounding import AUTOCAST, products_in
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.layout import channels_last, lay_out
from vitdsl.runtime.run.replay import Record, Replayed
from vitdsl.runtime.run.seen import seen_under
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.run.turns import Dealer, Turn
from vitdsl.runtime.transfer import sent

Gave = Mapping[int, tuple[Tensor, ...]]
"""What a model's taps gave of a batch, by position in its `slots`."""
Known = Callable[[Group[Observer], str], Reads]
"""The constants of a group's own fit for each of its sites, under one of its views."""


def no_fits(group: Group[Observer], view: str) -> Reads:
    """Of groups that are not fitted: nothing is known."""
    return ()


class Runner:
    """Runs the compiled models of one stream batch by batch.

    Args:
        plan: The plan.
        models: The models' graphs.
        groups: What is measured.
        device: Where it computes.
        dtype: In what.
        known: Gives the constants of groups' own fits.
        dealer: Deals conditions where not all of them may run together.
        record: How graphs are recorded and replayed; None runs each operation anew.

    Attributes:
        turns: Which conditions run together, in order.
        halved: How many conditions ran together at most after each time that memory was full.
    """

    def __init__(
        self,
        plan: Plan,
        models: Mapping[str, Compiled],
        groups: Sequence[Group[Observer]],
        device: torch.device,
        dtype: str,
        known: Known = no_fits,
        dealer: Dealer | None = None,
        record: Record | None = None,
    ) -> None:
        self.plan, self.models, self.groups, self.known = plan, models, groups, known
        self.device, self.dtype = device, dtype
        self.gradients = any(group.kind.gradients for group in groups)
        for compiled in models.values():
            lay_out(compiled, channels_last(compiled.sites, device))
        self.dealer = dealer or Dealer(models, groups)
        self._record = None if self.gradients else record
        self._replayed: dict[tuple[str, int], Replayed] = {}
        self._told: set[str] = set()
        self.turns: list[Turn] = []
        self.halved: list[int] = []
        self._deal(None)

    @property
    def together(self) -> int:
        """How many conditions run together at most, of all models."""
        return max(len(turn.lanes) for turn in self.turns)

    def halve(self) -> None:
        """Let half as many conditions run together."""
        self._deal((self.together + 1) // 2)
        self.halved.append(self.together)

    def refused(self) -> list[str]:
        """Why models' graphs are not replayed, each model told once."""
        why = {name: one.refused for (name, _), one in self._replayed.items() if one.refused}
        found = [f"model {name} is not replayed: {why[name]}" for name in why if name not in self._told]
        self._told.update(why)
        return found

    def _deal(self, most: int | None) -> None:
        self._replayed.clear()
        before, self.turns = self.turns, self.dealer.deal(most)
        if len(self.turns) > 1 or before:
            for name, compiled in self.models.items():
                compiled.take_apart(
                    [
                        (turn.of(name), {at for model, at in turn.before if model == name})
                        for turn in self.turns
                    ]
                )

    def forward(self, model: str, images: Tensor, turn: int = 0) -> Gave:
        """The taps of a model on a batch `[batch, channel, row, col]`: those of the conditions of one turn."""
        compiled = self.models[model]
        if turn not in compiled.parts:
            return {}
        part = compiled.parts[turn]
        try:
            found = self._forward(compiled, self._graph(model, turn), images)
        except OtherwiseError as error:
            cause = error.__cause__
            if cause is not None and is_memory(cause):
                raise cause  # noqa: B904  (what the program raised is memory's own error)
            raise
        except RuntimeError as error:
            if not compiled.channels_last or is_memory(error):
                raise
            lay_out(compiled, False)  # a program may take views that need another layout
            found = self._forward(compiled, part.merged.module, images)
        if self.gradients:
            found = tuple(tuple(tensor.detach() for tensor in one) for one in found)
        if self.device.type == "mps":
            found = tuple(tuple(tensor.cpu() for tensor in one) for one in found)
        return dict(zip(part.at, found, strict=True))

    def _graph(self, model: str, turn: int) -> "nn.Module | Replayed":
        """What runs a model's conditions of a turn; programs that are read by hooks are watched at every batch."""
        compiled = self.models[model]
        module = compiled.parts[turn].merged.module
        if self._record is None or compiled.sites.unfollowed is not None:
            return module
        if (model, turn) not in self._replayed:
            self._replayed[model, turn] = Replayed(module, self._record)
        return self._replayed[model, turn]

    def _forward(
        self, compiled: Compiled, graph: "nn.Module | Replayed", images: Tensor
    ) -> tuple[tuple[Tensor, ...], ...]:
        if compiled.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.gradients:
            images = images.detach().requires_grad_()
        with computing(self.device, self.dtype, gradients=self.gradients):
            found: tuple[tuple[Tensor, ...], ...] = graph(images)
        return found

    def on_device(self, batch: Batch) -> dict[str, Tensor]:
        """The batch's images for each model, on the device; shared where preprocessings are equal."""
        moved: dict[int, Tensor] = {}
        for image in batch.images.values():
            if id(image) not in moved:
                moved[id(image)] = image.to(self.device, non_blocking=True)
        return {name: moved[id(image)] for name, image in batch.images.items()}

    def reads(self, group: Group[Observer], side: str, lane: str, found: Mapping[str, Gave]) -> Reads:
        """What a group reads on one side under one condition."""
        reading = group.x if side == "x" else group.y
        slots, gave = self.models[reading.model].slots, found[reading.model]
        return [gave[slots[lane, tap]] for tap in self.dealer.taps[group.path, side]]

    def observe(
        self,
        turn: Turn,
        batch: Batch,
        found: Mapping[str, Gave],
        into: Mapping[str, Statistics[Observer]],
        done: set[tuple[str, str]],
    ) -> None:
        """Add what is there of a batch after a turn to the sums of groups, but for what is done.

        Args:
            turn: The turn.
            batch: The batch.
            found: What the models gave, by now.
            into: The sums by path, of one image block.
            done: The paths and views that were added; takes those that are.
        """
        where = at_home(self.device)
        labels, nth = (None if one is None else sent(one, where) for one in (batch.labels, batch.nth))
        answers = {"labels": labels, "nth": nth, "classes": batch.classes}
        with products_in("float32"):
            for group in turn.groups:
                for view in group.views:
                    if (group.path, view.id) in done:
                        continue
                    reads = partial(self.reads, group, found=found)
                    seen = seen_under(view, group, reads, batch.rows, self.known(group, view.id), answers)
                    into[group.path].add(view.id, 0, group.kind.observe(seen))
                    done.add((group.path, view.id))


def at_home(device: torch.device) -> torch.device:
    """Where what a graph gave is observed: on the device, but on the host for mps, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def remembering(gradients: bool) -> Iterator[None]:
    """Nothing is remembered for gradients, unless they are taken."""
    with torch.enable_grad() if gradients else torch.inference_mode():
        yield


@contextmanager
def computing(device: torch.device, dtype: str, *, gradients: bool = False) -> Iterator[None]:
    """No gradients unless asked for, float32 products in float32 or as asked for, autocast where asked for."""
    low = AUTOCAST[dtype]
    autocast = torch.autocast(device.type, dtype=low, enabled=low is not None)
    with remembering(gradients), products_in(dtype), autocast:
        yield
