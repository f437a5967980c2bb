"""Files of weights: which file a study names, its tensors, and its hash.

Owns: the kinds of files and folders that are read, shards, and that nothing in a file is run. Does not own: what the
names in a file mean (`layouts`), laying tensors over a module (`checkpoints`).
"""

import argparse
import hashlib
import json
import pickle
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import WeightsFile, WeightsHub
from vitdsl.dsl.text import near_files, ticked
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models.checkpoints import Misfit, file_digest
from vitdsl.runtime.paths import expanded

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
INDEX = ".index.json"
"""The end of the name of a file that says which shard holds which tensor."""
IN_FOLDERS = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""The names that Hugging Face, timm and open_clip give to the weights of a folder, first ones first."""
OF_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
"""The names that `peft` gives to an adapter."""
CONFIGS = ("config.json", "open_clip_config.json", "preprocessor_config.json")
"""Files that Hugging Face, timm and open_clip put beside weights."""
ADAPTER_CONFIG = "adapter_config.json"
"""The file beside an adapter that says how much it changes."""
WRITTEN_AT = (("weights", "file"), ("weights",))
"""The fields of a model that name a checkpoint."""


@dataclass(frozen=True)
class Contents:
    """What a file of weights holds.

    Attributes:
        tensors: By name; the keys of nested mappings are joined with dots.
        mappings: The names of the mappings that hold tensors themselves, and how many; "" is the whole file.
        configs: What the files of `CONFIGS` beside it say, by their names.
    """

    tensors: dict[str, Tensor]
    mappings: dict[str, int]
    configs: dict[str, dict[str, Any]]


def find(file: str, folder: Path, field: str = "file") -> Path:
    """The file of weights that a study names: itself, that of a folder, or the index of shards.

    Args:
        file: As the study has it.
        folder: Where relative paths start.
        field: The field of `weights` that names it.

    Raises:
        EnvironmentProblem: There is no such file, it is of another kind, or it lacks shards (VD401).
    """
    path = (folder / expanded(file)).resolve()
    if path.is_dir():
        path = _in_folder(path, file, field)
    if not path.is_file():
        raise _missing(
            f"the checkpoint `{file}` does not exist",
            (
                near_files(path, file, (*SUFFIXES, INDEX)),
                "name a file of weights: `weights: {file: ./model.safetensors}`",
            ),
            field,
            f"looked for `{path}`; relative paths start at the study's folder",
        )
    if not path.name.endswith((*SUFFIXES, INDEX)):
        raise _missing(
            f"the checkpoint `{file}` is not of a kind that is read: {', '.join((*SUFFIXES, INDEX))}",
            ("save the model's `state_dict()` with `safetensors.torch.save_file`",),
            field,
        )
    if path.name.endswith(INDEX):
        _shards(path, field)
    return path


def _in_folder(path: Path, file: str, field: str) -> Path:
    names = OF_ADAPTERS if field == "adapter" else IN_FOLDERS
    for name in names:
        for one in (path / name, path / (name + INDEX)):
            if one.is_file():
                return one
    others = (
        sorted(one.name for one in path.iterdir() if one.name.endswith(SUFFIXES)) if field == "file" else []
    )
    if len(others) == 1:
        return path / others[0]
    if others:
        raise _missing(
            f"the folder `{file}` holds several checkpoints: {ticked(others)}", ("name one",), field
        )
    what = "adapter" if field == "adapter" else "weights"
    raise _missing(f"the folder `{file}` holds no {what}", (f"looked for {ticked(names)}",), field)


def _missing(message: str, help: tuple[str, ...], field: str, *notes: str) -> EnvironmentProblem:
    about = (("weights", field), ("weights",))
    return EnvironmentProblem(
        Diagnostic("VD401", message, label="cannot be opened", notes=notes, help=help, about=about)
    )


def identity(weights: WeightsFile | WeightsHub, folder: Path) -> dict[str, Any]:
    """Everything that weights depend on, ready for JSON: hashes of files in place of their names."""
    found = weights.model_dump(exclude={"file", "adapter"}, exclude_defaults=True)
    if isinstance(weights, WeightsFile):
        found["file_sha256"] = digest(find(weights.file, folder))
    if weights.adapter is not None:
        found["adapter_sha256"] = adapter_digest(find(weights.adapter, folder, "adapter"))
    return found


def adapter_digest(path: Path) -> str:
    """SHA-256 of an adapter's file and of its config."""
    total = hashlib.sha256(file_digest(path).encode())
    config = path.parent / ADAPTER_CONFIG
    total.update(file_digest(config).encode() if config.is_file() else b"")
    return total.hexdigest()


def there(weights: WeightsFile | WeightsHub, folder: Path) -> None:
    """Make sure that the files of weights are there, without reading them.

    Raises:
        EnvironmentProblem: One is not, or is of another kind (VD401).
    """
    if isinstance(weights, WeightsFile):
        find(weights.file, folder)
    if weights.adapter is not None:
        find(weights.adapter, folder, "adapter")


def digest(path: Path) -> str:
    """SHA-256 of a file; of an index of shards, that of its own hash and of theirs in the order of their names."""
    if not path.name.endswith(INDEX):
        return file_digest(path)
    total = hashlib.sha256(file_digest(path).encode())
    for shard in _shards(path):
        total.update(file_digest(shard).encode())
    return total.hexdigest()


def read(path: Path) -> Contents:
    """The tensors of a file, on the CPU, as they are stored; nothing in it is run.

    Raises:
        Misfit: It holds more than tensors and plain values, or is damaged.
    """
    nested: dict[str, Any] = {}
    for one in _shards(path) if path.name.endswith(INDEX) else [path]:
        found = _load(one)
        if not isinstance(found, Mapping):
            raise Misfit(f"it holds a {type(found).__name__} in place of named tensors", _SAVE)
        nested.update(found)
    tensors: dict[str, Tensor] = {}
    mappings: dict[str, int] = {}
    for mapping, name, tensor in _tensors(nested):
        full = f"{mapping}.{name}" if mapping else name
        if full in tensors:
            raise Misfit(f"it holds `{full}` twice")
        tensors[full] = tensor
        mappings[mapping] = mappings.get(mapping, 0) + 1
    if not tensors:
        raise Misfit("it holds no tensors", _SAVE)
    return Contents(tensors, mappings, {name: found for name in CONFIGS if (found := beside(path, name))})


def beside(path: Path, name: str) -> dict[str, Any]:
    """A JSON object in a file beside the weights; empty where there is none."""
    try:
        found = json.loads((path.parent / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


_SAVE = "save tensors by name: `torch.save(model.state_dict(), path)`"


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise Misfit(f"it is no safetensors file: {error}") from error
    zipped = zipfile.is_zipfile(path)
    if zipped and any(name.endswith("/constants.pkl") for name in _names(path)):
        raise Misfit(
            "it is a TorchScript program, which is not run",
            "where you trust it, save its tensors: `torch.save(torch.jit.load(path).state_dict(), new_path)`",
        )
    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # the `args` of training scripts; plain values
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _needs_code(path, zipped) from error
    except Exception as error:  # the reader raises anything on a file that is not what it should be
        if is_memory(error):
            raise
        raise Misfit("it does not hold tensors alone, or is no checkpoint", _SAVE) from error


def _needs_code(path: Path, zipped: bool) -> Misfit:
    again = (
        "where you trust it, save its tensors again: `saved = torch.load(path, weights_only=False)`, then "
        "`torch.save(saved['state_dict'], new_path)`, with the key that holds them"
    )
    needs = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
    if needs:
        return Misfit(f"it holds objects whose loading would run code: {ticked(sorted(needs))}", again)
    return Misfit("it does not hold tensors alone, or is no checkpoint", _SAVE, again)


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _tensors(nested: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str, Tensor]]:
    """Each tensor of nested mappings: the names of its mapping, its own name, and itself."""
    for key, value in nested.items():
        if isinstance(value, Tensor):
            yield path, str(key), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{path}.{key}" if path else str(key))


def _shards(index: Path, field: str = "file") -> list[Path]:
    """The files that an index names, in the order of their names."""
    try:
        names: Collection[str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        shards = [index.parent / name for name in sorted(set(names))]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _missing(
            f"the index `{index.name}` does not say which shard holds which tensor",
            ("name a file of weights, or an index with a `weight_map`",),
            field,
        ) from error
    if gone := [shard.name for shard in shards if not shard.is_file()]:
        raise _missing(f"the shards {ticked(gone)} are not there", ("put them beside their index",), field)
    return shards
