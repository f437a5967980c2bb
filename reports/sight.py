"""A sight: what a model was found to see in some images, as a run's numbers and the images themselves.

Owns which numbers answer for an image, for the page, the terminal and JSON alike. Does not own how they are drawn
(`tiles`, `look`), or how the run came about.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.reports.figures.maps import half_of
from vitdsl.reports.parts import Array
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import ModelRecord


@dataclass(frozen=True)
class Photo:
    """An image: its path as given, its size in pixels, and what the model gets of it, as size and JPEG."""

    name: str
    size: tuple[int, int]
    shown: tuple[int, int]
    jpeg: bytes


@dataclass(frozen=True)
class Sight:
    """What was found in some images.

    Attributes:
        run: The run.
        photos: The images.
        classes: Names of the classes, where they are known.
        centres: Of each layer the middle of its centre position, to the right and down, in pixels of the input.
        absent: What is not shown, with the reason in a sentence.
    """

    run: Run
    photos: tuple[Photo, ...]
    classes: tuple[str, ...]
    centres: dict[str, tuple[float, float]]
    absent: dict[str, str]

    @property
    def model(self) -> ModelRecord:
        """The one model."""
        (model,) = self.run.manifest.models.values()
        return model

    @cached_property
    def views(self) -> tuple["View", ...]:
        """What was found in each image."""
        return tuple(View(self, number) for number in range(1, len(self.photos) + 1))

    @property
    def weights(self) -> str:
        """Where the weights come from, in words."""
        used = self.model.weights
        detail = used.detail
        said = {
            "random": f"random, seed {detail.get('seed')}",
            "pretrained": f"pretrained, {detail.get('from') or detail.get('tag')}",
            "file": f"file {str(detail.get('file', '')).rpartition('/')[2]}",
            "hub": f"hub, {detail.get('from')}",
        }
        return said.get(used.source, used.source)

    @property
    def preparation(self) -> str:
        """What happens to an image before the model sees it, in words."""
        config = self.model.preprocessing
        _, height, width = config.input_size
        ways = {
            "center": "resized by its shorter side, the middle kept",
            "squash": "squashed to the input's proportions, the middle kept",
            "border": "resized by its longer side, the border filled",
        }
        how = ways.get(config.crop_mode, f"crop mode {config.crop_mode}")
        return f"{how} (crop {config.crop_pct:.4g}, {config.interpolation}), {width} x {height} pixels"

    @property
    def cautions(self) -> list[str]:
        """Why what is shown may mean little."""
        used = self.model.weights
        if used.source == "random":
            return [
                "The weights are random: nothing was learned. The answers mean nothing, and maps show what the "
                "architecture does by itself."
            ]
        fresh = used.detail.get("fresh") or []
        return (
            [f"The weights do not fill {', '.join(fresh)}: random, so that answers mean nothing."]
            if fresh
            else []
        )


@dataclass(frozen=True)
class Answer:
    """One class: its rank from 1, its index, its name where it is known, and the model's confidence."""

    rank: int
    index: int
    name: str
    confidence: float

    @property
    def said(self) -> str:
        """The class in words."""
        return f"{self.name} (class {self.index})" if self.name else f"class {self.index}"


class View:
    """What was found in one image."""

    def __init__(self, sight: Sight, number: int) -> None:
        self.sight, self.number = sight, number
        self.photo = sight.photos[number - 1]

    def dataset(self, name: str) -> xr.Dataset | None:
        """The results of a metric for this image, None where it was not measured."""
        for path, found in self.sight.run.groups.items():
            if path.strip("/").partition("/")[0] == f"{name}_{self.number}":
                return found.isel(condition=0) if "condition" in found.dims else found
        return None

    def values(self, name: str, value: str) -> Array | None:
        """One value as an array."""
        found = self.dataset(name)
        return None if found is None else np.asarray(found[value].values, np.float64)

    def names(self, name: str, dim: str = "site") -> list[str]:
        """Labels along a dimension."""
        found = self.dataset(name)
        return [] if found is None else [str(one) for one in found[dim].values]

    @property
    def answers(self) -> list[Answer]:
        """The likeliest classes; none without a head, or where logits are not finite."""
        found = self.dataset("answers")
        if found is None:
            return []
        pairs = zip(found["class"].values[0], found["confidence"].values[0], strict=True)
        names = self.sight.classes
        return [
            Answer(rank, int(index), names[int(index)] if int(index) < len(names) else "", float(confidence))
            for rank, (index, confidence) in enumerate(pairs, 1)
            if np.isfinite(index)
        ]

    @property
    def query(self) -> str:
        """Whose attention is shown."""
        return "".join(self.names("attention", "query"))

    @property
    def even(self) -> float:
        """The weight that even attention gives each token, prefix tokens included."""
        rows, cols = self.grid
        return 1 / (rows * cols + self.sight.model.prefix_tokens)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of attention maps."""
        found = self.dataset("attention")
        assert found is not None
        return found.sizes["row"], found.sizes["col"]

    @property
    def widths(self) -> list[tuple[str, float, float, float]]:
        """For each attention: the share of the image that holds half of what goes to patches: least, median, most."""
        maps = self.values("attention", "map")
        if maps is None:
            return []
        found = []
        for name, heads in zip(self.names("attention"), maps, strict=True):
            shares = np.array([half_of(one) for one in heads])
            shares = shares[np.isfinite(shares)]
            if len(shares):
                found.append((name, float(shares.min()), float(np.median(shares)), float(shares.max())))
        return found

    @property
    def fields(self) -> list[tuple[str, float, float]]:
        """For each layer the radii that hold half, and nine tenths, of its centre's gradient, in pixels."""
        radii = [self.values("field", name) for name in ("radius_50", "radius_90")]
        if radii[0] is None or radii[1] is None:
            return []
        pairs = zip(self.names("field"), radii[0], radii[1], strict=True)
        return [(name, float(half), float(most)) for name, half, most in pairs]

    @property
    def nearest(self) -> list[tuple[str, str, float]]:
        """For each layer the other layer that is most like it, and their token-wise CKA."""
        cka = self.values("alike", "cka")
        if cka is None:
            return []
        names, others = self.names("alike", "site_x"), np.where(np.eye(len(cka)) > 0, np.nan, cka)
        known = [i for i in range(len(names)) if np.isfinite(others[i]).any()]
        return [(names[i], names[int(np.nanargmax(others[i]))], float(np.nanmax(others[i]))) for i in known]

    @property
    def steps(self) -> list[tuple[str, str, float]]:
        """Each layer, the next one, and their token-wise CKA."""
        cka = self.values("alike", "cka")
        if cka is None:
            return []
        names = self.names("alike", "site_x")
        pairs = [(names[i], names[i + 1], float(cka[i, i + 1])) for i in range(len(names) - 1)]
        return [pair for pair in pairs if np.isfinite(pair[2])]

    def as_json(self) -> dict[str, Any]:
        """The numbers, for a program."""
        norms, shares = (self.values("norms", name) for name in ("map", "outlier_share"))
        return {
            "image": self.photo.name,
            "size": list(self.photo.size),
            "answers": [
                {"class": one.index, "name": one.name or None, "confidence": one.confidence}
                for one in self.answers
            ],
            "attention": [
                {"site": name, "half_within": {"least": low, "median": middle, "most": high}}
                for name, low, middle, high in self.widths
            ],
            "query": self.query or None,
            "receptive_field": [
                {"site": name, "radius_50": half, "radius_90": most} for name, half, most in self.fields
            ],
            "norms": [
                {"site": name, "mean": float(one.mean()), "largest": float(one.max()), "outliers": float(out)}
                for name, one, out in zip(
                    self.names("norms"),
                    norms if norms is not None else [],
                    shares if shares is not None else [],
                    strict=True,
                )
            ],
            "nearest_layers": [
                {"site": name, "nearest": other, "token_cka": value} for name, other, value in self.nearest
            ],
        }
