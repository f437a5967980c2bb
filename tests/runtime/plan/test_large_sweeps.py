"""Large sweeps: what is equal for all variants is made once."""

import pytest

from vitdsl.commands import plan as command
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan import bind as binding
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.run import cost as pricing

STUDY = """\
vitdsl: 1
study: many
data: {{noise: {{source: noise, total: 8, size: 32, classes: 10, batch: 8}}}}
models:
  vit:
    arch: vit_tiny_patch16_224
    options: {{img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
    weights: random
    vary: {{{vary}}}
metrics: {{accuracy: {{kind: accuracy, of: vit}}}}
"""


def test_variants_that_differ_in_their_seed_share_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = binding.sites_of
    monkeypatch.setattr(binding, "sites_of", lambda *args, **more: made.append(1) or real(*args, **more))
    models = bind(load_text(STUDY.format(vary="seed: [1, 2, 3, 4]"))).models
    assert len(models) == 4 and len(made) == 1
    assert len({id(model.sites) for model in models.values()}) == 1


def test_variants_of_other_structure_have_traces_of_their_own() -> None:
    models = bind(load_text(STUDY.format(vary="options.depth: [1, 2, 3]"))).models
    assert [len(model.sites.units) for model in models.values()] == [2, 4, 6]


def test_models_that_are_alike_are_priced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = pricing.compile_model
    monkeypatch.setattr(pricing, "compile_model", lambda *args: made.append(1) or real(*args))
    plan = bind(load_text(STUDY.format(vary="seed: [1, 2, 3], options.depth: [1, 2]")))
    found = pricing.cost(plan)
    assert [one.name for one in found.models] == list(plan.models)
    assert len(made) == 2
    assert len({one.merged for one in found.models}) == 2


def test_conditions_are_found_by_id() -> None:
    plan = bind(load_text(STUDY.format(vary="seed: [1, 2]")))
    for model in plan.models.values():
        assert all(plan.condition(model.name, one.id) is one for one in model.conditions)


def test_a_table_of_a_plan_is_cut_to_its_first_and_last() -> None:
    rows = [(f"m{i}", "1") for i in range(500)]
    shown = command._page(rows)
    assert len(shown) == command.ROWS
    assert shown[0] == rows[0] and shown[-1] == rows[-1] and shown[-2] == ("... 481 more", "")
    assert command._page(rows[: command.ROWS]) == rows[: command.ROWS]
