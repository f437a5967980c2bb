"""The rows of the benchmark: what is timed, against what, and what was asked for."""

import statistics
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from commands import busy, memory, photographs, plain, run_fresh, vitdsl
from passes import ratio, ready, timed
from texts import (
    CKA,
    DISTANCE,
    FIELD,
    LOCALISATION,
    MINI,
    PANEL,
    PROBE,
    SMALL,
    SWEEP_RES,
    SWEEP_VIT,
    noise,
    text,
)

from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: What was timed.
        eager: Its time over plain forwards as a user writes them; None where that is no measure.
        own: Over plain forwards in the same memory, layout and threads.
        asked: What was asked of the two.
        seconds: Seconds of a whole command, or of an image in it, as `per` says.
        per: "command", "image" or "".
        load: Processes that this machine ran when it was timed; more than 1 or 2 beside our own spoil it.
        more: Other numbers, with their names.
    """

    what: str
    eager: float | None = None
    own: float | None = None
    asked: tuple[float | None, float | None] = (None, None)
    seconds: float | None = None
    per: str = ""
    load: float = field(default_factory=busy)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """How much is timed."""

    images: int
    batch: int
    runs: int
    device: torch.device
    dtype: str
    pair: dict[str, str]

    @property
    def alive(self) -> dict[str, str]:
        """The models; timm's random ResNets with branches that give something, or nothing is left without a skip."""
        more = ", options: {zero_init_last: false}"
        return {name: arch + (more if arch.startswith("resnet") else "") for name, arch in self.pair.items()}

    def rates(self) -> dict[str, float]:
        """Seconds for one image of the plain models."""
        found = plain(self.batch, self.runs, *self.pair.values())
        return {name: found[arch] for name, arch in self.pair.items()}

    def one_pass(
        self,
        what: str,
        metrics: str,
        times: int,
        asked: tuple[float | None, float | None],
        *,
        fast: bool = False,
    ) -> Row:
        """A pass in this process over plain forwards, in turn; and over those of a process as a user writes it."""
        study = text(metrics, noise(), self.images, self.batch, self.alive)
        one = ready(study, self.device, self.dtype, fast=fast)
        found = ratio(one, times, self.runs)
        eager = sum(self.rates()[name] for name in one.modules) * one.images * times
        more = {"ours": found.ours, "bare": found.bare, "eager": eager, "range": [found.low, found.high]}
        return Row(what, found.ours / eager, found.value, asked, found.ours / one.images, "image", more=more)

    def sweep(
        self, what: str, metrics: str, asked: tuple[float | None, float | None], *, fast: bool = False
    ) -> Row:
        """One skip removed at a time, over as many forwards as there are conditions."""
        conditions = ready(
            text(metrics, noise(), self.batch, self.batch, self.alive), self.device, self.dtype
        ).plan
        count = conditions.conditions - (len(conditions.own_models) - 1)
        said = f"{what}, {count} conditions over {count} forwards" + (", `--fast`" if fast else "")
        return self.one_pass(said, metrics, count, asked, fast=fast)

    def whole_run(self, what: str, metrics: str, asked: tuple[float | None, float | None]) -> Row:
        """What another image costs in `vitdsl run` of JPEG files: decoding, trust and saving included."""
        with tempfile.TemporaryDirectory() as place:
            source, learned = (
                f"source: folder, path: {photographs(Path(place) / name, 4 * self.images, name)}"
                for name in ("seen", "learned")
            )
            learned = learned if "train: learned" in metrics else ""
            few, many = self.images, 4 * self.images
            seconds = []
            for count in (few, many) * self.runs:
                seconds.append(
                    run_fresh(text(metrics, source, count, self.batch, self.pair, learned), "--no-report")
                )
        pairs = [(b - a) / (many - few) for a, b in zip(seconds[::2], seconds[1::2], strict=True)]
        each = sorted(pairs)[len(pairs) // 2]
        plan = bind(load_text(text(metrics, noise(), self.batch, self.batch, self.pair, learned), "bench"))
        rates = self.rates()
        used = {name for group in plan.groups for name in group.models}
        eager, own = sum(rates[name] for name in used), self.bare(used)
        more = {"runs": seconds, "eager": eager, "bare": own}
        return Row(what, each / eager, each / own, asked, each, "image", more=more)

    def bare(self, models: set[str]) -> float:
        """Seconds for one image of plain models in this process, under the settings of a run."""
        one = ready(text(CKA, noise(), self.images, self.batch, self.pair), self.device, self.dtype)
        one.modules = {name: module for name, module in one.modules.items() if name in models}
        one.bare()
        return statistics.median(timed(one.bare) for _ in range(self.runs)) / one.images

    def rows(self) -> dict[str, Any]:
        """Every row by its name, as a function that times it."""
        tiny = replace(self, pair=SMALL)
        one, whole, none = self.one_pass, self.whole_run, (None, None)
        each = "whole `vitdsl run`, each image"
        return {
            "cka": lambda: one("CKA of two models, one pass", CKA, 1, (0.85, 1.08)),
            "cka_run": lambda: whole(f"CKA of two models, {each}", CKA, (0.85, 1.08)),
            "panel": lambda: one("the panel of eight metrics, one pass", PANEL, 1, (1.00, 1.25)),
            "sweep_vit": lambda: self.sweep("one skip per block of the ViT", SWEEP_VIT, (0.45, 0.55)),
            "sweep_res": lambda: self.sweep("one skip per block of the ResNet", SWEEP_RES, (0.25, 0.35)),
            "cka_fast": lambda: one("CKA of two models, one pass, `--fast`", CKA, 1, none, fast=True),
            "sweep_res_fast": lambda: self.sweep(
                "one skip per block of the ResNet", SWEEP_RES, none, fast=True
            ),
            "distance": lambda: tiny.one_pass("attention distance, ViT-Tiny, one pass", DISTANCE, 1, none),
            "localisation": lambda: tiny.whole_run(f"localisation, 12 blocks, {each}", LOCALISATION, none),
            "probe": lambda: tiny.whole_run(f"linear probe, 12 blocks, {each}", PROBE, none),
            "field": lambda: tiny.one_pass("receptive field, 12 blocks, 4 channels each", FIELD, 1, none),
            "default": default,
            "memory": held,
        }


def default() -> Row:
    """The default study as a command, and again when nothing has changed."""
    with tempfile.TemporaryDirectory() as place:
        out = str(Path(place) / "runs")
        first = [vitdsl("run", "specs/skip_ablation.yaml", "--out", f"{out}{i}", "-q") for i in range(3)]
        again = [vitdsl("run", "specs/skip_ablation.yaml", "--out", f"{out}0", "-q") for _ in range(3)]
        check = [vitdsl("check", "specs/skip_ablation.yaml") for _ in range(3)]
        help_ = [vitdsl("--help") for _ in range(5)]
    middle = {"again": again, "check": check, "help": help_}
    more = {name: sorted(values)[len(values) // 2] for name, values in middle.items()}
    return Row("the default study, whole command", seconds=sorted(first)[1], per="command", more=more)


def held() -> Row:
    """Peak memory of 4,096 images over that of 256."""
    few, many = (memory(text(CKA, noise(32), count, 32, MINI)) for count in (256, 4096))
    more = {"256": few >> 10, "4096": many >> 10, "ratio": many / few, "asked": 1.03}
    return Row("peak memory, 4,096 images over 256", more=more)


def as_json(row: Row) -> dict[str, Any]:
    """The row as it is written."""
    return asdict(row)
