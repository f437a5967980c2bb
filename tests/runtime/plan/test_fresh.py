"""Parameters that a checkpoint leaves at random: which answers they are behind, refused, and what is said elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studies import TINY_RESNET, TINY_VIT, bound, changed, loaded, study
from vitdsl.cli import run
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan import fresh
from vitdsl.runtime.plan.bind import bind_diagnostics

DATA = {"probe": "{source: noise, total: 32, size: 32, classes: CLASSES, batch: 32}"}
ACCURACY = {"acc": "{kind: accuracy, of: net}"}
WITHIN = {"within": "{kind: cka, x: some}"}


def text(model: Any, metrics: Any = ACCURACY, at: str = "layer*.*", classes: int = 2) -> str:
    """A study of one model."""
    layers = {"some": f'{{of: net, at: "{at}"}}'}
    data = {name: entry.replace("CLASSES", str(classes)) for name, entry in DATA.items()}
    return study("heads", data=data, models={"net": model}, layers=layers, metrics=metrics)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint of ten classes."""
    monkeypatch.chdir(tmp_path)
    plan = bound(text(TINY_RESNET, WITHIN))
    save_file(loaded(plan, "net").module.state_dict(), tmp_path / "ten.safetensors")
    return tmp_path


def outcome(folder: Path, words: str) -> int:
    (folder / "study.yaml").write_text(words)
    return run(["run", "study.yaml", "-q", "--no-report"])


FILE = changed(TINY_RESNET, weights="{file: ./ten.safetensors}")
TWO = changed(TINY_RESNET, {"num_classes": 2}, weights="{file: ./ten.safetensors, head: fresh}")


def test_a_fresh_head_gives_no_accuracy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(here, text(FILE)) == 2
    found = capsys.readouterr().err
    assert "VD404" in found and "a head of another size would be random" in found
    assert outcome(here, text(TWO)) == 2
    found = capsys.readouterr().err
    assert (
        "error[VD304]: `accuracy` reads the answers of `net`" in found and "`fc.weight`, `fc.bias`" in found
    )
    assert "study.yaml:6:" in found
    assert outcome(here, text(changed(FILE, {"num_classes": 2}))) == 3
    assert "VD405" in capsys.readouterr().err
    assert outcome(here, text(FILE, classes=10)) == 0


def test_layers_before_it_are_measured_and_it_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(here, text(TWO, WITHIN)) == 0
    said = "The weights of `net` do not fill `fc.weight`, `fc.bias`"
    assert said in capsys.readouterr().err
    (manifest,) = here.glob("runs/heads/*/manifest.json")
    assert any(one.startswith(said) for one in json.loads(manifest.read_text())["warnings"])
    assert outcome(here, text(TWO, WITHIN, at="fc")) == 2
    assert "error[VD304]: `cka` reads the answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "codes"), [("pretrained", ["VD304"]), ("random", [])], ids=["pretrained", "control"]
)
def test_pretrained_with_other_classes_is_refused_before_it_is_fetched(
    weights: str, codes: list[str]
) -> None:
    model = changed(TINY_RESNET, {"num_classes": 2}, arch="resnet18.a1_in1k", weights=weights)
    assert [one.code for one in bind_diagnostics(load_text(text(model)))] == codes
    assert bind_diagnostics(load_text(text(model, WITHIN))) == ()
    trained = changed(model, train="{data: {source: noise, total: 8, classes: 2, size: 32}, epochs: 1}")
    assert bind_diagnostics(load_text(text(trained))) == ()


@pytest.mark.parametrize("name", ["blocks.1.norm1.weight", "pos_embed", "head.bias", "norm.weight"])
def test_what_is_behind_a_parameter_is_what_changes_with_it(name: str) -> None:
    plan = bound(text(TINY_VIT, WITHIN, at="blocks.*", classes=10))
    sites, module = plan.models["net"].sites, loaded(plan, "net").module
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen: list[dict[str, torch.Tensor]] = []
    for _ in range(2):
        found: dict[str, torch.Tensor] = {}
        hooks = [
            part.register_forward_hook(
                lambda _m, _i, out, path=path, into=found: into.update({path: out.clone()})
            )
            for path, part in module.named_modules()
            if path in sites.nodes["output"] or not path
        ]
        module(images)
        for hook in hooks:
            hook.remove()
        seen.append(found)
        module.state_dict()[name].add_(torch.rand(module.state_dict()[name].shape))
    changes = {path for path in seen[0] if not torch.equal(seen[0][path], seen[1][path])}
    behind = fresh._behind(sites, [name])
    assert {path for path in seen[0] if path and sites.nodes["output"][path] in behind} == changes - {""}
    assert (sites.traced.output in behind) is ("" in changes) is True


def test_what_reads_behind_other_parameters_is_said() -> None:
    plan = bound(text(TINY_VIT, WITHIN, at="blocks.*", classes=10))
    (said,) = fresh.notes(plan.groups, plan.models, {"net": ["blocks.1.norm1.weight"]})
    assert said.endswith("`within` also reads sites behind them.")
    (said,) = fresh.notes(plan.groups, plan.models, {"net": ["norm.weight"]})
    assert said.endswith("No metric reads behind them.")
    assert fresh.notes(plan.groups, plan.models, {"net": []}) == []
    assert fresh.problems(plan.loaded, plan.groups, plan.models, {"net": ["norm.weight"]}) == []
    answers = bound(text(TINY_VIT, ACCURACY, at="blocks.*", classes=10))
    wrong = fresh.problems(answers.loaded, answers.groups, answers.models, {"net": ["pos_embed"]})
    assert [one.code for one in wrong] == ["VD304"]
