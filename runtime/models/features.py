"""Features that were computed elsewhere: files of arrays by layer, with the ids of their images.

Owns what such a file is and everything that can be wrong with one. Does not own the model that stands for it
(`feature_model`), or the images (`data`).

A `.safetensors` file has the ids in its metadata (`ids`, a JSON list), an `.npz` file as an array `ids` of texts; every
other array is a layer, `[image, width]` or `[image, token, width]`. Layers stand in the order of `layers` (metadata or
array), else in that of their names, numbers by value. Of a folder all files count: a file's one array is named by the
file, several by file and array.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.text import counted, near_files, shown, ticked
from vitdsl.runtime.paths import expanded

SUFFIXES = (".safetensors", ".npz")
IDS, LAYERS = "ids", "layers"
RANKS = {2: "[image, width]", 3: "[image, token, width]"}
LAYOUT = (
    f"give arrays {' or '.join(RANKS.values())} and `{IDS}`, one text for each image: see docs/language.md"
)


@dataclass(frozen=True)
class Features:
    """Arrays by layer, all of the same images.

    Attributes:
        ids: The image of each row.
        layers: By name, in order, `[image, width]` or `[image, token, width]` (float32).
    """

    ids: tuple[str, ...]
    layers: dict[str, Tensor]


class _Wrong(Exception):
    """Something in one file; the text says what, `help` what to do."""

    def __init__(self, why: str, help: str = LAYOUT) -> None:
        super().__init__(why)
        self.help = help


def read(written: str, folder: Path) -> tuple[Path, Features]:
    """Read features.

    Args:
        written: The path of a file or folder, as the study has it.
        folder: Where relative paths start.

    Returns:
        Where they lie, and what they are.

    Raises:
        EnvironmentProblem: There is nothing (VD401); it is no file of features (VD430), or holds values that are not
            finite (VD432).
    """
    path = (folder / expanded(written)).resolve()
    parts = []
    for file in _files(path, written):
        try:
            found = _one(file)
        except _Wrong as error:
            message = f"`{shown(file.name)}` holds no features: {error}"
            raise _problem("VD430", message, error.help) from error
        single = next(iter(found.layers)) if len(found.layers) == 1 and path.is_dir() else None
        named = {
            name if not path.is_dir() else file.stem if single else f"{file.stem}.{name}": tensor
            for name, tensor in found.layers.items()
        }
        parts.append((file.name, Features(found.ids, named)))
    joined = _joined(parts)
    _check_finite(joined)
    return path, joined


def _files(path: Path, written: str) -> list[Path]:
    if path.is_dir():
        found = sorted(
            (one for one in path.iterdir() if one.suffix in SUFFIXES), key=lambda one: natural(one.stem)
        )
        if found:
            return found
        what = f"the folder `{shown(written)}` holds no {' or '.join(SUFFIXES)} file"
        raise _problem("VD401", what, LAYOUT)
    if not path.is_file():
        near = near_files(path, written, SUFFIXES)
        raise _problem("VD401", f"the features `{shown(written)}` do not exist", near or LAYOUT)
    if path.suffix not in SUFFIXES:
        raise _problem(
            "VD430", f"`{shown(written)}` is not of a kind that is read: {', '.join(SUFFIXES)}", LAYOUT
        )
    return [path]


def _one(file: Path) -> Features:
    try:
        ids, order, arrays = (_safetensors if file.suffix == ".safetensors" else _npz)(file)
    except (OSError, ValueError, KeyError, SafetensorError, EOFError) as error:
        raise _Wrong(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from error
    if ids is None:
        raise _Wrong(f"it says of no image which it is: there are no `{IDS}`")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise _Wrong(f"`{IDS}` is not a list of texts")
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise _Wrong(
            f"{counted(len(twice), 'id')} of its {len(ids)} rows stand more than once: {_some(twice)}",
            "give each image one row",
        )
    if not arrays:
        raise _Wrong("there is no array beside the ids")
    if order is not None and sorted(order) != sorted(arrays):
        raise _Wrong(f"`{LAYERS}` names {_some(sorted(set(order) ^ set(arrays)))}, which is not in both")
    names = order or sorted(arrays, key=natural)
    return Features(tuple(ids), {name: _layer(name, arrays[name], len(ids)) for name in names})


def _safetensors(file: Path) -> tuple[Any, Any, dict[str, Tensor]]:
    with safe_open(file, "pt") as opened:
        said = opened.metadata() or {}
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (it is no mapping)
    ids, order = (json.loads(said[name]) if name in said else None for name in (IDS, LAYERS))
    return ids, order, arrays


def _npz(file: Path) -> tuple[Any, Any, dict[str, Tensor]]:
    with np.load(file, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in opened.files}
    ids, order = (_texts(arrays.pop(name, None)) for name in (IDS, LAYERS))
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise _Wrong(f"`{shown(name)}` is of type {array.dtype}, not of numbers")
    return ids, order, {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _texts(array: Any) -> Any:
    """An array of texts as a list; anything else as it is."""
    return None if array is None else array.tolist() if array.ndim == 1 and array.dtype.kind == "U" else array


def _layer(name: str, tensor: Tensor, images: int) -> Tensor:
    if tensor.ndim not in RANKS:
        raise _Wrong(f"`{shown(name)}` has shape {list(tensor.shape)}, not {' or '.join(RANKS.values())}")
    if tensor.shape[0] != images:
        raise _Wrong(f"`{shown(name)}` has {tensor.shape[0]} rows, and there are {images} ids")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise _Wrong(f"`{shown(name)}` is of type {tensor.dtype}, not of numbers")
    return tensor.float().contiguous()


def _joined(parts: Sequence[tuple[str, Features]]) -> Features:
    """The layers of all files, their rows in the order of the first one's ids."""
    (first, known), *others = parts
    layers = dict(known.layers)
    for name, part in others:
        if set(part.ids) != set(known.ids):
            differ = sorted(set(part.ids) ^ set(known.ids))
            message = (
                f"`{shown(first)}` and `{shown(name)}` are not of the same images: {len(differ)} ids differ"
            )
            raise _problem("VD430", f"{message}, {_some(differ)}", "give every layer the same images")
        rows = {one: row for row, one in enumerate(part.ids)}
        order = torch.tensor([rows[one] for one in known.ids])
        layers |= {layer: tensor[order] for layer, tensor in part.layers.items()}
    return Features(known.ids, layers)


def _check_finite(features: Features) -> None:
    for name, tensor in features.layers.items():
        bad = ~torch.isfinite(tensor).flatten(1).all(1)
        if bad.any():
            images = [features.ids[row] for row in bad.nonzero().flatten().tolist()]
            raise _problem(
                "VD432",
                f"layer `{shown(name)}` has values that are not finite for {counted(len(images), 'image')}: "
                f"{_some(images)}",
                "leave these images out of the study, or compute their features again",
            )


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A name as a key of sorting: numbers in it by value."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"(\d+)", name)
    ]


def foreign_ids(rows: Mapping[str, int], ids: Iterable[str], model: str) -> Diagnostic | None:
    """Images of a stream that features say nothing of (VD431), or None.

    Args:
        rows: The row of each image that has features.
        ids: The images of the stream.
        model: What the model is called.
    """
    wanted = list(ids)
    lacking = [one for one in wanted if one not in rows]
    if not lacking:
        return None
    known = list(rows)[:3]
    return Diagnostic(
        "VD431",
        f"the features of `{model}` lack {len(lacking)} of the {len(wanted)} images: {_some(lacking)}",
        label="other images",
        notes=(f"they have {counted(len(rows), 'image')}, such as {ticked(known)}",),
        help=(
            "write the ids as the study has them: `vitdsl features STUDY` and `images.csv` of a run show them",
            "or take the images that have features, with `images:` and `shuffle: false`",
        ),
        about=(("source",),),
    )


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{shown(name)}`" for name in names[:most]) + more


def _problem(code: str, message: str, help: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        Diagnostic(code, message, label="these features", help=(help,), about=(("features",),))
    )
