"""What a site is: a named point of a model's graph, and the facts about its tensor that others may rely on.

Owns the words that taps, edits and kinds share. Does not own how sites are found (`sites`), or how it is known what
their axes are (`reading`).
"""

from dataclasses import dataclass, replace
from typing import Literal

Layout = Literal["tokens", "map", "map_last", "vector", "attention", "windows", "other"]


@dataclass(frozen=True)
class Site:
    """A named point of a model's graph; hashable, so that equal reductions are shared.

    Attributes:
        name: Its path, such as `blocks.3.attn`.
        role: Which tensor of it is read.
        shape: Shape of one image's tensor, without the batch.
        layout: What its axes are: tokens `[token, width]`, map `[width, row, col]`, map_last `[row, col,
            width]`, vector `[width]`, attention `[head, query, key]`; windows: the first axis is not the
            image.
        depth: Where it stands in the model, 0 (first) to 1 (last).
        prefix: Number of prefix tokens (class, registers) before the spatial ones; 0 where there are none, None
            where it is not known which of its tokens are.
        class_token: Whether token 0 is a class token.
        grid: Rows and columns of the spatial tokens, None where unknown.
        patch: Pixels of the model's input from one row and column of the grid to the next, None where unknown.
        tokens: Which tokens a layer selects, or an ablation changes.
        pixels: Height and width of the model's input, None where unknown.
        fixed: Whether its tensor is the same for every image and has no axis of images, as a position embedding.
        kind: Of attention: what it is where it is not that of an image's tokens among themselves, such as `channel
            attention`; empty where it is.
        shares: Of attention: whether each query's weights sum to one.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    layout: Layout
    depth: float
    prefix: int | None = 0
    class_token: bool = False
    grid: tuple[int, int] | None = None
    patch: tuple[float, float] | None = None
    tokens: str | tuple[int, ...] = "all"
    pixels: tuple[int, int] | None = None
    fixed: bool = False
    kind: str = ""
    shares: bool = True

    def nameless(self) -> "Site":
        """The same without what says where it stands: all that may decide how its tensor is reduced."""
        return replace(self, name="", role="", depth=0.0)
