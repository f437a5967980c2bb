"""Trust checks in the store: with the numbers that they vouch for, and with no others."""

from pathlib import Path

from studies import SAVED as STUDY
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.results.folder import Outcome
from vitdsl.runtime.run.run import run

RESNET = (
    STUDY.replace(
        "layers:",
        """  res: {arch: resnet10t, weights: random, input_size: 32, options: {num_classes: 10, zero_init_last: true}}
layers:""",
    )
    .replace("of: vit, data: probe", "of: [vit, res], data: probe")
    .replace("metrics:", '  idle: {kind: remove_branch, of: res, at: "layer1.0"}\nmetrics:')
)


def trust(outcome: Outcome) -> set[tuple[str, str, bool]]:
    return {(one.check, one.model, one.ok) for one in outcome.manifest.trust}


def test_trust_checks_come_with_the_numbers_that_they_vouch_for_and_with_no_others(tmp_path: Path) -> None:
    idle = run(bind(load_text(RESNET)), out=tmp_path)
    assert ("effect", "res", False) in trust(idle) and ("effect", "vit", True) in trust(idle)
    acts = bind(load_text(RESNET.replace("zero_init_last: true", "zero_init_last: false")))
    assert trust(run(acts, out=tmp_path)) == trust(run(acts, out=tmp_path / "fresh"))
    renamed = run(bind(load_text(STUDY.replace("vit:", "net:").replace("of: vit", "of: net"))), out=tmp_path)
    assert set(renamed.manifest.reused) and {one.model for one in renamed.manifest.trust} == {"net"}
    assert not any("vit" in one.text + one.about for one in renamed.manifest.trust)
