"""Images that are not square: what models see, what their graphs give, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import fx

from studies import bound, loaded, study
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.propagate import modules_of
from vitdsl.runtime.graph.sites import same_sites
from vitdsl.runtime.models.preprocessing import transform
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

MODELS: dict[str, dict[str, Any]] = {
    "res": {"arch": "resnet10t", "options": {"num_classes": 10, "zero_init_last": False}, "input_size": [64, 96]},
    "vit": {"arch": "vit_tiny_patch16_224", "options": {"img_size": [48, 80], "depth": 2, "num_classes": 10}},
    "swin": {
        "arch": "swin_tiny_patch4_window7_224",
        "options": {
            "img_size": 32, "dynamic_img_size": True, "window_size": 4, "depths": [2, 2], "num_heads": [2, 4],
            "embed_dim": 32, "num_classes": 10,
        },
        "input_size": [40, 60],
    },
}  # fmt: skip
SIZES = {"res": (64, 96), "vit": (48, 80), "swin": (40, 60)}
TEXT = study(
    "oblong",
    data={"probe": "{source: noise, total: 16, size: 96, classes: 10, batch: 8}"},
    models={name: {**model, "weights": "random"} for name, model in MODELS.items()},
    metrics={"ratio": "{kind: skip_ratio, of: [res, vit, swin]}"},
)


def test_models_see_images_of_height_and_width_and_graphs_equal_them() -> None:
    plan = bound(TEXT)
    for name, size in SIZES.items():
        model = loaded(plan, name)
        assert model.config.input_size == (3, *size)
        made = transform(model.config)(Image.fromarray(np.zeros((200, 300, 3), np.uint8)))
        assert tuple(made.shape) == (3, *size)
        sites = same_sites(model.module, plan.models[name].sites)
        graph = fx.GraphModule(modules_of(model.module, sites.traced.graph), sites.traced.graph)
        images = torch.randn(3, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(graph(images), model.module(images), rtol=1e-5, atol=1e-6)
    assert plan.models["res"].sites.site("layer4", "output").shape == (512, 2, 3)
    assert plan.models["vit"].sites.site("blocks.1", "output").grid == (3, 5)


def test_a_study_of_them_runs(tmp_path: Path) -> None:
    found = open_run(run(bound(TEXT), out=tmp_path).folder)
    assert all(check.ok for check in found.manifest.trust)
    for name in SIZES:
        assert found.manifest.models[name].preprocessing.input_size[1:] == SIZES[name]
        assert np.isfinite(found.groups[f"ratio/{name}"]["ratio"]).any()


def test_a_size_that_a_model_was_not_built_for_is_refused() -> None:
    text = TEXT.replace("options: {img_size: [48, 80]", "input_size: [48, 80], options: {img_size: [80, 48]")
    with pytest.raises(StudyError, match=r"`input_size: \[48, 80\]`, but .* was built for 80 x 48 pixels"):
        bound(text)
