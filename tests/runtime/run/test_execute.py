"""What a compiled model gives: the plain model's numbers, at every site."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.sites import same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.models.preprocessing import preprocessing

TINY: dict[str, Any] = {"embed_dim": 24, "num_heads": 3, "depth": 3, "num_classes": 7}
MODELS: dict[str, Model] = {
    name: Model(arch=arch, options=options, weights="random")
    for name, (arch, options, size) in {
        "vit": ("vit_tiny_patch16_224", {**TINY, "img_size": 48}, None),
        "deit": ("deit_tiny_distilled_patch16_224", {**TINY, "img_size": 48}, None),
        "dinov2": ("vit_small_patch14_reg4_dinov2", {**TINY, "img_size": 70, "init_values": 0.5}, None),
        "resnet18": ("resnet18", {"num_classes": 7}, 48),
        "resnet50": ("resnet50", {"num_classes": 7}, 48),
        "efficientnet": ("efficientnet_b0", {"num_classes": 7}, 48),
        "convnext": ("convnext_atto", {"num_classes": 7, "ls_init_value": 0.5}, 64),
        "swin": (
            "swin_tiny_patch4_window7_224",
            {"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)},
            None,
        ),
        "mixer": ("mixer_s32_224", {"img_size": 96, "num_classes": 7}, None),
        "nfnet": ("nf_regnet_b0", {"num_classes": 7}, 48),
    }.items()
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A model with weights that keep every path alive: no scale, gain or running statistic at its start."""
    module = load(MODELS[name], seed=0, folder=Path()).module
    drawn = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if float(parameter.abs().max()) in (0.0, 1.0):
            parameter.data += 0.3 * torch.rand(parameter.shape, generator=drawn)
    for path, buffer in module.named_buffers():
        if path.endswith(("running_mean", "running_var")):
            buffer += 0.3 * torch.rand(buffer.shape, generator=drawn)
    return module, preprocessing(module, MODELS[name]).input_size


def images(size: tuple[int, ...], n: int = 2) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(2))


def whole(tensor: Tensor, *, site: Any) -> Tensor:
    return tensor.clone()


def sites_for(module: nn.Module, name: str, unfuse: frozenset[str] | None) -> Any:
    skeletal = sites_of(skeleton(MODELS[name]), preprocessing(module, MODELS[name]).input_size, unfuse=unfuse)
    return same_sites(module, skeletal)


def read(module: nn.Module, name: str, unfuse: frozenset[str] | None, batch: Tensor) -> dict[Any, Tensor]:
    """Every site of some roles, and the output, read through the merged graph."""
    sites = sites_for(module, name, unfuse)
    wanted = [(role, path) for role in ("output", "stream", "skip", "branch") for path in sites.names(role)]
    taps = {
        key: Tap((sites.nodes[key[0]][key[1]],), Reducer(whole), sites.site(key[1], key[0])) for key in wanted
    }
    taps["", ""] = Tap((sites.traced.output,), Reducer(whole), sites.site("", "output"))
    merged = merge(module, sites.traced.graph, [Lane("baseline")], {"baseline": list(taps.values())})
    found = merged.module(batch)
    return {key: found[merged.slots["baseline", tap]][0] for key, tap in taps.items()}


def hooked(module: nn.Module, batch: Tensor) -> dict[str, list[Tensor]]:
    """What each module returned, cloned before anything could overwrite it, call by call; and the output."""
    seen: dict[str, list[Tensor]] = {}

    def keep(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.setdefault(path, []).append(output.clone())

        return hook

    handles = [part.register_forward_hook(keep(path)) for path, part in module.named_modules()]
    seen["output of all"] = [module(batch).clone()]
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_every_module_output_equals_a_cloning_hook_bit_for_bit(name: str) -> None:
    module, size = built(name)
    batch = images(size)
    with torch.inference_mode():
        theirs, ours = hooked(module, batch), read(module, name, frozenset(), batch)
    assert torch.equal(ours["", ""], theirs["output of all"][0])
    compared = 0
    for (role, path), tensor in ours.items():
        if role == "output":
            base, _, call = path.partition(":")
            assert torch.equal(tensor, theirs[base][int(call or 0)]), path
            compared += 1
    assert compared >= (len(theirs) - 2) * 0.7  # a batch norm with its activation is one node


@pytest.mark.parametrize(
    "name", ["vit", "deit", "dinov2", "swin", "resnet50", "efficientnet", "convnext", "mixer"]
)
def test_unfused_is_the_same_to_rounding_and_each_stream_is_skip_plus_branch(name: str) -> None:
    module, size = built(name)
    batch = images(size)
    with torch.inference_mode():
        plain, ours = module(batch), read(module, name, None, batch)
    torch.testing.assert_close(ours["", ""], plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))
    streams = [path for role, path in ours if role == "stream"]
    assert streams
    for path in streams:
        assert torch.equal(ours["stream", path], ours["skip", path] + ours["branch", path]), path


def test_a_tap_before_an_inplace_add_reads_what_the_module_gave() -> None:
    """In `layer1.0` the add and the ReLU overwrite what bn2 returned; a hook that does not clone reads the sum."""
    module, size = built("resnet18")
    batch = images(size)
    kept: list[Tensor] = []
    with torch.inference_mode():
        ours = read(module, "resnet18", None, batch)
        handle = module.get_submodule("layer1.0.bn2").register_forward_hook(
            lambda _, __, out: kept.append(out)
        )
        module(batch)
        handle.remove()
        right = hooked(module, batch)["layer1.0.bn2"][0]
    assert torch.equal(ours["output", "layer1.0.bn2"], right)
    assert torch.equal(ours["branch", "layer1.0"], right)
    assert not torch.equal(kept[0], right)
    assert float(right.min()) < 0 <= float(kept[0].min())


def test_nothing_of_the_model_changes() -> None:
    module, size = built("vit")
    before = copy.deepcopy(module.state_dict())
    flags = {path: dict(vars(part)) for path, part in module.named_modules()}
    flags = {
        path: {k: v for k, v in one.items() if isinstance(v, (bool, int, float, str))}
        for path, one in flags.items()
    }
    with torch.inference_mode():
        read(module, "vit", None, images(size))
    for path, part in module.named_modules():
        assert {k: vars(part)[k] for k in flags[path]} == flags[path], path
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert module.blocks[0].attn.fused_attn is True  # type: ignore[union-attr, index]
