"""How processes train one model together: who can, and the model whose gradients are those of the whole batch.

Each process computes a share of every batch, and DistributedDataParallel averages the gradients. Does not own: the
loop, and which rows of a batch are whose (`loop`, `run/ranks`).
"""

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import convert_sync_batchnorm
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from vitdsl.runtime.ranks import PATIENCE, Ranks


def why_alone(module: nn.Module, called: nn.Module, smallest: int, device: torch.device, ranks: Ranks) -> str:
    """Why several processes cannot train a model as one would; empty where they can, or there is one.

    Args:
        module: The model.
        called: What is called in training: the model, or its form under ablations.
        smallest: Images of the smallest batch.
        device: Where it is trained.
        ranks: The processes.
    """
    if ranks.size == 1:
        return ""
    if smallest < ranks.size:
        return f"a batch of {smallest} has no image for each process"
    if device.type not in ("cpu", "cuda"):
        return f"on {device.type}, processes cannot exchange gradients"
    if any(isinstance(part, _BatchNorm) for part in module.modules()):
        if device.type == "cpu":
            return "its batch norms need whole batches, which torch shares on CUDA only"
        if called is not module:
            return "its batch norms need whole batches, also under `train.without`"
    return ""


@contextmanager
def shared(called: nn.Module, device: torch.device, ranks: Ranks) -> Iterator[nn.Module]:
    """The model to call in training: its gradients are the mean over the ranks, its batch norms see whole batches."""
    if ranks.size == 1:
        yield called
        return
    with _group(device, ranks) as group, warnings.catch_warnings():
        # Said once where every parameter has a gradient; which have one is not known before.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        yield DistributedDataParallel(
            convert_sync_batchnorm(called, group) if device.type == "cuda" else called,
            process_group=group,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )


@contextmanager
def _group(device: torch.device, ranks: Ranks) -> Iterator[distributed.ProcessGroup | None]:
    """NCCL where each rank has a GPU of its own; the group that the ranks meet in (gloo) everywhere else."""
    places = set(ranks.gathered((platform.node(), str(device)))) if device.type == "cuda" else ()
    if len(places) < ranks.size or not distributed.is_nccl_available():
        yield None
        return
    with torch.cuda.device(device):
        group = distributed.new_group(backend="nccl", timeout=PATIENCE)
        assert isinstance(group, distributed.ProcessGroup)  # every rank is in it
        try:
            yield group
        finally:
            distributed.destroy_process_group(group)


def chance(device: torch.device) -> torch.Tensor:
    """The state of the random numbers that a model draws on a device: another after it drew some."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
