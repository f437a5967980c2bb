"""Studies meet models: every error at its place in the file, and what each way of saying it makes."""

import pytest

from studies import RESNET18, TINY_VIT, flow
from studies import bound as bound_text
from studies import study as text_of
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind, bind_diagnostics
from vitdsl.runtime.plan.plan import Plan

VIT = f"  vit: {flow(TINY_VIT)}\n"
RES = f"  res: {flow(RESNET18)}\n"
SWIN = (
    "  swin: {arch: swin_tiny_patch4_window7_224, weights: random, options: {img_size: 56, depths: [2, 2],"
    " embed_dim: 24, num_heads: [2, 4], num_classes: 10}}\n"
)


def study(
    *,
    data: str = "  probe: {source: digits, split: test, images: 8, batch: 8}\n",
    models: str = VIT + RES,
    layers: str = "",
    ablations: str = "",
    metrics: str = "  acc: {kind: accuracy, of: vit}\n",
    claims: str = "",
    top: str = "",
) -> str:
    return text_of(
        "bound",
        top=top,
        data=data,
        models=models,
        layers=layers,
        ablations=ablations,
        metrics=metrics,
        claims=claims,
    )


def problems(text: str) -> list[tuple[str, str, str]]:
    """Code, the text under the caret, and the message with its help, in the order reported."""
    found = []
    for one in bind_diagnostics(load_text(text)):
        assert one.span is not None, one
        line = text.splitlines()[one.span.line - 1]
        marked = line[one.span.column - 1 : one.span.end_column - 1]
        found.append((one.code, marked, " ".join((one.message, *one.help, *one.notes))))
    return found


L = '  l: {of: vit, at: "blocks.*"}\n'
CASES = {
    "metric kind": (study(metrics="  a: {kind: acuracy, of: vit}\n"), "VD220", "acuracy", "did you mean `accuracy`"),
    "ablation kind": (
        study(ablations="  a: {kind: remove_skp, of: vit}\n"), "VD220", "remove_skp", "did you mean `remove_skip`"
    ),
    "source": (study(data="  p: {source: digts}\n"), "VD220", "digts", "did you mean `digits`"),
    "unknown parameter": (
        study(metrics="  d: {kind: attention_distance, of: vit, renormalise: true}\n"),
        "VD221", "renormalise", "did you mean `renormalize`",
    ),
    "type of a parameter": (
        study(metrics="  d: {kind: attention_distance, of: vit, renormalize: 3}\n"), "VD221", "3", "`true` or `false`"
    ),
    "lacking parameter": (study(data="  probe: {source: digits}\n"), "VD221", "probe", "lacks `split`"),
    "selector": (
        study(layers='  l: {of: vit, at: "bloks.*"}\n', metrics="  c: {kind: cka, x: l}\n"),
        "VD210", '"bloks.*"', "`blocks.*`",
    ),
    "one selector of a list": (
        study(layers='  l: {of: vit, at: ["blocks.*", "blocks.9"]}\n', metrics="  c: {kind: cka, x: l}\n"),
        "VD210", '"blocks.9"', "matches no site",
    ),
    "all left out": (
        study(layers='  l: {of: vit, at: ["blocks.*", "!blocks.*"]}\n', metrics="  c: {kind: cka, x: l}\n"),
        "VD210", '["blocks.*", "!blocks.*"]', "the selectors together",
    ),
    "role": (
        study(layers='  l: {of: vit, at: "blocks.*.mlp", role: attention}\n', metrics="  c: {kind: cka, x: l}\n"),
        "VD240", '"blocks.*.mlp"', "it matches sites with the role `output`",
    ),
    "no unit there": (
        study(ablations='  a: {kind: remove_skip, of: vit, at: "blocks.0.attn.qkv"}\n'),
        "VD240", '"blocks.0.attn.qkv"', "matches no residual unit of `vit`",
    ),
    "a model without units": (
        study(
            models=VIT + "  vgg: {arch: vgg11, options: {num_classes: 10}, weights: random, input_size: 224}\n",
            ablations="  a: {kind: remove_skip, of: vgg}\n",
        ),
        "VD210", "a", "there is no residual unit of `vgg`",
    ),
    "class token": (
        study(layers='  l: {of: res, at: "layer1.*", tokens: cls}\n', metrics="  c: {kind: cka, x: l}\n"),
        "VD242", "cls", "it has no class token",
    ),
    "token number": (
        study(layers='  l: {of: vit, at: "blocks.*", tokens: [0, 17]}\n', metrics="  c: {kind: cka, x: l}\n"),
        "VD242", "[0, 17]", "it has 17 tokens, so there is no token 17",
    ),
    "tokens of heads": (
        study(
            layers='  l: {of: vit, at: "blocks.*.attn", role: heads, tokens: mean}\n',
            metrics="  c: {kind: cka, x: l}\n",
        ),
        "VD242", "mean", "shape [3, 17, 8]",
    ),
    "windows in a layer": (
        study(
            models=SWIN, layers='  l: {of: swin, at: "layers.0.blocks.0.attn"}\n', metrics="  c: {kind: cka, x: l}\n"
        ),
        "VD242", '"layers.0.blocks.0.attn"', "windows of images",
    ),
    "windows in the distance": (
        study(models=SWIN, metrics="  d: {kind: attention_distance, of: swin, at: \"layers.0.**\"}\n"),
        "VD302", "swin", "its attention stays inside windows",
    ),
    "no attention": (
        study(metrics="  d: {kind: attention_distance, of: [vit, res]}\n"),
        "VD302", "res", "it has no attention weights",
    ),
    "input of the other sort": (
        study(layers=L, metrics="  a: {kind: accuracy, of: vit, x: l}\n"), "VD222", "x", "takes no `x`"
    ),
    "output has no places": (
        study(metrics='  a: {kind: accuracy, of: vit, at: "blocks.*"}\n'), "VD222", "at", "takes no `at`"
    ),
    "two references": (
        study(layers=L, metrics="  c: {kind: cka, x: l, y: l, against: baseline}\n"), "VD222", "against", "no `y`"
    ),
    "labels": (study(data="  p: {source: noise, total: 8, batch: 8}\n"), "VD241", "accuracy", "needs labels"),
    "conditions": (
        study(ablations='  a: {kind: remove_skip, of: vit, each: true}\n', top="max_conditions: 4\n"),
        "VD260", "4", "write `max_conditions: 6`",
    ),
    "claim": (
        study(claims="  c: {say: So., left: {metric: acc, value: top_1}, is: greater, right: 0.5}\n"),
        "VD250", "top_1", "did you mean `top1`",
    ),
    "architecture": (
        study(models="  vit: {arch: vit_tini_patch16_224, weights: random}\n"),
        "VD230", "vit_tini_patch16_224", "`vit_tiny_patch16_224`",
    ),
    "option": (
        study(models=VIT + "  res: {arch: resnet18, weights: random, options: {img_size: 32}}\n"),
        "VD231", "img_size", "write `input_size: 32`",
    ),
    "size of a built model": (
        study(models="  vit: {arch: vit_tiny_patch16_224, weights: random, input_size: 96}\n"),
        "VD233", "96", "write `options: {img_size: 96}`",
    ),
    "size that its code refuses": (
        study(models="  vit: {arch: maxvit_tiny_tf_224, weights: random, options: {img_size: 100}}\n"),
        "VD233", "100", "must be divisible by window (3)",
    ),
    "never a condition": (
        study(
            models=VIT.replace("weights: random", "train: {data: {source: digits, split: train}, without: no_skip}"),
            ablations='  no_skip: {kind: remove_skip, of: vit, at: "blocks.0.attn"}\n',
            metrics="  acc: {kind: accuracy, of: vit, under: no_skip}\n",
        ),
        "VD205", "no_skip", "trained `without`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_error_has_its_code_place_and_way_out(case: str) -> None:
    text, code, marked, words = CASES[case]
    ((found, under, message),) = problems(text)
    assert (found, under) == (code, marked)
    assert words in message


def test_several_errors_are_reported_together_in_the_order_of_the_file() -> None:
    text = study(
        layers='  l: {of: vit, at: ["blocks.*", "block.*.atn"]}\n  m: {of: vit, at: "blocks.*", tokens: [99]}\n',
        ablations='  a: {kind: remove_skip, of: res, at: "layr1.*"}\n  b: {kind: remove_skip, of: vit, at: "x"}\n',
        metrics="  c: {kind: cka, x: l}\n  e: {kind: cka, x: m}\n  d: {kind: attention_distance, of: res}\n",
    )
    assert [code for code, _, _ in problems(text)] == ["VD210", "VD242", "VD210", "VD210", "VD302"]
    with pytest.raises(StudyError) as raised:
        bind(load_text(text))
    places = [(one.span.line, one.span.column) for one in raised.value.diagnostics if one.span]
    assert places == sorted(places)


def test_what_is_wrong_with_every_variant_of_a_model_is_said_once() -> None:
    models = VIT.replace("weights: random", "weights: random, vary: {seed: [0, 1, 2]}")
    text = study(models=models, ablations='  a: {kind: remove_skip, of: vit, at: "bloks.*"}\n')
    ((code, _, message),) = problems(text)
    assert code == "VD210"
    assert "`vit[seed=0]`" in message


def bound(**parts: str) -> Plan:
    return bound_text(study(**parts))


def test_each_makes_one_condition_for_each_place_and_without_it_all_at_once() -> None:
    plan = bound(
        ablations='  every: {kind: remove_skip, of: vit, at: ["blocks.*.attn", "!blocks.0.*"], each: true}\n'
        '  together: {kind: remove_branch, of: vit, at: "blocks.*.mlp"}\n'
        '  block: {kind: remove_branch, of: vit, at: "blocks[-1]"}\n'
    )
    conditions = plan.models["vit"].conditions
    assert [c.id for c in conditions] == ["baseline", "every@blocks.1.attn", "together", "block"]
    assert [c.sites for c in conditions[2:]] == [
        ("blocks.0.mlp", "blocks.1.mlp"),
        ("blocks.1.attn", "blocks.1.mlp"),
    ]
    assert plan.models["vit"].depth_of(conditions[1]) == 0.75
    assert plan.models["res"].conditions[0].id == "baseline"
    assert plan.conditions == 5


def test_under_against_and_two_models() -> None:
    plan = bound(
        layers=L + '  r: {of: res, at: ["layer*.*", "!layer4.*"]}\n',
        ablations='  a: {kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}\n'
        '  b: {kind: remove_skip, of: res, at: "layer1.0"}\n',
        metrics="  all: {kind: cka, x: l}\n  some: {kind: cka, x: l, under: [baseline, a]}\n"
        "  drift: {kind: cka, x: l, against: baseline}\n  across: {kind: cka, x: l, y: r}\n"
        "  intact: {kind: cka, x: l, y: r, under: baseline}\n  ratio: {kind: skip_ratio, of: [vit, res], under: b}\n",
    )
    groups = {group.path: group for group in plan.groups}
    ids = ["baseline", "a@blocks.0.attn", "a@blocks.1.attn"]
    assert [v.id for v in groups["all/vit"].views] == [v.id for v in groups["some/vit"].views] == ids
    assert [(v.x, v.y) for v in groups["drift/vit"].views] == [(one, "baseline") for one in ids]
    assert [(v.x, v.y, v.owner) for v in groups["across/vit~res"].views] == [
        *((one, "baseline", "vit") for one in ids),
        ("baseline", "b", "res"),
    ]
    assert [v.id for v in groups["intact/vit~res"].views] == ["baseline"]
    assert [s.name for s in groups["across/vit~res"].y.sites] == [
        f"layer{i}.{j}" for i in (1, 2, 3) for j in (0, 1)
    ]
    assert "ratio/vit" not in groups
    assert [v.id for v in groups["ratio/res"].views] == ["b"]
    assert plan.notes == ("metric `ratio` leaves out `vit`: none of its conditions is in `under`",)


def test_variants_of_a_model_are_models() -> None:
    models = VIT.replace("weights: random", "weights: random, vary: {seed: [0, 1], options.depth: [1, 2]}")
    plan = bound(models=models, metrics="  ratio: {kind: skip_ratio, of: vit}\n")
    assert list(plan.models) == [f"vit[seed={s},options.depth={d}]" for s in (0, 1) for d in (1, 2)]
    assert [len(model.sites.units) for model in plan.models.values()] == [2, 4, 2, 4]
    assert len(plan.groups) == 4


def test_only_the_attention_that_is_read_is_unfused() -> None:
    plan = bound(
        layers='  a: {of: vit, at: "blocks.0.attn", role: attention}\n'
        '  b: {of: vit, at: "blocks.1.attn.attn_drop"}\n  c: {of: vit, at: "blocks.*.attn", role: heads}\n',
        metrics="  x: {kind: cka, x: a}\n",
    )
    assert plan.models["vit"].unfuse == {"blocks.0.attn"}
    layers = (
        '  b: {of: vit, at: "blocks.1.attn.attn_drop"}\n  c: {of: vit, at: "blocks.*.attn", role: heads}\n'
    )
    assert bound(layers=layers, metrics="  x: {kind: cka, x: b}\n").models["vit"].unfuse == {"blocks.1.attn"}
    assert not bound(layers=layers, metrics="  x: {kind: cka, x: c}\n").models["vit"].unfuse
