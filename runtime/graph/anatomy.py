"""Anatomy: what a model's tokens, prefix, class token, grid and patch are; asked once, unknown where unknown.

Owns the questions that are put to a model as a whole. Does not own what one site's tensor is (`sites`).
"""

import math
from dataclasses import dataclass

from torch import nn

LEARNED = ("token", "latent")
"""Words in the names of parameters that stand in a sequence beside the patches."""


@dataclass(frozen=True)
class Anatomy:
    """The facts about a model, at one size of its images.

    Attributes:
        input_size: `(channels, height, width)` of the images.
        prefix: Number of prefix tokens (class, registers) before the patches; None where the model has learned
            tokens and does not say where they stand.
        class_token: Whether the first prefix token is a class token.
        grids: Rows and columns of the patches of such images, and of those that it was built for; empty where it
            has no patch embedding.
        channels_last: Whether a map of unclear layout has its channels last.
    """

    input_size: tuple[int, ...]
    prefix: int | None
    class_token: bool
    grids: tuple[tuple[int, int], ...]
    channels_last: bool

    def tokens(self, count: int) -> tuple[int | None, tuple[int, int] | None]:
        """How many of a token axis' `count` tokens are prefix tokens, and the grid of the others; None: unknown."""
        for grid in self.grids:
            for first in dict.fromkeys((self.prefix or 0, 0)):
                if count == first + math.prod(grid):
                    return first, grid
        return (0 if self.prefix == 0 else None), None

    def patch(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width of one of the cells of a grid, in pixels of the input."""
        return self.input_size[1] // grid[0], self.input_size[2] // grid[1]


def anatomy_of(model: nn.Module, input_size: tuple[int, ...]) -> Anatomy:
    """Ask a model for its anatomy.

    Args:
        model: Any module; the attributes are those of timm's models.
        input_size: `(channels, height, width)` of the images that it will see.
    """
    prefix = getattr(model, "num_prefix_tokens", None)
    if not isinstance(prefix, int):
        named = (name.rpartition(".")[2] for name, _ in model.named_parameters())
        prefix = None if any(word in name for name in named for word in LEARNED) else 0
    return Anatomy(
        tuple(input_size),
        prefix,
        getattr(model, "cls_token", None) is not None,
        tuple(_patch_grids(model, input_size)),
        getattr(model, "output_fmt", "NCHW") == "NHWC",
    )


def _patch_grids(model: nn.Module, input_size: tuple[int, ...]) -> list[tuple[int, int]]:
    """The grid of patches of images of this size, and the one that the model was built for."""
    found: list[tuple[int, int]] = []
    _, module = patch_module(model)
    grid, patch = getattr(module, "grid_size", None), getattr(module, "patch_size", None)
    size = (patch, patch) if isinstance(patch, int) else patch
    if isinstance(size, tuple) and len(size) == 2:
        found.append((math.ceil(input_size[1] / size[0]), math.ceil(input_size[2] / size[1])))
    if isinstance(grid, tuple) and len(grid) == 2:
        found.append((int(grid[0]), int(grid[1])))
    return found


def patch_module(model: nn.Module) -> tuple[str, nn.Module | None]:
    """The module that cuts images into patches and its path, or `("", None)`."""
    for path, module in model.named_modules():
        if isinstance(getattr(module, "grid_size", None), tuple) or module is getattr(
            model, "patch_embed", None
        ):
            return path, module
    return "", None
