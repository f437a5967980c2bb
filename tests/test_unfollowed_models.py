"""Studies of models whose program cannot be followed: their numbers, what is said of them, and what is refused."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deciding
import vitdsl
from deciding import Deciding, Patches, When, made
from studies import study as text_of
from vitdsl import cli
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.render import render
from vitdsl.reports.overview import DASH, models
from vitdsl.reports.pages import facts
from vitdsl.reports.words import methods
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.models import plugins

DATA = "{probe: {source: digits, split: test, images: 40, batch: 20, shuffle: false}}"
ARCH = "deciding:Deciding"
WHY = "`Deciding` cannot be traced: its program decides by the numbers in a tensor, in `decided` (deciding.py, line "


def transform(image: Any) -> Tensor:
    """One image as the models see it; what a reference sees, too."""
    pixels = np.asarray(image.resize((32, 32)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1) - 0.5


def written(folder: Path, **sections: str) -> Path:
    sections = {
        "data": DATA,
        "models": "{mine: {given: true}}",
        "layers": '{blocks: {of: mine, at: ["blocks.*", "blocks.1:1"]}}',
        "metrics": "{alike: {kind: cka, x: blocks, estimator: biased}, right: {kind: accuracy, of: mine}}",
    } | sections
    path = folder / "study.yaml"
    path.write_text(text_of("s", **{name: text for name, text in sections.items() if text}))
    return path


def run(path: Path, model: nn.Module, **more: Any) -> Any:
    given = {"models": {"mine": model}, "transforms": {"mine": transform}, "out": path.parent / "runs"}
    return vitdsl.run(path, **{**given, "report": False, **more})


def error_of(path: Path, model: nn.Module) -> str:
    with pytest.raises(VitdslError) as caught:
        run(path, model)
    return render(caught.value.diagnostics)


def pixels(folder: Path) -> tuple[Tensor, Tensor]:
    kind = SOURCES.kinds()["digits"]
    source = kind(kind.Params.model_validate({"split": "test"}), folder=folder, seed=0)
    images = [source.load(index) for index in range(40)]
    return torch.stack([transform(one.image) for one in images]).double(), torch.tensor(
        [o.label for o in images]
    )


def reference(images: Tensor) -> tuple[list[Tensor], Tensor]:
    """What the blocks give in float64, in order, and the logits; image by image, by own hooks."""
    model, seen = made(Deciding).double(), [[], [], []]  # type: ignore[var-annotated]
    calls = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, output: calls.append(output))
    logits = []
    with torch.no_grad():
        for image in images:
            calls.clear()
            logits.append(model(image[None])[0])
            for at, output in enumerate(calls):
                seen[at].append(output[0].flatten())
    return [torch.stack(one) for one in seen], torch.stack(logits)


def biased_cka(x: Tensor, y: Tensor, batches: int) -> float:
    """CKA from sums over batches of HSIC of centred linear Gram matrices, float64."""
    sums = np.zeros(3)
    for one, other in zip(x.chunk(batches), y.chunk(batches), strict=True):
        n = len(one)
        centre = torch.eye(n, dtype=torch.float64) - 1 / n
        k, m = centre @ one @ one.T @ centre, centre @ other @ other.T @ centre
        sums += [float((k * m).sum()), float((k * k).sum()), float((m * m).sum())]
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def test_numbers_are_those_of_own_hooks_in_float64(tmp_path: Path) -> None:
    found = run(written(tmp_path), made(Deciding))
    images, labels = pixels(tmp_path)
    layers, logits = reference(images)
    values = found.groups["alike/mine"]["cka"].sel(condition="baseline")
    assert values.sizes["site_x"] == 3
    expected = [[biased_cka(x, y, 2) for y in layers] for x in layers]
    np.testing.assert_allclose(values.to_numpy(), expected, atol=1e-5)
    right = found.groups["right/mine"].sel(condition="baseline")
    assert float(right["top1"]) == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert float(right["loss"]) == pytest.approx(float(loss), rel=1e-5)


class Limited(Patches):
    """What `Deciding` computes, without a decision."""

    def decided(self, tokens: Tensor) -> Tensor:
        return tokens.clamp(-0.5, 0.5)


def test_metrics_of_layers_and_answers_are_those_of_a_model_that_can_be_traced(tmp_path: Path) -> None:
    kinds = (
        "cka",
        "procrustes",
        "rsa",
        "svcca",
        "mutual_knn",
        "spectrum",
        "token_norms",
        "token_cka",
        "fourier",
    )
    metrics = [f"{kind}: {{kind: {kind}, x: blocks, data: probe}}" for kind in kinds]
    metrics += [
        "probes: {kind: linear_probe, x: blocks, data: probe, train: learn}",
        "places: {kind: localisation, x: blocks, data: probe}",
        "fields: {kind: receptive_field, x: blocks, data: probe}",
        "said: {kind: answers, of: mine, data: probe}",
    ]
    path = written(
        tmp_path,
        data="{probe: {source: digits, split: test, images: 80, batch: 40}, "
        "learn: {source: digits, split: train, images: 120, batch: 40}}",
        layers='{blocks: {of: mine, at: ["blocks.*", "blocks.1:1"]}}',
        metrics=f"{{{', '.join(metrics)}}}",
    )
    hooked, followed = run(path, made(Deciding)), run(path, made(Limited))
    assert hooked.manifest.models["mine"].unfollowed and not followed.manifest.models["mine"].unfollowed
    for name, values in followed.groups.items():
        for variable in values.data_vars:
            one, other = (found[name][variable].to_numpy() for found in (hooked.groups, followed.groups))
            if one.dtype.kind == "f":
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=f"{name} {variable}")
    again = run(path, made(Deciding))
    assert all(group.found == group.of for group in again.manifest.reused.values()) and again.manifest.reused
    forced = run(path, made(Deciding), force=True)
    assert all(values.equals(forced.groups[name]) for name, values in hooked.groups.items())


def test_it_is_said_wherever_the_model_is(tmp_path: Path) -> None:
    found = run(written(tmp_path), made(Deciding), report=True)
    (note,) = [one for one in found.manifest.warnings if "cannot be traced" in one]
    assert note.startswith(f"model `mine`: {WHY}") and "its modules are read by hooks" in note
    record = found.manifest.models["mine"]
    assert record.unfollowed.startswith(WHY) and record.sites > 0 and record.units == 0
    page = (found.path / "report.html").read_text()
    assert "are read by hooks while it runs" in page
    assert "given weights, read by hooks on its modules)" in methods(found)
    _, rows = models(found, [])
    assert dict(rows)["units"] == [DASH] and dict(rows)["architecture"] == ["Deciding, given in Python"]
    (said,) = [known for title, known in facts(found) if title == "Model mine"]
    assert dict(said)["read by hooks, since"].startswith(WHY) and "units" not in dict(said)
    (check,) = [one for one in found.manifest.trust if one.check == "output"]
    assert check.ok and "on 16 images" in check.text


def test_what_needs_a_graph_is_refused_at_its_place_with_the_reason(tmp_path: Path) -> None:
    text = error_of(
        written(
            tmp_path,
            layers='{blocks: {of: mine, at: "blocks.*"}, streams: {of: mine, at: "blocks.*", role: stream}}',
            ablations='{no: {kind: remove_branch, of: mine, at: "*"}, mean: {kind: mean_ablate, of: mine, at: "head"}}',
            metrics="{alike: {kind: cka, x: streams}, ratio: {kind: skip_ratio, of: mine}, "
            "far: {kind: attention_distance, of: mine}}",
        ),
        made(Deciding),
    )
    assert (
        text.count("error[VD305]") == 2
        and text.count("error[VD302]") == 2
        and text.count("error[VD240]") == 1
    )
    assert text.count(WHY) == 5
    for entry in ("ablations: {no: {kind: remove_branch, of: mine", "ratio: {kind: skip_ratio, of: mine"):
        assert entry in text
    assert "which find no attention weights" in text and "which find no residual units" in text


def spare(model: Patches, tokens: Tensor) -> Tensor:
    found: Tensor = model.spare(tokens)  # type: ignore[operator]
    return found


def in_batch(folder: Path, number: int, then: Any) -> Patches:
    """A model that does something else for one batch of the study as a whole, and for nothing else."""
    images, _ = pixels(folder)
    with torch.no_grad():
        mean = float(made(Patches).patches(images.float()).split(20)[number].mean())  # type: ignore[operator]
    return made(lambda: When(lambda tokens: abs(float(tokens[:, 1:].mean()) - mean) < 1e-5, then))


def test_a_batch_for_which_it_calls_other_modules_stops_the_run(tmp_path: Path) -> None:
    text = error_of(written(tmp_path), in_batch(tmp_path, 1, spare))
    assert "error[VD507]: `mine` is read by hooks, and does something else for the 20 images from `" in text
    assert "calls `spare` where it otherwise calls `blocks.0`" in text


def raising(error: Exception) -> Any:
    def then(model: Patches, tokens: Tensor) -> Tensor:
        raise error

    return then


def test_an_error_of_its_program_is_told_and_a_full_memory_is_told_as_such(tmp_path: Path) -> None:
    text = error_of(written(tmp_path), in_batch(tmp_path, 1, raising(ValueError("it is too dark"))))
    assert "error[VD507]" in text and "it raises ValueError: it is too dark, in `then` (test_unf" in text
    text = error_of(written(tmp_path), in_batch(tmp_path, 1, raising(MemoryError())))
    assert "error[VD409]" in text


def test_a_program_that_decides_by_a_whole_batch_is_found_on_the_first(tmp_path: Path) -> None:
    text = error_of(written(tmp_path), in_batch(tmp_path, 0, lambda _, tokens: tokens + 1))
    assert "error[VD501]" in text and "its numbers hang on the batches" in text


@pytest.fixture
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("deciding", ARCH, plugins.MODELS)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.MODELS else [])


@pytest.mark.usefixtures("_offered")
def test_it_is_reached_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, models=f'{{mine: {{arch: "{ARCH}", weights: random, input_size: 32}}}}')

    def said(*words: str) -> tuple[str, str]:
        assert cli.run(words) == 0
        return capsys.readouterr()

    out, err = said("sites", ARCH, "blocks.*", "--input-size", "32")
    assert f"note: {WHY}" in err and "blocks.1:1" in out and "17x12" in out
    assert json.loads(said("sites", "mine", "--study", str(path), "--json")[0])["unfollowed"].startswith(WHY)
    out, err = said("sites", "mine", "--study", str(path), "--summary")
    assert f"note: {WHY}" in err and "0 residual units, 0 attention modules" in out
    for command in ("check", "plan"):
        assert f"note: model `mine`: {WHY}" in "".join(said(command, str(path)))
    said("run", str(path), "--out", str(tmp_path / "runs"), "--no-report")
    manifest = next((tmp_path / "runs" / "s").glob("*/manifest.json"))
    assert json.loads(manifest.read_text())["models"]["mine"]["unfollowed"].startswith(WHY)


def test_the_models_of_these_tests_cannot_be_followed() -> None:
    from vitdsl.runtime.graph.trace import trace

    for kind in (deciding.Deciding, deciding.ByImage, deciding.OwnOperation):
        with pytest.raises(VitdslError):
            trace(made(kind), (3, 32, 32))
    trace(made(Patches), (3, 32, 32))
