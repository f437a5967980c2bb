"""What models, variants and conditions are called: by what differs, never cut, no two alike."""

import json
from typing import Any

import numpy as np
import pytest

from vitdsl.reports.figures._base import told_apart
from vitdsl.reports.figures._lines import Line, distinct
from vitdsl.reports.names import names_of
from vitdsl.reports.sections import plots, sections
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json

DEPTHS = {"options.depth": [2, 4], "options.embed_dim": [24, 48]}


def manifest(run: Run, **changes: Any) -> Manifest:
    return Manifest.model_validate_json(json.dumps(as_json(run.manifest) | changes))


def variants(run: Run, base: str, *, seeds: int = 0, **fields: Any) -> dict[str, Any]:
    model = as_json(run.manifest)["models"]["vit"] | fields
    found = {}
    for depth in DEPTHS["options.depth"]:
        for width in DEPTHS["options.embed_dim"]:
            axes: dict[str, Any] = {"options.depth": depth, "options.embed_dim": width}
            for seed in range(seeds) if seeds else [None]:
                here = axes if seed is None else axes | {"train.seed": seed}
                name = ",".join(f"{axis}={value}" for axis, value in here.items())
                found[f"{base}[{name}]"] = model | {"coordinates": here}
    return found


def test_variants_of_one_model_are_called_by_what_differs(run: Run) -> None:
    names = names_of(manifest(run, models=variants(run, "net"), conditions={}))
    assert names.model("net[options.depth=4,options.embed_dim=48]") == "depth 4, embed_dim 48"


def test_beside_others_they_have_their_name_or_title(run: Run) -> None:
    others = as_json(run.manifest)["models"]
    names = names_of(manifest(run, models=variants(run, "net") | others, conditions={}))
    assert names.model("net[options.depth=2,options.embed_dim=48]") == "net, depth 2, embed_dim 48"
    assert names.model("resnet") == "resnet"
    names = names_of(manifest(run, models=variants(run, "net", title="A ViT"), conditions={}))
    assert names.model("net[options.depth=2,options.embed_dim=24]") == "A ViT, depth 2, embed_dim 24"


def test_several_trainings_as_one_lose_the_seed(run: Run) -> None:
    names = names_of(manifest(run, models=variants(run, "net", seeds=3), conditions={}))
    assert names.model("net[options.depth=2,options.embed_dim=24,train.seed=1]") == (
        "depth 2, embed_dim 24, seed 1"
    )
    assert names.model("net[options.depth=2,options.embed_dim=24]") == "depth 2, embed_dim 24"
    assert len(names.order) == 4


def test_axes_that_end_alike_keep_their_paths(run: Run) -> None:
    model = as_json(run.manifest)["models"]["vit"]
    both = {f"net[a.x={i},b.x={i}]": model | {"coordinates": {"a.x": i, "b.x": i}} for i in (1, 2)}
    names = names_of(manifest(run, models=both, conditions={}))
    assert names.model("net[a.x=1,b.x=1]") == "a.x 1, b.x 1"


def test_conditions_have_their_ablation_sweep_and_place(run: Run) -> None:
    ablations = as_json(run.manifest)["ablations"]
    name = next(iter(ablations))
    ablations[name]["title"] = "A skip removed"
    one = {"ablation": name, "kind": "noise", "sites": ["blocks.0"], "depth": 0.1}
    every = [
        {"id": "baseline", "ablation": "", "kind": "", "sites": [], "depth": None, "coordinates": {}},
        one | {"id": "a", "coordinates": {"params.strength": 0.5}},
        one | {"id": "b", "coordinates": {"params.strength": 1}, "sites": ["blocks.0"]},
        one | {"id": "c", "coordinates": {"params.strength": 1}, "sites": ["blocks.1"]},
        one | {"id": "d", "coordinates": {"params.strength": 1}, "sites": ["blocks.1"]},
    ]
    names = names_of(manifest(run, ablations=ablations, conditions={"vit": every}))
    assert names.condition("vit", "a") == "A skip removed, strength 0.5"
    assert names.condition("vit", "b") == "A skip removed, strength 1 at blocks.0"
    assert names.condition("vit", "c") == "c" and names.condition("vit", "d") == "d", "alike: the ids"
    assert names.condition("vit", "baseline") == "intact"
    assert names.condition("resnet", "a") == "a"


def test_no_two_sections_panels_or_series_are_called_or_look_alike(run: Run) -> None:
    found = sections(run)
    assert len({section.title for section in found}) == len(found)
    for section in found:
        for plot in plots(section):
            titles = [panel.title for panel in plot.panels]
            assert len(set(titles)) == len(titles), titles
            labels = [part.label for part in told_apart(plot.parts)]
            assert len(set(labels)) == len(labels), labels


@pytest.mark.parametrize("count", [1, 7, 60])
def test_lines_that_look_alike_take_another_look(count: int) -> None:
    nothing = np.zeros(1)
    lines = [Line(str(i), nothing, nothing, nothing, nothing, i % 2, i // 9) for i in range(count)]
    assert len({line.look for line in distinct(lines)}) == min(count, 72)
