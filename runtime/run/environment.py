"""The machine: which device computes, and what a run must say about where it ran. Changes no global state."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.runtime.cores import cores
from vitdsl.runtime.results.program import versions

GIT_SECONDS = 5


def device(name: str | None = None) -> torch.device:
    """The device to compute on.

    Args:
        name: `auto` or None for the best there is (cuda, mps, cpu); or one of them, or such as `cuda:1`.

    Raises:
        EnvironmentProblem: There is no such device here (VD408).
    """
    there = available()
    if name is None or name == "auto":
        return torch.device(there[0])
    kind, _, index = name.partition(":")
    known = kind in there and (not index or (kind == "cuda" and name in _cuda_names()))
    if not known:
        choices = [
            "auto",
            *(other for kind in there for other in (_cuda_names() if kind == "cuda" else [kind])),
        ]
        raise EnvironmentProblem(
            Diagnostic(
                "VD408",
                f"there is no device `{name}` here",
                notes=(f"torch {torch.__version__} was built for CUDA {torch.version.cuda or '(none)'}",),
                help=(f"write `--device` with one of: {', '.join(choices)}",),
            )
        )
    return torch.device(name)


def available() -> list[str]:
    """Kinds of devices of this machine, the best first."""
    found = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def environment_facts(folder: Path | None = None) -> dict[str, Any]:
    """What the manifest says of the machine, ready for JSON.

    Args:
        folder: The study's folder, for its git commit.

    Returns:
        Versions, platform, processor, threads, accelerators, and the commit (`git` is null outside a
        repository).
    """
    return {
        "python": platform.python_version(),
        "packages": versions(),
        "platform": platform.platform(),
        **cpu_facts(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": None if folder is None else _git(folder),
    }


def cpu_facts() -> dict[str, Any]:
    """The processor, and how many of its cores this process may use."""
    return {"cpu": _cpu(), "cores": cores()}


def _cuda_names() -> list[str]:
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())]


def _cpu() -> str:
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def _git(folder: Path) -> dict[str, Any] | None:
    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=GIT_SECONDS, check=True,
        ).stdout.strip()  # fmt: skip

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
