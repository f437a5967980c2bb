"""Full memory, wherever it is: an error with its code, its place in the study and what to do, never a traceback."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from studies import FAULTLESS as STUDY
from studies import RUN
from vitdsl.cli import run
from vitdsl.runtime.models import architectures

FULL = RuntimeError("could not create a primitive")
"""All that oneDNN says of it."""


def _built(real: Any) -> Any:
    """Building a model, which finds memory full where it has weights."""

    def built(*given: Any) -> Any:
        if torch.empty(0).device.type != "meta":
            raise FULL
        return real(*given)

    return built


def _full(*_: Any, **__: Any) -> Any:
    raise FULL


def _unmapped(*_: Any, **__: Any) -> Any:
    raise ImportError("libscipy.so: failed to map segment from shared object")


def _unforked(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("what", "full", "words", "line"),
    [
        ("runtime.models.architectures._built", _built(architectures._built), "model `net` is made ready", 4),
        ("runtime.train.weights.safetensors.safe_open", _full, "model `net` is made ready", 4),
        ("runtime.train.loop.create_optimizer_v2", _full, "in training with batches of 12", 4),
        ("runtime.run.execute.Runner._forward", _full, "with batches of 8 images", 3),
        ("runtime.run.engine.compile_model", _full, "with batches of 8 images", 3),
        ("runtime.data.sources.folder.to_rgb", _full, "where images are opened", 3),
        ("runtime.data.sources.digits.Digits.load", _full, "with batches of 8 images", 3),
        ("runtime.plan.bind.sites_of", _full, "model `net` is made ready", 4),
        ("runtime.run.run.estimate", _full, "where `within/net` is estimated", 6),
        ("runtime.run.run.estimate", _unmapped, "where `within/net` is estimated", 6),
        ("runtime.run.execute.Runner._forward", _unforked, "with batches of 8 images", 3),
    ],
)
def test_memory_may_be_full_anywhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
    full: Any,
    words: str,
    line: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITDSL_CACHE", str(tmp_path / "cache"))
    text = STUDY
    if ".train." in what:
        train = "train: {data: {source: digits, split: train, images: 24, batch: 12}, epochs: 1}"
        text = text.replace("weights: random", train)
    if ".folder." in what:
        Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
        text = text.replace(
            "source: digits, split: test, images: 24", "source: folder, path: ., unreadable: skip"
        )
    (tmp_path / "study.yaml").write_text(text)
    if "safe_open" in what:
        assert run(RUN) == 0
        capsys.readouterr()
    monkeypatch.setattr(f"vitdsl.{what}", full)
    assert run([*RUN, "--force"] if "safe_open" not in what else [*RUN, "--out", "others"]) == 3
    err = capsys.readouterr().err
    assert "error[VD409]: out of memory" in err and words in err and "= help: " in err
    assert f"--> study.yaml:{line}:" in err
