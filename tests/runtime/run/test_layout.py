"""Maps that lie channels last: the same numbers to rounding, also of programs that cannot be laid out so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitdsl.dsl.load import load_text
from vitdsl.runtime.metrics._gram import features_of, gram
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.run import layout
from vitdsl.runtime.run.run import run

STUDY = """\
vitdsl: 1
study: layouts
data: {noise: {source: noise, images: 16, size: 64, classes: 5, batch: 8}}
models:
  res: {arch: resnet18, options: {num_classes: 5}, input_size: 64, weights: random}
  vit: {arch: vit_tiny_patch16_224, options: {img_size: 64, depth: 2, num_classes: 5}, weights: random}
layers: {maps: {of: res, at: "layer*.*"}}
ablations: {cut: {kind: remove_skip, of: res, at: ["layer2.0", "layer3.1"], each: true}}
metrics:
  cka: {kind: cka, x: maps, against: baseline}
  ratio: {kind: skip_ratio, of: [res, vit]}
  norms: {kind: token_norms, x: maps, under: baseline}
  answers: {kind: accuracy, of: [res, vit]}
"""


def planned() -> Plan:
    return bind(load_text(STUDY, "layouts"))


def test_models_of_convolutions_lie_channels_last_on_the_cpu_alone() -> None:
    plan = planned()
    sites = {name: model.sites for name, model in plan.models.items()}
    assert layout.channels_last(sites["res"], torch.device("cpu"))
    assert not layout.channels_last(sites["vit"], torch.device("cpu"))
    assert not layout.channels_last(sites["res"], torch.device("cuda"))


def test_numbers_are_those_of_the_usual_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitdsl.runtime.results.folder import open_run

    last = run(planned(), out=tmp_path / "last")
    monkeypatch.setattr(layout, "SHARE", 1.0)
    usual = run(planned(), out=tmp_path / "usual")
    assert last.folder and usual.folder
    ours, theirs = open_run(last.folder).groups, open_run(usual.folder).groups
    differ = 0
    for path, data in ours.items():
        for name, values in data.data_vars.items():
            other = theirs[path][name].values
            np.testing.assert_allclose(values.values, other, rtol=2e-5, atol=2e-6, err_msg=f"{path} {name}")
            differ += not np.array_equal(values.values, other, equal_nan=True)
    assert differ  # otherwise both ran in one layout


class Strict(nn.Module):
    """Takes a view that only the usual layout gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        return self.head(maps.view(len(maps), 4 * 64))


def test_a_program_whose_views_need_the_usual_layout_runs_in_it(tmp_path: Path) -> None:
    import vitdsl

    study = (
        "vitdsl: 1\nstudy: strict\ndata: {noise: {source: noise, images: 8, size: 8, classes: 5, batch: 4}}\n"
        "models: {mine: {given: true, input_size: 8}}\nlayers: {x: {of: mine, at: conv}}\n"
        "metrics: {cka: {kind: cka, x: x}}\n"
    )
    module = Strict().eval()
    path = tmp_path / "strict.yaml"
    path.write_text(study)
    outcome = vitdsl.run(path, models={"mine": module}, out=tmp_path)
    assert outcome.manifest.status == "success"
    assert module.conv.weight.is_contiguous()


@pytest.mark.parametrize("fmt", [torch.contiguous_format, torch.channels_last])
def test_gram_matrices_do_not_depend_on_the_layout(fmt: torch.memory_format) -> None:
    sites = planned().models["res"].sites
    maps = torch.randn(6, 8, 5, 5).contiguous(memory_format=fmt)
    found = gram(features_of(maps, sites.site("layer1.0", "stream")))
    flat = maps.double().flatten(1)
    torch.testing.assert_close(found, flat @ flat.mT, rtol=1e-6, atol=1e-5)
    assert features_of(maps, sites.site("layer1.0", "stream")).data_ptr() == maps.data_ptr()
