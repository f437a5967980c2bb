"""How often intervals hold the truth, and how often a claim that is not true is supported, by simulation.

Made-up images with a known truth go through the program's own functions: sums by image group, estimates, quantities,
differences, verdicts. `make coverage` prints the table of docs/statistics.md; `test_coverage.py` runs a small part.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from vitdsl import testing
from vitdsl.dsl.study import Claim, Entry, Quantity
from vitdsl.runtime.metrics._groups import GROUPS
from vitdsl.runtime.metrics.accuracy import Accuracy
from vitdsl.runtime.metrics.cka import CKA
from vitdsl.runtime.results.claims import judge, judge_all
from vitdsl.runtime.results.differences import Difference
from vitdsl.runtime.results.quantities import read

CONDITIONS = 16
Rng = np.random.Generator


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        case: What is looked at.
        wanted: The bound that the rate must keep: at least for coverage, at most for false support.
        once: Whether it holds, or is falsely supported, for one draw of images.
        slow: Takes milliseconds and not less, so that fewer draws are made.
    """

    case: str
    kind: str
    once: Callable[[Rng], bool]
    slow: bool = False


def group(name: str, images: np.ndarray, share: tuple[float, float] | None = None) -> xr.Dataset:
    """Results of a metric that means something over images, `[image, cell]`, as a run gives them."""
    parts = np.arange(len(images)) % GROUPS
    sums = np.stack([images[parts == part].sum(0) for part in range(GROUPS)])
    sizes = np.bincount(parts, minlength=GROUPS).astype(float)
    without = (images.sum(0) - sums) / (len(images) - sizes)[:, None]
    attrs = {"units": "1", "relative": 0}
    if share:
        attrs |= {"share": "images", "valid_min": share[0], "valid_max": share[1]}
    return xr.Dataset(
        {"v": ("site", images.mean(0), attrs), "v_replicates": (("replicate", "site"), without)},
        {
            "site": [f"s{i}" for i in range(images.shape[1])],
            "depth": ("site", np.linspace(0, 1, images.shape[1])),
            "data": "probe",
            "model": name,
        },
        {"left_out": sizes},
    )


def quantity(take: str = "mean", model: str = "a") -> Quantity:
    return Quantity.model_validate({"metric": "m", "value": "v", "take": take, "where": {"model": model}})


def claim(take: str, relation: str, right: float, **more: object) -> Claim:
    left = {"metric": "m", "value": "v", "take": take, "where": {"model": more.pop("model", "a")}}
    fields = {"say": "so", "left": left, "is": relation, **more}
    return Claim.model_validate(
        fields if relation in ("increasing", "decreasing") else fields | {"right": right}
    )


def holds(take: str, images: np.ndarray, truth: float, share: tuple[float, float] | None = None) -> bool:
    """Whether the interval of what is taken of means over images holds the truth."""
    found = Difference(read(quantity(take), {"m/a": group("a", images, share)}))
    low, high = found.ends(("images",))
    return bool(low <= truth <= high)


def supports(one: Claim, images: np.ndarray) -> bool:
    return judge(one, {"m/a": group("a", images)}).verdict == "supported"


def correlated(rng: Rng, images: int, means: np.ndarray, common: float = 0.7) -> np.ndarray:
    """Numbers of images under several conditions, `[image, condition]`: what images have in common, and noise."""
    shared = rng.normal(size=(images, 1))
    noise = rng.normal(size=(images, len(means)))
    return np.asarray(means + np.sqrt(common) * shared + np.sqrt(1 - common) * noise)


def top1(rng: Rng, truth: float, images: int) -> bool:
    """A share, through the metric itself."""
    right = rng.random(images) < truth
    found = accuracy(right, right)
    return bool(found["top1_low"].item() <= truth <= found["top1_high"].item())


def drop(rng: Rng, truth: float, images: int) -> bool:
    """What a condition costs: some images are lost, a few won."""
    gained, lost = 0.25 * truth, 1.25 * truth
    draw = rng.random(images)
    intact = rng.random(images) < 0.9
    intact[draw < lost], intact[(draw >= lost) & (draw < lost + gained)] = True, False
    here = intact.copy()
    here[draw < lost + gained] = ~intact[draw < lost + gained]
    found = accuracy(here, intact)
    return bool(found["drop_low"].item() <= truth <= found["drop_high"].item())


def accuracy(right: np.ndarray, intact: np.ndarray) -> xr.Dataset:
    """The metric's results where these images are predicted right, under a condition and intact."""

    def logits(hits: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([hits, ~hits], 1).astype(np.float32))

    stream = testing.Stream(
        {"cut": ([(logits(right),)], [(logits(intact),)])}, torch.zeros(len(right), dtype=torch.long)
    )
    site = testing.vector_site("", 2)
    return testing.run(testing.group_of(Accuracy(Entry()), [site], views=["cut"]), stream, 128).squeeze()


def cka(rng: Rng, images: int, batch: int, mixing: float) -> bool:
    """CKA of two layers that share part of their features; the truth is that of the whole population."""
    width = 12
    scales = np.linspace(1, 3, width)
    shared, own = (rng.normal(size=(images, width)) * scales for _ in range(2))
    x, y = torch.from_numpy(shared), torch.from_numpy(mixing * shared + np.sqrt(1 - mixing**2) * own)
    sites = [testing.vector_site(name, width) for name in "xy"]
    group = testing.group_of(CKA(Entry()), sites[:1], sites[1:])
    found = testing.run(
        group, testing.Stream({"baseline": ([(x.float(),)], [(y.float(),)])}), batch
    ).squeeze()
    truth = mixing**2
    return bool(found["cka_low"].item() <= truth <= found["cka_high"].item())


EQUAL = np.zeros(CONDITIONS)
WEAK = np.where(np.arange(CONDITIONS) == 11, 0.12, 0.0)
RISING = np.linspace(0, 0.3, CONDITIONS)
STEEP = np.linspace(0, 3.0, CONDITIONS)


def null_claims(rng: Rng, images: int = 256) -> bool:
    """A study of 24 claims, none of them true: whether any is supported."""
    models = {f"m/{i}": group(f"m{i}", correlated(rng, images, EQUAL[:4])) for i in range(24)}
    claims = {
        f"c{i}": claim(("mean", "slope", "max", "spread")[i % 4], "greater", 0.0, model=f"m{i}")
        for i in range(24)
    }
    return any(one.verdict == "supported" for one in judge_all(claims, models).values())


def rows() -> list[Row]:
    """All cases, in the order of the table."""
    found = [
        Row(f"top-1 at {truth}, {n} images", "coverage", lambda rng, t=truth, n=n: top1(rng, t, n), True)
        for truth, n in (
            (0.5, 64),
            (0.9, 64),
            (0.98, 64),
            (0.99, 64),
            (0.999, 64),
            (0.999, 512),
            (0.999, 1024),
        )
    ]
    found += [
        Row(f"drop of {truth}, 256 images", "coverage", lambda rng, t=truth: drop(rng, t, 256), True)
        for truth in (0.003, 0.01, 0.1, 0.3)
    ]
    found += [
        Row(f"`{take}` of {CONDITIONS} equal conditions, {n} images", "coverage",
            lambda rng, take=take, n=n: holds(take, correlated(rng, n, EQUAL), 0.0))
        for take, n in (("mean", 64), ("mean", 512), ("median", 64), ("median", 512), ("first", 64),
                        ("slope", 64), ("slope", 512), ("max", 64), ("max", 512), ("min", 512),
                        ("spread", 64), ("spread", 512), ("spread", 4096))
    ]  # fmt: skip
    found += [
        Row("`argmax`, weak unique maximum, 256 images", "coverage",
            lambda rng: holds("argmax", correlated(rng, 256, WEAK), 11 / 15)),
        Row("`argmax`, weak unique maximum, 1,024 images", "coverage",
            lambda rng: holds("argmax", correlated(rng, 1024, WEAK), 11 / 15)),
        Row("`spearman`, weak trend, 256 images", "coverage",
            lambda rng: holds("spearman", correlated(rng, 256, RISING), 1.0)),
        Row("`spearman`, strong trend, 256 images", "coverage",
            lambda rng: holds("spearman", correlated(rng, 256, STEEP), 1.0)),
        Row("CKA 0.25, 65 images in batches of 32", "coverage", lambda rng: cka(rng, 65, 32, 0.5), True),
        Row("CKA 0.25, 64 images in one batch", "coverage", lambda rng: cka(rng, 64, 64, 0.5), True),
        Row("CKA 0.25, 256 images in batches of 32", "coverage", lambda rng: cka(rng, 256, 32, 0.5), True),
        Row("CKA 0.25, 256 images in one batch", "coverage", lambda rng: cka(rng, 256, 256, 0.5), True),
        Row("CKA 0.81, 256 images in batches of 64", "coverage", lambda rng: cka(rng, 256, 64, 0.9), True),
        Row("CKA 0.98, 256 images in batches of 64", "coverage", lambda rng: cka(rng, 256, 64, 0.99), True),
        Row("CKA 0 (unrelated), 256 images in batches of 64", "coverage", lambda rng: cka(rng, 256, 64, 0.0), True),
        Row("`mean > 0` where it is 0, 64 images", "support",
            lambda rng: supports(claim("mean", "greater", 0.0), correlated(rng, 64, EQUAL))),
        Row("`spread > 0` of equal conditions, 512 images", "support",
            lambda rng: supports(claim("spread", "greater", 0.0), correlated(rng, 512, EQUAL))),
        Row("`max > 0` of equal conditions, 512 images", "support",
            lambda rng: supports(claim("max", "greater", 0.0), correlated(rng, 512, EQUAL))),
        Row("`argmax` in the first half, of equal conditions", "support",
            lambda rng: supports(claim("argmax", "less", 0.5), correlated(rng, 512, EQUAL))),
        Row("`spearman` increasing, of equal conditions", "support",
            lambda rng: supports(claim("spearman", "increasing", 0.0), correlated(rng, 512, EQUAL))),
        Row("any of 24 false claims of one study", "support", null_claims, True),
    ]  # fmt: skip
    return found


def rate(row: Row, draws: int, seed: int = 0) -> float:
    """How often it holds, or is supported."""
    rng = np.random.default_rng(seed)
    return float(np.mean([row.once(rng) for _ in range(draws)]))


def main(draws: int = 2000) -> None:
    """Print the table."""
    print("| case | rate | wanted |\n|---|---|---|")
    for row in rows():
        found = rate(row, draws // 4 if row.slow else draws)
        wanted = "0.93 or more" if row.kind == "coverage" else "0.03 or less"
        print(f"| {row.case} | {found:.3f} | {wanted} |", flush=True)


if __name__ == "__main__":
    import sys

    main(*map(int, sys.argv[1:]))
