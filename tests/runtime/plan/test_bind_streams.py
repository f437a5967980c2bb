"""Streams that do not fit what is measured on them."""

from pathlib import Path

import pytest

from studies import TINY_RESNET, changed, study
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_source, load_text
from vitdsl.runtime.plan.bind import bind

STUDY = study(
    "streams",
    data={"probe": "{source: noise, total: 64, size: 32, batch: 8}"},
    models={"net": changed(TINY_RESNET, vary="{arch: [resnet10t, resnet10t.c3_in1k]}")},
    layers={"all": '{of: net, at: "layer*.*"}'},
    metrics={"within": "{kind: cka, x: all}", "ratio": "{kind: skip_ratio, of: net}"},
)


@pytest.mark.parametrize("setting", ["data.probe.batch=3", "data.probe.images=2"])
def test_batches_too_small_for_cka_are_refused(setting: str) -> None:
    with pytest.raises(StudyError, match="VD302 `cka` needs batches of at least 4 images"):
        bind(load_text(STUDY, "streams", overrides=[setting]))


def test_a_slash_in_a_variant_makes_no_group_of_its_own(tmp_path: Path) -> None:
    axis = "weights.file: [a/one.pth, a/two.pth]"
    text = STUDY.replace("arch: [resnet10t, resnet10t.c3_in1k]", axis).replace("random", "{file: a/one.pth}")
    (tmp_path / "a").mkdir()
    for name in ("one", "two"):
        (tmp_path / "a" / f"{name}.pth").touch()
    (tmp_path / "study.yaml").write_text(text)
    paths = [group.path for group in bind(load_source(tmp_path / "study.yaml")).groups]
    assert paths[0] == "within/net[weights.file=a|one.pth]"
    assert len(paths) == 4 and all(path.count("/") == 1 for path in paths)
