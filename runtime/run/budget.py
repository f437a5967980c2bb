"""How much memory a pass may take: as it is asked for, or a share of what is free.

Owns what is free on a device. Does not own what a pass takes (`needs`), or what becomes of one that would take more
(`turns`).
"""

import math
import os
from pathlib import Path

import torch

SHARE = 0.5
"""Share of what is free that a pass may take by what is told, where nothing is asked: it takes up to 1.8 times as much,
since freed memory lies between what is kept."""
GROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def room(device: torch.device, asked: float | None = None) -> float:
    """Bytes that a pass may take.

    Args:
        device: Where it computes.
        asked: What the user says; None takes a share of what is free.

    Returns:
        The bytes; infinity where nothing is asked and the system does not say what is free.
    """
    if asked is not None:
        return asked
    free = free_memory(device)
    return math.inf if free is None else SHARE * free


def free_memory(device: torch.device) -> float | None:
    """Bytes that this process could take on a device by now; None where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type != "cpu":
        return None
    known = [one for one in (_available(), _left_in_group()) if one is not None]
    return min(known) / int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if known else None


def _available() -> float | None:
    """What the kernel can give without swapping."""
    try:
        lines = MEMINFO.read_text("ascii").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return float(found[0][1]) * 1024 if found else None


def _left_in_group() -> float | None:
    """What is left of the limit of a container, version 2 or 1 of control groups; cached files can be given back."""
    for most, taken, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = float((GROUPS / most).read_text("ascii"))
            used = float((GROUPS / taken).read_text("ascii"))
            lines = (GROUPS / most).with_name("memory.stat").read_text("ascii").splitlines()
        except (OSError, ValueError):  # not there, or `max`: no limit
            continue
        spare = sum(float(line.split()[1]) for line in lines if line.split()[0] == cached)
        return max(0.0, limit - used + spare)
    return None
