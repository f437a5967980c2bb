"""Models of installed packages: what a study may name, how they are made, and where their weights come from."""

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from vitdsl_sample import nets

import vitdsl
from studies import flow
from studies import study as text_of
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.study import Model
from vitdsl.runtime.models import plugins
from vitdsl.runtime.models.loading import load, skeleton

SAMPLE = "vitdsl_sample.nets:patch_mixer"
RESNET = "torchvision.models:resnet18"


@pytest.fixture(autouse=True)
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("sample", SAMPLE, plugins.MODELS),
        EntryPoint("torchvision", "torchvision.models", ""),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.MODELS else [])


def entry(**fields: Any) -> Model:
    return Model.model_validate({"arch": SAMPLE, "weights": "random", "input_size": 32} | fields)


def said(model: Model, folder: Path = Path()) -> str:
    with pytest.raises(VitdslError) as caught:
        load(model, seed=0, folder=folder)
    (one,) = caught.value.diagnostics
    return f"{one.code} {one.message} {one.help} {one.notes}"


def test_options_are_the_functions_own(tmp_path: Path) -> None:
    loaded = load(entry(options={"width": 24, "num_classes": 3}), seed=5, folder=tmp_path)
    assert isinstance(loaded.module, nets.PatchMixer) and loaded.module.head.weight.shape == (3, 24)
    assert loaded.weights.detail == {"seed": 5} and loaded.structure and loaded.arch == SAMPLE
    again = load(entry(options={"width": 24, "num_classes": 3}), seed=5, folder=tmp_path)
    assert again.weights.sha256 == loaded.weights.sha256
    assert skeleton(entry()).head.weight.is_meta  # type: ignore[union-attr]


def test_an_option_that_the_function_sets_is_left_out_and_no_family_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = nets.patch_mixer
    monkeypatch.setattr(nets, "patch_mixer", lambda **options: real(width=8, **options))
    text = said(entry(options={"width": 24}))
    assert "sets `width` itself" in text and "('leave `width` out',)" in text


def test_a_checkpoint_is_its_state(tmp_path: Path) -> None:
    module = nets.patch_mixer()
    save_file(module.state_dict(), tmp_path / "mixer.safetensors")
    torch.save({"state_dict": module.state_dict()}, tmp_path / "mixer.pth")
    for name in ("mixer.safetensors", "mixer.pth"):
        loaded = load(entry(weights={"file": name}), seed=0, folder=tmp_path)
        state = loaded.module.state_dict()
        assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    other = said(entry(weights={"file": "mixer.pth"}, options={"width": 8}), tmp_path)
    assert other.startswith(f"VD405 the checkpoint `mixer.pth` does not fit `{SAMPLE}`")
    assert said(entry(weights={"file": "no.pth"}), tmp_path).startswith("VD401")


def test_torchvision_comes_by_the_same_door(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=10).eval()
    save_file(module.state_dict(), tmp_path / "resnet.safetensors")
    path = tmp_path / "study.yaml"
    models = {
        "theirs": {
            "arch": RESNET,
            "options": {"num_classes": 10},
            "weights": "{file: resnet.safetensors}",
            "input_size": 32,
        },
        "timms": {
            "arch": "resnet18",
            "options": {"num_classes": 10},
            "weights": "{file: resnet.safetensors}",
            "input_size": 32,
        },
    }
    path.write_text(
        text_of(
            "s",
            data="{probe: {source: digits, split: test, images: 32, batch: 16, preprocess: timms}}",
            models=flow(models).replace(RESNET, f'"{RESNET}"'),
            layers="{theirs: {of: theirs, at: 'layer*.*'}, timms: {of: timms, at: 'layer*.*'}}",
            ablations="{no: {kind: remove_skip, of: theirs, at: 'layer1.*', each: true}}",
            metrics="{same: {kind: cka, x: theirs, y: timms, under: baseline}, right: {kind: accuracy, of: theirs}}",
        )
    )
    run = vitdsl.run(path, out=tmp_path / "runs", report=False)
    found = run.groups["same/theirs~timms"]["cka"].sel(condition="baseline").values
    assert found.diagonal() == pytest.approx(1.0, abs=1e-6)
    assert run.groups["right/theirs"].sizes["condition"] == 3
    assert any(
        "`theirs` says nothing of its images and gets timm's default" in one for one in run.manifest.warnings
    )
    assert isinstance(timm.create_model("resnet18"), torch.nn.Module)


def test_what_asks_for_pretrained_weights() -> None:
    assert plugins.asks(torchvision.models.resnet18) == {"weights": "DEFAULT"}
    assert plugins.asks(timm.create_model) == {"pretrained": True}
    assert plugins.asks(nets.patch_mixer) == {}
    assert said(entry(weights="pretrained")).startswith("VD232")
    assert said(entry(weights={"hub": "some/where"})).startswith(
        f"VD232 `{SAMPLE}` has no weights on the hub"
    )


def test_pretrained_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make = nets.patch_mixer

    def sevens(pretrained: bool = False) -> nets.PatchMixer:
        module = make()
        if pretrained:
            torch.nn.init.constant_(module.head.bias, 7.0)
        return module

    monkeypatch.setattr(nets, "patch_mixer", sevens)
    loaded = load(entry(weights="pretrained"), seed=0, folder=tmp_path)
    assert loaded.module.head.bias.unique().tolist() == [7.0]  # type: ignore[operator, union-attr]
    assert loaded.weights.origin == "pretrained" and loaded.weights.detail == {"from": SAMPLE}


def test_no_network_is_no_mistake_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    make = nets.patch_mixer

    def far(pretrained: bool = False) -> nets.PatchMixer:
        if pretrained:
            raise OSError("no route to host")
        return make()

    monkeypatch.setattr(nets, "patch_mixer", far)
    assert "VD406" in said(entry(weights="pretrained")) and "no route" in said(entry(weights="pretrained"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arch": "os.path:join"}, "VD230 no installed package offers `os.path:join`"),
        ({"arch": "vitdsl_sample.nets:PatchMixer"}, "VD230 no installed package offers"),
        ({"arch": "torchvision.models:_api"}, "VD230 `torchvision.models` has no function `_api`"),
        ({"arch": "torchvision.models:resnet17"}, "did you mean `resnet18`"),
        ({"arch": "torchvision.models:partial"}, "VD230 `torchvision.models` has no function `partial`"),
        ({"arch": "torchvision.models:list_models"}, "it gives a list, not a torch module"),
        ({"options": {"wide": 3}}, "VD231 `vitdsl_sample.nets:patch_mixer` takes no option `wide`"),
        ({"options": {"depth": "deep"}}, "VD231 `vitdsl_sample.nets:patch_mixer` cannot be built with"),
    ],
)
def test_what_is_not_offered_is_refused(fields: dict[str, Any], words: str) -> None:
    assert words in said(entry(**fields))


def test_what_torchscript_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.jit.trace(nets.patch_mixer(), torch.zeros(2, 3, 32, 32))
    monkeypatch.setattr(nets, "patch_mixer", lambda: compiled)
    assert "it gives a module that TorchScript compiled, which cannot be read" in said(entry())


def test_one_that_does_not_import_is_a_fault_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "half_a_net.py").write_text("raise ValueError('its other half is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("half", "half_a_net:net", group)])
    assert said(entry(arch="half_a_net:net")).startswith("VD413 plugin `half`")


def test_our_own_entry_point_is_torchvision() -> None:
    import tomllib

    text = (Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8")
    assert tomllib.loads(text)["project"]["entry-points"][plugins.MODELS] == {
        "torchvision": "torchvision.models"
    }
