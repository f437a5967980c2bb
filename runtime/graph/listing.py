"""Sites as rows of a table: what `vitdsl sites` prints. Does not own what a site is (`sites`)."""

from typing import Any

from timm.layers import DropPath
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from vitdsl.runtime.graph.propagate import PROBE, VALUE
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.graph.whole import WHOLE_ROLES, is_rotary, pool_of


def listed(sites: Sites, role: str, names: list[str]) -> list[dict[str, Any]]:
    """Rows for `vitdsl sites`: name, role, shape of one image's tensor, what produced it."""
    rows = []
    for name in names:
        value, fixed = sites.nodes[role][name].meta[VALUE], role == "position"
        rows.append(
            {
                "site": name,
                "role": role,
                "shape": list(sites.site(name, role).shape) if value.shape[0] == PROBE or fixed else None,
                "depth": round(sites.depth(name, role), 4),
                "kind": _what(sites, name, role),
            }
        )
    return rows


def passes_on(sites: Sites, name: str) -> bool:
    """Whether a site's module gives what it gets when a model is not trained: an identity, a dropout."""
    module = sites.model.get_submodule(name.partition(":")[0])
    return isinstance(module, (nn.Identity, _DropoutNd, DropPath))


def _what(sites: Sites, name: str, role: str) -> str:
    """What a unit's branch does, or what made a tensor: the class of a module, or a word."""
    node = sites.nodes[role][name]
    if role == "position":
        added = "bias" if sites.site(name, role).layout == "attention" else "added"
        return "rotary" if is_rotary(node) else added
    if role == "pool":
        pool = pool_of(node)
        return {"cls": "class token", "gap": "mean"}.get((pool and pool.takes) or "", "other")
    if role in WHOLE_ROLES:
        return role
    if name in sites.units:
        return sites.units[name].branch_kind
    return type(sites.model.get_submodule(name.partition(":")[0])).__name__
