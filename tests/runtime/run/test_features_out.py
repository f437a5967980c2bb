"""Features out, and in again: the numbers of the run that wrote them; other programs read the same arrays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import vitdsl
from studies import TINY_RESNET, TINY_VIT, flow
from studies import study as text_of
from vitdsl.cli import run
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.run.inputs import stream_of

DATA = "{probe: {source: digits, split: test, images: 48, batch: 24}}"
MODELS = flow({"vit": TINY_VIT, "res": TINY_RESNET})
LAYERS = {
    "blocks": '{of: vit, at: "blocks.*"}',
    "cls": '{of: vit, at: "blocks.*", tokens: cls}',
    "two": '{of: vit, at: "blocks.*", tokens: [0, -1]}',
    "pooled": '{of: vit, at: "blocks.*", tokens: mean}',
    "stages": '{of: res, at: "layer*.*"}',
    "mean": '{of: res, at: "layer*.*", tokens: mean}',
}
PAIRED = [("blocks", "stages"), ("cls", "mean"), ("two", "pooled")]


def written(folder: Path, name: str, **sections: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text_of(name, **({"data": DATA} | sections)))
    return path


def metrics(kind: str) -> str:
    rest = f"{{kind: {kind}, x: "
    return "{" + ", ".join(f"{x}_{y}: {rest}{x}, y: {y}}}" for x, y in PAIRED) + f", own: {rest}blocks}}}}"


@pytest.mark.parametrize("kind", ["cka", "procrustes", "svcca", "rsa", "mutual_knn"])
def test_what_is_written_gives_the_same_numbers_when_it_is_read(tmp_path: Path, kind: str) -> None:
    out = written(tmp_path, "out", models=MODELS, layers=flow(LAYERS), metrics=metrics(kind))
    direct = vitdsl.run(out, out=tmp_path / "runs", report=False)
    files = vitdsl.features(out, out=tmp_path / "features")
    assert {one.layers for one in files} == set(LAYERS) and all(one.images == 48 for one in files)
    models = {f"m_{name}": f"{{features: ./features/{name}.safetensors}}" for name in LAYERS}
    layers = {name: f'{{of: m_{name}, at: "**"}}' for name in LAYERS}
    back = written(tmp_path, "back", models=flow(models), layers=flow(layers), metrics=metrics(kind))
    again = vitdsl.run(back, out=tmp_path / "runs", report=False)
    for path, found in direct.groups.items():
        metric = path.partition("/")[0]
        other = next(values for name, values in again.groups.items() if name.startswith(f"{metric}/"))
        for value in (name for name in found.data_vars if not str(name).endswith("_replicates")):
            assert found[value].values == pytest.approx(other[value].values, abs=2e-5, nan_ok=True), (
                path,
                value,
            )
        assert list(found["site_x"].values) == list(other["site_x"].values)
    if kind == "cka":
        own = again.groups["own/m_blocks"]["cka"].squeeze().values
        assert own.diagonal() == pytest.approx(1.0, abs=1e-9)


class Net(nn.Module):
    """Patches, two linear layers on tokens, logits."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.one, self.two = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.patches(x).flatten(2).transpose(1, 2))
        return self.two(x.relu()).mean(1)


def test_the_arrays_are_what_hooks_on_the_module_see(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, seen = Net().eval(), {"patches": [], "one": []}  # type: ignore[var-annotated]
    path = written(
        tmp_path,
        "s",
        models="{mine: {given: true, input_size: 32}}",
        layers="{some: {of: mine, at: [patches, one]}}",
        metrics="{alike: {kind: cka, x: some}}",
    )
    (file,) = vitdsl.features(path, models={"mine": module}, out=tmp_path / "features")
    plan = vitdsl.compile(path, models={"mine": module})
    stream = stream_of(plan, "probe")
    for name in seen:
        module.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen[name].append(output.detach().clone())
        )
    with torch.no_grad():
        for batch in stream:
            module(batch.images["mine"])
    arrays = load_file(file.path)
    assert list(file.shapes) == ["patches", "one"] and file.shapes["patches"] == (48, 16, 6)
    maps = torch.cat(seen["patches"]).flatten(2).transpose(1, 2)
    assert torch.allclose(arrays["patches"], maps, atol=1e-6)
    assert torch.allclose(arrays["one"], torch.cat(seen["one"]), atol=1e-6)
    with safe_open(file.path, "np") as opened:
        said = opened.metadata()
    assert json.loads(said["ids"]) == [stream.id(row) for row in range(48)]
    assert json.loads(said["layers"]) == ["patches", "one"] and "Net, given in Python" in said["model"]


def test_the_command_line_writes_and_says_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{{probe: {DATA[8:-2]}}}, other: {{source: digits, split: test, images: 8}}}}"
    path = written(
        tmp_path,
        "s",
        data=data,
        models=flow({"vit": TINY_VIT}).replace("weights: random", "weights: random, vary: {seed: [0, 1]}"),
        layers=flow({"blocks": LAYERS["blocks"], "cls": LAYERS["cls"], "unread": LAYERS["pooled"]}),
        metrics="{a: {kind: cka, x: blocks, data: probe}, b: {kind: cka, x: cls, data: other}}",
    )
    out = tmp_path / "features"
    assert run(["features", str(path), "--out", str(out), "-q", "--json", "--device", "cpu"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["files"]
    names = {Path(one["file"]).name for one in found}
    streams = {"blocks": "probe", "cls": "other"}
    assert names == {
        f"{one}[seed={seed}]@{data}.safetensors" for one, data in streams.items() for seed in (0, 1)
    }
    assert not list(out.glob(".*")), "a temporary file is left"
    one, two = (load_file(out / f"cls[seed={seed}]@other.safetensors")["blocks.0"] for seed in (0, 1))
    assert one.shape == two.shape == (8, 24) and not torch.equal(one, two)
    assert run(["features", str(path), "--out", str(out), "-q", "--device", "cpu", "--data", "other"]) == 0
    text = capsys.readouterr().out
    assert (
        text.count("\n") == 2
        and "cls[seed=0].safetensors: 2 layers of vit[seed=0], 8 images of other" in text
    )
    assert run(["features", str(path), "--data", "no_such"]) == 2


def test_a_study_without_layers_has_none_to_write(tmp_path: Path) -> None:
    path = written(
        tmp_path, "s", models=flow({"vit": TINY_VIT}), metrics="{right: {kind: accuracy, of: vit}}"
    )
    with pytest.raises(StudyError, match="VD222 there are no features to write: no metric reads layers"):
        vitdsl.features(path, out=tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_a_run_of_features_is_resumed_and_answered(tmp_path: Path) -> None:
    out = written(
        tmp_path, "out", models=MODELS, layers=flow(LAYERS), metrics="{own: {kind: cka, x: blocks}}"
    )
    vitdsl.features(out, out=tmp_path / "features")
    back = written(
        tmp_path,
        "back",
        models="{kept: {features: ./features/blocks.safetensors}}",
        layers='{b: {of: kept, at: "**"}}',
        metrics="{own: {kind: cka, x: b}}",
    )
    runs = [vitdsl.run(path, out=tmp_path / "runs") for path in (back, vitdsl.compile(back))]
    assert [sum(one.found for one in each.manifest.reused.values()) for each in runs] == [0, 2]
    assert np.array_equal(runs[0].groups["own/kept"]["cka"], runs[1].groups["own/kept"]["cka"])
    assert vitdsl.run(back, out=tmp_path / "runs").path == runs[0].path
    assert "features of ./features/blocks.safetensors" in (runs[0].path / "report.html").read_text("utf-8")
