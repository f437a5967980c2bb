"""Means in place of values, against hooks on the plain model and means in float64.

Longer than 300 lines: the reference by hooks is held against every family, role and choice of tokens.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vitdsl import testing
from vitdsl.dsl.load import load_text
from vitdsl.dsl.study import Entry, Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations.mean_ablate import MeanAblate, Params
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.graph.edit import Lane, Place
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.site import Layout, Site
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.graph.tokens import as_tokens
from vitdsl.runtime.metrics._base import Array, Seen
from vitdsl.runtime.plan.bind import bind, bind_diagnostics
from vitdsl.runtime.plan.lanes import rewriting
from vitdsl.testing.bench import BASELINE, EDITED, Bench

POSITION, ALL = MeanAblate(Params()), MeanAblate(Params(mean="all"))
TINY: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3}
FAMILIES = {
    "vit": Model(arch="vit_tiny_patch16_224", options={**TINY, "num_classes": 5}, weights="random"),
    "resnet": Model(arch="resnet10t", options={"num_classes": 5}, weights="random", input_size=32),
    "convnext": Model(
        arch="convnext_atto",
        options={"ls_init_value": 0.5, "depths": (1, 1, 2, 1), "dims": (8, 12, 16, 20)},
        weights="random",
        input_size=64,
    ),
    "swin": Model(
        arch="swin_tiny_patch4_window7_224",
        options={"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)},
        weights="random",
    ),
    "mixer": Model(arch="mixer_s32_224", options={"img_size": 64}, weights="random"),
}
AT = {
    "vit": "blocks.1",
    "resnet": "layer2.0",
    "convnext": "stages.2.blocks.0",
    "swin": "layers.0",
    "mixer": "blocks.3",
}


@cache
def bench_of(name: str) -> Bench:
    return Bench.of(FAMILIES[name], Path(), seed=0)


def others(bench: Bench, count: int = 7) -> Tensor:
    """Images that are not those of the bench."""
    return torch.randn(count, *bench.images.shape[1:], generator=torch.Generator().manual_seed(9)) + 0.3


def keep(tensor: Tensor, *, site: Site) -> Tensor:
    return tensor.clone()


def read(sites: Sites, images: Tensor, place: Place, reducer: Reducer) -> tuple[Tensor, ...]:
    """What a reducer makes of the intact tensor at a place."""
    assert place.site is not None
    tap = Tap((place.node,), reducer, place.site)
    merged = merge(sites.model, sites.traced.graph, [Lane(BASELINE)], {BASELINE: [tap]})
    with torch.inference_mode():
        found: tuple[Tensor, ...] = merged.module(images)[merged.slots[BASELINE, tap]]
    return tuple(tensor.clone() for tensor in found)


def fitted(kind: MeanAblate, sites: Sites, place: Place, batches: Sequence[Tensor]) -> list[Tensor]:
    """The constants of a place from batches of images, as a pass over them gives."""
    fit, total = kind.fit(), dict[str, Array]()
    assert place.site is not None
    for images in batches:
        for name, value in fit.observe(Seen([read(sites, images, place, fit.reducer())])).items():
            assert value.dtype == torch.float64
            total[name] = total.get(name, np.zeros(())) + value.numpy()
    (constants,) = fit.finish(total, [place.site])
    assert tuple(one.shape for one in constants) == fit.shapes(place.site)
    return [torch.from_numpy(one) for one in constants]


def places(kind: Ablation, sites: Sites, tokens: Any = "all") -> list[Place]:
    """The first, middle and last place of every role."""
    found = []
    for role in kind.roles:
        names = [name for name in sites.names(role) if kind.refuse(sites.site(name, role)) is None]
        if names:
            some = dict.fromkeys([names[0], names[len(names) // 2], names[-1]])
            found += [sites.place(name, role, tokens=tokens) for name in some]
    return found


def both(bench: Bench, *edits: tuple[Place, Any]) -> dict[str, dict[Any, Tensor]]:
    return bench.read([Lane(BASELINE), Lane(EDITED, edits)])


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_value_is_the_mean_over_the_fits_images_and_nothing_before_it_changes(name: str) -> None:
    bench = bench_of(name)
    images = others(bench)
    found = places(POSITION, bench.sites)
    roles = {place.site.role for place in found if place.site}
    assert roles >= {"branch", "stream", "skip", "output", "input"}
    # the windows of Swin's last stage are whole images
    assert (roles >= {"attention", "heads"}) == (name in ("vit", "swin"))
    for place in found:
        assert place.site is not None
        constants = fitted(POSITION, bench.sites, place, [images])
        (intact,) = read(bench.sites, images, place, Reducer(keep))
        mean = intact.double().mean(0)
        torch.testing.assert_close(constants[0], mean, rtol=1e-12, atol=1e-14)
        rewrite = rewriting(POSITION, place, constants)
        value = bench.at_place(place, [rewrite])
        assert torch.equal(value, mean.float().expand_as(value)), place.site
        behind, lanes = bench.behind(place), both(bench, (place, rewrite))
        for node, before in bench.intact.items():
            assert torch.equal(lanes[BASELINE][node], before)
            assert node in behind or torch.equal(lanes[EDITED][node], before), (place.site, node)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_model_goes_on_from_the_mean(name: str) -> None:
    """Against the plain model, one of whose modules gives the mean instead."""
    bench = bench_of(name)
    part = bench.sites.model.get_submodule(AT[name])
    seen: list[Tensor] = []
    with torch.inference_mode():
        handle = part.register_forward_hook(lambda _, __, out: seen.append(out.double()))
        bench.sites.model(others(bench))
        handle.remove()
        mean = seen[0].mean(0, keepdim=True).float()
        handle = part.register_forward_hook(lambda _, __, out: mean.expand_as(out).clone())
        wanted = bench.sites.model(bench.images)
        handle.remove()
    place = bench.sites.place(AT[name], "output")
    constants = fitted(POSITION, bench.sites, place, [others(bench)])
    found = both(bench, (place, rewriting(POSITION, place, constants)))[EDITED][bench.sites.traced.output]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0], found[1]), "nothing of the images is left"
    assert not torch.allclose(found, bench.intact[bench.sites.traced.output])


def test_a_mean_branch_is_that_of_the_plain_model() -> None:
    bench = bench_of("vit")
    part = bench.sites.model.get_submodule("blocks.1.attn")
    with torch.inference_mode():
        seen: list[Tensor] = []
        handle = part.register_forward_hook(lambda _, __, out: seen.append(out.double().mean(0)))
        bench.sites.model(bench.images)
        handle.remove()
        handle = part.register_forward_hook(lambda _, __, out: seen[0].float().expand_as(out))
        wanted = bench.sites.model(bench.images)
        handle.remove()
    place = bench.sites.place("blocks.1.attn", "branch")
    found = both(bench, (place, bench.rewrite(POSITION, place)))[EDITED][bench.sites.traced.output]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_one_mean_for_all_positions(name: str) -> None:
    bench = bench_of(name)
    axes = {"tokens": (1,), "map": (2, 3), "map_last": (1, 2)}
    found = places(ALL, bench.sites)
    assert found and {place.site.layout for place in found if place.site} <= set(axes)
    for place in found:
        assert place.site is not None
        constants = fitted(ALL, bench.sites, place, [others(bench)])
        (intact,) = read(bench.sites, others(bench), place, Reducer(keep))
        mean = intact.double().mean((0, *axes[place.site.layout]), keepdim=True)
        value = bench.at_place(place, [rewriting(ALL, place, constants)])
        torch.testing.assert_close(value, mean.float().expand_as(value), rtol=2e-7, atol=1e-12)
        assert len(torch.unique(as_tokens(value, place.site).flatten(0, 1), dim=0)) == 1


@pytest.mark.parametrize(
    ("tokens", "chosen"), [("cls", [0]), ("spatial", list(range(1, 17))), ((2, -1), [2, 16])]
)
def test_some_tokens(tokens: Any, chosen: list[int]) -> None:
    """The fit is of the whole tensor, whichever tokens are changed; `mean: all` is the mean of all of them."""
    bench = bench_of("vit")
    kept = [token for token in range(17) if token not in chosen]
    for kind in (POSITION, ALL):
        place = bench.sites.place("blocks.1.mlp", "stream", tokens=tokens)
        constants = fitted(kind, bench.sites, place, [others(bench)])
        value, before = bench.at_place(place, [rewriting(kind, place, constants)]), bench.at_place(place, [])
        mean = constants[0] if kind is POSITION else constants[0].mean(0, keepdim=True).expand(17, -1)
        assert torch.equal(value[:, chosen], mean.float()[chosen].expand(2, -1, -1))
        assert torch.equal(value[:, kept], before[:, kept])


def test_mean_attention_still_sums_to_one() -> None:
    bench = bench_of("vit")
    place = bench.sites.place("blocks.1.attn", "attention")
    value = bench.at_place(
        place, [rewriting(POSITION, place, fitted(POSITION, bench.sites, place, [others(bench)]))]
    )
    assert value.shape == (2, 3, 17, 17) and (value > 0).all()
    torch.testing.assert_close(value.sum(-1), torch.ones(2, 3, 17), rtol=0, atol=1e-6)
    assert torch.equal(value[0], value[1])


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_fit_is_the_same_however_its_images_are_split(name: str) -> None:
    bench = Bench.of(FAMILIES[name], Path(), seed=0)
    sites = bench.sites
    sites.model.double()
    images = others(bench, 12).double()
    for role in ("stream", "branch"):
        place = sites.place(sites.names(role)[-1], role)
        (whole,) = fitted(POSITION, sites, place, [images])
        for sizes in ([1] * 12, [5, 7], [1, 2, 3, 6], [11, 1]):
            (split,) = fitted(POSITION, sites, place, images.split(sizes))
            torch.testing.assert_close(split, whole, rtol=1e-12, atol=1e-14)


def test_together_with_a_removed_skip() -> None:
    """At one unit: only the mean branch is left. Below it: the mean is still that of the intact model."""
    bench = bench_of("vit")
    branch, skip = (bench.sites.place("blocks.1.attn", role) for role in ("branch", "skip"))
    constants = fitted(POSITION, bench.sites, branch, [others(bench)])
    mean, removed = rewriting(POSITION, branch, constants), rewriting(RemoveSkip(Entry()), skip)
    stream = bench.sites.nodes["stream"]["blocks.1.attn"]
    for edits in ([(branch, mean), (skip, removed)], [(skip, removed), (branch, mean)]):
        value = both(bench, *edits)[EDITED][stream]
        assert torch.equal(value, constants[0].float().expand_as(value))
    below = bench.sites.place("blocks.0.attn", "skip")
    found = both(bench, (below, rewriting(RemoveSkip(Entry()), below)), (branch, mean))[EDITED]
    carried = bench.sites.nodes["skip"]["blocks.1.attn"]
    assert not torch.allclose(found[carried], bench.intact[carried])
    torch.testing.assert_close(found[stream], found[carried] + constants[0].float())


def test_half_precision_keeps_its_type() -> None:
    """The constants are float64; what they replace is not."""
    bench = Bench.of(FAMILIES["vit"], Path(), seed=0)
    place = bench.sites.place("blocks.1.attn", "branch")
    constants = fitted(POSITION, bench.sites, place, [others(bench)])
    half = Bench(bench.sites, bench.images.bfloat16(), {})
    bench.sites.model.bfloat16()
    value = half.at_place(place, [rewriting(POSITION, place, constants)])
    assert torch.equal(value, constants[0].bfloat16().expand_as(value))


@pytest.mark.parametrize("kind", [POSITION, ALL])
def test_laws(kind: MeanAblate) -> None:
    testing.check_ablation(kind)


# ---- where it cannot act


REFUSED: list[tuple[MeanAblate, Layout, tuple[int, ...], str]] = [
    (POSITION, "windows", (49, 24), "windows of images"),
    (ALL, "windows", (49, 24), "windows of images"),
    (ALL, "vector", (10,), "no positions; write `mean: position`"),
    (ALL, "attention", (3, 17, 17), "no positions; write `mean: position`"),
    (ALL, "other", (3, 17, 8), "no positions; write `mean: position`"),
]


@pytest.mark.parametrize(("kind", "layout", "shape", "says"), REFUSED)
def test_refused_sites(kind: MeanAblate, layout: Layout, shape: tuple[int, ...], says: str) -> None:
    assert says in (kind.refuse(Site("a", "output", shape, layout, 0.5)) or "")
    assert POSITION.refuse(Site("a", "output", (10,), "vector", 0.5)) is None


STUDY = """vitdsl: 1
study: means
data:
  probe: {{source: noise, total: 8, batch: 4}}
  calm: {{source: noise, total: 8, batch: 4}}
models:
  vit: {{arch: vit_tiny_patch16_224, weights: random,
        options: {{img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 5}}}}
ablations:
  mean: {{kind: mean_ablate, of: vit, {fields}}}
metrics:
  across: {{kind: skip_ratio, of: vit, data: probe}}
"""


def problems(fields: str) -> list[tuple[str, str, str]]:
    """Code, the text under the caret, and message with help."""
    text = STUDY.format(fields=fields)
    found = []
    for one in bind_diagnostics(load_text(text)):
        assert one.span is not None
        line = text.splitlines()[one.span.line - 1]
        marked = line[one.span.column - 1 : one.span.end_column - 1]
        found.append((one.code, marked, " ".join((one.message, *one.help))))
    return found


@pytest.mark.parametrize(
    ("fields", "code", "marked", "says"),
    [
        ('at: "blocks.*.attn", over: clam', "VD201", "clam", "did you mean `calm`"),
        ('at: "blocks.*.attn", over: vit', "VD201", "vit", "unknown data entry `vit`"),
        ('at: "blocks.*.attn", mean: none', "VD221", "none", "it takes `position`, `all`"),
        ("at: head, role: output, mean: all", "VD302", "head", "no positions write `mean: position`"),
        ('at: "blocks.0.attn", role: attention, mean: all', "VD302", '"blocks.0.attn"', "has no positions"),
        ('at: "blocks.0.attn", role: attention, tokens: cls', "VD242", "cls", "no tokens"),
        ("at: head, role: output, tokens: spatial", "VD242", "spatial", "no tokens"),
    ],
)
def test_errors_have_their_place(fields: str, code: str, marked: str, says: str) -> None:
    ((found_code, found_marked, words),) = problems(fields)
    assert (found_code, found_marked) == (code, marked), words
    assert says in words, words


def test_over_a_swept_data_entry_is_not_one_stream() -> None:
    text = STUDY.format(fields='at: "blocks.*.attn", over: calm')
    swept = text.replace("calm: {source: noise,", "calm: {source: noise, vary: {images: [4, 8]},")
    (problem,) = bind_diagnostics(load_text(swept))
    assert (problem.code, problem.label) == ("VD203", "which of them?")
    assert "`calm` makes several streams" in problem.message


def test_it_cannot_hold_during_training() -> None:
    """Its mean is that of a model that is trained; no model is there yet."""
    text = STUDY.format(fields='at: "blocks.*.attn", each: true').replace(
        "weights: random,", "train: {data: {source: digits, split: train}, without: [mean]},"
    )
    (problem,) = bind_diagnostics(load_text(text))
    assert problem.code == "VD302" and "cannot hold during training" in problem.message
    assert problem.span is not None
    line = text.splitlines()[problem.span.line - 1]
    assert line[problem.span.column - 1 : problem.span.end_column - 1] == "mean"
    single = text.replace("without: [mean]", "without: mean")
    (problem,) = bind_diagnostics(load_text(single))
    assert problem.span is not None and problem.code == "VD302"


def test_a_study_with_a_fit_over_other_images_binds() -> None:
    plan = bind(load_text(STUDY.format(fields='at: "blocks.*.attn", each: true, over: calm')))
    kinds = {edit.kind for condition in plan.models["vit"].conditions for edit in condition.edits}
    assert {kind.over() for kind in kinds} == {"calm"} and len(plan.models["vit"].conditions) == 3
