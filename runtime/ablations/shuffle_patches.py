"""Shuffle patches: the image is cut into a grid whose cells change places.

What it does:
    The image is cut into `grid` x `grid` cells of equal size, which are put together again in another order: what is
    in a cell stays as it is, where it is does not. `per: all` takes one order for all images, `per: image` one for
    each, made from the image's own pixels, so that two equal images get the same. Both hang on `seed` and on nothing
    else, also not on how images are cut into batches. `grid: 1` is the intact image.
Places:
    The model's input (`role: image`); see `vitdsl sites MODEL --role image`. The rows and columns of the images must
    be multiples of `grid`.
What it does not show:
    That a model does not use the layout of an image where little changes: cells larger than its patches keep the
    layout inside, and new edges between cells are seen too. Cells that are no multiple of the model's patches change
    the patches themselves. An order drawn by chance may leave some cells in their place, all of them where they are
    few: sweep `seed` with `vary`.
Reference:
    Naseer et al. 2021 (arXiv 2105.10497), Section 3.3: 1 is the intact image, 14 x 14 all patches of 16 pixels.

Example:
    ablations:
      shuffled: {kind: shuffle_patches, of: vit, grid: 4, vary: {seed: [0, 1, 2, 3, 4]}}
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations._chance import fingerprint, order, orders
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site


class Params(Entry):
    """Fields of its own."""

    grid: int = Field(ge=1, description="Cells in a row and in a column.")
    per: Literal["all", "image"] = Field(
        "all", description="`all`: one order for all images; `image`: one for each, from its pixels."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="What the order hangs on.")


class ShufflePatches(Ablation):
    """The cells of an image in another order."""

    name = "shuffle_patches"
    cites = ("naseer2021",)
    Params = Params
    roles = ("image",)

    def refuse(self, site: Site) -> str | None:
        """Images that cannot be cut into such cells."""
        assert isinstance(self.params, Params)
        (_, height, width), grid = site.shape, self.params.grid
        if height % grid or width % grid:
            return f"images of {height} x {width} pixels cannot be cut into {grid} x {grid} cells"
        return None

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The images, put together again."""
        assert isinstance(self.params, Params)
        constants = (("grid", self.params.grid), ("seed", self.params.seed))
        prints = [build.call(Operation(fingerprint), build.before)] if self.params.per == "image" else []
        return build.call(Operation(shuffled, constants), build.before, *prints)


def shuffled(images: Tensor, *prints: Tensor, grid: int, seed: int) -> Tensor:
    """Images `[image, channel, row, col]` with their cells in another order; with prints, one for each image."""
    batch, channels, rows, cols = images.shape
    cells = images.reshape(batch, channels, grid, rows // grid, grid, cols // grid)
    cells = cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, grid * grid, -1)
    chosen = orders(prints[0], grid * grid, seed) if prints else order(grid * grid, seed, images.device)
    cells = cells.gather(1, chosen[:, :, None].expand(*cells.shape))
    cells = cells.reshape(batch, grid, grid, channels, rows // grid, cols // grid)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
