"""What `vitdsl check`, `init` and `sites` say to somebody who sees them for the first time."""

from pathlib import Path

import pytest

from studies import TINY_RESNET, TINY_VIT, study
from vitdsl.cli import run

SIX = """\
vitdsl: 1
study: six
data:
  probe: {source: digits, split: tets, images: 64}
models:
  vit: {arch: vit_tiny_patch16_224, options: {depth: 2, img_size: 32, num_classes: 10}, weights: pretraned}
  res: {arch: resnet81, weights: random}
layers:
  blocks: {of: vit, at: "blocks.*"}
  wrong: {of: vit, at: "block.*"}
  lost: {of: vti, at: "blocks.*"}
ablations:
  no_skip: {kind: remove_skp, of: vit, each: true}
metrics:
  acc: {kind: accuracy, of: vit, data: probe}
  within: {kind: cka, x: blocks, data: probe, under: [baseline, no_skip]}
  odd: {kind: cka, of: vit, data: probe}
claims:
  after: {say: a, left: {metric: acc, value: top9}, is: less, right: 1}
  b: {say: b, left: {metric: acc, value: top1}, is: les, right: 1}
"""
"""Eight mistakes, and a ninth (`top9`) that waits for the images and conditions of its metric."""


FEW = {"probe": "{source: digits, split: test, images: 3, batch: 3}"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_mistakes_take_one_round(capsys: pytest.CaptureFixture[str]) -> None:
    Path("six.yaml").write_text(SIX)
    assert run(["check", "six.yaml", "--output-format", "concise"]) == 2
    found = [line.split(" ")[:2] for line in capsys.readouterr().out.splitlines()]
    assert [(int(place.split(":")[1]), code) for place, code in found] == [
        (4, "VD221"), (6, "VD104"), (7, "VD230"), (10, "VD210"), (11, "VD201"), (13, "VD220"), (17, "VD222"),
        (20, "VD104"),
    ]  # fmt: skip
    Path("six.yaml").write_text(SIX.replace("tets", "test").replace("skp", "skip"))
    assert run(["check", "six.yaml", "--output-format", "concise"]) == 2
    assert "`acc` has no value `top9`" in capsys.readouterr().out


def test_a_run_says_all_mistakes_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("six.yaml").write_text(SIX)
    assert run(["run", "six.yaml"]) == 2
    assert "found 8 errors in six.yaml" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_section_under_a_wrong_name_is_one_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    text = study("s", data=FEW, models={"vit": TINY_VIT}, metrics={"acc": "{kind: accuracy, of: vit}"})
    Path("s.yaml").write_text(text.replace("models:", "modles:"))
    assert run(["check", "s.yaml", "--output-format", "concise"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "VD103 unknown key `modles`" in line


def test_the_last_line_counts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(
        study(
            "s",
            data=FEW,
            models={"vit": TINY_VIT, "net": TINY_RESNET},
            metrics={"acc": "{kind: accuracy, of: [vit, net]}"},
        )
    )
    assert run(["check", "s.yaml"]) == 0
    warning, last = capsys.readouterr().out.splitlines()
    assert last == "s.yaml: ok; 2 models, 2 conditions, 3 images"
    assert warning.startswith("warning: `probe` has 3 images, so that intervals come from 3 groups")


def test_equal_notes_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    tnt = "{arch: tnt_s_legacy_patch16_224, options: {depth: 2}, weights: random}"
    Path("s.yaml").write_text(
        study("s", data=FEW, models={"tnt": tnt}, metrics={"r": "{kind: skip_ratio, of: tnt}"})
    )
    assert run(["check", "s.yaml"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "reads 4 of 8 residual units of `tnt`; the others: `blocks.0." in notes[0]


def test_init_speaks_of_its_own_file(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine.yaml", "my own.yaml"):
        assert run(["init", name]) == 0
        typed = f"'{name}'" if " " in name else name
        assert f"vitdsl check {typed}" in capsys.readouterr().out
        text = Path(name).read_text()
        assert f"#   vitdsl run {typed}\n" in text and "study.yaml" not in text


def test_sites_hide_what_passes_on(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sites", "vit_tiny_patch16_224", "blocks.0.*", "--option", "depth=1"]
    assert run(words) == 0
    short = capsys.readouterr()
    assert "Identity" not in short.out and "Dropout" not in short.out
    assert short.err == "4 sites left out: Identity and Dropout; see with --all\n"
    assert run([*words, "--all"]) == 0
    whole = capsys.readouterr()
    assert len(whole.out.splitlines()) == len(short.out.splitlines()) + 4 and not whole.err
    assert run([*words[:2], "blocks.0.drop_path1", *words[3:]]) == 0
    assert "Identity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "shape"),
    [("160", "512x5x5"), ("224x160", "512x7x5"), ("224,160", "512x7x5"), ("[64, 96]", "512x2x3")],
)
def test_sizes_of_inputs(size: str, shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sites", "resnet10t", "layer4", "--input-size", size]) == 0
    assert shape in capsys.readouterr().out


def test_sizes_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    for size in ("0", "224x", "ax2", "1x2x3"):
        assert run(["sites", "resnet10t", "--input-size", size]) == 2
        assert (
            f"`{size}` is no size; write pixels, such as `224`, or `HEIGHTxWIDTH`" in capsys.readouterr().err
        )
    assert run(["sites", "vit", "--study", "s.yaml", "--input-size", "64"]) == 2
    assert "as the study has it" in capsys.readouterr().err


def test_what_should_be_indented_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = study("s", data=FEW, models={"vit": TINY_VIT}, metrics={"acc": "{kind: accuracy, of: vit}"})
    Path("s.yaml").write_text(text.replace("\n  probe:", "\nprobe:"))
    assert run(["check", "s.yaml"]) == 2
    assert "= help: indent it further than `data:`, to stand inside it" in capsys.readouterr().out
