"""`vitdsl look` against plain forward hooks on timm's models, and its page: whole by itself, right in its numbers.

Longer than 300 lines: what each model sees is found once for all tests.
"""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import browsers
from song import cka
from vitdsl.cli import run as command
from vitdsl.dsl.study import Model
from vitdsl.looking import class_names, look
from vitdsl.reports.labels import number
from vitdsl.reports.look import render
from vitdsl.reports.sight import Sight
from vitdsl.reports.tiles import Tile, logarithmic, placed, source_of
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.models.loading import load
from vitdsl.runtime.models.preprocessing import preprocessing, transform

VIT = {"img_size": 48, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3, "num_classes": 10}
DINO = {"img_size": 56, "embed_dim": 24, "num_heads": 3, "depth": 2}
MODELS = {
    "vit": Model(arch="vit_tiny_patch16_224", options=VIT, weights="random"),
    "dino": Model(
        arch="vit_small_patch14_reg4_dinov2", options={**DINO, "init_values": 0.5}, weights="random"
    ),
    "resnet": Model(arch="resnet10t", options={"num_classes": 10}, input_size=64, weights="random"),
}
PREFIX = {"vit": 1, "dino": 5}
BLOCKS = {
    "vit": ["blocks.0", "blocks.1", "blocks.2"],
    "dino": ["blocks.0", "blocks.1"],
    "resnet": ["layer1.0", "layer2.0", "layer3.0", "layer4.0"],
}
Seen = tuple[Sight, str]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, small."""
    path = tmp_path_factory.mktemp("photo") / "temple.png"
    Image.fromarray(load_sample_image("china.jpg")).resize((160, 107)).save(path)
    return path


@pytest.fixture(scope="module")
def seen(photo: Path) -> Callable[[str], Seen]:
    """What each model sees in the photograph, and the page of it; once for all tests."""
    kept: dict[str, Seen] = {}

    def of(name: str) -> Seen:
        if name not in kept:
            sight = look([str(photo)], MODELS[name], device="cpu")
            kept[name] = sight, render(sight)
        return kept[name]

    return of


def plain(name: str, photo: Path) -> tuple[nn.Module, Tensor]:
    """The model as timm gives it, and the image as it takes it."""
    module = load(MODELS[name], seed=0, folder=Path()).module
    picture = Image.open(photo).convert("RGB")
    return module, transform(preprocessing(module, MODELS[name]))(picture)[None]


def hooked(
    module: nn.Module, image: Tensor, names: list[str]
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """The output, outputs of modules by name, and attention weights in order."""
    outputs: dict[str, Tensor] = {}
    weights: list[Tensor] = []
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: outputs.__setitem__(name, out.detach())
        )
    for block in getattr(module, "blocks", []):
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(lambda _, args: weights.append(args[0].clone()))
    with torch.no_grad():
        return module(image), outputs, weights


def titles(page: str, section: str) -> list[tuple[str, Array | None]]:
    """What the tiles of a section say, and their pixels."""
    part = page.partition(f'<section id="{section}"')[2].partition("</section>")[0]
    found = []
    for said, body in re.findall(r'<div class="tile" title="([^"]*)">(.*?)</p></div>', part, re.DOTALL):
        source = re.search(r'src="data:image/png;base64,([^"]+)"', body)
        picture = Image.open(io.BytesIO(base64.b64decode(source[1]))) if source else None
        found.append((unescape(said), None if picture is None else np.asarray(picture)))
    return found


def as_grid(name: str, output: Tensor) -> Array:
    """A layer as `[row, col, width]`."""
    if output.ndim == 4:
        return output[0].permute(1, 2, 0).double().numpy()
    tokens = output[0, PREFIX[name] :].double().numpy()
    side = round(len(tokens) ** 0.5)
    return np.asarray(tokens.reshape(side, side, -1))


def steps(values: Array) -> Array:
    """Colours of a map without a towering value: from 0 at the smallest to 95 at the largest."""
    return np.round((values - values.min()) / (values.max() - values.min()) * 95)


@pytest.mark.parametrize("name", ["vit", "dino"])
def test_attention_is_that_of_hooks(seen: Callable[[str], Seen], photo: Path, name: str) -> None:
    sight, page = seen(name)
    _, _, weights = hooked(*plain(name, photo), [])
    said = titles(page, "i1-attention")
    assert len(said) == len(weights) * 3
    for i, (text, pixels) in enumerate(said):
        block, head = divmod(i, 3)
        row = weights[block][0, head, 0].double().numpy()
        patches = row[PREFIX[name] :]
        top = patches.max()
        wanted = (
            f"blocks.{block}.attn, head {head}: largest {number(top)}, {number(top * len(row))} times even"
        )
        assert text.startswith(wanted), text
        assert pixels is not None and not logarithmic(patches)
        assert np.abs(pixels.ravel() - steps(patches)).max() <= 1
    rolled = np.eye(len(weights[0][0, 0]))
    for block in weights:
        step = block[0].double().mean(0).numpy() + np.eye(len(rolled))
        rolled = step / step.sum(1, keepdims=True) @ rolled
    found = sight.views[0].values("rollout", "map")
    assert found is not None
    np.testing.assert_allclose(found[-1].ravel(), rolled[0, PREFIX[name] :], rtol=1e-5)
    assert f"largest {number(rolled[0, PREFIX[name] :].max())}" in titles(page, "i1-rollout")[-1][0]


@pytest.mark.parametrize("name", list(MODELS))
def test_norms_layers_and_answers_are_those_of_hooks(
    seen: Callable[[str], Seen], photo: Path, name: str
) -> None:
    sight, page = seen(name)
    logits, outputs, _ = hooked(*plain(name, photo), BLOCKS[name])
    said = titles(page, "i1-norms")
    grids = {block: as_grid(name, output) for block, output in outputs.items()}
    for block, (text, pixels) in zip(BLOCKS[name], said, strict=True):
        norms = np.linalg.norm(grids[block], axis=-1)
        assert text == f"{block}, norms: largest {number(norms.max())}, smallest {number(norms.min())}"
        assert pixels is not None
        cell = len(pixels) // len(norms)
        assert np.abs(pixels[::cell, ::cell] - steps(norms)).max() <= 1
    view = sight.views[0]
    compared = [block for block in BLOCKS[name] if grids[block].shape[0] > 1]
    side = min(len(grids[block]) for block in compared)
    flat = {}
    for block in compared:
        k = len(grids[block]) // side
        flat[block] = grids[block].reshape(side, k, side, k, -1).mean((1, 3)).reshape(side * side, -1)
    for block, other, value in view.nearest:
        wanted = {one: cka(flat[block], flat[one], side * side) for one in compared if one != block}
        assert value == pytest.approx(max(wanted.values()), abs=5e-5)
        assert wanted[other] == pytest.approx(value, abs=5e-5)
    assert [block for block, _, _ in view.nearest] == compared
    if name == "dino":
        assert not view.answers and "This model has no head" in page and 'id="i1-answers"' not in page
        return
    shares = torch.softmax(logits[0].double(), 0)
    order = torch.argsort(-shares)[:5].tolist()
    assert [one.index for one in view.answers] == order
    assert [one.confidence for one in view.answers] == pytest.approx(shares[order].tolist(), abs=1e-6)
    for index in order:
        assert f'<span class="who">class {index}</span>' in page
        assert f"<b>{number(100 * float(shares[index]))} %</b>" in page


@pytest.mark.parametrize("name", list(MODELS))
def test_receptive_fields_are_those_of_autograd(seen: Callable[[str], Seen], photo: Path, name: str) -> None:
    """The last layer: its 16 evenly spaced channels at the centre, one backward pass each."""
    sight, page = seen(name)
    module, image = plain(name, photo)
    image.requires_grad_()
    kept: list[Tensor] = []
    module.get_submodule(BLOCKS[name][-1]).register_forward_hook(lambda _, __, out: kept.append(out))
    module(image)
    out = kept[0]
    side = out.shape[-1] if out.ndim == 4 else round((out.shape[1] - PREFIX[name]) ** 0.5)
    at = side // 2
    centre = out[0, :, at, at] if out.ndim == 4 else out[0, PREFIX[name] + at * side + at]
    total = torch.zeros(image.shape[-2:], dtype=torch.float64)
    for channel in np.linspace(0, len(centre) - 1, 16).round().astype(int):
        total += torch.autograd.grad(centre[channel], image, retain_graph=True)[0].abs().sum((0, 1))
    pixels = image.shape[-1]
    middle = (at + 0.5) * pixels / side
    assert sight.centres[BLOCKS[name][-1]] == (middle, middle)
    away = np.arange(pixels) + 0.5 - middle
    far = np.hypot(away[:, None], away[None]).ravel()
    order = np.argsort(far, kind="stable")
    reached = np.cumsum(total.numpy().ravel()[order])
    radii = [float(far[order][np.searchsorted(reached, share * reached[-1])]) for share in (0.5, 0.9)]
    block, half, most = sight.views[0].fields[-1]
    assert block == BLOCKS[name][-1] and [half, most] == pytest.approx(radii, abs=1e-3)
    said = titles(page, "i1-field")[-1][0]
    assert said == (f"{block}: half of the gradient within {number(half)} px, 90 % within {number(most)} px")
    assert f'r="{most:.1f}"' in page


def test_what_is_not_there_is_said(seen: Callable[[str], Seen]) -> None:
    page = seen("resnet")[1]
    assert "This model has no attention" in page and "times even" not in page
    for gone in ("i1-attention", "i1-rollout"):
        assert f'id="{gone}"' not in page
    for name in MODELS:
        assert "The weights are random: nothing was learned." in seen(name)[1]
    assert "this means nothing" in seen("vit")[1]
    assert "Attention of the class token" in seen("dino")[1]


def test_the_page_loads_nothing_and_holds_its_study(
    seen: Callable[[str], Seen], tmp_path: Path, photo: Path
) -> None:
    for name in MODELS:
        sight, page = seen(name)
        assert len(page.encode()) < 500_000
        assert "default-src 'none'" in unescape(page) and "{% " not in page
        assert all(found.startswith("data:image/") for found in re.findall(r'(?:src|url\()="?([^")]+)', page))
        assert not re.search(
            r"<(?:link|iframe|object)|@import|https?://", page.replace("http://www.w3.org", "")
        )
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        assert json.loads(page.partition('id="numbers">')[2].partition("</script>")[0])[0] == json.loads(
            json.dumps(sight.views[0].as_json())
        )
        assert render(sight) == page
    study = unescape(seen("vit")[1].partition('id="x-source" tabindex="0">')[2].partition("</pre>")[0])
    (tmp_path / "look.yaml").write_text(study)
    assert command(["check", str(tmp_path / "look.yaml")]) == 0


def test_two_images_and_chosen_layers(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "grey.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 50), np.uint8)).save(other)
    words = ["look", str(photo), str(other), "--model", "vit_tiny_patch16_224", "--weights", "random", "-q"]
    words += [word for key, value in VIT.items() for word in ("--option", f"{key}={value}")]
    page = tmp_path / "page.html"
    assert command([*words, "--at", "blocks[1:3]", "--out", str(page), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "vitdsl.look/1" and answer["report"] == str(page)
    assert answer["weights"]["source"] == "random" and "mean nothing" in answer["cautions"][0]
    first, second = answer["images"]
    assert first["answers"] != second["answers"] and second["size"] == [50, 70]
    for image in (first, second):
        assert [one["site"] for one in image["norms"]] == ["blocks.1", "blocks.2"]
        assert [one["site"] for one in image["attention"]] == ["blocks.1.attn", "blocks.2.attn"]
    text = page.read_text()
    assert text.count('class="tiles hero"') == 2 and "photo-2" in text and "sees in 2 images" in text
    del words[2]
    assert command([*words, "--at", "blocks.2", "--out", str(page)]) == 0
    said = capsys.readouterr()
    assert f"report: {page}" in said.out and "warning: The weights are random" in said.err
    index, share = first["answers"][0]["class"], first["answers"][0]["confidence"]
    assert f"{100 * share:5.1f} %  class {index}\n" in said.out


def test_weights_of_a_file_are_no_random_ones(photo: Path, tmp_path: Path) -> None:
    """Large queries and keys make attention sharp: its maps are logarithmic, and say so."""
    module = load(MODELS["vit"], seed=0, folder=Path()).module
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if path.endswith("qkv.weight"):
                parameter *= 40
    torch.save(module.state_dict(), tmp_path / "sharp.pth")
    model = MODELS["vit"].model_copy(update={"weights": Model(**{
        "arch": "x", "weights": {"file": str(tmp_path / "sharp.pth")}}).weights})  # fmt: skip
    sight = look([str(photo)], model, device="cpu")
    page = render(sight)
    assert not sight.cautions and "nothing was learned" not in page and "weights: file sharp.pth" in page
    assert "this means nothing" not in page and "The likeliest answer is class" in page
    assert sight.classes == () and re.search(r"head \d <b>[\d.]+\N{MULTIPLICATION SIGN} log</b>", page)


def test_names_are_of_pretrained_weights_alone(seen: Callable[[str], Seen]) -> None:
    sight = seen("vit")[0]
    head = nn.Linear(1, 1)
    head.num_classes = 1000  # type: ignore[assignment]
    (name, model), = sight.run.manifest.models.items()  # fmt: skip

    def of(source: str, **detail: Any) -> tuple[str, ...]:
        used = model.weights.model_copy(update={"source": source, "detail": detail})
        models = {name: model.model_copy(update={"weights": used})}
        manifest = sight.run.manifest.model_copy(update={"models": models})
        return class_names(replace(sight.run, manifest=manifest), head)

    assert of("pretrained", tag="x")[463] == "bucket, pail" and len(of("hub")) == 1000
    assert of("random") == of("file") == of("pretrained", fresh=["head.weight"]) == ()
    head.num_classes = 10  # type: ignore[assignment]
    assert of("pretrained") == ()
    named = replace(sight, classes=tuple(f"kind {i}" for i in range(10)))
    top = sight.views[0].answers[0].index
    assert f"kind {top} (class {top})" in render(named)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["temple.pn"], 3, "did you mean `temple.png`?"),
        (["words.jpg"], 3, "`words.jpg` cannot be read: not an image"),
        (["temple.png", "temple.png"], 2, "is given twice"),
        (["temple.png"] * 17, 2, "takes at most 16"),
        (["temple.png", "--model", "resnet81"], 2, "did you mean `resnet18`"),
        (["temple.png", "--option", "dept=2"], 2, "takes no option `dept`"),
        (["temple.png", "--at", "blocs.1"], 2, "did you mean `blocks.1`?"),
        (["temple.png", "--at", "blocks.[1"], 2, "VD211"),
        (["temple.png", "--at", "norm"], 0, ""),
        (["temple.png", "--at", "head"], 2, "there is no layer to look at"),
        (["temple.png", "--weights", "gone.pth"], 3, "the checkpoint `gone.pth` does not exist"),
        (["temple.png", "--weights", "pretrained"], 3, "could not be fetched"),
        (["temple.png", "--device", "tpu"], 3, "there is no device `tpu` here"),
    ],
)  # fmt: skip
def test_mistakes(
    words: list[str],
    code: int,
    says: str,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(photo, tmp_path)
    (tmp_path / "words.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    more = [] if "--model" in words else ["--model", "vit_tiny_patch16_224"]
    more += [] if "--weights" in words else ["--weights", "random"]
    more += [] if "pretrained" in words else ["--option", "depth=2", "--option", "embed_dim=24"]
    more = [
        word for word in more if "--model" not in words or word not in ("--option", "depth=2", "embed_dim=24")
    ]
    assert command(["look", *words, *more, "-q"]) == code
    said = capsys.readouterr().err
    assert says in said and "internal error" not in said
    assert Path("look.html").exists() == (code == 0)


def test_scales_of_tiles() -> None:
    flat, tower = np.full((2, 2), 3.0), np.array([[1.0, 1e-9], [1.0, 1000.0]])
    assert placed(flat).tolist() == [[0, 0], [0, 0]] and not logarithmic(flat)
    assert logarithmic(tower)
    np.testing.assert_allclose(placed(tower, 4.0), [[0.25, 0], [0.25, 1]])
    np.testing.assert_allclose(placed(tower), [[0, 0], [0, 1]])
    holes = np.array([[np.nan, 0.0], [1.0, 2.0]])
    assert np.isnan(placed(holes)[0, 0]) and placed(holes)[1].tolist() == [0.5, 1.0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(source_of(holes).partition(",")[2]))))
    assert picture.tolist() == [[96, 0], [48, 95]]
    assert np.isnan(placed(np.full((1, 2), np.nan))).all() and Tile("a", "", "b").source == ""


def test_a_browser_opens_it_quietly(seen: Callable[[str], Seen], tmp_path: Path) -> None:
    """No request, no error and no sideways scrolling, on a phone and on a desk, light and dark."""
    with browsers.opened() as browser:
        for name in MODELS:
            path = tmp_path / f"{name}.html"
            path.write_text(seen(name)[1])
            for width, scheme in ((320, "light"), (390, "dark"), (1440, "light")):
                page = browser.new_page(
                    viewport={"width": width, "height": 900}, offline=True, color_scheme=scheme
                )
                heard: list[str] = []
                page.on("request", lambda request, heard=heard: heard.append(request.url))
                page.on("console", lambda message, heard=heard: heard.append(message.text))
                page.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
                page.goto(path.as_uri())
                page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
                assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
                assert [
                    one for one in heard if one != path.as_uri() and not one.startswith("data:image/")
                ] == []
                page.close()
        browser.close()
