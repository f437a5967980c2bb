"""The manifest: what it refuses, what it keeps through JSON, and what it says before a run ends."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from vitdsl.runtime.results.manifest import Check, ConditionRecord, Hashes, Manifest, Work
from vitdsl.runtime.results.record import as_json
from vitdsl.runtime.results.verdicts import Estimate, Side, Verdict

OPENING: dict[str, Any] = {
    "vitdsl": "0.1.0", "study": "s", "title": "S", "question": "", "run_id": "s/1", "status": "started",
    "started_at": "2026-11-22T11:00:00Z", "argv": ["vitdsl"], "overrides": [],
    "spec": {"hash": "ab", "source_sha256": "cd"}, "git": {"commit": "ef", "dirty": True},
    "environment": {
        "python": "3.11", "packages": {"torch": "2.8"}, "platform": "", "cpu": "", "cores": 2, "threads": 1,
        "cuda": None, "gpus": ["one"],
    },
    "device": "cpu", "dtype": "float32", "seed": 0, "warnings": [],
}  # fmt: skip


def read(fields: dict[str, Any]) -> Manifest:
    return Manifest.model_validate_json(json.dumps(fields))


def test_a_manifest_that_just_started_has_no_results() -> None:
    found = read(OPENING)
    assert found.trust == found.work == () and found.models == found.claims == found.data == {}
    assert found.ended_at is found.seconds is found.results_sha256 is None
    assert as_json(found)["schema"] == "vitdsl.run/3"


def test_what_is_read_is_what_was_written() -> None:
    nan = float("nan")
    side = Side(value=1.0, low=nan, high=nan, text="mean of m.v", units="px")
    whole = read(OPENING).updated(
        status="success",
        claims={
            "c": Verdict(
                say="so", verdict="undecided", raw="undecided", reason="", is_="greater", by=0.0, left=side, right=None,
                difference=Estimate(value=nan, low=float("inf"), high=1.0),
            )
        },
        trust=(Check(check="output", model="m", ok=True, value=np.float64(0.5), tolerance=1.0, text="t"),),
        work=(
            Work(data="a", model="m", conditions=("baseline",), flops_merged=1.0, flops_separate=2.0, saved=0.5),
            Work(data="b", model="m", conditions=("baseline", "x@y"), flops_merged=1.0, flops_separate=2.0,
                 saved=0.5),
        ),
        conditions={
            "m": (ConditionRecord(id="baseline", ablation="", kind="", sites=(), depth=nan, coordinates={"p": nan}),)
        },
    )  # fmt: skip
    written = as_json(whole)
    again = read(written)
    assert as_json(again) == written
    assert written["claims"]["c"]["is"] == "greater" and written["claims"]["c"]["left"]["low"] is None
    assert written["claims"]["c"]["difference"] == {"value": None, "low": None, "high": 1.0}
    assert np.isnan(again.claims["c"].difference.value) and np.isnan(again.claims["c"].difference.low)
    assert written["conditions"]["m"][0]["depth"] is None and np.isnan(again.conditions["m"][0].depth)
    assert again.work == whole.work and again.trust == whole.trust


@pytest.mark.parametrize("status", ["started", "success", "failed", "interrupted"])
def test_a_status(status: str) -> None:
    assert read(OPENING | {"status": status}).status == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "partial"}, {"seed": "0"}, {"colour": "red"}, {"work": {"m": {}}}, {"schema": "vitdsl.run/1"},
        {"timings": {"models": "long"}}, {"git": {"commit": "ef", "dirty": True, "branch": "main"}},
    ],
)  # fmt: skip
def test_what_is_no_manifest(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(OPENING | wrong)


def test_it_does_not_change() -> None:
    found = read(OPENING)
    with pytest.raises(ValidationError):
        found.status = "success"
    with pytest.raises(ValidationError):
        found.updated(status="partial")
    with pytest.raises(ValidationError):
        Hashes(hash="a", source_sha256="b", more="c")  # type: ignore[call-arg]
    assert found.updated(status="failed").status == "failed" and found.status == "started"
