"""Remove a unit, or every unit of a block or stage as one: the stream passes it as it came in.

What it does:
    Every add of what is named gives its skip alone, z instead of z + f(z). A residual unit (`blocks.3.attn`,
    `layer2.1`) is one add. A module that holds units is removed with all of them at once: a block of a ViT
    (`blocks.3`) with its attention and its MLP, a stage (`layers.1`) with all its blocks. What stands between the adds
    and is no unit stays: a projected shortcut beside its add, a downsampling, an activation, a norm on the stream.
    It differs from `remove_branch` in what one place is: with `each: true`, `at: "blocks.*"` makes one condition for
    each block here, labelled with the block's name and depth, and one for each branch there; and a stage is a place
    only here. For one unit, the numbers are the same.
Places:
    `role: output`, so names are those of modules: a residual unit's (where it is a module's), or any module's that
    holds residual units. `tokens:` narrows it to some tokens, at each of the adds.
What it does not show:
    That the unit is useless where little changes: others may stand in for it, and units removed together can cost
    more or less than the sum. Which of a block's branches mattered: `remove_branch` takes one at a time. A ReLU after
    the add changes nothing of a stream that passed one before, but a norm there would rescale it: it is not removed.
Reference:
    Veit et al. 2016 (arXiv 1605.06431) for units of a ResNet; Bhojanapalli et al. 2021 (arXiv 2103.14586) for the
    attention, MLP and whole block of a ViT.

Example:
    ablations:
      no_block: {kind: remove_unit, of: vit, at: "blocks.*", each: true}
"""

from typing import Any

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Place, Rewriter


class RemoveUnit(Ablation):
    """Each add of what is named becomes its skip."""

    name = "remove_unit"
    cites = ("veit2016", "bhojanapalli2021")
    roles = ("output",)

    def refuse_place(self, place: Place) -> str | None:
        """What holds no residual unit has nothing to pass by."""
        if units_of(place):
            return None
        return "it is no residual unit and holds none; name a block, or a unit: see `vitdsl sites MODEL --role branch`"

    def places(self, place: Place) -> tuple[Place, ...]:
        """What the branch of each unit adds."""
        assert place.others is not None and place.site is not None
        tokens = place.site.tokens
        return tuple(place.others.place(unit, "branch", tokens=tokens) for unit in units_of(place))

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """Nothing, where an add takes what a branch adds."""
        return build.nothing


def units_of(place: Place) -> list[str]:
    """The residual units that a module's name stands for: the one that it is, or all that it holds, in order."""
    assert place.others is not None and place.site is not None
    name, units = place.site.name, place.others.names("stream")
    return [name] if name in units else [unit for unit in units if unit.startswith(f"{name}.")]
