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


ALL = STUDY[: STUDY.index("  field:")]
FEWER = "".join(line for line in ALL.splitlines(keepends=True) if "mean_there" not in line)
INTACT = FEWER[: FEWER.index("ablations:")] + "metrics:\n  accuracy: {kind: accuracy, of: vit, data: probe}\n"


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


def test_a_check_is_repeated_where_all_that_it_speaks_of_is_there_and_by_the_names_there(
    tmp_path: Path,
) -> None:
    """Of one runs folder: all ablations, none, some, and some under other names."""

    def checks(study: str, out: Path = tmp_path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in run(bind(load_text(study)), out=out).manifest.trust:
            found.setdefault(one.check, []).append(one.text)
        return found

    first = checks(ALL)
    assert any("3 ablations of `vit`" in text for text in first["effect"]), first["effect"]
    none = checks(INTACT)
    assert "effect" not in none and none["output"] == first["output"]
    assert none == checks(INTACT, tmp_path / "fresh")
    assert "effect" not in checks(FEWER), "of the three, it has two"
    fresh = tmp_path / "names"
    before = checks(FEWER, fresh)
    renamed = checks(FEWER.replace("no_skip", "uncarried").replace("mean_here", "averaged"), fresh)
    (said,) = before["effect"]
    assert "`no_skip@" in said or "`mean_here`" in said
    assert renamed == before | {
        "effect": [said.replace("no_skip", "uncarried").replace("mean_here", "averaged")]
    }


def test_a_check_of_an_intact_layer_is_not_repeated_where_only_ablated_ones_are_found(tmp_path: Path) -> None:
    within = STUDY[: STUDY.index("metrics:")] + "metrics:\n  within: {kind: cka, x: blocks, data: probe}\n"
    first = run(bind(load_text(within)), out=tmp_path)
    assert "identity" in {one.check for one in first.manifest.trust}
    ablated = within.replace("x: blocks", "x: blocks, under: no_skip")
    second = run(bind(load_text(ablated)), out=tmp_path)
    assert set(second.manifest.reused) and "identity" not in {one.check for one in second.manifest.trust}
    assert "effect" not in {one.check for one in second.manifest.trust}
