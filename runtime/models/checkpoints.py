"""Checkpoints: laying tensors over a module, and saying what did not fit.

Owns: the comparison of a checkpoint with its module, the one exception that timm makes (a classifier of another
number of classes is left at its random start, and recorded), the hash of a state.
Does not own: files (`weight_files`), what names in them mean (`layouts`), renaming keys and resizing position
embeddings, which timm's own checkpoint filters do.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.hooks import RemovableHandle

UNNEEDED = ("num_batches_tracked",)
"""The ends of names of what a module holds and does not use once it is trained."""
ONLY_TRAINED = ("decoder", "mask_token", "queue", "predictor", "projector", "projection")
"""How names start of what stands beside a model while it is trained without labels, and is not part of it."""


@dataclass
class Fit:
    """How a checkpoint met a model: the keys that it left out, those that found no place, a classifier's shapes."""

    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    left_out: dict[str, list[int]] = field(default_factory=dict)
    model: nn.Module | None = None


class Misfit(Exception):
    """A checkpoint's tensors are not the module's; the text names the first ones that differ, `help` what to do."""

    def __init__(self, text: str, *help: str) -> None:
        super().__init__(text)
        self.help = help


@contextmanager
def fitting(*, strict: bool) -> Iterator[Fit]:
    """Watch how timm lays a checkpoint over the model that it builds inside, after its filters have done their work.

    A classifier of another number of classes (or none on either side) is left out, as timm does for its own
    checkpoints; every other difference is a `Misfit` where `strict`, and recorded otherwise. Not for threads.

    Torch's hooks show it: timm builds and loads in one call, so each module that gets a child meanwhile is watched,
    and the one whose keys have no prefix is the model.

    Yields:
        What was left out and what found no place.
    """
    fit = Fit()
    watched: dict[int, nn.Module] = {}
    handles: list[RemovableHandle] = []
    open_ = True

    def before(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if open_ and not prefix:
            _compare(module, state, fit, strict=strict)

    def after(module: nn.Module, incompatible: Any) -> None:
        if open_ and fit.model is module:
            incompatible.missing_keys.clear()
            incompatible.unexpected_keys.clear()

    def watch(module: nn.Module, name: str, child: nn.Module | None) -> None:
        if id(module) not in watched:
            watched[id(module)] = module
            handles.append(module.register_load_state_dict_pre_hook(before))  # type: ignore[no-untyped-call]
            handles.append(module.register_load_state_dict_post_hook(after))  # type: ignore[no-untyped-call]

    handles.append(register_module_module_registration_hook(watch))
    try:
        yield fit
    finally:
        open_ = False  # for hooks that timm copied together with a module
        for handle in handles:
            handle.remove()


def _compare(module: nn.Module, state: dict[str, Any], fit: Fit, *, strict: bool) -> None:
    """Record how a checkpoint meets a module, and take a classifier that does not fit out of it."""
    own, heads = module.state_dict(), heads_of(module)
    head = {f"{name}.{part}" for name in heads for part in ("weight", "bias")}
    left_out = {
        key for key in state if key in head and (key not in own or own[key].shape != state[key].shape)
    }
    given = {key: value for key, value in state.items() if key not in left_out}
    missing = [key for key in own if key not in given and not key.endswith(UNNEEDED)]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key, value in given.items() if key in own and value.shape != own[key].shape]
    fit.model, fit.fresh, fit.unused = module, missing, unexpected
    fit.left_out = {key: list(state[key].shape) for key in state if key in left_out}
    wrong_missing = [key for key in missing if key not in head]
    wrong_unexpected = [
        key
        for key in unexpected
        if not key.startswith(ONLY_TRAINED) and not key.startswith(tuple(f"{name}." for name in heads))
    ]
    if shapes or (strict and (wrong_missing or wrong_unexpected)):
        raise Misfit(
            "; ".join(
                text
                for text in (
                    some("lacks", wrong_missing),
                    some("has besides", wrong_unexpected),
                    some("has in another shape", [_shape(k, state[k], own[k]) for k in shapes]),
                )
                if text
            )
        )
    for key in left_out:
        del state[key]


def digest(module: nn.Module) -> str:
    """SHA-256 of a module's state: names, types, shapes and bytes in the order of the names."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(bytes_of(tensor))
    return total.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in its logical order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def heads_of(module: nn.Module) -> tuple[str, ...]:
    """The names of a model's classifiers, as timm has them."""
    names = (getattr(module, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _shape(key: str, found: Tensor, wanted: Tensor) -> str:
    return f"{key} {list(found.shape)}, the model {list(wanted.shape)}"


def some(verb: str, keys: list[str], most: int = 3) -> str:
    """A verb and the first names of many, for a message; nothing where there are none."""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"it {verb} {', '.join(f'`{key}`' for key in keys[:most])}{more}" if keys else ""
