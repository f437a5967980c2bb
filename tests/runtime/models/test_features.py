"""Files of features: what they may be, how their rows meet the images, and everything that can be wrong with one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vitdsl
from studies import study as text_of
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.models.features import natural, read

IDS = [f"image_{row}" for row in range(6)]
RNG = np.random.default_rng(0)


def save(path: Path, arrays: dict[str, Any], ids: Any = IDS, **more: Any) -> None:
    """Write features with numpy or safetensors alone, as other programs do."""
    if path.suffix == ".npz":
        np.savez(path, **arrays, **({"ids": np.array(ids)} if ids is not None else {}), **more)
        return
    said = {name: json.dumps(value) for name, value in {"ids": ids, **more}.items() if value is not None}
    save_file({name: torch.as_tensor(array) for name, array in arrays.items()}, path, said)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_are_layers_in_the_order_of_their_numbers(tmp_path: Path, suffix: str) -> None:
    arrays = {f"block_{n}": RNG.normal(size=(6, 3)) for n in (10, 2, 1)} | {
        "maps": RNG.normal(size=(6, 4, 2))
    }
    save(tmp_path / f"f{suffix}", arrays)
    _, found = read(f"f{suffix}", tmp_path)
    assert list(found.layers) == ["block_1", "block_2", "block_10", "maps"] and found.ids == tuple(IDS)
    for name, array in arrays.items():
        assert found.layers[name].dtype == torch.float32
        assert np.array_equal(found.layers[name].numpy(), array.astype(np.float32))


def test_an_order_may_be_given(tmp_path: Path) -> None:
    arrays = {name: np.ones((6, 2)) for name in "abc"}
    save(tmp_path / "f.safetensors", arrays, layers=["c", "a", "b"])
    save(tmp_path / "f.npz", arrays, layers=np.array(["c", "a", "b"]))
    assert [list(read(f"f{one}", tmp_path)[1].layers) for one in (".safetensors", ".npz")] == [
        ["c", "a", "b"]
    ] * 2


def test_half_and_whole_numbers_are_numbers(tmp_path: Path) -> None:
    half, whole = (torch.ones(6, 2, dtype=kind) for kind in (torch.bfloat16, torch.int32))
    save(tmp_path / "f.safetensors", {"half": half, "whole": whole})
    assert {tensor.dtype for tensor in read("f.safetensors", tmp_path)[1].layers.values()} == {torch.float32}


def test_files_of_a_folder_are_put_into_one_order_of_images(tmp_path: Path) -> None:
    values = RNG.normal(size=(6, 3)).astype(np.float32)
    save(tmp_path / "v1.npz", {"x": values})
    turned = list(reversed(range(6)))
    save(
        tmp_path / "v2.safetensors",
        {"x": values[turned].copy(), "y": values[turned].copy()},
        [IDS[i] for i in turned],
    )
    _, found = read(".", tmp_path)
    assert list(found.layers) == ["v1", "v2.x", "v2.y"] and found.ids == tuple(IDS)
    assert all(np.array_equal(tensor.numpy(), values) for tensor in found.layers.values())
    save(tmp_path / "v3.npz", {"x": values[:5]}, IDS[:5])
    with pytest.raises(EnvironmentProblem, match=r"VD430 .*not of the same images: 1 ids differ, `image_5`"):
        read(".", tmp_path)


def test_natural_order() -> None:
    assert sorted(["b.10", "b.9", "a", "b", "10", "9"], key=natural) == ["9", "10", "a", "b", "b.9", "b.10"]


HOLES = np.array([[1, np.nan]] + [[1, 2]] * 4 + [[np.inf, 1]])
GOOD = {"x": np.ones((6, 2), np.float32)}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("arrays", "ids", "words"),
    [
        (GOOD, None, "VD430 .* there are no `ids`"),
        (GOOD, [1, 2, 3, 4, 5, 6], "VD430 .* `ids` is not a list of texts"),
        (GOOD, ["a", "b", "b", "c", "c", "d"], "VD430 .* 2 ids of its 6 rows stand more than once: `b`, `c`"),
        (GOOD, IDS[:5], "VD430 .* `x` has 6 rows, and there are 5 ids"),
        ({"x": np.ones(6)}, IDS, r"VD430 .* `x` has shape \[6\], not \[image, width\] or \[image, token, width\]"),
        ({"x": np.ones((6, 2, 2, 2))}, IDS, r"VD430 .* `x` has shape \[6, 2, 2, 2\]"),
        ({"x": HOLES}, IDS, "VD432 .* for 2 images: `image_0`, `image_5`"),
        ({"x": np.ones((6, 2), bool)}, IDS, "VD430 .* is of type .*bool, not of numbers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, suffix: str, arrays: Any, ids: Any, words: str) -> None:
    save(tmp_path / f"f{suffix}", arrays, ids)
    with pytest.raises(EnvironmentProblem, match=words):
        read(f"f{suffix}", tmp_path)


def test_other_faults_of_files(tmp_path: Path) -> None:
    def fails(name: str, words: str) -> None:
        with pytest.raises(EnvironmentProblem, match=words):
            read(name, tmp_path)

    fails("f.npz", "VD401 the features `f.npz` do not exist")
    fails(".", "VD401 the folder `.` holds no .safetensors or .npz file")
    (tmp_path / "f.csv").write_text("1,2")
    fails("f.csv", "VD430 `f.csv` is not of a kind that is read: .safetensors, .npz")
    for suffix in (".npz", ".safetensors"):
        (tmp_path / f"broken{suffix}").write_bytes(b"no such file")
        fails(f"broken{suffix}", "VD430 .* it cannot be read")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), ids=np.array(["a"]))
    fails("objects.npz", "VD430 .* it cannot be read")
    save(tmp_path / "named.npz", GOOD, layers=np.array(["x", "y"]))
    fails("named.npz", "VD430 .* `layers` names `y`, which is not in both")
    save(tmp_path / "empty.npz", {})
    fails("empty.npz", "VD430 .* there is no array beside the ids")


DATA = "{probe: {source: digits, split: test, images: 48, batch: 24}}"


def digit_ids(folder: Path) -> list[str]:
    """The ids of the images of the stream, as a run's table shows them."""
    path = folder / "ids.yaml"
    models = "{net: {arch: resnet10t, options: {num_classes: 10}, input_size: 32, weights: random}}"
    path.write_text(text_of("ids", data=DATA, models=models, metrics="{right: {kind: accuracy, of: net}}"))
    run = vitdsl.run(path, out=folder / "runs", report=False)
    rows = (run.path / "images.csv").read_text().splitlines()
    column = rows[0].split(",").index("id")
    return [row.split(",")[column] for row in rows[1:]]


def linear_cka(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], batch: int) -> float:
    """Minibatch CKA with the unbiased estimator of HSIC, from the formula, float64."""

    def hsic(k: np.ndarray[Any, Any], m: np.ndarray[Any, Any]) -> float:
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return float((np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))

    parts = [slice(start, start + batch) for start in range(0, len(x), batch)]
    sums = [
        sum(hsic(a[part] @ a[part].T, b[part] @ b[part].T) for part in parts)
        for a, b in ((x, y), (x, x), (y, y))
    ]
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def test_rows_meet_their_images_by_id_whatever_their_order(tmp_path: Path) -> None:
    ids = digit_ids(tmp_path)
    x, y = RNG.normal(size=(48, 5)), RNG.normal(size=(48, 3, 4))
    y[:, 0, :3] += x[:, :3]
    mixed = RNG.permutation(48)
    extra = [*[ids[i] for i in mixed], "of no image"]
    save(tmp_path / "x.npz", {"x": x}, ids)
    save(tmp_path / "y.safetensors", {"y": np.concatenate([y[mixed], np.ones((1, 3, 4))])}, extra)
    path = tmp_path / "study.yaml"
    models = "{a: {features: x.npz}, b: {features: y.safetensors}}"
    layers = '{a: {of: a, at: "*"}, b: {of: b, at: "*"}}'
    path.write_text(
        text_of("s", data=DATA, models=models, layers=layers, metrics="{alike: {kind: cka, x: a, y: b}}")
    )
    found = float(vitdsl.run(path, out=tmp_path / "runs", report=False).groups["alike/a~b"]["cka"].squeeze())
    assert found == pytest.approx(linear_cka(x, y.reshape(48, -1), 24), abs=1e-6)
    save(tmp_path / "y.safetensors", {"y": y}, ids)
    again = float(vitdsl.run(path, out=tmp_path / "runs", report=False).groups["alike/a~b"]["cka"].squeeze())
    assert again == pytest.approx(found, abs=1e-9)
    save(tmp_path / "y.safetensors", {"y": y}, [ids[i] for i in mixed])
    wrong = float(vitdsl.run(path, out=tmp_path / "runs", report=False).groups["alike/a~b"]["cka"].squeeze())
    assert abs(wrong - found) > 0.01


def test_tokens_and_roles_that_are_not_known_are_refused(tmp_path: Path) -> None:
    ids = digit_ids(tmp_path)
    save(tmp_path / "f.npz", {"y": RNG.normal(size=(48, 3, 4))}, ids)
    path = tmp_path / "study.yaml"

    def fails(layer: str, code: str) -> None:
        path.write_text(
            text_of("s", data=DATA, models="{a: {features: f.npz}}", layers=f'{{a: {{of: a, at: "*"{layer}}}}}',
                    metrics="{alike: {kind: cka, x: a}}")
        )  # fmt: skip
        with pytest.raises(StudyError, match=code):
            vitdsl.check(path)

    fails(", tokens: cls", "VD242")
    fails(", tokens: mean", "VD242")
    fails(", role: attention", "VD2")
    path.write_text(path.read_text().replace(", role: attention", ", tokens: [0, 2]"))
    vitdsl.check(path)


def test_features_give_no_preprocessing(tmp_path: Path) -> None:
    save(tmp_path / "f.npz", {"y": RNG.normal(size=(48, 3))}, digit_ids(tmp_path))
    path = tmp_path / "study.yaml"
    models = "{a: {features: f.npz}, net: {arch: resnet10t, input_size: 32, weights: random}}"
    layers = '{a: {of: a, at: "*"}, n: {of: net, at: "layer*.*"}}'
    metrics = "{alike: {kind: cka, x: a, y: n}}"
    for name, wanted in (("a", "VD234"), ("net", "")):
        data = DATA.replace("batch", f"preprocess: {name}, batch")
        path.write_text(text_of("s", data=data, models=models, layers=layers, metrics=metrics))
        if wanted:
            with pytest.raises(StudyError, match=wanted):
                vitdsl.check(path)
        else:
            assert vitdsl.run(path, out=tmp_path / "runs", report=False).groups["alike/a~net"]["cka"].size > 0


def test_every_metric_says_what_it_does_with_features(tmp_path: Path) -> None:
    """Each is measured or refused with a reason, and none fails in another way."""
    save(tmp_path / "f.npz", {"y": RNG.normal(size=(48, 3))}, digit_ids(tmp_path))
    path, done = tmp_path / "study.yaml", []
    for name, kind in METRICS.kinds().items():
        fields: Callable[[str], str] = {"x": "x: a", "y": "y: a", "of": "of: a"}.__getitem__
        needed = ", ".join(map(fields, kind.inputs.needed))
        more = ", train: probe" if name == "linear_probe" else ""
        path.write_text(
            text_of("s", data=DATA, models="{a: {features: f.npz}}", layers='{a: {of: a, at: "*"}}',
                    metrics=f"{{m: {{kind: {name}, {needed}{more}}}}}")
        )  # fmt: skip
        try:
            vitdsl.check(path)
            done.append(name)
        except StudyError as error:
            assert {one.code for one in error.diagnostics} <= {"VD302", "VD242", "VD222"}, (name, str(error))
    assert {"cka", "procrustes", "svcca", "rsa", "mutual_knn", "linear_probe", "spectrum"} <= set(done)
    assert not {"accuracy", "skip_ratio", "attention_distance", "receptive_field", "localisation"} & set(done)
