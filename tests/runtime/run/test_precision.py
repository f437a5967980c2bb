"""What is not exact is said of each metric: as much as two runs differ, one exact and one not."""

from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from studies import study
from vitdsl import run
from vitdsl.cli import run as command
from vitdsl.reports.opening import limits
from vitdsl.reports.words import methods, reproduce
from vitdsl.runtime.metrics._base import Value
from vitdsl.runtime.results.folder import Run, open_run
from vitdsl.runtime.results.manifest import PRECISION, Check
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.precision import largest_difference, scale

RESNET = {
    "arch": "resnet18",
    "options": {"channels": [12, 24, 36, 48], "output_stride": 8, "num_classes": 10},
    "input_size": 32,
    "train": {"recipe": "digits_resnet"},
}
VIT = {
    "arch": "vit_tiny_patch16_224",
    "options": {
        "img_size": 32, "patch_size": 4, "embed_dim": 48, "depth": 8, "num_heads": 4, "num_classes": 10,
    },
    "train": {"recipe": "digits_vit"},
}  # fmt: skip
METRICS = {
    "accuracy": "{kind: accuracy, of: resnet}",
    "within": "{kind: cka, x: stages}",
    "ratio": "{kind: skip_ratio, of: resnet, under: baseline}",
}
TEXT = study(
    "precise",
    data="{probe: {source: digits, split: test, images: 48, batch: 48}}",
    models={"resnet": RESNET},
    layers={"stages": '{of: resnet, at: "layer[1-3].*"}', "early": "{of: resnet, at: conv1}"},
    ablations={"no_skip": '{kind: remove_skip, of: resnet, at: "layer2.*", each: true}'},
    metrics=METRICS,
)


def ran(tmp_path: Path, text: str = TEXT, **how: object) -> Run:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return run(path, out=tmp_path / "runs", report=False, device="cpu", **how)  # type: ignore[arg-type]


def checks(found: Run) -> dict[str, Check]:
    return {check.about: check for check in found.manifest.trust if check.check == PRECISION}


@pytest.mark.parametrize("how", [{"fast": True}, {"dtype": "bf16"}, {"dtype": "bf16", "fast": True}])
def test_what_is_said_is_what_two_runs_differ_by(tmp_path: Path, how: dict[str, object]) -> None:
    """All images are in one batch, so that the first batch is the whole run."""
    exact, found = ran(tmp_path), ran(tmp_path, **how)
    assert not checks(exact) and not found.manifest.reused
    said = checks(found)
    assert set(said) == set(found.groups)
    for path, check in said.items():
        moved = {
            str(name): float(np.nanmax(np.abs(found.groups[path][name] - exact.groups[path][name])))
            for name in found.groups[path].data_vars
            if not str(name).endswith(("_low", "_high", "_replicates"))
        }
        assert any(moved.values()), "another graph gives other bits"
        assert check.value in [pytest.approx(one, rel=1e-9) for one in moved.values()]
        assert check.ok and check.value <= check.tolerance and not check.required
        bound = 5e-2 if "dtype" in how else 1e-4
        assert check.tolerance >= bound * (1 if path == "within/resnet" else 0)
        first = next(name for name, one in moved.items() if one == pytest.approx(check.value, rel=1e-9))
        assert f"{first} by at most {check.value:.3g}" in check.text
        assert check.text.startswith(f"`{found.manifest.inexact}` moves `{path}`")


def test_numbers_that_are_not_exact_are_never_mixed_with_exact_ones(tmp_path: Path) -> None:
    exact, fast = ran(tmp_path), ran(tmp_path, fast=True)
    assert ran(tmp_path).path == exact.path and ran(tmp_path, fast=True).path == fast.path
    remark = TEXT + "# asked otherwise\n"
    again, fast_again = ran(tmp_path, remark), ran(tmp_path, remark, fast=True)
    assert not exact.manifest.reused and not fast.manifest.reused
    assert again.manifest.reused["probe"].found == fast_again.manifest.reused["probe"].found == 1
    name = "within/resnet"
    assert np.array_equal(again.groups[name]["cka"], exact.groups[name]["cka"])
    assert np.array_equal(fast_again.groups[name]["cka"], fast.groups[name]["cka"])
    assert not np.array_equal(exact.groups[name]["cka"], fast.groups[name]["cka"])
    assert checks(fast_again) == checks(fast) and not checks(again)


def test_conditions_that_are_added_are_said_with_those_that_were_there(tmp_path: Path) -> None:
    """One sentence for all conditions of a group, and one for all ablations of a model, as if all ran at once."""
    fewer = TEXT.replace('at: "layer2.*"', "at: layer2.0")
    ran(tmp_path, fewer, fast=True)
    added = ran(tmp_path, TEXT, fast=True)
    for sort in (PRECISION, "effect"):
        said = [(check.model, check.about) for check in added.manifest.trust if check.check == sort]
        assert len(said) == len(set(said)) and len({model for model, _ in said}) == 1
    (tmp_path / "fresh").mkdir()
    whole = ran(tmp_path / "fresh", TEXT, fast=True)
    assert {check.about for check in added.manifest.trust} == {check.about for check in whole.manifest.trust}
    for about, check in checks(whole).items():
        assert set(checks(added)[about].conditions) == set(check.conditions)
        assert checks(added)[about].text.startswith(f"`--fast` moves `{about}` on the first batch: ")
        assert checks(added)[about].value == pytest.approx(check.value, rel=0.9)
    (ours,), (theirs,) = (
        [check for check in run.manifest.trust if check.check == "effect"] for run in (added, whole)
    )
    assert ours.text.partition(";")[0] == theirs.text.partition(";")[0]


def test_what_was_folded_is_noted(tmp_path: Path) -> None:
    """A layer that is a convolution keeps its norm; removed skips share what is before them."""
    whole = {work.model: work.folded for work in ran(tmp_path, fast=True).manifest.work}
    text = TEXT.replace("metrics:", "metrics:\n  seen: {kind: cka, x: early, under: baseline}")
    seen = {work.model: work.folded for work in ran(tmp_path, text, fast=True, force=True).manifest.work}
    assert whole["resnet"] == seen["resnet"] + 1 > 20


def test_conditions_that_run_in_turns_are_folded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once memory was full, and in the usual layout once the other has failed: the same numbers to rounding."""
    text = TEXT.replace('at: "layer2.*"', 'at: "layer*.*"')
    together = ran(tmp_path, text, fast=True)
    calls = []

    def once(
        runner: Runner, compiled: Compiled, graph: nn.Module, images: Tensor
    ) -> tuple[tuple[Tensor, ...], ...]:
        calls.append(compiled.channels_last)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("full")
        if compiled.channels_last:
            raise RuntimeError("view size is not compatible")
        return forward(runner, compiled, graph, images)

    forward = Runner._forward
    monkeypatch.setattr(Runner, "_forward", once)
    turns = ran(tmp_path, text, fast=True, force=True)
    exact = [True, False]  # its graph begins in the better layout, too
    assert turns.manifest.split and calls == [True, True, False, False, *exact]
    assert all(work.folded > 10 for work in turns.manifest.work)
    for path, group in together.groups.items():
        for name in group.data_vars:
            if not str(name).endswith(("_low", "_high", "_replicates")):
                np.testing.assert_allclose(turns.groups[path][name], group[name], rtol=1e-4, atol=1e-5)
    assert all(check.ok for check in checks(turns).values()) and len(checks(turns)) == len(checks(together))


def test_without_batch_norms_nothing_moves(tmp_path: Path) -> None:
    text = study(
        "vit",
        data="{probe: {source: digits, split: test, images: 16, batch: 8}}",
        models={"vit": VIT},
        layers={"blocks": '{of: vit, at: "blocks.*"}'},
        metrics={"within": "{kind: cka, x: blocks}", "said": "{kind: answers, of: vit, data: probe}"},
    )
    found = ran(tmp_path, text, fast=True)
    (check,) = checks(found).values()
    assert check.text == "`--fast` leaves every value of `within/vit` as it is on the first batch"
    assert check.value == 0 and check.ok and found.manifest.work[0].folded == 0


def test_the_terminal_and_the_report_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "study.yaml", tmp_path / "runs"
    path.write_text(TEXT)
    assert command(["run", str(path), "--out", str(out), "--device", "cpu", "--fast", "-q"]) == 0
    (folder,) = (out / "precise").iterdir()
    found = open_run(folder)
    most = found.manifest.most_moved
    assert found.manifest.fast and most is not None
    printed = capsys.readouterr().out
    assert f"not exact: {most.text}" in printed
    assert most.value / most.tolerance == max(one.value / one.tolerance for one in checks(found).values())
    page = (folder / "report.html").read_text()
    assert (
        "batch norms folded into convolutions" in methods(found) and methods(found).partition(" ")[0] in page
    )
    assert " --device cpu --fast\n" in reproduce(found)
    assert any(most.text in text for text in limits(found.manifest))
    assert command(["run", str(path), "--out", str(out), "--device", "cpu", "-q", "--no-report"]) == 0
    exact = open_run(max((out / "precise").iterdir(), key=lambda one: one.stat().st_mtime))
    assert "not exact" not in capsys.readouterr().out and exact.manifest.most_moved is None
    assert not any("not exact" in text for text in limits(exact.manifest))
    assert "folded" not in methods(exact) and "--fast" not in reproduce(exact)


def test_differences_are_of_numbers_and_of_what_is_none() -> None:
    a = np.array([[1.0, np.nan, np.inf]])
    assert largest_difference(a, a) == 0
    assert largest_difference(a, np.array([[1.5, np.nan, np.inf]])) == 0.5
    assert largest_difference(a, np.array([[1.0, 2.0, np.inf]])) == inf
    assert largest_difference(a, np.array([[1.0, np.nan, 7.0]])) == inf
    assert largest_difference(np.empty((1, 0)), np.empty((1, 0))) == 0
    share, free = Value((), "share", range=(-1.0, 1.0)), Value((), "free", range=(0.0, None))
    assert scale(np.array([0.1]), share) == 2 and scale(np.array([0.1, -3.0, np.nan]), free) == 3
