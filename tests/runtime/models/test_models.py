"""Models: what timm is asked for, where weights come from, and which images the built model takes."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from studies import TINY
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.study import Model
from vitdsl.runtime.models import architectures, checkpoints
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models import preprocessing as images

OPTIONS = {**TINY, "patch_size": 4, "num_heads": 2}


def vit(**fields: Any) -> Model:
    options = {**OPTIONS, **fields.pop("options", {})}
    return Model(**{"arch": "vit_tiny_patch16_224", "weights": "random", **fields, "options": options})


def loaded(model: Model, folder: Path = Path(), seed: int = 0) -> models.LoadedModel:
    return models.load(model, seed=seed, folder=folder)


@pytest.mark.parametrize(
    ("arch", "options", "input_size", "size"),
    [
        ("vit_tiny_patch16_224", {}, None, 224),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}, None, 32),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, 64, 64),
        ("vit_small_patch14_dinov2", {"img_size": 70, "depth": 1}, None, 70),
        ("resnet18", {}, 32, 32),
        ("efficientnet_b0", {}, 64, 64),
        ("convnext_atto", {}, None, 224),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 2, "depths": [1, 1, 1, 1]},
            None,
            64,
        ),
        ("mixer_s32_224", {"img_size": 64}, None, 64),
        ("maxvit_rmlp_pico_rw_256", {"img_size": 64}, None, 64),
        ("eva02_tiny_patch14_224", {"img_size": 56, "depth": 1}, None, 56),
    ],
)
def test_the_transform_gives_what_the_built_model_takes(
    arch: str, options: dict[str, Any], input_size: int | None, size: int
) -> None:
    model = Model(arch=arch, options=options, input_size=input_size, weights="random")
    ready = loaded(model)
    assert ready.config.input_size == (3, size, size)
    assert images.preprocessing(models.skeleton(model), model) == ready.config
    x = images.transform(ready.config)(Image.new("RGB", (50, 80), (9, 99, 199)))
    assert x.shape == (3, size, size)
    assert len(ready.module(x[None])) == 1


def test_the_checkpoints_crop_is_kept_at_any_size() -> None:
    at = {
        size: loaded(Model(arch="resnet18", input_size=size, weights="random")).config for size in (32, 224)
    }
    cfg = timm.get_pretrained_cfg("resnet18")
    assert cfg is not None and at[32].crop_pct == at[224].crop_pct == cfg.crop_pct


def test_a_skeleton_needs_no_memory() -> None:
    module = models.skeleton(Model(arch="vit_giant_patch14_dinov2", weights="pretrained"))
    assert all(parameter.is_meta for parameter in module.parameters())
    assert not module.training


def test_random_weights_repeat_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = loaded(vit()), loaded(vit()), loaded(vit(seed=5))
    assert torch.equal(before, torch.get_rng_state())
    assert first.weights.sha256 == second.weights.sha256 != other.weights.sha256
    assert other.weights.sha256 == loaded(vit(), seed=5).weights.sha256
    assert first.weights.detail["seed"] == 0
    assert not first.module.training and not any(p.requires_grad for p in first.module.parameters())


def test_the_model_is_timms() -> None:
    torch.manual_seed(0)
    plain = timm.create_model("resnet18").eval()
    ready = loaded(Model(arch="resnet18", weights="random"))
    ready.module.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(plain(x), ready.module(x))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    return loaded(vit(seed=1)).module.state_dict()


def save(state: dict[str, torch.Tensor], path: Path, under: str | None = None) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({k: v.clone() for k, v in state.items()}, str(path))
    else:
        torch.save({under: state} if under else state, path)
    return path


@pytest.mark.parametrize(
    ("name", "under"), [("w.safetensors", None), ("w.pth", None), ("w.pt", "state_dict")]
)
def test_a_file_is_loaded(
    tmp_path: Path, checkpoint: dict[str, torch.Tensor], name: str, under: str | None
) -> None:
    save(checkpoint, tmp_path / name, under)
    ready = loaded(vit(weights={"file": name}), tmp_path)
    assert ready.weights.sha256 == loaded(vit(seed=1)).weights.sha256
    assert ready.weights.origin == "file" and ready.weights.detail["fresh"] == []
    assert len(ready.weights.detail["file_sha256"]) == 64


def test_position_embeddings_are_resized(tmp_path: Path, checkpoint: dict[str, torch.Tensor]) -> None:
    save(checkpoint, tmp_path / "w.safetensors")
    ready = loaded(vit(weights={"file": "w.safetensors"}, options={"img_size": 64}), tmp_path)
    pos = ready.module.state_dict()["pos_embed"]
    assert pos.shape == (1, 1 + 16 * 16, 24)
    assert torch.allclose(pos[:, 0], checkpoint["pos_embed"][:, 0])
    assert ready.module(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_foreign_names_go_through_timms_filter(tmp_path: Path, checkpoint: dict[str, torch.Tensor]) -> None:
    save({f"module.{key}": value for key, value in checkpoint.items()}, tmp_path / "w.pth", "model")
    assert loaded(vit(weights={"file": "w.pth"}), tmp_path).weights.detail["fresh"] == []


@pytest.mark.parametrize("classes", [7, 0])
def test_a_head_of_other_classes_is_drawn_and_said(
    tmp_path: Path, checkpoint: dict[str, torch.Tensor], classes: int
) -> None:
    save(checkpoint, tmp_path / "w.pth")
    weights = {"file": "w.pth", "head": "fresh" if classes else "own"}
    ready = loaded(vit(weights=weights, options={"num_classes": classes}), tmp_path)
    detail = ready.weights.detail
    assert detail["fresh"] == (["head.weight", "head.bias"] if classes else [])
    assert detail["unused"] == ([] if classes else ["head.weight", "head.bias"])
    assert torch.equal(
        ready.module.state_dict()["blocks.0.attn.qkv.weight"], checkpoint["blocks.0.attn.qkv.weight"]
    )
    again = loaded(vit(weights=weights, options={"num_classes": classes}), tmp_path)
    assert again.weights.sha256 == ready.weights.sha256


def test_a_users_own_head_is_kept(tmp_path: Path, checkpoint: dict[str, torch.Tensor]) -> None:
    """The trap: timm drops the head of a local file whose class count is not the registry's (1000)."""
    save(checkpoint, tmp_path / "w.pth")
    ready = loaded(vit(weights={"file": "w.pth"}), tmp_path)
    assert torch.equal(ready.module.state_dict()["head.weight"], checkpoint["head.weight"])


@pytest.mark.parametrize("arch", ["resnet18", "ecaresnet50d_pruned"])
def test_watching_leaves_torch_as_it_was(tmp_path: Path, arch: str) -> None:
    """timm copies a model that it prunes: what watched the copy while it was built must be silent afterwards."""
    method = torch.nn.Module.load_state_dict
    model = Model(arch=arch, weights={"file": "w.pth"})
    state = loaded(Model(arch=arch, weights="random")).module.state_dict()
    save(state, tmp_path / "w.pth")
    ready = loaded(model, tmp_path)
    assert torch.nn.Module.load_state_dict is method
    assert not torch.nn.modules.module._global_module_registration_hooks
    with pytest.raises(RuntimeError, match="Missing key"):
        ready.module.load_state_dict(
            {key: value for key, value in state.items() if not key.startswith("fc.")}
        )


@pytest.mark.parametrize(("strict", "extra"), [(True, False), (False, False), (False, True), (True, True)])
def test_timms_own_route_is_watched_too(strict: bool, extra: bool) -> None:
    """Pretrained and hub weights come through `create_model`, here with the tensors in place of an address."""
    state = dict(loaded(vit(seed=1)).module.state_dict()) | ({"extra": torch.ones(1)} if extra else {})
    options = {"img_size": 64, "num_classes": 7}
    with checkpoints.fitting(strict=strict) as fit:
        if strict and extra:
            with pytest.raises(checkpoints.Misfit, match="has besides `extra`"):
                architectures.create(vit(), pretrained=True, pretrained_cfg_overlay={"state_dict": state})
            return
        module = architectures.create(
            vit(options=options), pretrained=True, pretrained_cfg_overlay={"state_dict": state}
        )
    assert fit.fresh == ["head.weight", "head.bias"] and fit.unused == (["extra"] if extra else [])
    pos = module.state_dict()["pos_embed"]
    assert pos.shape == (1, 1 + 16 * 16, 24) and torch.allclose(pos[:, 0], state["pos_embed"][:, 0])


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("prepare", "options", "text"),
    [
        (lambda s, p: save({k: v for k, v in s.items() if k != "norm.weight"}, p), {}, "lacks `norm.weight`"),
        (lambda s, p: save({**s, "extra": torch.ones(2)}, p), {}, "has besides `extra`"),
        (
            lambda s, p: save(s, p),
            {"embed_dim": 48},
            r"another shape `cls_token \[1, 1, 24\], the model \[1, 1, 48\]`",
        ),
        (lambda s, p: save(s, p), {"depth": 3}, "lacks `blocks.2.norm1.weight`"),
        (lambda s, p: p.write_bytes(b"nothing"), {}, "w.pth"),
        (lambda s, p: torch.save(Evil(), p), {}, "would run code: `builtins.print`"),
        (lambda s, p: torch.save([1, 2], p), {}, "w.pth"),
    ],
)
def test_a_file_that_does_not_fit(
    tmp_path: Path, checkpoint: dict[str, torch.Tensor], prepare: Any, options: Any, text: str, capsys: Any
) -> None:
    prepare(checkpoint, tmp_path / "w.pth")
    with pytest.raises(EnvironmentProblem, match=f"VD405 .*{text}") as caught:
        loaded(vit(weights={"file": "w.pth"}, options=options), tmp_path)
    assert caught.value.diagnostics[0].help
    assert "executed" not in capsys.readouterr().out


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("weights", ["pretrained", {"hub": "timm/resnet18.a1_in1k"}])
def test_no_network_says_what_to_do(weights: Any) -> None:
    with pytest.raises(EnvironmentProblem, match="VD406") as caught:
        loaded(Model(arch="resnet18", weights=weights))
    assert any("{file:" in text for text in caught.value.diagnostics[0].help)


def test_a_repository_of_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load_model_config_from_hf", lambda name: ({}, "resnet50", None))
    with pytest.raises(StudyError, match="VD232 .*holds a `resnet50`, not a `resnet18`"):
        loaded(Model(arch="resnet18", weights={"hub": "someone/model"}))


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"arch": "vit_tiny_patch16_22"}, "VD230", "vit_tiny_patch16_224"),
        ({"arch": "nonsense!"}, "VD230", "vitdsl list models"),
        ({"arch": "hf-hub:timm/resnet18.a1_in1k"}, "VD230", "weights: {hub: timm/resnet18.a1_in1k}"),
        ({"arch": "vit_tiny_patch16_224.augreg_in1"}, "VD230", "augreg_in21k"),
        ({"arch": "resnet18", "options": {"bloc": 1}}, "VD231", "did you mean `block`"),
        ({"arch": "resnet18", "options": {"img_size": 32}}, "VD231", "input_size: 32"),
        ({"arch": "vit_tiny_patch16_224", "options": {"depth": "x"}}, "VD231", "without it, it can be built"),
        ({"arch": "mixer_s32_224", "options": {"num_blocks": 1}}, "VD231", "leave `num_blocks` out"),
        ({"arch": "resnet18", "options": {"pretrained": True}}, "VD231", "weights: pretrained"),
        ({"arch": "resnet18", "options": {"drop_rate": None}}, "VD231", "leave `drop_rate` out"),
        ({"arch": "resnet18", "options": {"in_chans": 4}}, "VD231", "in_chans: 1"),
        ({"arch": "vit_small_patch16_18x2_224", "weights": "pretrained"}, "VD232", "weights: random"),
        ({"arch": "vit_tiny_patch16_224", "input_size": 32}, "VD233", "options: {img_size: 32}"),
        ({"arch": "mixer_s32_224", "input_size": 32}, "VD233", "options: {img_size: 32}"),
    ],
)
def test_what_timm_does_not_take(fields: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(StudyError, match=code) as caught:
        models.skeleton(Model(**{"weights": "random", **fields}))
    assert any(text in line for line in caught.value.diagnostics[0].help)


def test_a_model_without_weights() -> None:
    with pytest.raises(VitdslError, match="VD232"):
        loaded(Model(arch="resnet18"))


def test_the_description_is_complete() -> None:
    said = models.model_facts(loaded(vit()))
    assert said["parameters"] == sum(p.numel() for p in loaded(vit()).module.parameters())
    assert said["preprocessing"]["input_size"] == (3, 32, 32)
    assert set(said) == {"arch", "options", "parameters", "weights", "preprocessing"}
