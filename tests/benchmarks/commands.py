"""Whole commands in processes of their own: how long they take, what another image costs, how much memory they hold."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from vitdsl.runtime.cores import WAITING

HERE = Path(__file__).resolve().parent


def command(*words: str, cwd: Path | None = None) -> tuple[float, str]:
    """Seconds and answer of a command of this Python; its own output stays away."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")
    return seconds, done.stdout


def vitdsl(*words: str, cwd: Path | None = None) -> float:
    """Seconds of a command of vitdsl."""
    return command("-m", "vitdsl", *words, cwd=cwd)[0]


def plain(batch: int, passes: int, *archs: str) -> dict[str, float]:
    """Seconds for one image of the plain models, as a user runs them: threads wait as they do by default."""
    words = [str(HERE / "plain.py"), str(batch), str(passes), *archs]
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run([sys.executable, *words], env=kept, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run_fresh(text: str, *words: str) -> float:
    """Seconds of `vitdsl run` of a study in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(text)
        return vitdsl("run", str(path), "--out", str(Path(folder) / "runs"), "-q", *words)


def photographs(folder: Path, count: int, name: str = "seen", size: int = 320) -> Path:
    """A folder of JPEG images, ten classes, smooth enough to be worth compressing."""
    for number in range(count):
        place = folder / f"class_{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = Image.frombytes("RGB", (8, 8), _bytes(number + 7919 * len(name), 192))
        pixels.resize((size, size), Image.Resampling.BICUBIC).save(place / f"{number:05d}.jpg", quality=90)
    return folder


def _bytes(seed: int, count: int) -> bytes:
    state, found = seed * 2654435761 % 2**32 or 1, bytearray()
    for _ in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        found.append(state >> 24)
    return bytes(found)


def memory(text: str) -> int:
    """Peak memory (KiB) of a run without a report, in a process of its own.

    Not `ru_maxrss`, which a process inherits from the one that starts it.
    """
    code = (
        "import os, re, sys, tempfile\n"
        "from vitdsl.cli import run\n"
        "folder = tempfile.mkdtemp(); path = os.path.join(folder, 'bench.yaml'); open(path, 'w').write(sys.argv[1])\n"
        "assert run(['run', path, '--out', folder, '-q', '--no-report']) == 0\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1))\n"
    )
    return int(command("-c", code, text)[1].split()[-1])


def busy() -> float:
    """The load of this machine over the last minute, in processes."""
    return os.getloadavg()[0]
