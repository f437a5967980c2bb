"""What a run writes of itself: work by stream and model, the text that was parsed, the hash of its numbers."""

import hashlib
import json
from pathlib import Path

import pytest

from studies import TINY_RESNET, study
from vitdsl.dsl.load import load_source
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.results.folder import MANIFEST, SOURCE, open_run
from vitdsl.runtime.results.groups import RESULTS
from vitdsl.runtime.results.record import as_json
from vitdsl.runtime.run.run import run

BASE = study(
    "base",
    data={
        "one": "{source: noise, total: 16, size: 32, batch: 8}",
        "two": "{source: noise, total: 16, size: 32, batch: 8, seed: 1}",
    },
    models={"net": TINY_RESNET},
    ablations={"cut": '{kind: remove_branch, of: net, at: "layer*.*", each: true}'},
)
STUDY = """\
vitdsl: 1
extends: ./base.yaml
study: streams
metrics:
  ratio: {kind: skip_ratio, of: net, under: [baseline], data: one}
  drift: {kind: cka, x: all, against: baseline, data: two}
layers: {all: {of: net, at: "layer*.*"}}
"""


def test_what_a_run_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    plan = bind(load_source(tmp_path / "study.yaml"))
    (tmp_path / "base.yaml").write_text("changed since")
    (tmp_path / "study.yaml").write_text("changed since")
    outcome = run(plan, out=tmp_path / "runs")

    found = open_run(outcome.folder)
    assert as_json(found.manifest) == as_json(outcome.manifest)
    assert found.manifest.results_sha256 == hashlib.sha256((found.path / RESULTS).read_bytes()).hexdigest()
    one, two = found.manifest.work
    assert (one.data, one.model, one.conditions) == ("one", "net", ("baseline",))
    assert (two.data, two.model) == ("two", "net")
    assert two.conditions == tuple(condition.id for condition in found.manifest.conditions["net"])
    assert one.flops_merged == one.flops_separate < two.flops_merged < two.flops_separate
    assert (one.saved, two.saved > 0) == (0, True)

    assert found.source == (found.path / SOURCE).read_text() == STUDY
    assert (found.path / "bases" / "0-base.yaml").read_text() == BASE
    assert found.manifest.spec.source_sha256 == hashlib.sha256(STUDY.encode()).hexdigest()


def test_a_run_that_fails_keeps_what_was_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    plan = bind(load_source(tmp_path / "study.yaml"))

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("vitdsl.runtime.run.run.estimate", fail)
    with pytest.raises(RuntimeError, match="broken"):
        run(plan, out=tmp_path / "runs")
    (path,) = (tmp_path / "runs" / "streams").glob(f"*/{MANIFEST}")
    written = json.loads(path.read_text())
    assert (written["status"], written["reason"]) == ("failed", "broken")
    assert written["results_sha256"] is None and written["models"] == written["claims"] == {}
    assert [work["data"] for work in written["work"]] == ["one"] and written["trust"]
