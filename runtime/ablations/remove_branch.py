"""Remove a unit's branch: only what the skip carries goes on.

What it does:
    The stream after the unit is z instead of z + f(z): the unit is jumped over. Beside a projected shortcut
    the projection stays.
Places:
    Residual units, such as `blocks.3.attn`, `blocks.3.mlp` or `layer2.1`; see `vitdsl sites MODEL --role
    branch`.
What it does not show:
    That the unit is useless where little changes: others may stand in for it, and several removed together
    can cost more than the sum.
Reference:
    Veit et al. 2016 (arXiv 1605.06431); Bhojanapalli et al. 2021 (arXiv 2103.14586).

Example:
    ablations:
      no_branch: {kind: remove_branch, of: vit, at: "blocks.*.mlp", each: true}
"""

from typing import Any

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Place, Rewriter


class RemoveBranch(Ablation):
    """The stream becomes the skip alone."""

    name = "remove_branch"
    cites = ("veit2016", "bhojanapalli2021")
    roles = ("branch",)

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """Nothing, where the add takes what the branch adds."""
        return build.nothing
