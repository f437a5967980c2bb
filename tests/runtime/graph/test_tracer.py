"""Programs are followed with plain sizes; the number of images stays free; refusals name the real reason."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.functional import functionalise
from vitdsl.runtime.graph.propagate import modules_of
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.trace import trace

SIZE = (3, 12, 8)


class Net(nn.Module):
    """A convolution, then plain code."""

    def __init__(self, body: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = body
        self.conv = nn.Conv2d(3, 4, 1)
        self.shift = nn.Parameter(torch.randn(4, 12, 8))
        self.register_buffer("index", torch.arange(8).flip(0))
        self.plain = torch.randn(8)

    def forward(self, x: Tensor) -> Any:
        return self.body(self, self.conv(x))


def runs(model: nn.Module, size: tuple[int, ...] = SIZE) -> None:
    """The graph traced from the model's skeleton gives what the model gives, for three batch sizes."""
    model = model.eval()
    graph = trace(model, size).graph
    functionalise(graph, dict(model.named_modules()))
    module = fx.GraphModule(modules_of(model, graph), graph)
    for count in (1, 2, 5):
        images = torch.randn(count, *size)
        with torch.no_grad():
            torch.testing.assert_close(module(images), model(images), rtol=1e-6, atol=1e-6)


def pads(net: Any, x: Tensor) -> Tensor:
    _, _, h, w = x.shape
    if h % 5 or w % 5:
        x = F.pad(x, (0, -w % 5, 0, -h % 5))
    assert x.shape[-1] == 10
    b, c, h, w = x.shape
    windows = x.view(b, c, h // 5, 5, w // 5, 5).permute(0, 2, 4, 3, 5, 1).reshape(-1, 25, c)
    assert len(windows) == b * 6
    images = int(windows.shape[0] / (h * w / 25))
    return windows.view(images, -1, c).mean(1)


def loops(net: Any, x: Tensor) -> Tensor:
    parts = [x[..., i] * (i + 1) for i in range(x.size(-1))]
    return torch.stack(parts, -1) + len(parts) + math.prod(x.shape[1:])


def repeats(net: Any, x: Tensor) -> Tensor:
    for _ in range(120):
        x = x + net.conv(torch.cat([x[:, :1]] * 3, 1)) / 1000
    return x


def makes(net: Any, x: Tensor) -> Tensor:
    steps = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
    rows, cols = torch.meshgrid(torch.arange(12), torch.arange(8), indexing="ij")
    mask = torch.zeros(x.shape[0], 12, 8, device=x.device)
    mask[:, 2:5] = 3.0
    mask += (rows * cols).to(x.device)
    return x + steps / 7 + mask[:, None] + net.plain.exp() + net.shift.mean(0)[None, None]


def writes(net: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = x[:, :2] * 2
    y[:, 0, net.index[:2]] = 0.5
    return y


def buffers(net: Any, x: Tensor) -> Tensor:
    if net.index.shape[0] == 8:
        x = x[..., net.index.view(2, 4).t().reshape(-1)]
    return x.repeat(1, 2, 1, 1) if x.ndim == 4 else x


def unpacks(net: Any, x: Tensor) -> Tensor:
    first, *others = x.split([1, 1, 2], dim=1)
    values, places = others[-1].max(dim=1)
    return (first + values[:, None] + places[:, None] + others[0].mT.mT) / len(x)


def expands(net: Any, x: Tensor) -> Tensor:
    token = net.shift[:1, :1].expand(x.shape[0], -1, -1)
    return torch.cat([token, x.flatten(2).mean(1, keepdim=True)], -1) * (2 * len(x) // x.shape[0])


@pytest.mark.parametrize("body", [pads, loops, repeats, makes, writes, buffers, unpacks, expands])
def test_graphs_of_plain_code_give_what_the_code_gives_for_any_number_of_images(body: Any) -> None:
    runs(Net(body))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return x * 2, (x.shape[-2], x.shape[-1])


def test_what_modules_return_beside_tensors_stays_plain() -> None:
    class Takes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            y, (rows, cols) = self.pair(x)
            return y[:, :, : rows // 2, : cols // 2]

    runs(Takes())
    traced = trace(Takes().eval(), SIZE)
    assert traced.outputs["pair"] in traced.output.all_input_nodes


def by_batch(net: Any, x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] % 13 else x


def by_batch_alike(net: Any, x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] % 13 else x + 2


def with_batch(net: Any, x: Tensor) -> Tensor:
    return x * (1 / len(x))


def over_batch(net: Any, x: Tensor) -> Tensor:
    return torch.stack([one * 2 for one in x.unbind(0)])


def one_by_one(net: Any, x: Tensor) -> Tensor:
    return torch.cat([net.conv(torch.cat([x[i : i + 1, :1]] * 3, 1)) for i in range(len(x))])


def one_by_one_without_modules(net: Any, x: Tensor) -> Tensor:
    return torch.cat([x[i : i + 1] * 2 for i in range(len(x))])


def by_numbers(net: Any, x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x


def by_item(net: Any, x: Tensor) -> Tensor:
    return x[..., : int(x.argmax().item())]


def by_device(net: Any, x: Tensor) -> Tensor:
    return x * 2 if x.device.type == "cuda" else x


def raises(net: Any, x: Tensor) -> Tensor:
    raise KeyError("of its own")


def unknown(net: Any, x: Tensor) -> Tensor:
    return x * 2 if isinstance(x, Tensor) else x.undefined_name


def too_small(net: Any, x: Tensor) -> Tensor:
    assert x.shape[-1] >= 16, f"{x.shape[-1]} columns are too few"
    return x


def takes_no_such(net: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, torch.ones(1, 4, 16, 16, device=x.device))


REFUSED = {
    by_batch: ("VD301", "number of operations depends on the number of images"),
    by_batch_alike: ("VD301", "it does other things for other numbers of images"),
    with_batch: ("VD301", "it computes with the number of images (0.0769"),
    over_batch: ("VD301", "number of operations depends on the number of images"),
    one_by_one: ("VD301", "number of operations depends on the number of images"),
    one_by_one_without_modules: ("VD301", "number of operations depends on the number of images"),
    by_numbers: ("VD301", "decides by the numbers in a tensor, in `by_numbers` (test_tracer.py, line "),
    by_item: ("VD301", "decides by the numbers in a tensor, in `by_item`"),
    by_device: ("VD301", "decides by the kind of device that it runs on, in `by_device`"),
    unknown: ("VD301", "in `unknown` (test_tracer.py, line "),
    raises: ("VD233", "does not take images of 12 x 8: 'of its own'"),
    too_small: ("VD233", "does not take images of 12 x 8: 8 columns are too few"),
    takes_no_such: ("VD233", "does not take images of 12 x 8: "),
}


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body.__name__)
def test_refusals_name_the_real_reason(body: Any) -> None:
    code, why = REFUSED[body]
    with pytest.raises(StudyError) as raised:
        trace(Net(body).eval(), SIZE)
    (problem,) = raised.value.diagnostics
    assert problem.code == code
    assert why in problem.message


def of(arch: str, size: tuple[int, int], **options: Any) -> tuple[nn.Module, Sites]:
    """A model with random weights, none of them zero, and its sites, found on its skeleton."""
    with torch.device("meta"):
        bare = timm.create_model(arch, **options).eval()
    sites = sites_of(bare, (3, *size))
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(arch, **options).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model, same_sites(model, sites)


GEMMA = {"embed_dim": 48, "depth": 2, "num_heads": 4, "num_kv_heads": 2, "mlp_hidden_dim": 64, "head_dim": 12}
SWIN = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
FAMILIES: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {
    "distilled": ("deit_tiny_distilled_patch16_224", (48, 80), {"depth": 2, "dynamic_img_size": True}),
    "dynamic": ("vit_tiny_patch16_224", (48, 80), {"depth": 2, "dynamic_img_size": True}),
    "padded": ("vit_tiny_patch16_224", (50, 70), {"depth": 2, "dynamic_img_size": True, "dynamic_img_pad": True}),
    "mobilevit": ("mobilevit_xxs", (72, 96), {}),
    "mobilevitv2": ("mobilevitv2_050", (72, 96), {}),
    "tiny_vit": ("tiny_vit_5m_224", (64, 96), {}),
    "convit": ("convit_tiny", (32, 32), {"img_size": 32, "depth": 3, "local_up_to_layer": 2}),
    "twins": ("twins_svt_small", (60, 92), {}),
    "efficientvit": ("efficientvit_m0", (96, 96), {"img_size": 96}),
    "swin": ("swin_tiny_patch4_window7_224", (40, 56), {**SWIN, "img_size": (40, 56)}),
    "swin loose": ("swin_tiny_patch4_window7_224", (40, 56), {**SWIN, "img_size": 32, "strict_img_size": False}),
    "swin dynamic": ("swin_tiny_patch4_window7_224", (40, 60), {**SWIN, "img_size": 32, "dynamic_img_size": True}),
    "swinv2": ("swinv2_tiny_window8_256", (40, 56), {**SWIN, "img_size": 32, "strict_img_size": False}),
    "mvitv2": ("mvitv2_tiny", (64, 64), {"img_size": 64}),
    "crossvit": ("crossvit_9_240", (240, 240), {}),
    "nfnet": ("test_nfnet", (64, 64), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_graphs_of_families_equal_them(name: str) -> None:
    arch, size, options = FAMILIES[name]
    model, sites = of(arch, size, **options)
    graph = sites.traced.graph
    module = fx.GraphModule(modules_of(model, graph), graph)
    for count in (1, 2):
        images = torch.randn(count, 3, *size)
        with torch.no_grad():
            expected = model(images)
            error = (module(images) - expected).abs().max() / expected.abs().max()
        assert error < 1e-5, name
