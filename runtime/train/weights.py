"""A file of trained weights: what it holds, and that it holds what was written.

Owns the header: the hash of the recipe, the recipe, how the training ended, the hash of the weights' content, and the
hash of all this. A file that does not hold what it says, or does not say it, is never used. Does not own: where files
lie, and what a recipe is (`store`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.study import Model
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models import architectures
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.randomness import isolated
from vitdsl.runtime.results.writing import write_atomically
from vitdsl.runtime.train.loop import Trained

HEADER = "vitdsl"
SEAL = "header_sha256"
UNREADABLE = (
    safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError,
)  # fmt: skip
"""What a file whose bytes were changed makes the readers raise."""


def read(path: Path, model: Model, key: str) -> LoadedModel:
    """A trained model from the file of its weights.

    Raises:
        EnvironmentProblem: The file is damaged, or holds another recipe's weights (VD412).
    """
    with isolated(0):
        module = architectures.create(model)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        if header["key"] != key:
            raise ValueError(f"it holds the weights of recipe {str(header['key'])[:16]}")
        if header.get(SEAL) != _sealed(header)[SEAL]:
            raise ValueError("what it says of itself is not what was written")
        module.load_state_dict(state)
        detail = {"key": key, "file": str(path), "training": header["training"]}
        loaded = models.finish(module, model, "trained", detail)
        if loaded.weights.sha256 != header["sha256"]:
            raise ValueError("its weights are not those that were written")
    except UNREADABLE as error:
        if is_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EnvironmentProblem(
            Diagnostic(
                "VD412",
                f"the stored weights `{path}` are damaged: {reason}",
                help=("delete that file; the model is then trained again",),
            )
        ) from error
    return loaded


def _sealed(header: Mapping[str, Any]) -> dict[str, Any]:
    """A header with the hash of all else that it says."""
    said = {name: value for name, value in header.items() if name != SEAL}
    return {**said, SEAL: content_hash(said)}


def rounded(done: Trained, model: Model) -> Trained:
    """A trained model with its parameters rounded to float16, which its file then needs half the bytes for.

    Buffers (the statistics of batch norms) stay as they are. It computes in float32 all the same.
    """
    module = done.model.module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half())
    detail = {**done.model.weights.detail, "rounded": "float16"}
    stats = {**done.stats, "rounded": "float16"}
    return Trained(models.finish(module, model, done.model.weights.origin, detail), stats)


def save(done: Trained, content: Mapping[str, Any], store: Path) -> Path:
    """Write a trained model's weights, named by the hash of its resolved recipe, and give their path.

    Raises:
        EnvironmentProblem: They cannot be written (VD407).
    """
    key = content_hash(content)
    path = store / f"{key[:16]}.safetensors"
    # One entry, and nothing that differs between equal trainings: the same recipe gives the same file.
    header = {
        "key": key,
        "recipe": content,
        "training": {name: value for name, value in done.stats.items() if name != "seconds"},
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "sha256": done.model.weights.sha256,
    }
    narrow = dict(done.model.module.named_parameters()) if "rounded" in done.stats else {}
    state = {
        name: value.to(torch.float16 if name in narrow else value.dtype).contiguous().clone()
        for name, value in done.model.module.state_dict().items()
    }
    data = safetensors.torch.save(state, {HEADER: canonical(_sealed(header))})
    with naming_the_store():
        write_atomically(path, lambda temporary: temporary.write_bytes(data))
    return path


@contextmanager
def naming_the_store() -> Iterator[None]:
    """Where weights cannot be written, say how to name another folder for them."""
    try:
        yield
    except EnvironmentProblem as error:
        raise EnvironmentProblem(
            Diagnostic(
                "VD407",
                error.diagnostics[0].message,
                help=("name a folder that can be written to in the environment variable `VITDSL_CACHE`",),
            )
        ) from error


def content_hash(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON content, whatever the order of its keys."""
    return hashlib.sha256(canonical(content).encode(errors="backslashreplace")).hexdigest()
