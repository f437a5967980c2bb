"""The main job as a user does it: run a study from the command line, and what happens with bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies import TINY_RESNET, changed
from studies import study as text_of
from vitdsl.cli import run
from vitdsl.runtime.results.folder import open_run

ROOT = Path(__file__).parent.parent
SKIP = ROOT / "specs" / "skip_ablation.yaml"


def images(folder: Path, classes: int = 2, each: int = 8) -> Path:
    generator = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class_{label}").mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class_{label}" / f"{number}.png")
    return folder


def study(
    tmp_path: Path, classes: int = 2, weights: str = "random", at: str = "layer*.*", accuracy: bool = True
) -> Path:
    metrics = {"drift": "{kind: cka, x: all, against: baseline}"}
    path = tmp_path / "study.yaml"
    path.write_text(
        text_of(
            "small",
            data={"probe": f"{{source: folder, path: {tmp_path / 'images'}, batch: 8}}"},
            models={"net": changed(TINY_RESNET, {"num_classes": classes}, weights=weights)},
            layers={"all": '{of: net, at: "layer*.*"}'},
            ablations={"cut": f'{{kind: remove_branch, of: net, at: "{at}", each: true}}'},
            metrics=metrics | ({"accuracy": "{kind: accuracy, of: net}"} if accuracy else {}),
            claims={
                "same": "{say: Nothing changes., left: {metric: drift, value: cka}, is: greater, right: 0.5}"
            },
        )
    )
    return path


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert run(["run", str(SKIP), "--out", str(out), "-q"]) == 0
    (folder,) = (out / "skip_ablation").iterdir()
    return folder


def test_the_default_study_leaves_a_whole_run(default_run: Path) -> None:
    found = open_run(default_run)
    names = {path.name for path in default_run.iterdir()}
    assert names >= {
        "manifest.json", "results.nc", "summary.csv", "images.csv", "spec.source.yaml", "spec.resolved.yaml",
        "report.html", "figures", "log.txt",
    }  # fmt: skip
    assert found.manifest.status == "success"
    assert all(check.ok for check in found.manifest.trust)
    assert found.manifest.data["probe"].images == 512
    accuracy = found.groups["accuracy/vit"]
    assert accuracy.sizes["condition"] == 17 and float(accuracy["top1"][0]) > 0.95
    assert {claim.verdict for claim in found.manifest.claims.values()} <= {
        "supported", "refuted", "undecided",
    }  # fmt: skip
    assert (default_run / "report.html").stat().st_size < 3_000_000


def test_the_resolved_study_reruns_alone_to_the_same_numbers(default_run: Path, tmp_path: Path) -> None:
    resolved = tmp_path / "alone.yaml"
    resolved.write_bytes((default_run / "spec.resolved.yaml").read_bytes())
    assert run(["run", str(resolved), "--out", str(tmp_path / "runs"), "-q", "--no-report"]) == 0
    (folder,) = (tmp_path / "runs" / "skip_ablation").iterdir()
    again, before = open_run(folder), open_run(default_run)
    assert again.manifest.spec.hash == before.manifest.spec.hash
    assert again.manifest.data["probe"].content_sha256 == before.manifest.data["probe"].content_sha256
    for path, group in before.groups.items():
        for name in group.data_vars:
            np.testing.assert_allclose(again.groups[path][name], group[name], rtol=1e-5, atol=1e-5)


def test_own_images_and_own_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import timm
    import torch

    images(tmp_path / "images")
    model = timm.create_model("resnet10t", num_classes=2)
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    path = study(tmp_path, weights="{file: mine.pth}")
    assert run(["run", str(path), "--out", str(tmp_path / "runs"), "--json", "-q"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "vitdsl.run/1" and Path(answer["report"]).exists()
    assert answer["claims"]["same"]["verdict"] in ("supported", "refuted", "undecided")


def test_check_flag_exits_with_one(tmp_path: Path) -> None:
    images(tmp_path / "images")
    arguments = ["run", str(study(tmp_path)), "--out", str(tmp_path / "runs"), "-q", "--no-report", "--check"]
    assert run([*arguments, "--set", "claims.same.right=2.0"]) == 1


def fails(capsys: pytest.CaptureFixture[str], path: Path, code: str, exit_code: int, *more: str) -> str:
    capsys.readouterr()
    found = run(["run", str(path), "--out", str(path.parent / "runs"), "-q", *more])
    text = capsys.readouterr().err
    assert found == exit_code, text
    assert code in text and "Traceback" not in text and "help:" in text, text
    return text


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing.yaml" in fails(capsys, tmp_path / "missing.yaml", "VD", 2)
    fails(capsys, study(tmp_path), "VD401", 3)
    (tmp_path / "images").mkdir()
    fails(capsys, study(tmp_path), "VD403", 3)
    images(tmp_path / "images")
    fails(capsys, study(tmp_path, classes=7), "VD404", 2)
    assert "layer1.0" in fails(capsys, study(tmp_path, at="block*.*"), "VD210", 2)
    fails(capsys, study(tmp_path, weights="pretrained", classes=1000, accuracy=False), "VD406", 3)
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    fails(capsys, study(tmp_path, weights="{file: bad.pth}"), "VD405", 3)
    fails(capsys, study(tmp_path, weights="{file: gone.pth}"), "VD401", 3)
    (tmp_path / "images" / "class_0" / "0.png").write_bytes(b"\x89PNG no")
    assert "0.png" in fails(capsys, study(tmp_path), "VD402", 3)


def test_a_failed_run_is_not_taken_for_a_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "images")
    (tmp_path / "images" / "class_0" / "0.png").write_bytes(b"\x89PNG no")
    fails(capsys, study(tmp_path), "VD402", 3)
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "failed"
    assert not (folder / "results.nc").exists()
    assert run(["report", str(folder)]) == 3
    assert "VD601" in capsys.readouterr().err


def test_output_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images")
    (tmp_path / "runs").write_text("a file")
    assert "--out" in fails(capsys, study(tmp_path), "VD407", 3)


def test_an_interrupt_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vitdsl.runtime.run.engine as engine

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    images(tmp_path / "images")
    monkeypatch.setattr(engine, "walk", interrupt)
    assert run(["run", str(study(tmp_path)), "--out", str(tmp_path / "runs"), "-q"]) == 130
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"


def test_plan_says_what_is_shared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(SKIP), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["conditions"]["vit"]) == 17
    assert all(0.3 < model["saved"] < 1 and model["memory"] > 0 for model in answer["models"])
    assert [one["images"] for one in answer["passes"]] == [512]


def test_sites_of_an_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sites", "vit_tiny_patch16_224", "blocks.*", "--role", "branch", "--json"]
    assert run(arguments) == 0
    rows = json.loads(capsys.readouterr().out)["sites"]
    assert [row["site"] for row in rows[:2]] == ["blocks.0.attn", "blocks.0.mlp"] and len(rows) == 24
    assert rows[0]["shape"] == [197, 192]
    assert run(["sites", "vit_tiny_patch16_224", "block.*"]) == 2


def test_init_writes_a_study_that_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path)]) == 0
    assert run(["check", str(tmp_path / "study.yaml")]) == 0
    assert run(["init", str(tmp_path)]) == 2
    images(tmp_path / "photos")
    assert run(["init", str(tmp_path / "mine.yaml"), "--template", "images"]) == 0
    assert run(["check", str(tmp_path / "mine.yaml")]) == 0


@pytest.mark.parametrize("what", ["metrics", "ablations", "sources"])
def test_list_and_explain_agree(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what, "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)[what]:
        assert run(["explain", row["name"]]) == 0
        assert row["what"] in capsys.readouterr().out


def test_python_twin(tmp_path: Path) -> None:
    import vitdsl

    made = vitdsl.Study(
        vitdsl=1,
        study="twin",
        data={"probe": vitdsl.Data(source="noise", total=16, size=32, batch=8)},
        models={"net": vitdsl.Model(arch="resnet10t", input_size=32, weights="random")},
        metrics={"ratio": vitdsl.Metric(kind="skip_ratio", of=("net",))},
    )
    found = vitdsl.run(made, out=tmp_path, report=False, device="cpu")
    assert found.groups["ratio/net"]["ratio"].sizes["site"] == 4
    with pytest.raises(vitdsl.StudyError, match="VD220"):
        vitdsl.compile(made.model_copy(update={"metrics": {"x": vitdsl.Metric(kind="nothing", of=("net",))}}))
