"""Remove a unit's skip: only what the branch computes goes on.

What it does:
    The stream after the unit is f(z) instead of z + f(z). A projected shortcut (a ResNet's downsampling) is
    removed whole.
Places:
    Residual units, such as `blocks.3.attn`, `blocks.3.mlp` or `layer2.1`; see `vitdsl sites MODEL --role
    branch`.
What it does not show:
    What a model trained without the skip would do: the later layers never saw such inputs. In a trained ViT
    it is catastrophic, in a model trained that way it costs a few percent (Raghu et al. 2021, Section 5). For
    that, train with `without:`.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Section 5 and Figure 8.

Example:
    ablations:
      no_skip: {kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}
"""

from typing import Any

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Place, Rewriter


class RemoveSkip(Ablation):
    """The stream becomes the branch alone."""

    name = "remove_skip"
    cites = ("raghu2021",)
    roles = ("skip",)

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """Nothing, where the add takes what the skip carries."""
        return build.nothing
