"""A graph's work on a CUDA device, recorded once and replayed: behind `--fast`.

A graph with its taps is hundreds of small operations, and to launch them one by one can take longer than they do. What
is recorded holds for batches of one size and layout: each that comes twice has a record, for batches of a stream may
differ by an image. A record is compared with what the graph itself gives before it is used; where there is none, the
graph runs as ever and says why. Does not own which graphs may be recorded (`execute`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Found = tuple[tuple[Tensor, ...], ...]
"""What the taps of a graph gave."""
Play = Callable[[], Found]
"""Repeats what was recorded; what it gives is written over by the next time."""
Record = Callable[[Callable[[Tensor], Found], Tensor], Play]
"""Records a graph on images that are written over from batch to batch."""
NEAR = 1e-3
"""A record's numbers may differ from the graph's by so much of their largest: other kernels, never other images."""


class Replayed:
    """One graph, recorded at the second batch of each size.

    Args:
        graph: From images `[batch, channel, row, col]` to what its taps give.
        record: How it is recorded.

    Attributes:
        refused: Why it is not recorded; empty where it is, or may be.
    """

    def __init__(self, graph: nn.Module, record: Record) -> None:
        self.graph, self._record = graph, record
        self.refused = ""
        self._seen: set[_Form] = set()
        self._records: dict[_Form, tuple[Tensor, Play]] = {}

    def __call__(self, images: Tensor) -> Found:
        """What the graph gives for a batch, in memory of its own."""
        form = _Form.of(images)
        if form in self._records:
            place, play = self._records[form]
            place.copy_(images)
            return tuple(tuple(tensor.clone() for tensor in one) for one in play())
        if self.refused or form not in self._seen:
            self._seen.add(form)
            return self._plain(images)
        return self._recorded(images, form)

    def _plain(self, images: Tensor) -> Found:
        found: Found = self.graph(images)
        return found

    def _recorded(self, images: Tensor, form: "_Form") -> Found:
        """Record the graph, and give what it gives itself."""
        plain = self._plain(images)
        try:
            place = images.clone(memory_format=torch.preserve_format)
            play = self._record(self._plain, place)
            place.copy_(images)
            if not _alike(play(), plain):
                raise RuntimeError("its numbers are not those of the graph")  # noqa: TRY301  (told as any reason is)
        except RuntimeError as error:
            self.refused = str(error).strip().partition("\n")[0]
        else:
            self._records[form] = place, play
        return plain


@dataclass(frozen=True)
class _Form:
    """What must be the same of two batches for one record."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, images: Tensor) -> "_Form":
        return cls(tuple(images.shape), tuple(images.stride()), images.dtype)


def _alike(ours: Found, theirs: Found) -> bool:
    """Whether all numbers are the same but for rounding; undefined ones at the same places."""
    pairs = [(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    return all(a.shape == b.shape and a.dtype == b.dtype and _near(a, b) for a, b in pairs)


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether numbers are the same but for rounding, which may move an integer by one."""
    wide, wanted = one.double(), other.double()
    finite = torch.where(wanted.isfinite(), wanted, 0).abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    most = NEAR * largest if other.is_floating_point() else 1.0
    return torch.allclose(wide, wanted, rtol=0.0, atol=most, equal_nan=True)


def recorder(device: torch.device) -> Record | None:
    """How graphs are recorded on a device; None where they cannot be."""
    return _in_cuda_graphs(device) if device.type == "cuda" else None


def _in_cuda_graphs(device: torch.device) -> Record:
    """All in one pool of memory: none of them runs while what another gave is needed."""
    pool = torch.cuda.graph_pool_handle()

    def record(graph: Callable[[Tensor], Found], images: Tensor) -> Play:
        found: Found = ()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), _uncached_autocast():
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # Other threads, which read images into pinned memory, go on meanwhile.
            with torch.cuda.graph(recorded, pool=pool, stream=stream, capture_error_mode="thread_local"):
                found = graph(images)

        def play() -> Found:
            recorded.replay()
            return found

        return play

    return record


def _uncached_autocast() -> torch.autocast:
    """Autocast as it stands, but weights are cast each time: a cast that is kept would lie in a record's memory."""
    return torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )
