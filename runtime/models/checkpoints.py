"""Checkpoints: reading files of weights, laying them over a module, and saying what did not fit.

Owns: which files are read, the comparison of a checkpoint with its module, the one exception that timm makes
(a classifier of another number of classes is left at its random start, and recorded), the hash of a state.
Does not own: renaming keys and resizing position embeddings, which timm's own checkpoint filters do.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.text import near_files

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass
class Fit:
    """How a checkpoint met a module: the keys that it left out, and those that found no place."""

    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    seen: bool = False


class Misfit(Exception):
    """A checkpoint's tensors are not the module's; the text names the first ones that differ."""


def find(file: str, folder: Path) -> Path:
    """The checkpoint that a study names.

    Raises:
        EnvironmentProblem: There is no such file, or it is of another kind (VD401).
    """
    path = (folder / Path(file).expanduser()).resolve()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise EnvironmentProblem(
            Diagnostic(
                "VD401",
                f"the checkpoint `{file}` {what}",
                notes=(f"looked for `{path}`; relative paths start at the study's folder",),
                help=(
                    near_files(path, file, SUFFIXES),
                    "name a file of weights: `weights: {file: ./model.safetensors}`",
                ),
            )
        )
    if path.suffix not in SUFFIXES:
        raise EnvironmentProblem(
            Diagnostic(
                "VD401",
                f"the checkpoint `{file}` is not of a kind that is read: {', '.join(SUFFIXES)}",
                help=("save the model's `state_dict()` with `safetensors.torch.save_file`",),
            )
        )
    return path


@contextmanager
def fitting(*, strict: bool) -> Iterator[Fit]:
    """Watch the one `load_state_dict` that timm calls inside, after its filters have done their work.

    A classifier of another number of classes (or none on either side) is left out, as timm does for its own
    checkpoints; every other difference is a `Misfit` where `strict`, and recorded otherwise. Not for threads.

    Yields:
        What was left out and what found no place.
    """
    fit = Fit()
    original = nn.Module.load_state_dict

    def load_state_dict(
        module: nn.Module, state: Mapping[str, Any], strict_: bool = True, assign: bool = False, **given: bool
    ) -> Any:
        own = module.state_dict()
        head = _head(module)
        given_state = {
            key: value
            for key, value in state.items()
            if key not in head or (key in own and own[key].shape == value.shape)
        }
        missing = [key for key in own if key not in given_state]
        unexpected = [key for key in state if key not in own]
        shapes = [key for key, value in given_state.items() if key in own and value.shape != own[key].shape]
        fit.seen, fit.fresh, fit.unused = True, missing, unexpected
        wrong_missing, wrong_unexpected = ([k for k in ks if k not in head] for ks in (missing, unexpected))
        if shapes or (strict and (wrong_missing or wrong_unexpected)):
            raise Misfit(
                "; ".join(
                    text
                    for text in (
                        _some("lacks", wrong_missing),
                        _some("has besides", wrong_unexpected),
                        _some("has in another shape", [_shape(k, state[k], own[k]) for k in shapes]),
                    )
                    if text
                )
            )
        return original(module, given_state, strict=False)

    with mock.patch.object(nn.Module, "load_state_dict", load_state_dict):
        yield fit


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


def _head(module: nn.Module) -> set[str]:
    names = (getattr(module, "pretrained_cfg", None) or {}).get("classifier") or ()
    names = (names,) if isinstance(names, str) else names
    return {f"{name}.{part}" for name in names for part in ("weight", "bias")}


def _shape(key: str, found: Tensor, wanted: Tensor) -> str:
    return f"{key} {list(found.shape)}, the model {list(wanted.shape)}"


def _some(verb: str, keys: list[str], most: int = 3) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"it {verb} {', '.join(f'`{key}`' for key in keys[:most])}{more}" if keys else ""
