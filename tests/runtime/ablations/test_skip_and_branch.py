"""Removed skips and branches against models whose code was changed by hand."""

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitdsl.dsl.study import Entry, Model
from vitdsl.runtime.ablations._base import ABLATIONS, Ablation
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.sites import same_sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.metrics._output import OUTPUT
from vitdsl.runtime.models.loading import load, preprocessing, skeleton
from vitdsl.runtime.plan.lanes import rewriting

TINY: dict[str, Any] = {"embed_dim": 24, "num_heads": 3, "depth": 3, "num_classes": 5}
MODELS = {
    "vit": Model(arch="vit_tiny_patch16_224", options={**TINY, "img_size": 32}, weights="random"),
    "dinov2": Model(
        arch="vit_small_patch14_dinov2",
        options={**TINY, "img_size": 56, "init_values": 0.4},
        weights="random",
    ),
    "resnet": Model(arch="resnet18", options={"zero_init_last": False}, weights="random", input_size=32),
    "swin": Model(
        arch="swin_tiny_patch4_window7_224",
        options={"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)},
        weights="random",
    ),
    "mixer": Model(arch="mixer_s32_224", options={"img_size": 64}, weights="random"),
    "convnext": Model(arch="convnext_atto", options={"ls_init_value": 0.5}, weights="random", input_size=64),
}
SKIP, BRANCH = RemoveSkip(Entry()), RemoveBranch(Entry())


def built(name: str) -> tuple[nn.Module, Tensor]:
    module = load(MODELS[name], seed=0, folder=Path()).module
    for parameter in module.parameters():
        if not parameter.any():  # timm starts the head of a Mixer at zero
            nn.init.trunc_normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(2))
    size = preprocessing(module, MODELS[name]).input_size
    return module, torch.randn(2, *size, generator=torch.Generator().manual_seed(1))


def ablated(name: str, module: nn.Module, kind: Ablation, at: str, images: Tensor) -> Tensor:
    sites = same_sites(module, sites_of(skeleton(MODELS[name]), tuple(images.shape[1:])))
    place = sites.place(at, kind.roles[0])
    lane = Lane("ablated", ((place, rewriting(kind, place)),))
    tap = Tap((sites.traced.output,), OUTPUT, sites.site("", "output"))
    merged = merge(
        module, sites.traced.graph, [Lane("baseline"), lane], {"ablated": [tap], "baseline": [tap]}
    )
    with torch.inference_mode():
        found = merged.module(images)
        torch.testing.assert_close(
            found[merged.slots["baseline", tap]][0], module(images), rtol=1e-4, atol=1e-5
        )
    result: Tensor = found[merged.slots["ablated", tap]][0]
    return result


def changed(module: nn.Module, path: str, forward: Callable[..., Tensor], images: Tensor) -> Tensor:
    """The model's output with another forward for one of its modules."""
    part = module.get_submodule(path)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(part, "forward", MethodType(forward, part))
        result: Tensor = module(images)
    return result


def vit_attn_without_skip(self: Any, x: Tensor, **_: Any) -> Tensor:
    x = self.drop_path1(self.ls1(self.attn(self.norm1(x))))
    return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def vit_mlp_without_skip(self: Any, x: Tensor, **_: Any) -> Tensor:
    x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
    return self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def vit_without_attn(self: Any, x: Tensor, **_: Any) -> Tensor:
    return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def vit_without_mlp(self: Any, x: Tensor, **_: Any) -> Tensor:
    return x + self.drop_path1(self.ls1(self.attn(self.norm1(x))))


def resnet_without_skip(self: Any, x: Tensor) -> Tensor:
    return self.act2(self.bn2(self.conv2(self.aa(self.drop_block(self.act1(self.bn1(self.conv1(x))))))))


def resnet_without_branch(self: Any, x: Tensor) -> Tensor:
    return self.act2(x if self.downsample is None else self.downsample(x))


def swin_attn_without_skip(self: Any, x: Tensor) -> Tensor:
    batch, height, width, channels = x.shape
    x = self.drop_path1(self._attn(self.norm1(x))).reshape(batch, -1, channels)
    return (x + self.drop_path2(self.mlp(self.norm2(x)))).reshape(batch, height, width, channels)


def swin_without_mlp(self: Any, x: Tensor) -> Tensor:
    return x + self.drop_path1(self._attn(self.norm1(x)))


def mixer_tokens_without_skip(self: Any, x: Tensor) -> Tensor:
    x = self.drop_path(self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2))
    return x + self.drop_path(self.mlp_channels(self.norm2(x)))


def mixer_without_channels(self: Any, x: Tensor) -> Tensor:
    return x + self.drop_path(self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2))


def convnext_without_skip(self: Any, x: Tensor) -> Tensor:
    x = self.mlp(self.norm(self.conv_dw(x)))
    return x.mul(self.gamma.reshape(1, -1, 1, 1))


def identity(self: Any, x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize(
    ("name", "kind", "at", "path", "forward"),
    [
        ("vit", SKIP, "blocks.1.attn", "blocks.1", vit_attn_without_skip),
        ("vit", SKIP, "blocks.2.mlp", "blocks.2", vit_mlp_without_skip),
        ("vit", BRANCH, "blocks.0.attn", "blocks.0", vit_without_attn),
        ("vit", BRANCH, "blocks.2.mlp", "blocks.2", vit_without_mlp),
        ("dinov2", SKIP, "blocks.1.attn", "blocks.1", vit_attn_without_skip),
        ("dinov2", SKIP, "blocks.0.mlp", "blocks.0", vit_mlp_without_skip),
        ("dinov2", BRANCH, "blocks.1.attn", "blocks.1", vit_without_attn),
        ("resnet", SKIP, "layer1.1", "layer1.1", resnet_without_skip),
        ("resnet", SKIP, "layer2.0", "layer2.0", resnet_without_skip),
        ("resnet", BRANCH, "layer3.1", "layer3.1", resnet_without_branch),
        ("resnet", BRANCH, "layer3.0", "layer3.0", resnet_without_branch),
        ("swin", SKIP, "layers.0.blocks.1.attn", "layers.0.blocks.1", swin_attn_without_skip),
        ("swin", BRANCH, "layers.1.blocks.0.mlp", "layers.1.blocks.0", swin_without_mlp),
        ("mixer", SKIP, "blocks.3.mlp_tokens", "blocks.3", mixer_tokens_without_skip),
        ("mixer", BRANCH, "blocks.3.mlp_channels", "blocks.3", mixer_without_channels),
        ("convnext", SKIP, "stages.2.blocks.1", "stages.2.blocks.1", convnext_without_skip),
        ("convnext", BRANCH, "stages.2.blocks.1", "stages.2.blocks.1", identity),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", value.__class__.__name__),
)
def test_an_ablation_is_what_a_changed_forward_computes(
    name: str, kind: Ablation, at: str, path: str, forward: Callable[..., Tensor]
) -> None:
    module, images = built(name)
    ours, theirs = ablated(name, module, kind, at, images), changed(module, path, forward, images)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    with torch.inference_mode():
        intact = module(images)
    assert float((ours - intact).abs().max()) > 1e-3 * float(intact.abs().max())


def test_both_kinds_are_registered_under_the_names_of_their_files() -> None:
    kinds = ABLATIONS.kinds()
    assert kinds["remove_skip"] is RemoveSkip
    assert kinds["remove_branch"] is RemoveBranch
    for kind, role in ((RemoveSkip, "skip"), (RemoveBranch, "branch")):
        assert kind.roles == (role,)
        assert not kind.Params.model_fields
