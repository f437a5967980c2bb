"""Keys: everything that changes a number, hashed, so that what was computed once is known again.

A unit is one group under one view. Its key holds the kind with its version and parameters, the sites that it reads,
the models by their weights and what images go through before them, the conditions by what they change, the constants
of fits, and the machine's arithmetic. A block's key holds its images by content, their labels, where they stand in the
stream, and how they are cut into batches. Names, titles, paths and times are in neither: a study that is renamed or
moved finds its numbers.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import timm
import torch

from vitdsl.dsl.known import referred
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Observer, Reads
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.lanes import Fitted
from vitdsl.runtime.plan.plan import Edit, Group, Plan, Reading
from vitdsl.runtime.run.blocks import hashed

NUMBERS = 3
"""Raised when the same key would give other numbers: with a change of the graph or of the sums."""


FAST = ("fold",)
"""What `--fast` does to a graph."""


class Keys:
    """The keys of one run.

    Args:
        plan: The plan.
        models: The models with their weights.
        device: Where it computes.
        dtype: In what.
        fast: Whether batch norms are folded.
    """

    def __init__(
        self,
        plan: Plan,
        models: Mapping[str, LoadedModel],
        device: torch.device,
        dtype: str,
        fast: bool,
    ) -> None:
        self.plan, self.models = plan, models
        self.arithmetic = _arithmetic(device, dtype, fast)

    def unit(
        self,
        group: Group[Observer],
        view: str,
        stream: Stream,
        fitted: Callable[[str], Fitted],
        known: Reads = (),
    ) -> str:
        """The key of a group under one of its views.

        Args:
            group: The group.
            view: The view's id.
            stream: Its images.
            fitted: Gives, for a model, its ablations' constants.
            known: The constants of the group's own fit, for each site.
        """
        (seen,) = (one for one in group.views if one.id == view)
        return hashed(
            {
                "numbers": NUMBERS,
                "kind": _kind(group.kind),
                "x": self._side(group.x, seen.x, stream, fitted),
                "y": self._side(group.y, seen.y, stream, fitted),
                "same": group.y is group.x and seen.x == seen.y,
                "paired": group.paired,
                "known": [_content(tensor) for constants in known for tensor in constants],
                "arithmetic": self.arithmetic,
            }
        )

    def block(self, stream: Stream, block: int) -> str:
        """The key of an image block."""
        sizes = [len(stream.rows_of(batch)) for batch in stream.batches_of(block)]
        rows = stream.rows_of_block(block)
        where = {"from": rows[0], "nth": stream.nth(rows)}
        return hashed({"images": stream.contents(block), "batches": sizes, "where": where})

    def _side(
        self, reading: Reading, condition: str, stream: Stream, fitted: Callable[[str], Fitted]
    ) -> dict[str, Any]:
        planned, loaded = self.plan.models[reading.model], self.models[reading.model]
        edits = (*planned.always, *self.plan.condition(reading.model, condition).edits)
        return {
            "arch": loaded.arch,
            "options": loaded.options,
            "weights": loaded.weights.sha256,
            **({"beside": beside} if (beside := stream.contents_beside(reading.model)) else {}),
            "preprocessing": stream.transforms[reading.model].facts(),
            **({"structure": loaded.structure} if loaded.structure else {}),
            "unfused": sorted(planned.unfuse),
            "sites": [_site(site) for site in reading.sites],
            "roles": reading.roles,
            "edits": [_edit(edit, fitted(reading.model)) for edit in edits],
        }


def _site(site: Site) -> list[Any]:
    return [site.name, site.role, site.tokens]


def _edit(edit: Edit, fitted: Fitted) -> list[Any]:
    constants = [_content(tensor) for site in edit.sites for tensor in fitted(edit.kind, site)]
    return [*_kind(edit.kind), [_site(site) for site in edit.sites], constants]


def _kind(kind: Observer | Ablation) -> list[Any]:
    """A kind and its parameters, but for names of other entries: what these hold counts, not what it is called."""
    names = {field for field, _, _ in referred(kind.params)}
    return [kind.name, kind.version, kind.params.model_dump(mode="json", exclude=names)]


def _content(tensor: torch.Tensor) -> str:
    return sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _arithmetic(device: torch.device, dtype: str, fast: bool) -> dict[str, Any]:
    """What kind of machine computes: its numbers may differ from another's in the last bits."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    cpu = torch.backends.cpu.get_cpu_capability()
    exact = {
        "device": where,
        "cpu": cpu,
        "dtype": dtype,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }
    return exact | ({"fast": FAST} if fast else {})
