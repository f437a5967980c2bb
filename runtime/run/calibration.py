"""How fast this machine is: measured once, in some two seconds, and kept.

Owns the measurements: products, convolutions, what passes over memory at once and what computes on the way, the cost of
a call, and the decoding of an image. They are kept in the user's cache by what they depend on (processor, cores,
threads, PyTorch, kind of device) and measured anew where any of it differs; `vitdsl plan --calibrate` measures them
anew in any case. Does not own what a study costs (`predict`). Speeds are of the CPU, and of a GPU where one computes.
"""

import io
import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.graph.work import Op
from vitdsl.runtime.models.preprocessing import Preprocessing, transform
from vitdsl.runtime.paths import user_cache
from vitdsl.runtime.results.record import Record, as_json
from vitdsl.runtime.results.writing import write_json
from vitdsl.runtime.run.environment import cpu_facts
from vitdsl.runtime.run.memory import keep_freed_memory

VERSION = 1
"""Raised when other things are measured."""
SMALL, LARGE = 1 << 20, 1 << 25
"""Bytes of tensors that stay in a cache, and of tensors that do not."""
ROUNDS, SECONDS = 5, 0.03
"""How often everything is measured, and for how long each time: what else a machine does comes and goes.

Each call takes some milliseconds at most, so that it is rarely interrupted.
"""
READ = 3
"""Images that are read to know how long one takes."""
JPEG = (500, 375)
"""Size of the image whose decoding is measured, which is that of most photographs of ImageNet."""


class Calibration(Record):
    """How fast a machine is.

    Attributes:
        made_at: When it was measured.
        machine: What it holds for.
        product: Floating point operations a second of matrix products.
        convolution: The same of convolutions.
        exact: The same of products in float64.
        plain: Bytes a second of sums and copies, of small and of large tensors.
        dear: The same of operations that compute on the way, such as a softmax.
        call: Seconds that calling an operation takes, whatever its size.
        call_convolution: The same of a convolution.
        decode: Seconds to read a photograph and make it ready for a model.
        python: Seconds of a fixed piece of Python, to which graphs and figures are in proportion.
    """

    made_at: str
    machine: dict[str, Any]
    product: float
    convolution: float
    exact: float
    plain: tuple[float, float]
    dear: tuple[float, float]
    call: float
    call_convolution: float
    decode: float
    python: float

    def seconds(self, op: Op) -> float:
        """How long one call takes."""
        if op.sort == "view":
            return self.call / 2
        passing = op.bytes / _between(self.plain if op.sort == "plain" else self.dear, op.bytes)
        if op.sort in ("plain", "dear"):
            return self.call + passing
        speed = self.exact if op.exact else self.product if op.sort == "product" else self.convolution
        return (self.call if op.sort == "product" else self.call_convolution) + op.flops / speed + passing

    @property
    def day(self) -> str:
        """When it was measured, to the day."""
        return self.made_at[:10]


def _between(speeds: tuple[float, float], size: float) -> float:
    """The speed at a size, from those at a small and at a large one."""
    share = math.log(max(size, 1.0) / SMALL) / math.log(LARGE / SMALL)
    return speeds[0] + min(max(share, 0.0), 1.0) * (speeds[1] - speeds[0])


def calibration(device: torch.device, *, anew: bool = False) -> Calibration:
    """What is known of this machine, or is measured now and kept; where it cannot be kept, it is measured each time.

    Args:
        device: Where it computes.
        anew: Measure in any case.
    """
    path, machine = _place(device)
    if not anew and (found := kept(device)) is not None:
        return found
    measured = measure(device, machine)
    try:
        if path:
            write_json(path, as_json(measured))
    except EnvironmentProblem:
        pass
    return measured


def kept(device: torch.device) -> Calibration | None:
    """What was measured of this machine as it is now; None where nothing was."""
    path, machine = _place(device)
    try:
        found = Calibration.model_validate_json(path.read_text("utf-8")) if path else None
    except (OSError, ValueError, ValidationError):
        return None
    return found if found and found.machine == machine else None


def _place(device: torch.device) -> tuple[Path | None, dict[str, Any]]:
    """Where what is measured of this machine is kept (None without a home folder), and what it hangs on."""
    machine = {
        "version": VERSION,
        **cpu_facts(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
    name = sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return user_cache() / "machines" / f"{name}.json", machine
    except EnvironmentProblem:
        return None, machine


def measure(device: torch.device, machine: dict[str, Any]) -> Calibration:
    """Measure a machine; the best of several times each, for what else it does makes it slower and never faster."""
    if device.type == "cpu":
        keep_freed_memory()  # as runs do: without, what is measured is how fast pages are filled with zeros

    def random(*shape: int, exact: bool = False) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=torch.float64 if exact else torch.float32)

    precise = {} if device.type == "mps" else {"exact": True}
    with torch.inference_mode():
        left, right = random(512, 384), random(512, 384)
        wide, few = random(128, 512, **precise), random(1, 8, 4, 4)
        images, kernel, narrow = (
            random(*shape).contiguous(memory_format=torch.channels_last)  # as convolutional models run
            for shape in ((1, 64, 56, 56), (64, 64, 3, 3), (256, 64, 1, 1))
        )
        modules = nn.Sequential(*(nn.LayerNorm(4, device=device) for _ in range(50)))
        small, large, tiny = random(SMALL // 8), random(LARGE // 8), random(4)
        small, large = small.view(-1, 64), large.view(-1, 64)
        calls: dict[str, Callable[[], object]] = {
            "product": lambda: F.linear(left, right),
            "wide convolution": lambda: F.conv2d(images, kernel, padding=1),
            "narrow convolution": lambda: F.conv2d(images, narrow),
            "exact": lambda: wide @ wide.mT,
            "plain small": small.relu,
            "plain large": large.relu,
            "dear small": lambda: small.softmax(-1),
            "dear large": lambda: large.softmax(-1),
            "call": lambda: modules(tiny),
            "call of a convolution": lambda: [F.conv2d(few, few) for _ in range(20)],
            "decode": _decoding(),
            "python": _python,
        }
        took = {name: math.inf for name in calls}
        for _ in range(ROUNDS):
            took = {name: min(took[name], _best(call, device)) for name, call in calls.items()}
    both = 2.0 * 56 * 56 * 64 * (64 * 9 + 256)
    return Calibration(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        product=2.0 * 512 * 384 * 512 / took["product"],
        convolution=both / (took["wide convolution"] + took["narrow convolution"]),
        exact=2.0 * 128 * 512 * 128 / took["exact"],
        plain=(SMALL / took["plain small"], LARGE / took["plain large"]),
        dear=(SMALL / took["dear small"], LARGE / took["dear large"]),
        call=took["call"] / 50,
        call_convolution=took["call of a convolution"] / 20,
        decode=took["decode"],
        python=took["python"],
    )


def _best(call: Callable[[], object], device: torch.device) -> float:
    """The shortest time of a call among those that fit into some time, at least two."""
    call()
    times: list[float] = []
    while len(times) < 2 or sum(times) < SECONDS:
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)


def shortest(read: Callable[[int], object], images: int) -> float:
    """Seconds that reading an image takes, the shortest of a few; 0 where there are none.

    Args:
        read: Reads the image of a row and makes it ready.
        images: How many there are.
    """
    times = []
    for row in range(min(READ, images)):
        began = time.perf_counter()
        read(row)
        times.append(time.perf_counter() - began)
    return min(times, default=0.0)


def _decoding() -> Callable[[], object]:
    """Reads a photograph-like JPEG and makes it ready for a model of 224 pixels."""
    noise = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))
    pixels = F.interpolate(noise[None], size=JPEG[::-1], mode="bilinear")[0].mul(255).byte()
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=90)
    content = buffer.getvalue()
    ready = transform(Preprocessing((3, 224, 224), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9, "center"))

    def decode() -> object:
        sha256(content).hexdigest()
        return ready(Image.open(io.BytesIO(content)).convert("RGB"))

    return decode


def _python() -> int:
    """Some milliseconds of making, looking up and calling, as graphs and figures are made of."""
    found = {}
    for number in range(8_000):
        found[f"{number}"] = (number, [number])
    return sum(len(value[1]) for value in found.values())
