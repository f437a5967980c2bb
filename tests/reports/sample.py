"""A realistic run without the runtime: the numbers are made up, their shapes and attributes are not.

Longer than 300 lines: it spells out a whole run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.thumbnails import Thumbnail, Thumbnails

Array = npt.NDArray[np.float64]
REPLICATES = 16
WHAT = {
    "accuracy": "How often the model is right, and how far its answers move from the intact model's.",
    "cka": "How alike two sets of representations are, by linear CKA.",
    "skip_ratio": "How much of a unit's output its skip carries, against what its branch adds.",
    "receptive_field": "Which pixels of the image the centre of a layer depends on, by the gradient.",
    "attention_distance": "How far, in pixels, each attention head looks on average.",
}
KIND_PAGE = """How alike two sets of representations are, by linear CKA.

What it measures
    Similarity of two Gram matrices over the same images, from 0 (unrelated) to 1 (equal up to rotation).

Formula
    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))

Shapes
    x [site, batch, batch], y [site, batch, batch] -> cka [site_x, site_y]

Range
    At most 1; the unbiased estimate may fall below 0.

Cost
    One Gram matrix for each site and batch.

Reference
    Nguyen, Raghu & Kornblith 2021, arXiv 2010.15327

Limits
    Sensitive to a few directions of high variance.
"""


def value(
    dims: Sequence[str],
    data: Array,
    rng: np.random.Generator,
    *,
    name: str,
    noise: float = 0.02,
    intervals: bool = True,
    **attrs: Any,
) -> dict[str, tuple[Sequence[str], Array, dict[str, Any]]]:
    """A value and its companions."""
    spread = noise * (0.5 + rng.random(data.shape))
    low, high = (data - 1.96 * spread, data + 1.96 * spread) if intervals else (data * np.nan, data * np.nan)
    replicates = data[..., None] + spread[..., None] * rng.standard_normal((*data.shape, REPLICATES)) / 4
    meaning = {"long_name": name, "units": "1", "direction": "none", "reference": "", **attrs}
    return {
        "": (dims, data, meaning),
        "_low": (dims, low, {}),
        "_high": (dims, high, {}),
        "_replicates": ([*dims, "replicate"], replicates, {}),
    }


def dataset(
    values: Mapping[str, Mapping[str, tuple[Sequence[str], Array, dict[str, Any]]]],
    coords: Mapping[str, Any],
    models: Sequence[str],
    **attrs: Any,
) -> xr.Dataset:
    """One group of a run, of one model or two."""
    variables = {f"{v}{suffix}": array for v, parts in values.items() for suffix, array in parts.items()}
    names = ("model",) if len(models) == 1 else ("model_x", "model_y")
    single = {"data": "probe", **dict(zip(names, models, strict=True))}
    return xr.Dataset(variables, {**coords, **single}, {"paired": 0, "undefined": "[]", **attrs})


def conditions(ablation: str, sites: Sequence[str], depths: Array, short: str) -> dict[str, Any]:
    """Coordinates of a sweep of one ablation over sites, the intact model first."""
    ids = ["baseline", *(f"{short}@{site}" for site in sites)]
    return {
        "condition": ("condition", ids),
        "ablation": ("condition", ["", *([ablation] * len(sites))]),
        "ablated_site": ("condition", ["", *sites]),
        "ablated_depth": ("condition", np.array([np.nan, *depths])),
    }


def sites(names: Sequence[str], depths: Array, role: str = "output", suffix: str = "") -> dict[str, Any]:
    """Coordinates of sites."""
    dim = f"site{suffix}"
    return {
        dim: (dim, list(names)),
        f"depth{suffix}": (dim, depths),
        f"role{suffix}": (dim, [role] * len(names)),
    }


def _similarity(a: Array, b: Array, width: float, floor: float, stages: int = 0) -> Array:
    near = np.exp(-(((a[:, None] - b[None, :]) / width) ** 2))
    if stages:
        same = np.floor(a * stages * 0.999)[:, None] == np.floor(b * stages * 0.999)[None, :]
        near = near * np.where(same, 1.0, 0.55)
    return np.asarray(floor + (1 - floor) * near)


class Study:
    """Builds the groups of the default study at any size."""

    def __init__(self, vit: int = 8, resnet: int = 8, heads: int = 3, intervals: bool = True, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.intervals, self.heads = intervals, heads
        self.vit = [f"blocks.{i}" for i in range(vit)]
        per = max(1, resnet // 4)
        self.res = [f"layer{1 + i // per}.{i % per}" for i in range(resnet)]
        self.vit_depth = np.arange(1, vit + 1) / vit
        self.res_depth = np.arange(1, resnet + 1) / resnet
        self.units = [f"{block}.{part}" for block in self.vit for part in ("attn", "mlp")]
        self.unit_depth = np.arange(1, 2 * vit + 1) / (2 * vit)
        self.attn = [f"{block}.attn" for block in self.vit]
        self.attn_depth = self.unit_depth[::2]

    def _value(self, dims: Sequence[str], data: Array, **attrs: Any) -> Any:
        return value(dims, data, self.rng, intervals=self.intervals, **attrs)

    def accuracy(self, model: str) -> xr.Dataset:
        """Accuracy of the intact model and with each skip removed."""
        vit = model == "vit"
        names, depths = (self.attn, self.attn_depth) if vit else (self.res, self.res_depth)
        drop = 0.12 + 0.6 * np.exp(-4 * depths) if vit else 0.01 + 0.09 * (np.arange(len(depths)) % 2 == 0)
        drop = np.concatenate([[0.0], drop + 0.02 * self.rng.standard_normal(len(depths))])
        base = 0.972 if vit else 0.983
        data = {
            "top1": (base - drop, "top-1 accuracy", "higher", (0.0, 1.0)),
            "top5": (np.minimum(0.999, base + 0.02 - drop / 3), "top-5 accuracy", "higher", (0.0, 1.0)),
            "loss": (0.09 + 3 * drop, "cross entropy", "lower", (0.0, None)),
            "drop": (drop, "drop in top-1 accuracy", "lower", (-1.0, 1.0)),
            "agreement": (1 - 0.9 * np.abs(drop), "agreement with the intact model", "higher", (0.0, 1.0)),
            "kl": (2.4 * np.abs(drop), "KL divergence from the intact model", "lower", (0.0, None)),
        }
        values = {
            v: self._value(
                ["condition"],
                array,
                name=name,
                direction=direction,
                noise=0.008,
                units="nat" if v in ("loss", "kl") else "1",
                relative=int(v in ("drop", "agreement", "kl")),
                **{f"valid_{end}": x for end, x in zip(("min", "max"), limits, strict=True) if x is not None},
            )
            for v, (array, name, direction, limits) in data.items()
        }
        return dataset(
            values,
            conditions(f"no_skip_{'vit' if vit else 'res'}", names, depths, "no_skip"),
            metric="accuracy",
            kind="accuracy",
            title="What is lost when one skip is removed",
            models=(model,),
        )

    def matrix(self, metric: str, x: str, y: str, title: str) -> xr.Dataset:
        """CKA of every site of x with every site of y."""
        names = {"vit": self.vit, "resnet": self.res}
        depths = {"vit": self.vit_depth, "resnet": self.res_depth}
        if x == y:
            cka = _similarity(
                depths[x],
                depths[y],
                1.1 if x == "vit" else 0.45,
                0.45 if x == "vit" else 0.05,
                0 if x == "vit" else 4,
            )
        else:
            cka = (
                _similarity(np.sqrt(depths[x]), depths[y], 0.5, 0.02) * (0.75 - 0.5 * depths[x] ** 3)[:, None]
            )
        return dataset(
            {
                "cka": self._value(
                    ["condition", "site_x", "site_y"],
                    cka[None],
                    name="linear CKA (unbiased)",
                    direction="none",
                    valid_max=1.0,
                    noise=0.006,
                    reference="Nguyen, Raghu & Kornblith 2021, arXiv 2010.15327",
                )
            },
            {
                "condition": ("condition", ["baseline"]),
                "ablation": ("condition", [""]),
                "ablated_site": ("condition", [""]),
                "ablated_depth": ("condition", [np.nan]),
                **sites(names[x], depths[x], suffix="_x"),
                **sites(names[y], depths[y], suffix="_y"),
            },
            metric=metric,
            kind="cka",
            title=title,
            models=tuple(dict.fromkeys((x, y))),
        )

    def drift(self, model: str) -> xr.Dataset:
        """CKA of each site with the same site of the intact model, under each removed skip."""
        vit = model == "vit"
        names, depths = (self.vit, self.vit_depth) if vit else (self.res, self.res_depth)
        at, at_depth = (self.attn, self.attn_depth) if vit else (self.res, self.res_depth)
        after = depths[None, :] >= at_depth[:, None] - 1e-9
        hurt = (0.75 * np.exp(-2 * at_depth) + 0.1) if vit else np.full(len(at), 0.08)
        fade = 1 if vit else 0.35
        gap = np.maximum(depths[None, :] - at_depth[:, None], 0)
        cka = 1 - after * hurt[:, None] * np.exp(-(1 - fade) * 4 * gap)
        cka = np.concatenate([np.ones((1, len(names))), cka])
        return dataset(
            {
                "cka": self._value(
                    ["condition", "site"],
                    cka,
                    name="linear CKA (unbiased) with the intact model",
                    direction="none",
                    valid_max=1.0,
                    noise=0.006,
                )
            },
            {
                **conditions(f"no_skip_{'vit' if vit else 'res'}", at, at_depth, "no_skip"),
                **sites(names, depths),
            },
            metric="drift",
            kind="cka",
            title="Change of the representation when one skip is removed",
            models=(model,),
            paired=1,
        )

    def ratio(self, model: str) -> xr.Dataset:
        """Norm of what the skip carries over the norm of what the branch adds."""
        vit = model == "vit"
        names, depths = (self.units, self.unit_depth) if vit else (self.res, self.res_depth)
        spatial = 0.8 + 4.0 / (1 + np.exp(-8 * (depths - 0.55)))
        cls = 0.9 + 6.0 / (1 + np.exp(10 * (depths - 0.45)))
        wave = np.where(np.arange(len(depths)) % 2, 1.25, 1.0)
        ratio = np.stack([cls * wave, spatial * wave], 1) if vit else 0.7 + 0.5 * depths[:, None]
        tokens = ["cls", "spatial"] if vit else ["spatial"]
        data = {
            "ratio": (ratio, "skip norm over branch norm"),
            "cos_skip_stream": (ratio / np.hypot(ratio, 1), "cosine of skip and stream"),
            "cos_skip_branch": (0.2 - 0.3 / ratio, "cosine of skip and branch"),
            "cos_branch_stream": (1 / np.hypot(ratio, 1), "cosine of branch and stream"),
        }
        kinds = (["attention", "mlp"] * len(self.vit)) if vit else ["conv"] * len(names)
        return dataset(
            {
                v: self._value(["condition", "site", "token"], array[None], name=name, noise=0.03)
                for v, (array, name) in data.items()
            },
            {
                "condition": ("condition", ["baseline"]),
                "ablation": ("condition", [""]),
                "ablated_site": ("condition", [""]),
                "ablated_depth": ("condition", [np.nan]),
                **sites(names, depths, role="skip"),
                "branch_kind": ("site", kinds),
                "token": ("token", tokens),
            },
            metric="ratio",
            kind="skip_ratio",
            title="What the skip carries against what the branch adds",
            models=(model,),
        )

    def distance(self) -> xr.Dataset:
        """Mean attention distance of each head."""
        uniform = 16.68
        level = self.rng.random((len(self.attn), self.heads))
        start = 0.25 + 0.65 * level
        share = start + (0.97 - start) * self.attn_depth[:, None] ** 0.8
        mass = 0.05 + 0.5 * self.attn_depth[:, None] * level
        return dataset(
            {
                "distance": self._value(
                    ["condition", "site", "head"],
                    (uniform * share)[None],
                    name="mean attention distance",
                    units="px",
                    noise=0.1,
                    valid_min=0.0,
                    baseline_line=uniform,
                    baseline_label="uniform attention",
                    reference="Dosovitskiy et al. 2021, arXiv 2010.11929",
                ),
                "prefix_mass": self._value(
                    ["condition", "site", "head"],
                    mass[None],
                    name="attention paid to prefix tokens",
                    noise=0.01,
                    valid_min=0.0,
                    valid_max=1.0,
                ),
            },
            {
                "condition": ("condition", ["baseline"]),
                "ablation": ("condition", [""]),
                "ablated_site": ("condition", [""]),
                "ablated_depth": ("condition", [np.nan]),
                **sites(self.attn, self.attn_depth, role="attention"),
                "head": ("head", np.arange(self.heads)),
            },
            metric="distance",
            kind="attention_distance",
            title="How far each head looks",
            models=("vit",),
        )

    def field(self, model: str, pixels: int = 32, cell: int = 1) -> xr.Dataset:
        """Gradients of the centre of each site over the image."""
        vit = model == "vit"
        names, depths = (self.vit, self.vit_depth) if vit else (self.res, self.res_depth)
        unit = pixels / 32  # the fields of another resolution look alike
        at = (np.arange(0, pixels, cell) + cell / 2 - pixels / 2) / unit
        squared = at[:, None] ** 2 + at**2
        width = 1.5 + (0.5 if vit else 3) * depths[:, None, None]
        field = np.exp(-squared / (2 * width**2)) * np.exp(0.3 * self.rng.standard_normal((len(at), len(at))))
        if vit:
            field = field + 0.02 * depths[:, None, None] ** 2 * (1 + self.rng.random(field.shape))
        else:
            field = np.where(squared < (3 + 12 * depths[:, None, None]) ** 2, field, 0.0)
        field = field * (0.004 if vit else 0.02)
        flat = field.reshape(len(names), -1)
        order = np.argsort(squared.ravel())
        reached = np.cumsum(flat[:, order], 1) / flat.sum(1, keepdims=True)
        radius = np.sqrt(squared.ravel()[order]) * unit
        inside = (np.abs(at[:, None]) < 2) & (np.abs(at) < 2)
        data = {
            "map": (field, "mean absolute gradient of the centre", "1"),
            "centre_share": (
                field[:, inside].sum(1) / flat.sum(1),
                "gradient in the centre's own patch",
                "1",
            ),
            "radius_50": (radius[(reached < 0.5).sum(1)], "radius that holds half of the gradient", "px"),
            "radius_90": (radius[(reached < 0.9).sum(1)], "radius that holds 90 % of the gradient", "px"),
            "area": (flat.sum(1) ** 2 / (flat**2).sum(1), "pixels of an even field as concentrated", "px"),
            "luo": (
                np.sqrt((flat >= 0.0455 * flat.max(1, keepdims=True)).sum(1)),
                "root of the pixels above 4.55 % of the largest",
                "px",
            ),
        }
        return dataset(
            {
                v: self._value(
                    ["condition", "site", *(["row", "col"] if v == "map" else [])],
                    array[None],
                    name=name,
                    units=units,
                    noise=0.03 * float(array.max()) if v != "map" else 1e-5,
                    valid_min=0.0,
                    reference="Raghu et al. 2021, Figure 6",
                )
                for v, (array, name, units) in data.items()
            },
            {
                "condition": ("condition", ["baseline"]),
                "ablation": ("condition", [""]),
                "ablated_site": ("condition", [""]),
                "ablated_depth": ("condition", [np.nan]),
                **sites(names, depths),
                "row": ("row", np.arange(0, pixels, cell)),
                "col": ("col", np.arange(0, pixels, cell)),
            },
            metric="field",
            kind="receptive_field",
            title="What the centre of each layer depends on",
            models=(model,),
        )

    def groups(self) -> dict[str, xr.Dataset]:
        """All groups of the default study."""
        return {
            "accuracy/vit": self.accuracy("vit"),
            "accuracy/resnet": self.accuracy("resnet"),
            "within_vit/vit": self.matrix("within_vit", "vit", "vit", "Layers of the ViT with one another"),
            "within_res/resnet": self.matrix(
                "within_res", "resnet", "resnet", "Layers of the ResNet with one another"
            ),
            "across/vit~resnet": self.matrix(
                "across", "vit", "resnet", "Layers of the ViT with the ResNet's"
            ),
            "drift/vit": self.drift("vit"),
            "drift/resnet": self.drift("resnet"),
            "ratio/vit": self.ratio("vit"),
            "ratio/resnet": self.ratio("resnet"),
            "distance/vit": self.distance(),
        }


def quantity(value: float | None, half: float, text: str) -> dict[str, Any]:
    """One side of a claim."""
    low, high = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "text": text, "units": "1"}


CLAIMS = {
    "vit_depends_on_skips": {
        "say": "Removing one skip costs the ViT more accuracy than the ResNet.",
        "verdict": "supported", "raw": "supported", "is": "greater", "by": 0.0,
        "left": quantity(0.306, 0.021, "mean drop of accuracy where model = vit"),
        "right": quantity(0.052, 0.012, "mean drop of accuracy where model = resnet"),
        "difference": {"value": 0.254, "low": 0.229, "high": 0.279}, "reason": "",
    },
    "vit_is_uniform": {
        "say": "Lower and higher layers of the ViT are alike.",
        "verdict": "undecided", "raw": "undecided", "is": "greater", "by": 0.1,
        "left": quantity(0.82, 0.03, "min cka of within_vit"), "right": quantity(0.71, 0.0, "0.71"),
        "difference": {"value": 0.11, "low": 0.08, "high": 0.14},
        "reason": "the interval of the difference contains the margin",
    },
    "resnet_is_local": {
        "say": "The last layer of the ResNet resembles the last layer of the ViT.",
        "verdict": "refuted", "raw": "refuted", "is": "close", "by": 0.05,
        "left": quantity(0.26, 0.02, "last cka of across"), "right": quantity(0.9, 0.01, "max cka of across"),
        "difference": {"value": -0.64, "low": -0.66, "high": -0.62}, "reason": "",
    },
    "drift_falls": {
        "say": "The later the removed skip, the smaller the change of the last layer.",
        "verdict": "supported", "raw": "supported", "is": "increasing", "by": 0.0,
        "left": quantity(0.94, 0.03, "spearman cka of drift along ablated_depth"), "right": None,
        "difference": {"value": 0.94, "low": 0.91, "high": 0.97}, "reason": "",
    },
}  # fmt: skip

SOURCE = """vitdsl: 1
study: skip_ablation
title: Skip connections matter more to a ViT than to a ResNet   # <b>a comment</b>
question: What happens when one skip connection is removed?
data:
  probe: {source: digits, split: test, images: 512, batch: 32}
"""


def _metrics(groups: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for path, group in groups.items():
        name = path.partition("/")[0]
        entry = metrics.setdefault(
            name,
            {
                "kind": group.attrs["kind"], "version": 1, "title": group.attrs["title"],
                "what": WHAT.get(group.attrs["kind"], "Numbers."), "page": KIND_PAGE,
                "params": {"estimator": "unbiased"},
                "reference": "Nguyen, Raghu & Kornblith 2021, arXiv 2010.15327", "groups": [],
                "data": "probe",
            },
        )  # fmt: skip
        entry["groups"].append(path)
    return metrics


def _model(arch: str, kind: str, n: int) -> dict[str, Any]:
    return {
        "arch": arch, "options": {"img_size": 32, "patch_size": 4, "num_classes": 10}, "parameters": 412_170,
        "weights": {"source": "trained", "sha256": "9f" * 32, "detail": {"recipe": kind}},
        "preprocessing": {
            "input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
        },
        "coordinates": {}, "prefix_tokens": 1, "sites": 160, "units": n, "without": [],
    }  # fmt: skip


def _conditions(groups: Mapping[str, xr.Dataset]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path, group in groups.items():
        if path.startswith("accuracy/"):
            found[str(group["model"].item())] = [
                {
                    "id": str(c), "ablation": str(a), "kind": "remove_skip" if str(a) else "",
                    "sites": [str(s)] if str(s) else [], "depth": None if np.isnan(d) else float(d),
                    "coordinates": {},
                }
                for c, a, s, d in zip(
                    group["condition"].values, group["ablation"].values, group["ablated_site"].values,
                    group["ablated_depth"].values, strict=True,
                )
            ]  # fmt: skip
    return found


def manifest(groups: Mapping[str, xr.Dataset]) -> Manifest:
    """A manifest that fits the groups."""
    return Manifest.model_validate_json(json.dumps(_manifest(groups)))


def _manifest(groups: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    return {
        "schema": "vitdsl.run/3", "vitdsl": "0.1.0", "study": "skip_ablation",
        "title": "Skip connections matter more to a ViT than to a ResNet",
        "question": "What happens to accuracy and representations when one skip connection is removed?",
        "run_id": "20261122T110000Z-3fa91c2e", "status": "success",
        "started_at": "2026-11-22T11:00:00Z", "ended_at": "2026-11-22T11:00:38Z", "seconds": 38.4,
        "argv": ["vitdsl", "run", "specs/skip_ablation.yaml"], "overrides": ["data.probe.images=512"],
        "spec": {"hash": "3fa91c2e" * 8, "source_sha256": "ab" * 32},
        "git": {"commit": "cf0a5e6d9b", "dirty": True},
        "environment": {
            "python": "3.11.9", "packages": {"torch": "2.8.0", "timm": "1.0.20", "numpy": "2.2.1"},
            "platform": "Linux x86_64",
            "cpu": "2 cores", "cores": 2, "threads": 2, "cuda": None, "gpus": [],
        },
        "device": "cpu", "dtype": "float32", "seed": 0,
        "models": {
            "vit": _model("vit_tiny_patch16_224", "digits_vit", 16),
            "resnet": _model("resnet18", "digits_resnet", 8),
        },
        "data": {
            "probe": {
                "source": "digits", "params": {}, "images": 512, "available": 512,
                "classes": 10, "labelled": True, "batch": 32, "batches": 16,
                "image_blocks": 16, "shuffled": True, "seed": 0, "ids_sha256": "cd" * 32,
                "content_sha256": "ef" * 32,
            }
        },
        "conditions": _conditions(groups),
        "metrics": _metrics(groups),
        "ablations": {
            name: {"kind": "remove_skip", "params": {}, "what": "Removes a unit's skip.", "page": "Removes it."}
            for name in ("no_skip_vit", "no_skip_res")
        },
        "claims": json.loads(json.dumps(CLAIMS)),
        "trust": [
            {"check": "compiled_equals_plain", "model": "vit", "ok": True, "value": 0.0, "tolerance": 1e-5,
             "text": "the compiled baseline gives the plain model's output on the first batch"},
            {"check": "identity_cka", "model": "vit", "ok": True, "value": 1.2e-7, "tolerance": 1e-6,
             "text": "CKA of a layer with itself is 1"},
            {"check": "ablation_acts", "model": "resnet", "ok": False, "value": 0.0, "tolerance": 0.0,
             "text": "no_skip@layer4.1 changed nothing"},
        ],
        "work": [
            {"data": "probe", "model": name, "conditions": [f"c{i}" for i in range(9)],
             "flops_merged": merged, "flops_separate": separate, "saved": 1 - merged / separate}
            for name, merged, separate in (("vit", 5.1e9, 9.8e9), ("resnet", 2.1e9, 5.2e9))
        ],
        "timings": {"load": 1.2, "compile": 4.0, "execute": 30.1, "estimate": 1.4},
        "warnings": ["`timm` reports the checkpoint's size; the model's own is used"],
    }  # fmt: skip


def fields(folder: Path, *, vit: int = 12, resnet: int = 8, pixels: int = 224, cell: int = 8) -> Run:
    """A run of receptive fields alone."""
    study = Study(vit, resnet)
    groups = {f"field/{model}": study.field(model, pixels, cell) for model in ("vit", "resnet")}
    found = manifest(groups).updated(claims={}, conditions={}, ablations={})
    return Run(folder, found, groups, SOURCE, SOURCE + "seed: 0\n")


DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""A picture of one grey pixel, as a PNG in base64."""


def thumbnails() -> Thumbnails:
    """Pictures of ten images that both models see alike, one of each class."""
    images = tuple(
        Thumbnail(data="probe", row=row, models=("vit", "resnet"), format="png", content=DOT)
        for row in range(10)
    )
    rows = tuple(range(10))
    return Thumbnails(first={"probe": rows}, labels={"probe": rows}, images=images)


def sample(folder: Path, *, vit: int = 8, resnet: int = 8, heads: int = 3, intervals: bool = True) -> Run:
    """The default study's run."""
    groups = Study(vit, resnet, heads, intervals).groups()
    return Run(folder, manifest(groups), groups, SOURCE, SOURCE + "seed: 0\n", thumbnails())
