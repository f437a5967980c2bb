"""The block store: what is written is read, by key; a damaged file is left out and said; nobody disturbs another."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.run.blocks import Block, BlockStore

KEY = "0123456789abcdef" * 2


def content(*units: str, value: float = 1.5) -> Block:
    sums = {unit: {"xy": np.full((2, 3), value), "images": np.asarray(8.0)} for unit in units}
    return Block(sums, ("aa", "bb"), [{"check": "output"}])


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    store, rng = BlockStore(tmp_path), np.random.default_rng(0)
    values = rng.normal(size=(4, 5)) * 10.0 ** rng.integers(-300, 300, (4, 5))
    values[0, 0], values[1, 1] = np.nan, -0.0
    store.write(KEY, Block({"u": {"a": values}}, ("aa",), []))
    found = store.read(KEY, ["u"])
    assert found.sums["u"]["a"].tobytes() == values.tobytes()
    assert found.sha256 == ("aa",)


def test_units_of_several_files_are_found_together(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    store.write(KEY, content("a", "b"))
    store.write(KEY, content("c"))
    assert store.units(KEY) == {"a", "b", "c"}
    assert set(store.read(KEY, ["a", "c", "d"]).sums) == {"a", "c"}
    assert store.units("f" * 32) == set() and store.read("f" * 32, ["a"]).sums == {}


def test_the_same_units_are_one_file(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    assert store.write(KEY, content("a", "b")) == store.write(KEY, content("b", "a"))
    assert len(list(store.folder(KEY).iterdir())) == 1


@pytest.mark.parametrize("cut", [0, 10, 100, -1])
def test_a_truncated_file_is_left_out_and_said(tmp_path: Path, cut: int) -> None:
    store = BlockStore(tmp_path)
    path = store.write(KEY, content("a"))
    path.write_bytes(path.read_bytes()[:cut])
    assert store.read(KEY, ["a"]).sums == {}
    assert store.damaged == [path]


def test_a_flipped_bit_is_left_out_and_said(tmp_path: Path) -> None:
    """Wherever it is: in the numbers, where only the checksum of the archive tells."""
    reference = BlockStore(tmp_path / "reference").write(KEY, content("a")).read_bytes()
    for position in range(0, len(reference), 13):
        store = BlockStore(tmp_path / str(position))
        path = store.write(KEY, content("a"))
        data = bytearray(reference)
        data[position] ^= 0x10
        path.write_bytes(bytes(data))
        found = store.read(KEY, ["a"]).sums
        if found:
            assert found["a"]["xy"].tolist() == content("a").sums["a"]["xy"].tolist(), position
            assert float(found["a"]["images"]) == 8.0
        else:
            assert store.damaged == [path] or not store.units(KEY)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / ".store").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="VD407"):
        BlockStore(tmp_path).write(KEY, content("a"))


def _write(folder: Path, start: int) -> None:
    store = BlockStore(folder)
    for i in range(start, start + 20):
        store.write(KEY, content(f"u{i % 25}", value=float(i % 25)))


def test_processes_that_write_at_once_leave_whole_files(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, start)) for start in (0, 10, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = BlockStore(tmp_path)
    assert store.units(KEY) == {f"u{i}" for i in range(25)}
    found = store.read(KEY, [f"u{i}" for i in range(25)])
    assert all((found.sums[f"u{i}"]["xy"] == i).all() for i in range(25))
    assert store.damaged == [] and not list(store.folder(KEY).glob(".*"))
