"""Files that training leaves behind: wrappers, prefixes, several sets of weights, heads of other widths."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV2
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from foreign import error, filled, images, through_study, tiny
from studies import RESNET18, TINY_VIT, changed
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError
from vitdsl.dsl.study import Model
from vitdsl.runtime.models.loading import load

State = dict[str, Tensor]
NO_HEAD = changed(TINY_VIT, {"num_classes": 0})


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def without_head(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "fc."))}


def lightning(state: State) -> dict[str, Any]:
    """`Trainer.save_checkpoint`: the module's attributes are prefixes; plain values around."""
    loss = {"criterion.weight": torch.ones(10)}
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**under("model.", state), **loss},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(24)}}}],
        "hyper_parameters": {"lr": 0.1},
    }


PREFIXES = ("module.", "model.", "backbone.", "encoder.", "net.vit.", "_orig_mod.", "module._orig_mod.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_all_names_is_found(tmp_path: Path, prefix: str) -> None:
    model = tiny()
    save_file(under(prefix, model.state_dict()), tmp_path / "w.safetensors")
    ready = through_study(tmp_path, {"file": "w.safetensors"})
    assert error(ready.module, model, images()) == 0
    assert ready.weights.detail["read_under"] == prefix.rstrip(".")
    assert ready.weights.detail["notes"] == [f"read under `{prefix.rstrip('.')}`"]


MADE: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "lightning.ckpt": lambda model: lightning(dict(model.state_dict())),
    "swa.pt": lambda model: dict(AveragedModel(model).state_dict()),
    "deit.pth": lambda model: {
        "model": model.state_dict(),
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(lr=0.1),
    },
    "nested.pth.tar": lambda model: {"run": {"weights": {"net": under("module.", dict(model.state_dict()))}}},
}


@pytest.mark.parametrize("name", MADE)
def test_what_trainers_save(tmp_path: Path, name: str) -> None:
    model = tiny()
    torch.save(MADE[name](model), tmp_path / name)
    ready = through_study(tmp_path, {"file": name})
    assert error(ready.module, model, images()) == 0
    assert ready.weights.detail["fresh"] == ready.weights.detail["unused"] == []


def test_timms_own_saver_and_its_average(tmp_path: Path) -> None:
    """Written by `timm.utils.CheckpointSaver`; the average is read, as timm does, and `key` chooses the other."""
    model, average = tiny(0), tiny(1)
    ema = ModelEmaV2(model)
    ema.module.load_state_dict(average.state_dict())
    saver = CheckpointSaver(
        model, torch.optim.SGD(model.parameters()), model_ema=ema, checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(0, 0.5)
    file = "checkpoint-0.pth.tar"
    ready = through_study(tmp_path, {"file": file})
    assert error(ready.module, average, images()) == 0 < error(ready.module, model, images())
    assert ready.weights.detail["read_under"] == "state_dict_ema"
    assert any("left `state_dict`" in note for note in ready.weights.detail["notes"])
    chosen = through_study(tmp_path, {"file": file, "key": "state_dict"})
    assert error(chosen.module, model, images()) == 0
    assert chosen.weights.detail["read_under"] == "state_dict"


def dino(student: State, teacher: State) -> dict[str, Any]:
    """`main_dino.py`: a DDP student, a teacher, each with a projection head beside the backbone."""
    head = {"head.mlp.0.weight": torch.zeros(8, 24), "head.last_layer.weight_v": torch.zeros(8, 8)}
    return {
        "student": under("module.", {**under("backbone.", without_head(student)), **head}),
        "teacher": {**under("backbone.", without_head(teacher)), **head},
        "dino_loss": {"center": torch.zeros(1, 8)},
        "epoch": 1,
    }


def moco_v3(trained: State, momentum: State) -> dict[str, Any]:
    """`main_moco.py`: both encoders carry an MLP in place of the classifier."""
    mlp = {"head.0.weight": torch.zeros(8, 24), "head.1.running_mean": torch.zeros(8)}
    return {
        "arch": "vit_small",
        "state_dict": {
            **under("module.base_encoder.", {**without_head(trained), **mlp}),
            **under("module.momentum_encoder.", {**without_head(momentum), **mlp}),
            "module.predictor.0.weight": torch.zeros(8, 8),
        },
    }


@pytest.mark.parametrize(
    ("made", "first", "read", "other"),
    [
        (dino, 1, "teacher.backbone", "student"),
        (moco_v3, 0, "state_dict.module.base_encoder", "state_dict.module.momentum_encoder"),
    ],
)
def test_two_networks_in_one_file(tmp_path: Path, made: Any, first: int, read: str, other: str) -> None:
    both = [tiny(0, num_classes=0), tiny(1, num_classes=0)]
    torch.save(made(*(dict(model.state_dict()) for model in both)), tmp_path / "w.pth")
    ready = through_study(tmp_path, {"file": "w.pth"}, NO_HEAD)
    assert error(ready.module, both[first], images()) == 0
    assert ready.weights.detail["read_under"] == read
    chosen = through_study(tmp_path, {"file": "w.pth", "key": other}, NO_HEAD)
    assert error(chosen.module, both[1 - first], images()) == 0


def test_a_moco_resnet_with_its_queue(tmp_path: Path) -> None:
    trained, momentum = (filled(timm.create_model("resnet18", num_classes=0), seed) for seed in (0, 1))
    head = {"fc.0.weight": torch.zeros(8, 512), "fc.2.bias": torch.zeros(8)}
    state = {
        **under("module.encoder_q.", {**trained.state_dict(), **head}),
        **under("module.encoder_k.", {**momentum.state_dict(), **head}),
        "module.queue": torch.zeros(8, 16),
    }
    torch.save({"arch": "resnet18", "state_dict": state}, tmp_path / "w.pth.tar")
    ready = through_study(tmp_path, {"file": "w.pth.tar"}, changed(RESNET18, {"num_classes": 0}))
    assert error(ready.module, trained, images()) == 0


def test_an_autoencoder_with_its_decoder(tmp_path: Path) -> None:
    """MAE's pre-training checkpoint: encoder and decoder side by side."""
    model = tiny(num_classes=0)
    decoder = {
        "mask_token": torch.zeros(1, 1, 16),
        "decoder_embed.weight": torch.zeros(16, 24),
        "decoder_pos_embed": torch.zeros(1, 17, 16),
        "decoder_blocks.0.norm1.weight": torch.zeros(16),
        "decoder_norm.weight": torch.zeros(16),
        "decoder_pred.weight": torch.zeros(192, 16),
    }
    torch.save({"model": {**model.state_dict(), **decoder}}, tmp_path / "w.pth")
    ready = through_study(tmp_path, {"file": "w.pth"}, NO_HEAD)
    assert error(ready.module, model, images()) == 0
    assert "decoder_norm.weight" in ready.weights.detail["unused"]


def test_shards_with_their_index_and_as_a_folder(tmp_path: Path) -> None:
    model = tiny()
    names = list(model.state_dict())
    shards = {"a-1.safetensors": names[:9], "a-2.safetensors": names[9:]}
    for file, part in shards.items():
        save_file({name: model.state_dict()[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    named = through_study(tmp_path, {"file": "model.safetensors.index.json"})
    assert error(named.module, model, images()) == 0
    assert named.weights == through_study(tmp_path, {"file": "."}).weights
    save_file({name: model.state_dict()[name] + 1 for name in names[9:]}, tmp_path / "a-2.safetensors")
    other = through_study(tmp_path, {"file": "."}).weights.detail
    assert other["file_sha256"] != named.weights.detail["file_sha256"]
    (tmp_path / "a-2.safetensors").unlink()
    with pytest.raises(EnvironmentProblem, match="VD401 .*`a-2.safetensors` are not there"):
        through_study(tmp_path, {"file": "."})


def test_a_folder_that_timm_saved(tmp_path: Path) -> None:
    model = tiny()
    timm.models.save_for_hf(model, str(tmp_path), model_config={"architecture": "vit_tiny_patch16_224"})
    assert error(through_study(tmp_path, {"file": "."}).module, model, images()) == 0
    written = f"write `arch: vit_tiny_patch16_224` and `weights: {{file: {tmp_path}}}`"
    with pytest.raises(StudyError, match=re.escape(written)):
        through_study(tmp_path, {"file": "."}, changed(TINY_VIT, arch=f"'local-dir:{tmp_path}'"))
    with pytest.raises(EnvironmentProblem, match="VD405 .*is of `vit_tiny_patch16_224`.*write `arch"):
        through_study(tmp_path, {"file": "."}, changed(TINY_VIT, arch="vit_small_patch16_224"))


def test_grey_weights_are_spread_over_three_channels(tmp_path: Path) -> None:
    grey = tiny(in_chans=1)
    save_file(grey.state_dict(), tmp_path / "w.safetensors")
    ready = through_study(tmp_path, {"file": "w.safetensors"})
    x = images(channels=1)
    assert error(ready.module, lambda image: grey(image[:, :1]), x.expand(-1, 3, -1, -1)) < 1e-5
    assert ready.config.input_size == (3, 32, 32)
    assert ready.weights.detail["notes"] == [
        "`patch_embed.proj.weight` made [24, 3, 8, 8] from [24, 1, 8, 8] as timm does"
    ]


def test_another_grid_is_resized_and_said(tmp_path: Path) -> None:
    save_file(tiny().state_dict(), tmp_path / "w.safetensors")
    ready = through_study(tmp_path, {"file": "w.safetensors"}, changed(TINY_VIT, {"img_size": 64}))
    assert ready.weights.detail["notes"] == ["`pos_embed` made [1, 65, 24] from [1, 17, 24] as timm does"]


@pytest.mark.parametrize(
    ("saved", "options", "text"),
    [
        (
            {},
            {"num_classes": 7},
            r"of 7 classes: it has .*`head.weight` \[10, 24\].*write `options: \{num_classes: 10\}",
        ),
        ({"num_classes": 0}, {}, "of 10 classes: it lacks `head.weight`.*num_classes: 0"),
        ({"class_token": False, "global_pool": "avg"}, {}, "lacks `cls_token`"),
        ({}, {"class_token": False, "global_pool": "avg"}, "has besides `cls_token`"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, saved: Any, options: Any, text: str) -> None:
    save_file(tiny(**saved).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(EnvironmentProblem, match=f"VD405 .*{text}"):
        through_study(tmp_path, {"file": "w.safetensors"}, changed(TINY_VIT, options))


def test_a_fresh_head_is_drawn_although_the_files_fits(tmp_path: Path) -> None:
    model = tiny()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    fields = changed(TINY_VIT, weights={"file": "w.safetensors", "head": "fresh"})
    ready = load(Model(**fields), seed=0, folder=tmp_path)
    assert ready.weights.detail["fresh"] == ["head.weight", "head.bias"]
    assert not torch.equal(ready.module.state_dict()["head.weight"], model.state_dict()["head.weight"])


@pytest.mark.parametrize(
    ("content", "weights", "text"),
    [
        (lambda s: {"a": s, "b": s}, {}, "2 sets of weights that fit as well: `a`, `b`.*key: a"),
        (lambda s: {"a": s}, {"key": "c"}, "nothing under `c`.*start with `a`"),
        (lambda s: {"a": s, "c": Path("x")}, {}, "would run code: `pathlib"),
        (lambda s: {"epoch": 3}, {}, "holds no tensors"),
        (lambda s: {"a": s, "a.head.bias": s["head.bias"]}, {}, "holds `a.head.bias` twice"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, content: Any, weights: Any, text: str) -> None:
    torch.save(content(dict(tiny().state_dict())), tmp_path / "w.pth")
    with pytest.raises(EnvironmentProblem, match=f"VD405 .*{text}"):
        through_study(tmp_path, {"file": "w.pth", **weights})


def test_a_program_is_not_run(tmp_path: Path) -> None:
    torch.jit.trace(tiny(), images()).save(tmp_path / "w.pt")
    with pytest.raises(EnvironmentProblem, match="VD405 .*TorchScript program.*torch.jit.load"):
        through_study(tmp_path, {"file": "w.pt"})
