"""`--memory`: what a pass may take, from the command line, from Python, and as a share of what is free."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from studies import TINY_VIT, bound, changed, study
from vitdsl import compile, run
from vitdsl.cli import run as command
from vitdsl.dsl.sizes import bytes_of, sized
from vitdsl.runtime.results.manifest import PRECISION
from vitdsl.runtime.run import budget
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.needs import needs_of

SWEEP = study(
    "sweep",
    data="{probe: {source: noise, total: 384, batch: 192, image_blocks: 2}}",
    models={"vit": changed(TINY_VIT, {"depth": 4})},
    layers={"parts": '{of: vit, at: ["blocks.*", "blocks.*.attn", "blocks.*.mlp"]}'},
    ablations={"no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.*", each: true}'},
    metrics={"drift": "{kind: cka, x: parts, against: baseline}"},
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("memory") / "sweep.yaml"
    found.write_text(SWEEP)
    return found


def test_a_run_with_little_memory_gives_the_same_file_and_says_what_was_done(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(path, out=tmp_path / "whole", report=False)
    assert not whole.manifest.split and [work.graphs for work in whole.manifest.work] == [1]
    assert command(["run", str(path), "--out", str(tmp_path / "few"), "--memory", "18M"]) == 0
    said = "".join(capsys.readouterr())
    (folder,) = (one.parent for one in (tmp_path / "few" / "sweep").glob("*/manifest.json"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (split,), (work,) = manifest["split"], manifest["work"]
    assert split["turns"] > 1 and split["conditions"] == 9 and split["room"] == 18 * 2**20
    assert split["taken"] < split["together"] and 0 < split["more"] < 1
    assert work["graphs"] == split["turns"] and len(work["conditions"]) == 9
    assert work["flops_merged"] == pytest.approx((1 + split["more"]) * whole.manifest.work[0].flops_merged)
    assert f"9 conditions in {split['turns']} turns" in " ".join(said.split())
    assert f"in {split['turns']} graphs, one after the other" in (folder / "report.html").read_text()
    for name in ("results.nc", "summary.csv", "blocks.txt"):
        assert (folder / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert manifest["trust"] == [check.model_dump(mode="json") for check in whole.manifest.trust]


def test_what_ran_in_parts_is_found_by_a_run_without(path: Path, tmp_path: Path) -> None:
    """The parts are no part of the keys of image blocks."""
    run(path, out=tmp_path, report=False, memory="18M")
    again = run(compile(path), out=tmp_path, report=False)
    assert [(one.found, one.of) for one in again.manifest.reused.values()] == [(2, 2)]


def test_what_is_not_exact_moves_as_much_in_parts(path: Path, tmp_path: Path) -> None:
    whole = run(path, out=tmp_path / "whole", report=False, dtype="bf16")
    few = run(path, out=tmp_path / "few", report=False, dtype="bf16", memory="18M")
    assert few.manifest.split and not whole.manifest.split
    assert any(check.check == PRECISION and check.value for check in whole.manifest.trust)
    assert few.manifest.trust == whole.manifest.trust
    assert (few.path / "results.nc").read_bytes() == (whole.path / "results.nc").read_bytes()


def test_a_plan_says_into_how_many_graphs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planned(*more: str) -> Any:
        assert command(["plan", str(path), "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    whole, few = planned(), planned("--memory", "18M")
    assert whole["passes"][0]["split"] is None and whole["models"][0]["graphs"] == 1
    split = few["passes"][0]["split"]
    assert few["models"][0]["graphs"] == split["turns"] > 1
    assert few["models"][0]["memory"] == pytest.approx(split["taken"])
    assert whole["models"][0]["memory"] == pytest.approx(split["together"])
    assert few["models"][0]["merged"] == pytest.approx((1 + split["more"]) * whole["models"][0]["merged"])
    assert few["models"][0]["separate"] == whole["models"][0]["separate"]
    assert command(["plan", str(path), "--memory", "18M"]) == 0
    assert f"split: probe: 9 conditions in {split['turns']} turns" in capsys.readouterr().out


def test_what_is_read_of_a_batch_by_hand() -> None:
    """A Gram matrix of 1024 x 1024 float32 for each layer of its own; a copy of 24 of them where a view is observed."""
    plan = bound(SWEEP.replace("total: 384, batch: 192", "total: 2048, batch: 1024"))
    model = compile_model(plan.models["vit"], plan.models["vit"].sites.model, plan.groups)
    needs = needs_of(plan, plan.passes[0], model, plan.groups)
    matrix = 4 * 1024**2
    grams = {at for (_, tap), at in model.slots.items() if tap.site.name}
    assert needs.reads == dict.fromkeys(grams, matrix)
    assert needs.alive == 24 * matrix > 4 * 1024 * model.merged.live


@pytest.mark.parametrize("text", ["lots", "4X", "-1G", "0", ""])
def test_a_size_that_is_none_is_refused_with_what_to_write(
    path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["run", str(path), "--memory", text]) == 2
    assert "write such as `4G`" in " ".join("".join(capsys.readouterr()).split())
    with pytest.raises(ValueError, match="write such as `4G`"):
        run(path, memory=text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4G", 4 * 2**30),
        ("1.5 GiB", 1.5 * 2**30),
        ("800m", 800 * 2**20),
        ("2kb", 2048),
        ("512", 512),
        ("1T", 2**40),
    ],
)
def test_sizes(text: str, number: float) -> None:
    assert bytes_of(text) == number
    assert bytes_of(sized(number)) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (999.6 * 2**20, "999.6 MiB"),
        (1020 * 2**20, "1020 MiB"),
    ],
)
def test_sizes_in_words(number: float, text: str) -> None:
    assert sized(number) == text


def test_the_room_is_what_is_asked_or_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(budget, "free_memory", lambda device: 1000.0)
    assert budget.room(cpu) == 1000 * budget.SHARE and budget.room(cpu, 5.0) == 5.0
    monkeypatch.setattr(budget, "free_memory", lambda device: None)
    assert math.isinf(budget.room(cpu))


def test_what_is_free_is_the_least_of_the_machine_and_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(budget, "GROUPS", tmp_path)
    monkeypatch.setattr(budget, "MEMINFO", tmp_path / "meminfo")
    assert budget.free_memory(cpu) is None
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 4000 kB\n")
    assert budget.free_memory(cpu) == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 100\n")
    assert budget.free_memory(cpu) == 4000 * 1024
    (tmp_path / "memory.max").write_text("1000\n")
    assert budget.free_memory(cpu) == 1000 - 500 + 100
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert budget.free_memory(cpu) == 300
    (tmp_path / "memory.max").unlink()
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("2000\n")
    (old / "memory.usage_in_bytes").write_text("600\n")
    (old / "memory.stat").write_text("total_inactive_file 0\n")
    assert budget.free_memory(cpu) == 700
    assert budget.free_memory(torch.device("mps")) is None
