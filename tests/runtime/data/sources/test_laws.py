"""Every source obeys the laws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitdsl import testing
from vitdsl.runtime.data.sources._base import SOURCES

PARAMS: dict[str, list[dict[str, Any]]] = {
    "digits": [{"split": "test"}],
    "files": [{"path": ["images/a/1.png", "images/b/4.webp", "images/a/2.jpg"]}],
    "folder": [{"path": "images"}, {"path": "images", "labels": "none"}],
    "noise": [{"total": 9, "size": 16}, {"total": 9, "size": 16, "classes": 3, "distribution": "uniform"}],
    "shapes": [{"split": "train", "difficulty": "medium"}],
    "timm": [{"name": "", "root": "images"}],
}
CASES = [(name, params) for name, several in PARAMS.items() for params in several]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.jpg", "b/3.png", "b/4.webp", "b/5.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return tmp_path


@pytest.mark.parametrize(("name", "params"), CASES, ids=[f"{name}-{len(params)}" for name, params in CASES])
def test_laws(folder: Path, name: str, params: dict[str, Any]) -> None:
    testing.check_source(SOURCES.kinds()[name], params, folder)
