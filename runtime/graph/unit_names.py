"""What residual units are called, and which module a node belongs to.

A unit is named after the module that owns its add, or, where a module owns several, after its child on the branch
with the most parameters: `layer2.1` in a ResNet, `blocks.3.attn` and `blocks.3.mlp` in a ViT.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from torch import fx, nn

AROUND = ("Norm", "LayerScale", "DropPath", "Identity", "Dropout", "Affine")


class Add(Protocol):
    """What a name depends on: the add, and its two operands."""

    @property
    def add(self) -> fx.Node:
        """Where the branch joins the skip."""

    @property
    def branch(self) -> fx.Node:
        """What is added."""

    @property
    def skip(self) -> fx.Node:
        """What is carried."""


def owner(node: fx.Node) -> str:
    """Path of the module whose forward made a node; a leaf module's own node belongs to its parent."""
    stack = list(node.meta.get("nn_module_stack") or ())
    if node.op == "call_module" and stack and stack[-1].partition("@")[0] == str(node.target):
        stack.pop()
    return stack[-1].partition("@")[0] if stack else ""


def names_of(units: Sequence[Add], model: nn.Module) -> list[str]:
    """A name for each unit, each once; one that is there twice gets `:1`, `:2`, units within units after these."""
    owners = [owner(unit.add) for unit in units]
    shared = Counter(owners)
    names = [
        _child(unit, path, model) if shared[path] > 1 else (path or unit.add.name)
        for unit, path in zip(units, owners, strict=True)
    ]
    seen = Counter[str]()
    for i in sorted(range(len(units)), key=lambda one: (owners[one].count("."), one)):
        name = names[i]
        names[i] = f"{name}:{seen[name]}" if seen[name] else name
        seen[name] += 1
    return names


def _child(unit: Add, path: str, model: nn.Module) -> str:
    """The child of the owning module that does a branch's work, by its parameters; norms and scales do not."""
    prefix = f"{path}." if path else ""
    sizes: dict[str, tuple[bool, int]] = {}
    pending, seen = [unit.branch], {unit.skip}
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        full = [str(node.target)] if node.op in ("call_module", "get_attr") else []
        full += [entry.partition("@")[0] for entry in (node.meta.get("nn_module_stack") or ())][-1:]
        inside = [name for name in full if name.startswith(prefix) and name != path]
        if not inside:
            if owner(node) == path:
                pending += node.all_input_nodes
            continue
        child = prefix + inside[0][len(prefix) :].split(".")[0]
        if child not in sizes:
            try:
                module = model.get_submodule(child)
            except AttributeError:
                module = nn.Identity()
            kind = type(module).__name__
            works = kind != "Scale" and not any(word in kind for word in AROUND)
            sizes[child] = works, sum(parameter.numel() for parameter in module.parameters())
        pending += node.all_input_nodes
    return max(sizes, key=lambda name: sizes[name]) if sizes else (path or unit.add.name)
