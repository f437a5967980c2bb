"""Two streams image by image: references in float64 from two plain forwards, and what does not belong together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from studies import TINY_VIT, bound, loaded, study
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.load import load_text
from vitdsl.dsl.transform_entry import Transform
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.pairing import CHANGES, changed
from vitdsl.runtime.models.preprocessing import transform
from vitdsl.runtime.plan.bind import bind_diagnostics
from vitdsl.runtime.randomness import permutation
from vitdsl.runtime.run.run import run

N, BATCH = 48, 16
DATA = {
    "probe": "{source: digits, split: test, images: 48, batch: 16}",
    "blurred": "{of: probe, transform: {kind: blur, strength: 0.1}}",
}
MODELS = {"vit": TINY_VIT}
LAYERS = {"blocks": '{of: vit, at: "blocks.*"}', "last": '{of: vit, at: "blocks[-1]"}'}
ABLATIONS = {"cut": "{kind: remove_branch, of: vit, at: blocks.0.attn}"}
METRICS = {
    "moved": "{kind: cka, x: blocks, data: blurred, against: probe}",
    "map": "{kind: cka, x: blocks, y: blocks, data: blurred, against: probe}",
    "ranks": "{kind: rsa, x: last, y: blocks, data: blurred, against: probe}",
    "right": "{kind: accuracy, of: vit, data: blurred, against: probe}",
    "plain": "{kind: accuracy, of: vit, data: blurred}",
    "clean": "{kind: accuracy, of: vit, data: probe}",
    "drift": "{kind: cka, x: blocks, data: blurred, against: baseline}",
}


def results(folder: Path, path: str) -> xr.Dataset:
    with xr.open_dataset(folder / "results.nc", group=path, engine="h5netcdf") as found:
        return found.load()


def text(data: Any = DATA, metrics: Any = METRICS, ablations: Any = ABLATIONS) -> str:
    return study("pairs", data=data, models=MODELS, layers=LAYERS, ablations=ablations, metrics=metrics)


def forwards(plan: Any, name: str, folder: Path, cut: bool) -> tuple[list[Tensor], Tensor, Tensor]:
    """Of each block's output, of the logits and the labels: all images in order, float64, from a plain model."""
    module, config = loaded(plan, "vit").module.double(), plan.models["vit"].config
    probe, entry = plan.data["probe"], plan.data[name]
    source = open_source(entry, seed=0, folder=folder, other=probe if entry.of else None)
    order = permutation(len(source), 0)[:N]
    images = torch.stack([transform(config)(source.load(index).image) for index in order]).double()
    seen: dict[str, Tensor] = {}
    for block in (0, 1):
        module.get_submodule(f"blocks.{block}").register_forward_hook(
            lambda _m, _i, out, block=block: seen.update({str(block): out.flatten(1)})
        )
    if cut:
        module.get_submodule("blocks.0.attn").register_forward_hook(lambda _m, _i, out: torch.zeros_like(out))
    logits = module(images)
    labels = torch.tensor([source.label(index) for index in order])
    return [seen["0"], seen["1"]], logits, labels


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    """The unbiased estimate of Song et al., from its formula."""
    n = len(k)
    k, m = (one - np.diag(np.diag(one)) for one in (k, m))
    return float(np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m).sum() / (n - 2)) / (
        n * (n - 3)
    )


def cka(x: Tensor, y: Tensor) -> float:
    """Minibatch CKA, from its formula."""
    sums = np.zeros(3)
    for start in range(0, N, BATCH):
        k, m = (one[start : start + BATCH].numpy() for one in (x, y))
        k, m = k @ k.T, m @ m.T
        sums += hsic(k, m), hsic(k, k), hsic(m, m)
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def rsa(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation of the dissimilarities of pairs of images, from their formula."""
    above = np.triu_indices(N, 1)
    one, other = (1 - np.corrcoef(side.numpy())[above] for side in (x, y))
    return float(spearmanr(one, other).statistic)


def test_the_same_model_on_both_streams(tmp_path: Path) -> None:
    plan = bound(text())
    folder = run(plan, out=tmp_path).folder
    assert folder is not None
    moved, right, plain, clean, map_, ranks = (
        results(folder, f"{name}/vit") for name in ("moved", "right", "plain", "clean", "map", "ranks")
    )
    for row, cut in enumerate((False, True)):
        there, off, labels = forwards(plan, "blurred", tmp_path, cut)
        here, on, _ = forwards(plan, "probe", tmp_path, cut)
        for site in (0, 1):
            assert float(moved["cka"][row, site]) == pytest.approx(cka(there[site], here[site]), abs=2e-5)
            for other in (0, 1):
                wanted = cka(there[site], here[other])
                assert float(map_["cka"][row, site, other]) == pytest.approx(wanted, abs=2e-5)
            assert float(ranks["rsa"][row, 0, site]) == pytest.approx(rsa(there[1], here[site]), abs=1e-5)
        hits, hits_on = off.argmax(1) == labels, on.argmax(1) == labels
        assert float(right["top1"][row]) == pytest.approx(float(hits.double().mean()), abs=1e-12)
        assert float(plain["top1"][row]) == float(right["top1"][row])
        assert float(clean["top1"][row]) == pytest.approx(float(hits_on.double().mean()), abs=1e-12)
        assert float(right["drop"][row]) == pytest.approx(
            float((hits_on.double() - hits.double()).mean()), abs=1e-12
        )
        assert float(right["agreement"][row]) == pytest.approx(
            float((off.argmax(1) == on.argmax(1)).double().mean()), abs=1e-12
        )
        p, q = on.log_softmax(1), off.log_softmax(1)
        assert float(right["kl"][row]) == pytest.approx(float((p.exp() * (p - q)).sum(1).mean()), rel=1e-4)
    assert (map_["cka"][:, 0, 1] != map_["cka"][:, 1, 0]).all() and str(map_.model.values) == "vit"
    assert map_["cka"].attrs["long_name"] == moved["cka"].attrs["long_name"] and map_.attrs["paired"] == 0
    assert (moved["cka"] < 0.999).all()  # the streams do differ
    assert str(moved.model.values) == "vit" and moved.attrs["paired"] == 0
    assert right["drop"].attrs["long_name"] == "top-1 accuracy lost against the same model on `probe`"
    assert right["top1"].attrs["long_name"] == "top-1 accuracy"
    assert moved["cka"].attrs["long_name"].endswith(", `blurred` against `probe`")
    drift = results(folder, "drift/vit")
    assert float(drift["cka"][0, 0]) == pytest.approx(
        1, abs=1e-6
    )  # against the intact model, on the same images
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["models"]) == ["vit"] and manifest["data"]["blurred"]["of"] == "probe"
    assert (folder / "spec.resolved.yaml").is_file()
    again = run(bound((folder / "spec.resolved.yaml").read_text()), out=tmp_path).folder
    assert again is not None
    assert results(again, "moved/vit").drop_attrs().equals(moved.drop_attrs())


def test_layers_of_two_models_on_two_streams(tmp_path: Path) -> None:
    """A copy of the model stands on the other stream: the map is that of the model itself."""
    metrics = {
        "map": METRICS["map"],
        "across": "{kind: cka, x: blocks, y: others, data: blurred, against: probe}",
    }
    models, layers = MODELS | {"copy": TINY_VIT}, LAYERS | {"others": '{of: copy, at: "blocks.*"}'}
    both = study("pairs", data=DATA, models=models, layers=layers, ablations=ABLATIONS, metrics=metrics)
    folder = run(bound(both), out=tmp_path).folder
    assert folder is not None
    across, within = results(folder, "across/vit~copy"), results(folder, "map/vit")
    assert (str(across.model_x.values), str(across.model_y.values)) == ("vit", "copy")
    assert list(across.condition.values) == ["baseline", "cut"]  # x as the condition has it, y intact
    np.testing.assert_allclose(across["cka"][0], within["cka"][0], atol=1e-7)
    assert np.abs(across["cka"][1].values - within["cka"][1].values).max() > 1e-6


def test_nothing_changes_nothing(tmp_path: Path) -> None:
    data = {**DATA, "blurred": "{of: probe, transform: {kind: noise, strength: 0.0}}"}
    folder = run(bound(text(data)), out=tmp_path).folder
    assert folder is not None
    assert np.abs(results(folder, "moved/vit")["cka"] - 1).max() < 1e-6
    assert (results(folder, "right/vit")["agreement"] == 1).all()


def test_a_stronger_change_in_a_sweep_is_another_number(tmp_path: Path) -> None:
    swept = "{of: probe, transform: {kind: noise, strength: 0}, vary: {transform.strength: [0, 0.3, 0.9]}}"
    data = {**DATA, "blurred": swept}
    plan = bound(text(data, {"moved": METRICS["moved"]}, {}))
    assert plan.conditions == 1
    folder = run(plan, out=tmp_path).folder
    assert folder is not None
    found = [
        float(results(folder, f"moved/vit@blurred[transform.strength={value}]")["cka"][0, 0])
        for value in ("0", "0.3", "0.9")
    ]
    assert found[0] == pytest.approx(1, abs=1e-6) and found[0] > found[1] > found[2]


def test_two_folders_are_matched_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    for index in range(N):
        for folder, suffix, image in (("a", "png", pixels[index]), ("b", "bmp", 255 - pixels[index])):
            place = tmp_path / folder / f"{index % 10}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index}.{suffix}")
    (tmp_path / "b" / "extra").mkdir()
    Image.fromarray(pixels[0]).save(tmp_path / "b" / "0" / "more.bmp")
    data = {
        "probe": "{source: folder, path: a, images: 48, batch: 16}",
        "blurred": "{of: probe, source: folder, path: b}",
    }
    plan = bound(text(data))
    folder = run(plan, out=tmp_path / "runs").folder
    assert folder is not None
    (there, *_), (here, *_) = (forwards(plan, name, tmp_path, cut=False) for name in ("blurred", "probe"))
    found = results(folder, "moved/vit")["cka"]
    wanted = [cka(x, y) for x, y in zip(there, here, strict=True)]
    assert [float(one) for one in found[0]] == pytest.approx(wanted, abs=2e-5)
    (tmp_path / "b" / "3" / "3.bmp").unlink()
    (problem,) = bind_diagnostics(load_text(text(data)))
    assert problem.code == "VD247" and "`3/3.png`" in problem.message


@pytest.mark.parametrize(
    ("data", "metrics", "codes"),
    [
        ({"blurred": "{of: prob, transform: {kind: blur, strength: 0.1}}"}, METRICS, {"VD201"}),
        ({"blurred": "{of: probe, images: 32}"}, METRICS, {"VD247"}),
        ({"blurred": "{of: probe, seed: 3}"}, METRICS, {"VD247"}),
        ({"blurred": "{of: probe, vary: {batch: [8, 16]}}"}, METRICS, {"VD247"}),
        ({"more": "{of: blurred}"}, METRICS, {"VD247"}),
        ({"blurred": "{of: probe, transform: {kind: fog, strength: 0.1}}"}, METRICS, {"VD104"}),
        ({"blurred": "{of: probe, transform: {kind: blur, strength: 2}}"}, METRICS, {"VD105"}),
        ({"other": "{source: digits, transform: {kind: blur, strength: 0.1}}"}, METRICS, {"VD247"}),
        ({}, {"m": "{kind: cka, x: blocks, data: probe, against: probe}"}, {"VD247"}),
        ({}, {"m": "{kind: cka, x: blocks, data: probe, against: basline}"}, {"VD201"}),
        ({"other": "{source: digits}"}, {"m": "{kind: cka, x: blocks, data: probe, against: other}"}, {"VD247"}),
        ({}, {"m": "{kind: spectrum, x: blocks, data: blurred, against: probe}"}, {"VD222"}),
    ],
)  # fmt: skip
def test_what_does_not_stand_together_is_said(data: Any, metrics: Any, codes: set[str]) -> None:
    with pytest.raises(VitdslError) as caught:
        bound(text({**DATA, **data}, metrics))
    assert {one.code for one in caught.value.diagnostics} == codes
    assert all(one.help and one.span for one in caught.value.diagnostics)


PICTURE = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_a_change_depends_on_the_seed_and_the_strength_alone(kind: str) -> None:
    image = Image.fromarray(PICTURE)

    def look(strength: float, seed: int = 0) -> np.ndarray:
        found = changed(image, Transform(kind=kind, strength=strength), seed)  # type: ignore[arg-type]
        assert found.size == image.size and found.mode == "RGB"
        return np.asarray(found, np.float64)

    assert (look(0.0) == PICTURE).all() and (look(0.4) == look(0.4)).all()
    far = [np.abs(look(strength) - PICTURE).mean() for strength in (0.1, 0.8)]
    assert 0 < far[0] < far[1]
    assert (look(0.4, 1) != look(0.4)).any() is np.bool_(kind not in ("blur", "jpeg"))


def test_changes_are_what_they_say() -> None:
    image = Image.fromarray(PICTURE)
    drawn = np.random.Generator(np.random.PCG64(5)).standard_normal(PICTURE.shape)
    wanted = (PICTURE / 255 + 0.2 * drawn).clip(0, 1) * 255
    noisy = np.asarray(changed(image, Transform(kind="noise", strength=0.2), 5))
    assert np.abs(noisy - wanted).max() <= 0.5 + 1e-9
    hidden = np.asarray(changed(image, Transform(kind="occlusion", strength=0.25), 5)) == 128
    rows, cols = np.nonzero(hidden.all(2))
    assert (np.ptp(rows) + 1, np.ptp(cols) + 1) == (10, 15)
    ramp = Image.fromarray(
        np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], (20, 30, 3)).copy()
    )
    part = np.asarray(changed(ramp, Transform(kind="crop", strength=0.75), 5), np.float64)[..., 0]
    assert np.diff(part[0]).mean() == pytest.approx(4, abs=0.5)  # half as steep: half the width is shown
