"""Features out: the layers of a study as files that other programs read, and that a study reads in again.

Owns which layers are written of which images, and the file: one for each set of layers, intact model, and stream, with
the ids of its images. Rows go to disk as they come, so that memory does not grow with the images. Does not own what
such a file is (`models.features`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitdsl import __version__
from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.study import BASELINE, Entry
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import as_tokens, prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen
from vitdsl.runtime.models.features import IDS, LAYERS
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.bind_layers import layer_reading
from vitdsl.runtime.plan.plan import Group, Plan, View
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.results.writing import check_writable, write_atomically
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.full import memory_errors
from vitdsl.runtime.run.inputs import model_of, stream_of

FLOAT = 4


@dataclass(frozen=True)
class Written:
    """One file: the layers of one model on one stream."""

    path: Path
    layers: str
    model: str
    data: str
    images: int
    shapes: dict[str, tuple[int, ...]]


class Kept(Metric):
    """What is read of each image, kept as it is: what a file of features holds. No kind of a study."""

    name = "features"
    inputs = Inputs("layers", alone=True)
    VALUES = {}

    def reducer(self) -> Reducer:
        """The selected tokens."""
        return Reducer(selected)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Nothing is summed."""
        return {}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Nothing is estimated."""
        return {}


def selected(tensor: Tensor, *, site: Site) -> Tensor:
    """A layer's features of each image: `[batch, token, width]`, or `[batch, width]` where there is one vector.

    A map is written row by row as tokens; what has no tokens, as one vector.
    """
    if site.layout not in ("tokens", "map", "map_last"):
        return tensor.flatten(1).float()
    tokens = as_tokens(tensor, site).float()
    if site.tokens == "all":
        return tokens
    if site.tokens == "cls":
        return tokens[:, 0]
    if site.tokens == "spatial":
        return tokens[:, prefix_of(site) :]
    if site.tokens == "mean":
        return tokens[:, prefix_of(site) :].mean(1)
    return tokens[:, list(site.tokens)]


def groups_of(plan: Plan, data: str | None = None) -> list[Group]:
    """What there is to write: each set of layers of each model, on each stream that a metric reads it on.

    Args:
        plan: The plan.
        data: Only on this stream; None takes all.

    Raises:
        StudyError: No metric reads layers there (VD222).
    """
    study = plan.loaded.study
    found: list[Group] = []
    problems: list[Diagnostic] = []
    readers: dict[tuple[str, str], None] = {}
    for group in plan.groups:
        entry = study.metrics[group.metric]
        for layers in dict.fromkeys((entry.x, entry.y)):
            if layers is not None and data in (None, group.data):
                readers[layers, group.data] = None
    for layers, stream in sorted(readers, key=lambda one: (list(study.layers).index(one[0]), one[1])):
        for model in (model for model in plan.own_models.values() if model.base == study.layers[layers].of):
            reading = layer_reading(plan.loaded, Kept(Entry()), model, layers, problems, of_x=False)
            if reading is not None:
                view = View(BASELINE, BASELINE, BASELINE, model.name)
                path = f"{layers}{model.name.removeprefix(model.base)}"
                found.append(Group(layers, path, Kept(Entry()), reading, reading, (view,), False, stream))
    if problems:
        raise StudyError(problems)
    if not found:
        what = "no metric reads layers" + (f" of `{data}`" if data else "")
        raise StudyError(
            Diagnostic(
                "VD222",
                f"there are no features to write: {what}",
                help=("name layers in a metric: `metrics: {alike: {kind: cka, x: some_layers}}`",),
            )
        )
    return found


def write_features(
    plan: Plan,
    groups: Sequence[Group],
    out: Path,
    *,
    device: torch.device,
    progress: Progress,
) -> list[Written]:
    """Write the layers of a study, of intact models, in float32.

    Args:
        plan: The bound study.
        groups: What to write, from `groups_of`.
        out: The folder of the files.
        device: Where to compute.
        progress: Told of every stage.

    Raises:
        StudyError: As a run.
        EnvironmentProblem: As a run; a file cannot be written (VD407).
    """
    check_writable(out / "features")
    streams = {group.data: stream_of(plan, group.data) for group in groups}
    models = {
        name: model_of(plan, name, device=device, progress=progress)
        for name in dict.fromkeys(group.x.model for group in groups)
    }
    written = []
    for group in groups:
        suffix = f"@{group.data}" if len(streams) > 1 else ""
        path = out / f"{group.path.replace('/', '|')}{suffix}.safetensors"
        work = _File(plan, group, models[group.x.model], streams[group.data], device, progress)
        write_atomically(path, work.fill)
        shapes = {name: array.shape for name, array in work.arrays.items()}
        written.append(Written(path, group.metric, group.x.model, group.data, work.stream.n, shapes))
    return written


class _File:
    """One file that is being filled."""

    def __init__(
        self,
        plan: Plan,
        group: Group,
        loaded: LoadedModel,
        stream: Stream,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.plan, self.group, self.loaded, self.stream = plan, group, loaded, stream
        self.device, self.progress = device, progress
        self.arrays: dict[str, npt.NDArray[np.float32]] = {}

    def fill(self, path: Path) -> None:
        """Walk the stream, and put every image's row where it belongs in a file."""
        name, stream = self.group.x.model, self.stream
        with memory_errors(self.plan, [self.group], self.device):
            module = self.loaded.module.to(self.device)
            compiled = compile_model(self.plan.models[name], module, [self.group])
            runner = Runner(self.plan, {name: compiled}, [self.group], self.device, "float32")
            self.progress.begin(f"features of {self.group.path}", stream.n)
            for batch in stream:
                found = {name: runner.forward(name, runner.on_device(batch)[name])}
                rows = [tensor for (tensor,) in runner.reads(self.group, "x", BASELINE, found)]
                if not self.arrays:
                    self.arrays = self._opened(path, [tuple(tensor.shape[1:]) for tensor in rows])
                for array, tensor in zip(self.arrays.values(), rows, strict=True):
                    array[batch.rows.start : batch.rows.stop] = tensor.cpu().numpy()
                self.progress.step(len(batch.rows))
            self.progress.end()
        for array in self.arrays.values():
            array.flush()  # type: ignore[attr-defined]

    def _opened(self, path: Path, shapes: Sequence[tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
        """Write the head of a safetensors file, and map its arrays."""
        n, at = self.stream.n, 0
        header: dict[str, Any] = {"__metadata__": self._said()}
        names = [site.name for site in self.group.x.sites]
        whole = {name: (n, *shape) for name, shape in zip(names, shapes, strict=True)}
        places = {}
        for name, shape in whole.items():
            end = at + FLOAT * math.prod(shape)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
            places[name], at = at, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(file.tell() + at)
        start = 8 + len(text)
        return {
            name: np.memmap(path, "<f4", "r+", start + places[name], shape) for name, shape in whole.items()
        }

    def _said(self) -> dict[str, str]:
        """The metadata: what a reader needs, and where it comes from."""
        reading, stream, weights = self.group.x, self.stream, self.loaded.weights
        layer = self.plan.loaded.study.layers[self.group.metric]
        return {
            IDS: json.dumps([stream.id(row) for row in range(stream.n)]),
            LAYERS: json.dumps([site.name for site in reading.sites]),
            "written_by": f"vitdsl {__version__}",
            "study": self.plan.loaded.study.study,
            "model": f"{self.loaded.arch}, weights {weights.sha256}",
            "role": layer.role,
            "tokens": json.dumps(layer.tokens),
        }
