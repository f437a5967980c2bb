"""What a module computes beside its state, as a hash: two modules may share all weights and differ in an activation.

Owns: the hash of a module's graph and of what its parts are set to, and of its source. Does not own the hash of its
state (`checkpoints`).
"""

import copy
import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.trace import CONSTANT, trace
from vitdsl.runtime.graph.unfollowed import operations_of
from vitdsl.runtime.models.checkpoints import bytes_of


def structure(module: nn.Module, input_size: tuple[int, ...]) -> str:
    """SHA-256 of a module's operations, of the settings of its parts, and of tensors that are not in its state.

    Of a module whose program cannot be followed: of its source, and of the operations that it does on images of noise.

    Args:
        module: With its weights.
        input_size: `(channels, height, width)` of the images that it sees; sizes may decide what it computes.

    Raises:
        StudyError: It can neither be traced nor run (VD301), or does not take such images (VD233).
    """
    known = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    parts = [
        [path, type(part).__qualname__, _settings(vars(part), known)] for path, part in module.named_modules()
    ]
    code, constants = _program(module, input_size)
    said = json.dumps([code, parts, constants], sort_keys=True)
    return hashlib.sha256(said.encode(errors="backslashreplace")).hexdigest()


def _program(module: nn.Module, input_size: tuple[int, ...]) -> tuple[Any, Any]:
    """A module's graph and what it holds; where it cannot be followed, what it does on noise, and its source."""
    try:
        graph = trace(module, input_size, unfuse=()).graph
    except StudyError as error:
        if error.diagnostics[0].code != "VD301":
            raise
        return operations_of(copy.deepcopy(module), input_size, error), source(module)
    constants = [_bytes(node.meta[CONSTANT]) for node in graph.nodes if CONSTANT in node.meta]
    return graph.python_code("self").src, constants


def source(module: nn.Module) -> dict[str, Any]:
    """What is known of a module's code, ready for JSON: its class, the hash of its source, and what has none."""
    kinds = sorted({type(part) for part in module.modules()}, key=lambda kind: kind.__qualname__)
    total, without = hashlib.sha256(), []
    for kind in kinds:
        if kind.__module__.partition(".")[0] == "torch":
            continue
        try:
            total.update(inspect.getsource(kind).encode())
        except (OSError, TypeError):
            without.append(kind.__qualname__)
    found = {"class": type(module).__qualname__, "source_sha256": total.hexdigest()}
    return found | ({"without_source": without} if without else {})


def _settings(values: Mapping[str, Any], known: set[int]) -> dict[str, str]:
    return {
        name: _bytes(value) if isinstance(value, Tensor) else repr(value)
        for name, value in values.items()
        if not name.startswith("_") and name != "training" and _says_all(value) and id(value) not in known
    }


def _says_all(value: Any) -> bool:
    """Whether a value's text, or its bytes, say all that it is."""
    if isinstance(value, (list, tuple)):
        return all(map(_says_all, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor, torch.dtype))


def _bytes(tensor: Tensor) -> str:
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + bytes_of(tensor)).hexdigest()
