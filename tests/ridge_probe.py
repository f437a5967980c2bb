"""A metric of the tests with images of its own to learn from: a linear probe in closed form."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.known import DataName
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Fit, Inputs, Metric, Seen, Value

CLASSES = 10


class Params(Entry):
    """What the probe learns from, and how hard its weights are pulled to zero."""

    train: DataName = Field(description="Images that the probe is fitted to.")
    ridge: float = Field(1.0, gt=0, description="Weight of the squared norm.")


def features(tensor: Tensor, *, site: Site) -> Tensor:
    """The mean over tokens and a constant, `[batch, width + 1]`, float64."""
    mean = tensor.double().mean(1)
    return torch.cat([mean, torch.ones_like(mean[:, :1])], 1)


class Ridge(Fit):
    """Weights of a ridge regression on one-hot labels."""

    name: ClassVar[str] = "ridge"
    Params: ClassVar[type[Entry]] = Params
    labels: ClassVar[bool] = True

    def reducer(self) -> Reducer:
        return Reducer(features)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        assert seen.labels is not None
        wanted = torch.nn.functional.one_hot(seen.labels, CLASSES).double()
        found = {}
        for i, (x,) in enumerate(seen.x):
            found[f"xx_{i}"], found[f"xy_{i}"] = x.T @ x, x.T @ wanted
        return found

    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        assert isinstance(self.params, Params)
        xx = [statistics[f"xx_{i}"] for i in range(len(sites))]
        pull = [self.params.ridge * np.eye(len(one)) for one in xx]
        return [(np.linalg.solve(xx[i] + pull[i], statistics[f"xy_{i}"]),) for i in range(len(sites))]

    def shapes(self, site: Site) -> tuple[tuple[int, ...], ...]:
        return ((site.shape[-1] + 1, CLASSES),)


class RidgeProbe(Metric):
    """Share of images whose class a ridge regression of a layer, fitted to other images, gives."""

    name: ClassVar[str] = "ridge_probe"
    Params: ClassVar[type[Entry]] = Params
    inputs: ClassVar[Inputs] = Inputs("layers", alone=True)
    labels: ClassVar[bool] = True
    VALUES: ClassVar[Mapping[str, Value]] = {"accuracy": Value(("site",), "accuracy of a ridge probe")}

    def fit(self) -> Fit:
        return Ridge(self.params)

    def over(self) -> str:
        assert isinstance(self.params, Params)
        return self.params.train

    def reducer(self) -> Reducer:
        return Reducer(features)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        given = [
            (x @ weights.double()).argmax(1) for (x,), (weights,) in zip(seen.x, seen.fitted, strict=True)
        ]
        right = torch.stack([(one == seen.labels).sum() for one in given])
        return {"right": right, "images": torch.tensor(float(len(given[0])))}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        return {"accuracy": statistics["right"] / statistics["images"][..., None]}
