"""The hashes of claims and of the rest, how two forms of a study differ, and a seal that nobody can change unseen."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.dsl.emit import resolved_yaml
from vitdsl.dsl.load import load_source, load_text
from vitdsl.dsl.sealing import find_seal, seal, seal_path
from vitdsl.dsl.written import changes, written

SPECS = Path(__file__).parents[2] / "specs"
STUDY = """\
vitdsl: 1
study: s
data: {probe: {source: digits, split: test, images: 64}}
models: {vit: {arch: vit_tiny_patch16_224, weights: random}}
layers: {blocks: {of: vit, at: "blocks.*"}}
metrics:
  accuracy: {kind: accuracy, of: vit}
  within: {kind: cka, x: blocks}
claims:
  good: {say: It is good., left: {metric: accuracy, value: top1}, is: greater, right: 0.5}
  alike: {say: They are alike., left: {metric: within, value: cka}, is: greater, right: 0.5}
"""
NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


def of(text):
    return written(load_text(text).study)


def replaced(*pairs):
    text = STUDY
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_hashes_are_those_of_canonical_json():
    def by_hand(value):
        return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    found = of(STUDY)
    left = {"metric": "accuracy", "value": "top1"}
    good = {
        "comparison": by_hand({"left": left, "is": "greater", "right": 0.5}),
        "words": by_hand("It is good."),
    }
    assert found.claims["good"].model_dump() == good
    alike = found.claims["alike"].model_dump()
    assert found.claims_sha256 == by_hand({"good": good, "alike": alike})
    assert found.rest["data.probe"] == by_hand({"source": "digits", "split": "test", "images": 64})
    assert found.rest_sha256 == by_hand(found.rest) and set(found.rest) == {
        "vitdsl", "folder", "data.probe", "models.vit", "layers.blocks", "metrics.accuracy", "metrics.within",
    }  # fmt: skip


@pytest.mark.parametrize(
    "pair",
    [
        ("study: s\n", "study: other\ntitle: A title\nquestion: Why?\nmax_conditions: 7\n"),
        ("right: 0.5}\n  alike", "right: 5.0e-1, by: 0}\n  alike"),
        ("images: 64", "images: 64, shuffle: true, batch: 64"),
        ("study: s\n", "seed: 0\nstudy: s\n"),
        ("accuracy, of: vit", "accuracy, of: [vit], title: Accuracy"),
    ],
)
def test_words_for_people_and_defaults_change_neither_hash(pair):
    assert of(replaced(pair)) == of(STUDY)


def test_order_changes_neither_hash():
    first, second = STUDY.splitlines()[-2:]
    assert of(replaced((f"{first}\n{second}", f"{second}\n{first}"))) == of(STUDY)


@pytest.mark.parametrize(
    ("pair", "how"),
    [
        (("top1}, is: greater, right: 0.5", "top1}, is: greater, right: 0.6"), {"good": "changed"}),
        (("top1}, is: greater", "top1}, is: less"), {"good": "changed"}),
        (("It is good.", "It is very good."), {"good": "reworded"}),
        (("  good: {say: It is good.", "  fine: {say: It is good."), {"fine": "new", "good": "gone"}),
        (("It is good., left: {metric: accuracy, value: top1", "Bad., left: {metric: accuracy, value: top5"),
         {"good": "changed"}),
    ],
)  # fmt: skip
def test_a_change_of_a_claim_changes_the_hash_of_the_claims_alone(pair, how):
    before, after = of(STUDY), of(replaced(pair))
    assert before.rest_sha256 == after.rest_sha256 and before.claims_sha256 != after.claims_sha256
    assert changes(before, after).of_claims == how and not changes(before, after).rest
    assert changes(before, after) and not changes(after, after)


@pytest.mark.parametrize(
    ("pair", "rest"),
    [
        (("images: 64", "images: 65"), ("data.probe",)),
        (("study: s\n", "study: s\nseed: 1\n"), ("seed",)),
        (("study: s\n", "study: s\nfolder: ./elsewhere\n"), ("folder",)),
        (("weights: random", "weights: pretrained"), ("models.vit",)),
        (('at: "blocks.*"', 'at: "blocks.0"'), ("layers.blocks",)),
        (("kind: accuracy, of: vit}", "kind: accuracy, of: vit, under: baseline}"), ("metrics.accuracy",)),
        (("layers:", 'ablations: {cut: {kind: remove_skip, of: vit, at: "blocks.0.attn"}}\nlayers:'),
         ("ablations.cut",)),
    ],
)  # fmt: skip
def test_any_other_change_of_a_number_changes_the_hash_of_the_rest_alone(pair, rest):
    before, after = of(STUDY), of(replaced(pair))
    assert before.claims_sha256 == after.claims_sha256 and before.rest_sha256 != after.rest_sha256
    assert changes(before, after).rest == rest and not changes(before, after).of_claims


def test_a_recipe_counts_by_what_it_says():
    named = replaced(("weights: random", "train: {recipe: digits_vit}"))
    assert of(named).rest == written(load_text(load_text(named).study.to_yaml()).study).rest


def test_a_resolved_study_has_the_same_hashes(tmp_path):
    loaded = load_source(SPECS / "skip_ablation.yaml")
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(loaded, into=tmp_path))
    assert written(load_source(tmp_path / "resolved.yaml").study) == written(loaded.study)


@pytest.fixture
def sealed(tmp_path):
    """A study file with its seal beside it."""
    path = tmp_path / "study.one.yaml"
    seal_path(path).write_text(seal(load_text(STUDY).study, vitdsl="0.1.0", now=NOW).text)
    return path


def test_a_seal_is_read_as_it_was_written(sealed):
    assert seal_path(sealed).name == "study.one.seal.json"
    found = find_seal(sealed, now=NOW)
    assert found is not None and not changes(found, of(STUDY))
    assert found.sealed_at == "2026-11-02T09:30:00+00:00" and len(found.sha256) == 64
    assert found.line == f"vitdsl seal s {found.sealed_at} {found.sha256}"
    there = timezone(timedelta(hours=-5))
    assert seal(load_text(STUDY).study, vitdsl="0.1.0", now=NOW.astimezone(there)) == found
    assert seal(load_text(STUDY).study, vitdsl="0.1.0", now=NOW + timedelta(seconds=1)).sha256 != found.sha256
    assert find_seal(sealed.with_name("other.yaml"), now=NOW) is find_seal(None, now=NOW) is None


def refused(path, text, now=NOW):
    seal_path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EnvironmentProblem) as caught:
        find_seal(path, now=now)
    (problem,) = caught.value.diagnostics
    assert problem.code == "VD417" and len(problem.help) == 2
    return problem.message


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"{'a': 1}"])
def test_what_is_not_json_is_no_seal(sealed, text):
    assert "is not JSON" in refused(sealed, text)


def test_json_that_is_no_seal(sealed):
    whole = json.loads(seal_path(sealed).read_text())
    assert "claims_sha256" in refused(sealed, "{}")
    assert "is not a seal" in refused(sealed, "[1]")
    assert "`schema`" in refused(sealed, json.dumps(whole | {"schema": "vitdsl.seal/9"}))
    assert "`note`" in refused(sealed, json.dumps(whole | {"note": "mine"}))
    assert "is not a date" in refused(sealed, json.dumps(whole | {"sealed_at": "yesterday"}))
    assert "has no zone" in refused(sealed, json.dumps(whole | {"sealed_at": "2026-11-02T09:30:00"}))
    assert "too large" in refused(sealed, b" " * ((1 << 24) + 1))


@pytest.mark.parametrize("field", ["study", "sealed_at", "vitdsl", "claims_sha256", "rest_sha256", "sha256"])
def test_a_changed_field_is_found(sealed, field):
    whole = json.loads(seal_path(sealed).read_text())
    other = "2026-11-01T09:30:00+00:00" if field == "sealed_at" else whole[field][:-1] + "x"
    assert "was changed after it was made" in refused(sealed, json.dumps(whole | {field: other}))


def test_a_changed_part_is_found(sealed):
    whole = json.loads(seal_path(sealed).read_text())
    for part, name in (("claims", "good"), ("rest", "data.probe")):
        left = {key: value for key, value in whole[part].items() if key != name}
        assert "was changed" in refused(sealed, json.dumps(whole | {part: left}))


def test_parts_that_do_not_fit_are_found_under_a_new_hash(sealed):
    made = find_seal(sealed, now=NOW)
    forged = made.model_copy(update={"rest": {**made.rest, "data.probe": "0" * 64}})
    forged = forged.model_copy(update={"sha256": forged.whole})
    assert "its parts" in refused(sealed, forged.text)


def test_a_date_to_come_is_no_date(sealed):
    text = seal_path(sealed).read_text()
    assert "yet to come" in refused(sealed, text, NOW - timedelta(days=2))
    assert find_seal(sealed, now=NOW - timedelta(hours=2)) is not None
