"""Modules that Python hands over: the numbers of the same model named in YAML, and nothing believed of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, Resize, ToTensor

import vitdsl
from studies import TINY, flow
from studies import study as text_of
from vitdsl.dsl.diagnostics import StudyError, VitdslError
from vitdsl.dsl.study import Model
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.models.fingerprint import source, structure
from vitdsl.runtime.models.outside import Given, received
from vitdsl.runtime.models.own_transform import own_transform
from vitdsl.runtime.results.folder import RESOLVED

DATA = "{probe: {source: digits, split: test, images: 48, batch: 16, shuffle: false}}"
GIVEN = "{given: true}"


class Net(nn.Module):
    """Patches, an activation, one residual unit, a mean, and logits."""

    def __init__(self, act: Callable[[], nn.Module] = nn.ReLU, scale: float = 1.0) -> None:
        super().__init__()
        self.patches, self.act = nn.Conv2d(3, 8, 8, 8), act()
        self.mix, self.head, self.scale = nn.Linear(8, 8), nn.Linear(8, 10), scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.patches(x)).flatten(2).transpose(1, 2)
        x = x + self.scale * self.mix(x)
        return self.head(x.mean(1))


class Heads(nn.Module):
    """Attention of torch's, whose weights do not say how many heads they are for."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.attention = nn.MultiheadAttention(8, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.attention(x, x, x)[0].mean(1)


TRANSFORM = Compose([Resize((32, 32)), ToTensor(), Normalize([0.2, 0.3, 0.4], [0.5, 0.6, 0.7])])


def net(seed: int = 0, **more: Any) -> Net:
    torch.manual_seed(seed)
    return Net(**more)


def written(folder: Path, **sections: Any) -> Path:
    sections = {
        "data": DATA,
        "models": f"{{mine: {GIVEN}}}",
        "layers": "{some: {of: mine, at: [act, mix]}}",
        "ablations": '{no: {kind: remove_branch, of: mine, at: "*"}}',
        "metrics": "{alike: {kind: cka, x: some}, right: {kind: accuracy, of: mine}}",
    } | sections
    path = folder / "study.yaml"
    path.write_text(text_of("s", **{name: text for name, text in sections.items() if text}))
    return path


def test_it_gives_the_numbers_of_the_same_model_named_in_yaml(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = timm.create_model("vit_tiny_patch16_224", **TINY)
    save_file(module.state_dict(), tmp_path / "vit.safetensors")
    sections = {
        "layers": '{some: {of: vit, at: "blocks.*", tokens: cls}, maps: {of: vit, at: "blocks.*.attn"}}',
        "ablations": '{no: {kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}}',
        "metrics": "{alike: {kind: cka, x: some}, ratio: {kind: skip_ratio, of: vit}, "
        "far: {kind: attention_distance, of: vit}, right: {kind: accuracy, of: vit}}",
    }
    named = {"arch": "vit_tiny_patch16_224", "options": TINY, "weights": "{file: ./vit.safetensors}"}
    runs = []
    for models, given in (({"vit": named}, {}), ({"vit": {"given": True}}, {"vit": module})):
        path = written(tmp_path, models=flow(models), **sections)
        runs.append(vitdsl.run(path, models=given, out=tmp_path / "runs", report=False, force=True))
    one, other = runs
    for name, values in one.groups.items():
        assert values.equals(other.groups[name]), name
    assert all(check.ok for check in other.manifest.trust) and len(other.manifest.trust) == len(
        one.manifest.trust
    )
    assert one.manifest.models["vit"].weights.sha256 == other.manifest.models["vit"].weights.sha256
    assert one.manifest.models["vit"].preprocessing == other.manifest.models["vit"].preprocessing


def test_accuracy_is_that_of_the_module_on_what_its_transform_gives(tmp_path: Path) -> None:
    module = net()
    run = vitdsl.run(
        written(tmp_path),
        models={"mine": module},
        transforms={"mine": TRANSFORM},
        out=tmp_path / "runs",
        report=False,
    )
    kind = SOURCES.kinds()["digits"]
    source_ = kind(kind.Params.model_validate({"split": "test"}), folder=tmp_path, seed=0)
    images = [source_.load(index) for index in range(48)]
    with torch.no_grad():
        logits = module.eval()(torch.stack([TRANSFORM(one.image) for one in images]))
    right = (logits.argmax(1) == torch.tensor([one.label for one in images])).double().mean()
    assert float(run.groups["right/mine"]["top1"].sel(condition="baseline")) == pytest.approx(float(right))
    assert (
        run.manifest.models["mine"].preprocessing.sha256
        and run.manifest.models["mine"].weights.source == "given"
    )


def test_the_module_stays_as_it_is(tmp_path: Path) -> None:
    module = net().double().train()
    before = copy.deepcopy(module.state_dict())
    vitdsl.run(written(tmp_path, models="{mine: {given: true, input_size: 32}}"), models={"mine": module},
               out=tmp_path / "runs", report=False)  # fmt: skip
    assert module.training and all(p.requires_grad and p.dtype == torch.float64 for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("wrapped", ["whole", "part", "dealt"])
def test_a_module_that_was_compiled_or_dealt_to_devices_is_the_one_that_it_was_made_from(
    wrapped: str, tmp_path: Path
) -> None:
    module, other = net(), net()
    if wrapped == "part":
        module.mix = module.also = torch.compile(module.mix)  # type: ignore[assignment]
        other.also = other.mix
    wraps: dict[str, Callable[[Net], Any]] = {"whole": torch.compile, "dealt": nn.DataParallel}
    given = wraps[wrapped](module) if wrapped in wraps else module
    names = [name for name, _ in given.named_modules()]
    settings: Any = {"transforms": {"mine": TRANSFORM}, "out": tmp_path, "report": False, "force": True}
    plain, found = (vitdsl.run(written(tmp_path), models={"mine": one}, **settings) for one in (other, given))
    for name, values in plain.groups.items():
        assert values.equals(found.groups[name])
    assert found.manifest.models["mine"].weights.sha256 == plain.manifest.models["mine"].weights.sha256
    assert not found.manifest.models["mine"].unfollowed
    assert [name for name, _ in given.named_modules()] == names


def reused(run: Any) -> bool:
    return all(one.found == one.of for one in run.manifest.reused.values()) and bool(run.manifest.reused)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((lambda: net(act=nn.ReLU), TRANSFORM), (lambda: net(act=nn.GELU), TRANSFORM)),
        ((lambda: net(scale=1.0), TRANSFORM), (lambda: net(scale=0.5), TRANSFORM)),
        ((lambda: net(0), TRANSFORM), (lambda: net(1), TRANSFORM)),
        ((net, TRANSFORM), (net, Compose([Resize((32, 32)), ToTensor()]))),
    ],
    ids=["activation", "setting", "state", "transform"],
)
def test_saved_numbers_are_found_for_the_same_module_alone(tmp_path: Path, first: Any, second: Any) -> None:
    path, found = written(tmp_path), []
    for make, transform in (first, first, second):
        found.append(
            vitdsl.run(
                path,
                models={"mine": make()},
                transforms={"mine": transform},
                out=tmp_path / "runs",
                report=False,
            )
        )
    assert [reused(one) for one in found] == [False, True, False]
    values = [one.groups["right/mine"]["loss"].values for one in found]
    assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])


def test_structure_tells_modules_of_one_state_apart() -> None:
    def one(module: nn.Module) -> str:
        return structure(module, (3, 32, 32))

    torch.manual_seed(0)
    two = Heads(2)
    four = Heads(4)
    four.load_state_dict(two.state_dict())
    assert one(two) != one(four) and one(two) == one(copy.deepcopy(two))
    assert one(net(0)) == one(net(1)) != one(net(act=nn.GELU))


def test_it_says_where_there_is_no_source() -> None:
    spoken: dict[str, Any] = {"nn": nn}
    exec("class Spoken(nn.Linear): pass", spoken)
    assert source(spoken["Spoken"](2, 2))["without_source"] == ["Spoken"]
    assert "without_source" not in source(net()) and source(net())["class"] == "Net"


def test_the_report_says_that_yaml_alone_does_not_run_it_again(tmp_path: Path) -> None:
    run = vitdsl.run(
        written(tmp_path, models="{mine: {given: true, input_size: 32}}"),
        models={"mine": net()},
        out=tmp_path / "runs",
    )
    page = (run.path / "report.html").read_text("utf-8")
    assert "was handed over in Python: the study alone does not run it again" in page
    assert "says nothing of its images and gets timm" in page and "Net, given in Python" in page
    with pytest.raises(StudyError, match="VD270"):
        vitdsl.compile(run.path / RESOLVED)


def said(path: Path, **more: Any) -> str:
    with pytest.raises(VitdslError) as caught:
        vitdsl.check(path, **more)
    return "\n".join(f"{one.code} {one.message} {one.help}" for one in caught.value.diagnostics)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert "VD270 model `mine` is handed over in Python, and here is none" in said(path)
    both = said(path, models={"mine": net(), "other": net()})
    assert both.startswith(
        "VD271 a module is handed over for `other`, and the study has no model of that name"
    )
    named = written(tmp_path, models="{mine: {arch: resnet10t, weights: random}}")
    assert "VD271 a module is handed over for `mine`, and the study says itself what that model is" in said(
        named, models={"mine": net()}
    )
    path = written(tmp_path)
    wrong: Any = net().state_dict()
    assert "is a OrderedDict, not a torch module" in said(path, models={"mine": wrong})
    inside = nn.Sequential(torch.jit.trace(net(), torch.zeros(2, 3, 32, 32)))
    assert "`0` of the module that is handed over as `mine` was compiled by" in said(
        path, models={"mine": inside}
    )
    assert "a transform is handed over for `mine`, and no module" in said(
        path, transforms={"mine": TRANSFORM}
    )
    assert "`patches.weight` of the module" in said(path, models={"mine": net().to("meta")})
    assert "cannot be copied" in said(path, models={"mine": uncopied()})
    module = net()
    with torch.no_grad():
        module.head.bias[0] = float("nan")
    assert said(path, models={"mine": module}).startswith(
        "VD416 the weights of `given in Python` are not finite"
    )


def uncopied() -> nn.Module:
    module = net()
    module.file = open(__file__)  # type: ignore[assignment]  # noqa: SIM115
    return module


class Several(Net):
    """A module whose output is not one tensor."""

    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x)}


def test_an_output_that_is_no_tensor_is_said(tmp_path: Path) -> None:
    assert "VD301 `Several` returns a dict, not one tensor" in said(
        written(tmp_path), models={"mine": Several()}
    )


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (lambda image: np.asarray(image), "gives a ndarray, not a tensor"),
        (lambda image: torch.zeros(1, 32, 32), r"gives a tensor [1, 32, 32] of torch.float32"),
        (ToTensor(), "gives tensors of several sizes: 37 x 37 and 48 x 64 and 300 x 200"),
        (Compose([TRANSFORM, RandomHorizontalFlip()]), "gives another tensor each time"),
        (lambda image: TRANSFORM(image) / 0, "gives values that are not finite"),
        (lambda image: image.no_such, "fails on an RGB image: AttributeError"),
    ],
)
def test_a_transform_is_tried(transform: Any, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        own_transform("mine", transform)
    assert words in caught.value.diagnostics[0].message and caught.value.diagnostics[0].code == "VD271"


def test_a_transform_decides_the_size(tmp_path: Path) -> None:
    path = written(tmp_path, models="{mine: {given: true, input_size: 64}}")
    words = said(path, models={"mine": net()}, transforms={"mine": TRANSFORM})
    assert "VD233 `input_size: 64`, but the transform that is handed over gives 32 x 32 pixels" in words
    config = received("mine", Given(net(), TRANSFORM), Model.model_validate({"given": True})).config
    assert config.input_size == (3, 32, 32)
    assert own_transform("mine", lambda image: TRANSFORM(image)) == config
