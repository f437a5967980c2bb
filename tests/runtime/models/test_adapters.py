"""Low-rank adapters: made and saved with peft over a model of timm or transformers, merged here, the same outputs."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from foreign import LARGEST_ERROR, error, filled, images, through_study, tiny
from studies import TINY_VIT, changed
from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.models import loading

peft = pytest.importorskip("peft")

BOTH = {"file": "base.safetensors", "adapter": "adapter"}


def adapted(model: Any, **config: Any) -> Any:
    """A model with an adapter that changes it: peft's own starts at zero."""
    made = peft.get_peft_model(model, peft.LoraConfig(**config))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    return made.eval()


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["qkv"]},
    "root": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["qkv", "proj", "fc1"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["qkv", "fc2"],
        "rank_pattern": {"blocks.1.mlp.fc2": 2},
        "alpha_pattern": {"blocks.0.attn.qkv": 3, "fc2": 5},
    },
    "head": {"r": 2, "lora_alpha": 1, "target_modules": ["qkv"], "modules_to_save": ["head"]},
    "convolution": {"r": 2, "lora_alpha": 8, "target_modules": ["patch_embed.proj"]},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_of_a_timm_model(tmp_path: Path, name: str) -> None:
    base = tiny()
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    plain = tiny()
    theirs = adapted(base, **CONFIGS[name])
    theirs.save_pretrained(tmp_path / "adapter")
    ready = through_study(tmp_path, BOTH)
    assert error(ready.module, theirs, images()) < LARGEST_ERROR < error(plain, theirs, images())
    assert any("changed by the adapter" in note for note in ready.weights.detail["notes"])


def test_a_head_of_other_classes_comes_from_the_adapter(tmp_path: Path) -> None:
    base = tiny(num_classes=1000)
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    base.reset_classifier(10)
    theirs = adapted(base, **CONFIGS["head"])
    theirs.save_pretrained(tmp_path / "adapter")
    ready = through_study(tmp_path, BOTH)
    assert ready.weights.detail["fresh"] == []
    assert error(ready.module, theirs, images()) < LARGEST_ERROR


@pytest.mark.parametrize("name", ["plain", "head"])
def test_an_adapter_of_weights_of_the_hub(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository is a file here; its classifier has other classes where the adapter brings one of its own."""
    base = tiny(num_classes=1000 if name == "head" else 10)
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    saved = {
        "file": str(tmp_path / "base.safetensors"),
        "input_size": (3, 32, 32),
        "num_classes": base.num_classes,
    }
    config = {
        **saved,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "classifier": "head",
        "first_conv": "patch_embed.proj",
    }
    base.reset_classifier(10) if name == "head" else None
    theirs = adapted(base, **CONFIGS[name])
    theirs.save_pretrained(tmp_path / "adapter")
    monkeypatch.setattr(
        loading,
        "load_model_config_from_hf",
        lambda hub: (config, "vit_tiny_patch16_224", TINY_VIT["options"]),
    )
    ready = through_study(tmp_path, {"hub": "some/where", "adapter": "adapter"})
    assert error(ready.module, theirs, images()) < LARGEST_ERROR
    assert ready.weights.detail["fresh"] == [] and len(ready.weights.detail["adapter_sha256"]) == 64
    with pytest.raises(EnvironmentProblem, match="VD401.*nowhere"):
        through_study(tmp_path, {"hub": "some/where", "adapter": "nowhere"})
    wider = changed(TINY_VIT, {"embed_dim": 48})
    torch.manual_seed(0)
    save_file(tiny(embed_dim=48).state_dict(), tmp_path / "base.safetensors")
    with pytest.raises(EnvironmentProblem, match="VD405.*the adapter changes"):
        through_study(tmp_path, {"hub": "some/where", "adapter": "adapter"}, wider)


@pytest.mark.parametrize("old_names", [False, True])
def test_an_adapter_of_a_model_of_transformers(tmp_path: Path, old_names: bool) -> None:
    """Names of modules are those of version 5; adapters of before have the names of files."""
    hf = pytest.importorskip("transformers")
    config = hf.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-6,
        num_labels=10,
    )
    base = filled(hf.ViTForImageClassification(config))
    base.save_pretrained(tmp_path / "base")
    theirs = adapted(
        base, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]
    )
    theirs.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    if old_names:
        renamed = {
            name.replace("vit.layers.", "vit.encoder.layer.")
            .replace("attention.q_proj", "attention.attention.query")
            .replace("attention.v_proj", "attention.attention.value"): tensor
            for name, tensor in load_file(file).items()
        }
        assert any("attention.attention.query" in name for name in renamed)
        save_file(renamed, file)
    ready = through_study(tmp_path, {"file": "base", "adapter": "adapter"})
    assert error(ready.module, lambda x: theirs(x).logits, images()) < LARGEST_ERROR
    assert "2 tensors changed by the adapter, 2 taken from it" in ready.weights.detail["notes"]


def test_the_record_names_the_adapter(tmp_path: Path) -> None:
    base = tiny()
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    adapted(base, **CONFIGS["plain"]).save_pretrained(tmp_path / "adapter")
    first = through_study(tmp_path, BOTH).weights
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 16}))
    second = through_study(tmp_path, BOTH).weights
    assert first.detail["adapter"].endswith("adapter_model.safetensors")
    assert first.detail["file_sha256"] == second.detail["file_sha256"]
    assert first.detail["adapter_sha256"] != second.detail["adapter_sha256"] and first.sha256 != second.sha256


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"use_dora": True}, "`use_dora`.*merge_and_unload"),
        ({"peft_type": "IA3"}, "type `IA3`"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
        ({"alpha_pattern": {"(": 1}}, "is no pattern"),
    ],
)
def test_what_is_no_sum_is_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    base = tiny()
    save_file(base.state_dict(), tmp_path / "base.safetensors")
    adapted(base, **CONFIGS["plain"]).save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EnvironmentProblem, match=f"VD405 .*{text}"):
        through_study(tmp_path, BOTH)


def test_what_it_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_file(tiny().state_dict(), tmp_path / "base.safetensors")
    wide = timm.create_model("vit_tiny_patch16_224", **{**TINY_VIT["options"], "embed_dim": 48})
    adapted(wide, **CONFIGS["plain"]).save_pretrained(tmp_path / "adapter")
    with pytest.raises(EnvironmentProblem, match=r"VD405 .*changes `blocks.0.attn.qkv.weight` \[144, 48\]"):
        through_study(tmp_path, BOTH)
    with pytest.raises(EnvironmentProblem, match="VD405 .*it is an adapter.*file: BASE"):
        through_study(tmp_path, {"file": "adapter/adapter_model.safetensors"})
    with pytest.raises(EnvironmentProblem, match="VD401 .*no adapter"):
        through_study(tmp_path, {"file": "base.safetensors", "adapter": "."}, changed(TINY_VIT))
    (tmp_path / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(EnvironmentProblem, match="VD405 .*no `adapter_config.json`"):
        through_study(tmp_path, BOTH)
