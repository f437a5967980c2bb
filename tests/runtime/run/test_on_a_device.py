"""No metric and no ablation makes the host wait for a CUDA device between batches, or mixes numbers of both.

Seen on a device that is pretended: which lines wait can be counted without one.
"""

import pytest
import torch

from tests.pretended import CUDA, Waits, pretended, waits
from tests.studies import SPECS, TINY_VIT, changed, flow
from vitdsl.dsl.load import load_text
from vitdsl.runtime.ablations._base import ABLATIONS
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.run.dry import Dry
from vitdsl.runtime.transfer import brought, held, places, sent

VIT = flow(changed(TINY_VIT))
EVERY_ABLATION = f"""\
vitdsl: 1
study: all_ablations
data: {{probe: {{source: noise, total: 48, size: 32, classes: 10, batch: 16}}}}
models: {{vit: {VIT}}}
layers:
  x: {{of: vit, at: "blocks.*"}}
  some: {{of: vit, at: "blocks.*", tokens: [0, 3, -1]}}
ablations:
  occluded: {{kind: drop_tokens, of: vit, share: 0.25}}
  no_salient: {{kind: drop_tokens, of: vit, share: 0.5, which: salient, salience: attention, block: blocks.1.attn}}
  frozen: {{kind: freeze_cls, of: vit, from: "blocks.0", at: "blocks[1:]"}}
  near: {{kind: local_attention, of: vit, at: "blocks[0:2].attn", radius: 1}}
  one_head: {{kind: mask_heads, of: vit, at: "blocks.*.attn", heads: [0, 2]}}
  mean_head: {{kind: mask_heads, of: vit, at: "blocks.1.attn", heads: 1, to: mean, over: probe}}
  mean_branch: {{kind: mean_ablate, of: vit, at: "blocks.*.attn", tokens: [1, 4]}}
  shaken: {{kind: noise, of: vit, at: "blocks.*.mlp", sd: 1}}
  no_branch: {{kind: remove_branch, of: vit, at: "blocks.*.mlp", tokens: cls}}
  nowhere: {{kind: remove_position, of: vit}}
  elsewhere: {{kind: remove_position, of: vit, mode: shuffle}}
  no_skip: {{kind: remove_skip, of: vit, at: "blocks.*.attn"}}
  no_block: {{kind: remove_unit, of: vit, at: "blocks.1"}}
  exchanged: {{kind: resample, of: vit, at: "blocks.*.attn"}}
  fading: {{kind: scale_branch, of: vit, at: "blocks.*.mlp", by: 0.5}}
  thinner: {{kind: scale_skip, of: vit, at: "blocks.*.attn", by: 0.5, tokens: spatial}}
  shuffled: {{kind: shuffle_patches, of: vit, grid: 4}}
  by_mean: {{kind: swap_pool, of: vit, to: gap}}
  uniform: {{kind: uniform_attention, of: vit, at: "blocks.*.attn"}}
metrics:
  accuracy: {{kind: accuracy, of: vit}}
  flips: {{kind: prediction_flips, of: vit}}
  drift: {{kind: cka, x: x, against: baseline}}
  tokens: {{kind: cka, x: some, shuffles: 2, ceiling: true}}
"""


@pytest.fixture(scope="module")
def panel() -> Plan:
    return bind(load_text((SPECS / "panel.yaml").read_text(), "panel"))


def test_no_metric_makes_the_host_wait(panel: Plan) -> None:
    dry, seen = Dry(), set()
    for one in panel.passes:
        if not any(group.kind.gradients for group in one.groups):  # a pretended device differentiates nothing
            seen |= {group.kind.name for group in one.groups}
            assert not waits(panel, one, dry), one.title
    assert {kind for kind in METRICS.kinds() if kind != "receptive_field"} <= seen


def test_no_ablation_makes_the_host_wait() -> None:
    plan = bind(load_text(EVERY_ABLATION, "ablations"))
    dry = Dry()
    used = {edit.kind.name for own in plan.models.values() for one in own.conditions for edit in one.edits}
    assert used == set(ABLATIONS.kinds())
    for one in plan.passes:
        assert not waits(plan, one, dry), one.title


def test_what_waits_is_counted() -> None:
    with pretended():
        device = torch.empty(4, device=CUDA)
        with Waits() as found:
            device.cpu()
            torch.tensor([1, 2], device=CUDA)
            device[[0, 2]]
            with pytest.raises(Exception, match="local_scalar"):
                bool(device.sum() > 0)
        assert sum(found.lines.values()) == 4
        with Waits() as found:
            sent(torch.zeros(3), CUDA)
            places(device, 0, [1, 2])
        assert not found.lines
        with pytest.raises(Exception, match="device"):
            device + torch.zeros(4)


def test_what_is_held_is_made_once() -> None:
    made = []

    def make(size: int) -> torch.Tensor:
        made.append(size)
        return torch.arange(size)

    with torch.inference_mode():
        first = held(make, 5, dtype=torch.float64)
    assert held(make, 5, dtype=torch.float64) is first
    assert made == [5]
    assert not first.is_inference()


@pytest.mark.parametrize("chosen", [(0, 1, 2), (3, 1), (-1,), (-2, -1), (0, 0), (2, 3)])
def test_places_are_those_that_indexing_gives(chosen: tuple[int, ...]) -> None:
    tensor = torch.arange(24).reshape(2, 4, 3)
    assert torch.equal(places(tensor, 1, chosen), tensor[:, list(chosen)])


def test_on_a_host_nothing_has_a_way_to_go() -> None:
    tensor = torch.arange(3.0)
    assert brought(tensor).tolist() == [0, 1, 2]
    assert sent(tensor, torch.device("cpu")) is tensor
