"""Models that are trained without parts: ablations that hold during training, as the form of the model to train.

Does not own training (`train`) or what an ablation replaces (`ablations`).
"""

import copy
from typing import Any

import torch
from torch import nn

from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.sites import same_sites, sites_of
from vitdsl.runtime.plan.lanes import changed_by, lane_of, output_tap, unfused_for
from vitdsl.runtime.plan.plan import Edit, PlannedModel, baseline_of


def training_form(planned: PlannedModel) -> dict[str, Any]:
    """What `store.obtain` needs to train a model without the parts that its `train.without` names."""
    if not planned.always:
        return {}
    entries = [_entry(edit) for edit in planned.always]
    return {"wrap": lambda module: without_parts(module, planned), "without": entries}


def _entry(edit: Edit) -> dict[str, Any]:
    """An edit as part of what trained weights depend on; a role or tokens other than the kind's own are named."""
    role, tokens = edit.sites[0].role, edit.sites[0].tokens
    return {
        "kind": edit.kind.name,
        "version": edit.kind.version,
        "params": edit.kind.params.model_dump(),
        "at": edit.names,
        **({} if role == edit.kind.roles[0] else {"role": role}),
        **({} if tokens == "all" else {"tokens": tokens}),
    }


def without_parts(module: nn.Module, planned: PlannedModel) -> nn.Module:
    """A model's training form: the same parameters, the ablations of `train.without` in its graph."""
    module.train()
    skeleton = copy.deepcopy(module).to("meta").train()
    unfuse = unfused_for(planned.sites, changed_by(planned.always))
    sites = same_sites(module, sites_of(skeleton, planned.config.input_size, unfuse=unfuse))
    tap = output_tap(sites)
    lane = lane_of(planned, baseline_of(planned.name), sites)
    return _TrainingForm(merge(module, sites.traced.graph, [lane], {lane.name: [tap]}).module)


class _TrainingForm(nn.Module):
    def __init__(self, merged: nn.Module) -> None:
        super().__init__()
        self.merged = merged

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, class]` of images `[batch, channel, row, col]`."""
        ((logits,),) = self.merged(images)
        assert isinstance(logits, torch.Tensor)
        return logits
