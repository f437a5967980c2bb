"""Where the positions of a tensor come from, held against tensors that carry their own places through the same views.

Two tensors are sent through a chain of operations: one has each pixel's row as its value, one its column. Whatever an
axis is said to be must give these values back at every position.
"""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitdsl.runtime.graph.axes import (
    Axis,
    Blank,
    Cut,
    Factor,
    Images,
    Joined,
    Line,
    Named,
    Part,
    Unknown,
    Width,
)
from vitdsl.runtime.graph.flow import Flow
from vitdsl.runtime.graph.reading import Tokens, layout_of, tokens_of

BATCH, ROWS, COLS, WIDTH = 3, 8, 12, 5
NOWHERE = -1.0
"""The place of what is not of the image: padding and tokens of parameters."""


def carried(which: str) -> Tensor:
    """A map `[batch, width, row, col]` whose values are the rows, or the columns, of its pixels."""
    rows, cols = torch.meshgrid(torch.arange(ROWS), torch.arange(COLS), indexing="ij")
    return (rows if which == "row" else cols).expand(BATCH, WIDTH, ROWS, COLS).double().clone()


def places(axis: Axis, which: str) -> Tensor:
    """For each position of an axis the part of the row (column) that the axis gives; NaN where it says nothing."""
    found = torch.zeros(1, dtype=torch.float64)
    for factor in axis:
        found = (found[:, None] + of_factor(factor, which)[None]).flatten()
    return found


def of_factor(factor: Factor, which: str) -> Tensor:
    match factor:
        case Images() | Width():
            return torch.zeros(factor.size, dtype=torch.float64)
        case Line(size=size, axis=axis, step=step):
            return torch.arange(size).double() * float(step) * (axis == which)
        case Part(size=size, whole=whole, step=step):
            return of_factor(whole, which)[torch.arange(size) * step]
        case Cut(size=size, whole=whole, start=start):
            return places(whole, which)[start : start + size]
        case Joined(parts=parts):
            return torch.cat([places(part, which) for part in parts])
        case Named() | Blank():
            return torch.full((factor.size,), torch.nan, dtype=torch.float64)
    assert isinstance(factor, Unknown)
    return torch.full((factor.size,), torch.nan, dtype=torch.float64)


def windows(x: Tensor) -> Tensor:
    parts = x.permute(0, 2, 3, 1).reshape(BATCH, ROWS // 4, 4, COLS // 4, 4, WIDTH)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, WIDTH)


def back(x: Tensor) -> Tensor:
    parts = x.view(-1, ROWS // 4, COLS // 4, 4, 4, WIDTH).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, ROWS, COLS, WIDTH)


def behind_a_token(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    return torch.cat([torch.full((1, 1, WIDTH), NOWHERE).double().expand(BATCH, -1, -1), tokens], 1)


CHAINS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "columns first": lambda x: x.transpose(2, 3).flatten(2),
    "windows": windows,
    "windows and back": lambda x: back(windows(x)),
    "shifted and back": lambda x: torch.roll(back(windows(torch.roll(x, (-1, -3), (2, 3)))), (1, 3), (1, 2)),
    "a grid": lambda x: x.reshape(BATCH, WIDTH, 4, 2, 4, 3).permute(0, 3, 5, 2, 4, 1).flatten(1, 2),
    "padded windows and back": lambda x: (
        F.pad(x, (0, 3, 0, 2), value=NOWHERE).unflatten(2, (2, 5)).unflatten(4, (3, 5)).flatten(4, 5)[:, :, 0]
    ),
    "every second": lambda x: x[:, :, ::2, ::3],
    "merged patches": lambda x: torch.cat([x[:, :, 0::2], x[:, :, 0::2]], 1).flatten(2),
    "a token before": behind_a_token,
    "a token before and off": lambda x: behind_a_token(x)[:, 1:].reshape(BATCH, ROWS, COLS, WIDTH),
    "heads": lambda x: x.flatten(2).transpose(1, 2).unflatten(2, (1, 5)).permute(0, 2, 1, 3),
    "split and joined": lambda x: torch.cat(x.split([3, 5], 2), 2),
    "the other way round": lambda x: torch.cat(x.split([3, 5], 2)[::-1], 2),
    "unrolled": lambda x: x.reshape(BATCH, WIDTH, 4, 2, 6, 2).permute(0, 3, 5, 2, 4, 1).reshape(BATCH, -1, WIDTH),
    "pooled": lambda x: F.max_pool2d(-F.max_pool2d(-x, 1, 2), 1),
    "convolved": lambda x: F.conv2d(x, torch.eye(WIDTH).double()[:, :, None, None], stride=(2, 3)),
    "linear": lambda x: F.linear(x.flatten(2).transpose(1, 2), torch.eye(WIDTH).double()),
    "added": lambda x: x.flatten(2).transpose(1, 2) + torch.zeros(1, ROWS * COLS, WIDTH).double(),
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_every_position_has_the_place_that_its_axes_say(chain: Callable[[Tensor], Tensor]) -> None:
    told = 0
    for which in ("row", "col"):
        x = carried(which)
        with torch.no_grad(), Flow(nn.Identity(), x) as flow:
            result = chain(x)
        axes = flow.meaning(result).axes
        assert tuple(result.shape) == tuple(len(places(axis, which)) for axis in axes)
        said = torch.zeros([1] * result.ndim, dtype=torch.float64)
        for place, axis in enumerate(axes):
            shape = [1] * result.ndim
            shape[place] = -1
            said = said + places(axis, which).reshape(shape)
        known = ~said.expand(result.shape).isnan()
        torch.testing.assert_close(said.expand(result.shape)[known], result[known])
        assert (result[~known] == NOWHERE).all()
        told += int(known.sum())
    assert told > 0


def test_what_is_not_followed_is_unknown() -> None:
    x = carried("row")
    with torch.no_grad(), Flow(nn.Identity(), x) as flow:
        shuffled = x.flatten(2).transpose(1, 2)[:, torch.randperm(ROWS * COLS)]
        turned = x.flip(2).flatten(2).transpose(1, 2)
        uneven = x.flatten(2).transpose(1, 2).reshape(BATCH, 6, 16, WIDTH)
        parts = torch.stack(x.flatten(2).transpose(1, 2).chunk(4, 1), 2)
    for tensor in (shuffled, turned, uneven, parts):
        assert tokens_of(flow.meaning(tensor).axes[1]) == Tokens()


def test_tensors_of_unlike_order_have_no_order_when_they_meet() -> None:
    x = carried("row")
    with torch.no_grad(), Flow(nn.Identity(), x) as flow:
        one = x.flatten(2).transpose(1, 2)
        other = CHAINS["unrolled"](x)
        both = other + other.roll(1, 1)
        with_skip = one + other
    assert tokens_of(flow.meaning(both).axes[1]) == Tokens()
    assert tokens_of(flow.meaning(with_skip).axes[1]).grid == (ROWS, COLS)


def test_tokens_of_parameters_are_named() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH).double())
            self.registers = nn.Parameter(torch.zeros(1, 3, WIDTH).double())

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            first = [one.expand(len(x), -1, -1) for one in (self.cls_token, self.registers)]
            return torch.cat([*first, tokens], 1)

    x, model = carried("row"), Model()
    with torch.no_grad(), Flow(model, x) as flow:
        tokens = model(x)
        behind = torch.cat([tokens[:, 4:], tokens[:, :4]], 1)
        cls, rest = tokens[:, :1], tokens[:, 1:]
    assert tokens_of(flow.meaning(tokens).axes[1]) == Tokens(4, True, (ROWS, COLS), (1, 1))
    assert tokens_of(flow.meaning(rest).axes[1]) == Tokens(3, False, (ROWS, COLS), (1, 1))
    assert tokens_of(flow.meaning(cls).axes[1]) == Tokens(1, True)
    assert tokens_of(flow.meaning(behind).axes[1]) == Tokens()
    assert layout_of(flow.meaning(tokens).axes) == "tokens"


def test_lines_are_as_many_pixels_apart_as_strides_say() -> None:
    x = carried("row")
    with torch.no_grad(), Flow(nn.Identity(), x) as flow:
        small = F.interpolate(F.avg_pool2d(x, 2), size=(3, 6))
    rows, cols = flow.meaning(small).axes[2:]
    assert rows == (Line(3, "row", Fraction(8, 3)),) and cols == (Line(6, "col", Fraction(2)),)
