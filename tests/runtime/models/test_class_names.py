"""The config beside weights names their outputs, and images whose classes stand in another order are refused."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

from studies import TINY_VIT, changed, study
from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.load import load_source
from vitdsl.runtime.models.loading import load
from vitdsl.runtime.plan.bind import bind, bind_diagnostics
from vitdsl.runtime.run.classes import check_order
from vitdsl.runtime.run.inputs import stream_of

NAMES = ("tabby, tabby cat", "whippet", "axolotl, mud puppy")
TIMM = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "label_names": list(NAMES)}
TRANSFORMERS = {"id2label": {"1": "whippet", "0": "tabby, tabby cat", "2": "axolotl, mud puppy"}}
GENERIC = {"id2label": {str(i): f"LABEL_{i}" for i in range(3)}}


def there(folder: Path, config: Mapping[str, Any], classes: tuple[str, ...], weights: str = "") -> Path:
    """A study of a checkpoint with a config beside it, and images of some classes."""
    (folder / "net").mkdir()
    torch.save(
        timm.create_model("vit_tiny_patch16_224", **{**TINY_VIT["options"], "num_classes": 3}).state_dict(),
        folder / "net" / "weights.pth",
    )
    (folder / "net" / "config.json").write_text(json.dumps(config))
    for name in classes:
        (folder / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / "photos" / name / "a.png")
    net = changed(TINY_VIT, {"num_classes": 3}, weights=weights or "{file: net/weights.pth}")
    (folder / "study.yaml").write_text(
        study(
            "order",
            data={"photos": "{source: folder, path: photos, batch: 3}"},
            models={"net": net},
            metrics={"acc": "{kind: accuracy, of: net}"},
        )
    )
    return folder / "study.yaml"


SORTED, OTHERS = ("axolotl", "tabby cat", "whippet"), ("0", "1", "2")


@pytest.mark.parametrize(
    "config", [TIMM, {**TIMM, "label_names": None, "pretrained_cfg": TIMM}, TRANSFORMERS]
)
def test_another_order_is_refused(tmp_path: Path, config: Mapping[str, Any]) -> None:
    (problem,) = bind_diagnostics(load_source(there(tmp_path, config, SORTED)))
    assert problem.code == "VD404"
    assert "class 0 of source `folder` is `axolotl`, and that is output 2 of model `net`" in problem.message
    assert "(axolotl, mud puppy)" in problem.message and "labels: {classes: ./classes.txt}" in problem.help[0]
    (tmp_path / "classes.txt").write_text("".join(f"{name.partition(',')[0]}\n" for name in NAMES))
    text = (tmp_path / "study.yaml").read_text()
    (tmp_path / "photos" / "tabby cat").rename(tmp_path / "photos" / "tabby")
    mapped = text.replace("batch: 3}", "batch: 3, labels: {classes: ./classes.txt}}")
    (tmp_path / "study.yaml").write_text(mapped)
    assert bind_diagnostics(load_source(tmp_path / "study.yaml")) == ()


@pytest.mark.parametrize(
    ("config", "classes", "weights"),
    [
        (TIMM, ("0_tabby", "1_whippet", "2_axolotl"), ""),  # names that say nothing
        (TIMM, OTHERS, ""),
        (GENERIC, SORTED, ""),
        ({"id2label": {"0": "axolotl", "7": "whippet", "2": "tabby cat"}}, SORTED, ""),
        ({}, SORTED, ""),
        (TIMM, SORTED, "{file: net/weights.pth, head: fresh}"),
    ],
)
def test_what_is_not_known_is_not_refused(
    tmp_path: Path, config: Mapping[str, Any], classes: tuple[str, ...], weights: str
) -> None:
    found: tuple[Diagnostic, ...] = bind_diagnostics(load_source(there(tmp_path, config, classes, weights)))
    assert "VD404" not in {one.code for one in found}


def test_weights_of_the_hub_are_asked_once_they_are_here(tmp_path: Path) -> None:
    plan = bind(load_source(there(tmp_path, {}, SORTED)))
    loaded = load(plan.models["net"].entry, seed=0, folder=tmp_path)
    streams = {"photos": stream_of(plan, "photos")}
    check_order(plan, streams, {"net": loaded})
    of_hub = replace(loaded, weights=replace(loaded.weights, origin="hub"))
    check_order(plan, streams, {"net": of_hub})
    loaded.module.pretrained_cfg = {**loaded.module.pretrained_cfg, "label_names": list(NAMES)}  # type: ignore[dict-item, assignment]
    check_order(plan, streams, {"net": loaded})
    with pytest.raises(StudyError, match="output 2 of model `net`"):
        check_order(plan, streams, {"net": of_hub})
