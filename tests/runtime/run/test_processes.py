"""Many processes and one store: killed, beside one another, under torchrun on one node and two, in bounded memory."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from studies import SAVED as STUDY
from vitdsl.cli import run as command
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.run.run import run


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run gives that was left alone."""
    outcome = run(bind(load_text(STUDY)), out=tmp_path_factory.mktemp("alone"))
    assert outcome.folder is not None
    return (outcome.folder / "results.nc").read_bytes()


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_killed_at_any_moment_it_goes_on_with_the_same_bits(tmp_path: Path, alone: bytes) -> None:
    """`kill -9`, three times in one run: as it starts, and as soon as one more image block is there."""
    (tmp_path / "study.yaml").write_text(STUDY)
    words = [sys.executable, "-m", "vitdsl", "run", "study.yaml", "--no-report", "-q"]
    runs = tmp_path / "runs" / "saved"
    for times in range(3):
        started = subprocess.Popen(words, cwd=tmp_path, env=environment())
        while len(_statuses(runs)) <= times or _saved(tmp_path) < times:
            assert started.poll() in (None, 0)
            if started.poll() == 0:
                break
            time.sleep(0.005)
        started.send_signal(signal.SIGKILL)
        started.wait()
    killed = [status for status in _statuses(runs).values() if status != "success"]
    assert killed
    done = subprocess.run(words, cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True)
    said = {Path(word).name for word in done.stdout.split()}
    (last,) = [path for path in _statuses(runs) if path.name in said]
    assert (last / "results.nc").read_bytes() == alone


def _statuses(runs: Path) -> dict[Path, str]:
    """The run folders that say something of themselves, and what they say."""
    manifests = sorted(runs.glob("*/manifest.json"))
    return {path.parent: str(json.loads(path.read_text())["status"]) for path in manifests}


def _saved(folder: Path) -> int:
    """How many image blocks are in the store."""
    return len(list(folder.glob("runs/.store/blocks/*/*/*.block")))


def test_any_number_of_processes_gives_the_same_bits(tmp_path: Path, alone: bytes) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    words = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "3",
        "-m",
        "vitdsl",
        "run",
        "study.yaml",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *words, "--no-report"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "runs" / "saved").iterdir()
    assert (path / "results.nc").read_bytes() == alone
    assert done.stdout.count("trust checks:") == 1


def test_one_failing_process_ends_all_with_its_error(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(24):
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(images / f"{i:02d}.png")
    broken = images / "13.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    text = STUDY.replace(
        "{source: digits, split: test, images: 60,", "{source: folder, path: images, shuffle: false,"
    )
    (tmp_path / "study.yaml").write_text(
        text.replace("  accuracy: {kind: accuracy, of: vit, data: probe}\n", "")
    )
    words = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "vitdsl",
        "run",
        "study.yaml",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *words, "--no-report"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "VD402" in done.stderr and "13.png" in done.stderr


def test_two_nodes_give_the_same_bits(tmp_path: Path, alone: bytes) -> None:
    """Two launchers that meet at an address, as on two machines with one disk."""
    (tmp_path / "study.yaml").write_text(STUDY)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank),
             "--nproc-per-node", "1", "--master-addr", "localhost", "--master-port", str(port),
             "-m", "vitdsl", "run", "study.yaml", "--no-report", "-q", "--device", "cpu"],
            cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [node.communicate(timeout=180)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    (path,) = (tmp_path / "runs" / "saved").iterdir()
    assert (path / "results.nc").read_bytes() == alone


@pytest.mark.parametrize("words", ["0/3", "4/3", "x", "1", "1/0", "-1/3"])
def test_a_wrong_share_is_told(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    assert command(["run", str(tmp_path / "study.yaml"), "--shard", words]) == 2
    assert "3/16" in capsys.readouterr().err


def test_two_runs_at_once_on_one_store_are_both_right(tmp_path: Path, alone: bytes) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    words = [sys.executable, "-m", "vitdsl", "run", "study.yaml", "--no-report", "-q", "--device", "cpu"]
    both = [subprocess.Popen(words, cwd=tmp_path, env=environment()) for _ in range(2)]
    assert [one.wait(timeout=180) for one in both] == [0, 0]
    found = list(tmp_path.glob("runs/saved/*/results.nc"))
    assert len(found) == 2 and all(path.read_bytes() == alone for path in found)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' own numbers")
def test_memory_does_not_grow_with_images(tmp_path: Path) -> None:
    peaks = []
    for images in (128, 2048):
        text = (
            "vitdsl: 1\nstudy: many\n"
            f"data: {{probe: {{source: noise, total: {images}, size: 64, classes: 10, batch: 64}}}}\n"
            "models: {net: {arch: resnet10t, weights: random, input_size: 64, options: {num_classes: 10}}}\n"
            'layers: {stages: {of: net, at: "layer*.*"}}\n'
            "metrics: {within: {kind: cka, x: stages}, accuracy: {kind: accuracy, of: net}}\n"
        )
        (tmp_path / "study.yaml").write_text(text)
        code = (
            "from vitdsl.cli import run\n"
            "assert run(['run', 'study.yaml', '--no-report', '-q', '--device', 'cpu']) == 0\n"
            "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.05 * peaks[0]
