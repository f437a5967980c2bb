"""Which cores this process may use, and how computing threads share them with others.

A container's quota is less than the cores that it sees. Threads that spin while they wait for one another are fast on
an idle machine and slowest by far beside a busy neighbour; those that sleep at once must be woken for each operation.
The images of the default study on two cores, alone and beside one busy process: 3.5 and 231 s as GNU's OpenMP has it,
5.9 and 5.3 s asleep, 4.1 and 7.9 s with a short spin. So threads spin shortly, unless the user's environment says
otherwise. Both are settings of OpenMP, which reads them when PyTorch is imported: they are set before. Numbers do not
depend on them but for the rounding of sums.
"""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

SPIN = "1000"
"""Rounds of waiting before a thread sleeps, some microseconds; of GNU's OpenMP, that of Linux."""
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""What says how threads wait."""
GROUPS = Path("/sys/fs/cgroup")
"""Where Linux tells a container its quota."""


def cores(groups: Path = GROUPS) -> int:
    """How many cores this process may use: those it is bound to, or as many as its quota is worth."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(own, quota(groups))))


def quota(groups: Path = GROUPS) -> float:
    """The quota of a container in cores, infinite without one (cgroups of both versions)."""
    try:
        if (groups / "cpu.max").is_file():
            limit, period = (groups / "cpu.max").read_text().split()
        else:
            limit = (groups / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (groups / "cpu/cpu.cfs_period_us").read_text().strip()
        return float(limit) / float(period) if limit != "max" and float(limit) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def settle_threads(environment: MutableMapping[str, str] = os.environ, groups: Path = GROUPS) -> None:
    """Say how threads wait and how many there are, where the environment does not; before PyTorch is imported."""
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"] = SPIN
    if (allowed := cores(groups)) < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(allowed))
