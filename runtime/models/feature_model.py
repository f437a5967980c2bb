"""The model that stands for features: it is given which image it sees, and gives the row of each layer.

So every metric of layers, saved block and check works on features as on any model. Owns its sites: one for each layer,
with its output alone. Does not own files (`features`), or which image is which (`data.stream`).
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.models.features import Features, read
from vitdsl.runtime.models.loading import LoadedModel, finish
from vitdsl.runtime.models.preprocessing import ByImage

NO_GRAPH = "these are features that were computed elsewhere, without a graph, images or answers"


class Table(nn.Module):
    """One layer: a row for each image."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values: Tensor
        self.register_buffer("values", values)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of the layer, `[batch, ...]`."""
        return torch.index_select(self.values, 0, rows)


class FeatureModel(nn.Module):
    """All layers; from rows `[batch, 1, 1, 1]` to the last layer `[batch, feature]`."""

    def __init__(self, layers: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(layers)
        self.tables = nn.ModuleList(Table(values) for values in layers.values())

    def forward(self, rows: Tensor) -> Tensor:
        """The last layer; the others are there to be read."""
        rows = rows.flatten().long()
        found = [table(rows) for table in self.tables]
        last: Tensor = found[-1].flatten(1)
        return last


def with_features(model: Model, folder: Path) -> tuple[Sites, LoadedModel]:
    """The model of some features, and its sites.

    Args:
        model: What the study says.
        folder: Where relative paths start.

    Raises:
        EnvironmentProblem: As `features.read`.
    """
    assert model.features is not None
    path, found = read(model.features, folder)
    module = FeatureModel(found.layers)
    detail = {"path": str(path), "images": len(found.ids), "layers": list(found.layers)}
    ready = finish(module, model, "features", detail, config=_config(found))
    return _sites(found), ready


def _config(found: Features) -> ByImage:
    said = hashlib.sha256("\n".join(found.ids).encode(errors="backslashreplace")).hexdigest()
    rows = {one: row for row, one in enumerate(found.ids)}
    return ByImage((1, 1, 1), (), (), "features", 1.0, "features", said, rows)


def _sites(found: Features) -> Sites:
    """One site for each layer; which of its tokens are what is not known, and nothing else has a name."""
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in found.layers.items()}
    sites = sites_of(FeatureModel(empty), (1, 1, 1))
    outputs = sites.nodes["output"]
    named = {name: outputs[f"tables.{index}"] for index, name in enumerate(found.layers)}
    nodes = {role: named if role == "output" else {} for role in sites.nodes}
    return replace(sites, nodes=nodes)
