"""Small models whose programs cannot be followed, each for a reason of its own; what tests of hooks read.

Owns the models. Does not own what a test asks of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual unit whose activation writes over what the layer before it gave."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.fc, self.act = nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.fc(self.norm(x)))


class Patches(nn.Module):
    """Patches as tokens behind a class token, a block that is called twice, and logits of the class token."""

    def __init__(self, width: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, classes)

    def decided(self, tokens: Tensor) -> Tensor:
        """What the program decides by numbers; nothing here."""
        return tokens

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.decided(torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1))
        for block in (*self.blocks, self.blocks[1]):
            x = block(x)
        logits: Tensor = self.head(x[:, 0])
        return logits


class Deciding(Patches):
    """Limits tokens where one is too large; each image is its own."""

    def decided(self, tokens: Tensor) -> Tensor:
        return tokens.clamp(-0.5, 0.5) if float(tokens.abs().max()) > 0.5 else tokens


class ByImage(Patches):
    """Goes through the images one by one, each with a step of its own for bright ones."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.bright = nn.Linear(12, 12), nn.Linear(12, 12)

    def decided(self, tokens: Tensor) -> Tensor:
        found = [self.step(one) for one in tokens]
        return torch.stack([self.bright(one) if one.mean() > 0 else one for one in found])


class Mirror(torch.autograd.Function):
    """An operation of its own, with a gradient of its own."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.from_numpy(abs(x.detach().numpy()))

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


class OwnOperation(Patches):
    """Leaves PyTorch for a while."""

    def decided(self, tokens: Tensor) -> Tensor:
        found: Tensor = Mirror.apply(tokens)
        return found


class When(Patches):
    """Does something where a condition of the whole batch holds."""

    def __init__(self, holds: Callable[[Tensor], bool], then: Callable[[Patches, Tensor], Tensor]) -> None:
        super().__init__()
        self.spare = nn.Linear(12, 12)
        self.holds, self.then = holds, then

    def decided(self, tokens: Tensor) -> Tensor:
        return self.then(self, tokens) if self.holds(tokens) else tokens


def made(kind: Callable[[], Patches]) -> Patches:
    """A model with the same random weights each time."""
    torch.manual_seed(0)
    return kind().eval()
