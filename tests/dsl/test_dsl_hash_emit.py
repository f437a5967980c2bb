"""The hash changes with what is computed and with nothing else; what is written is read back the same."""

import copy
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vitdsl.dsl.emit import flow, key_text, resolved_yaml
from vitdsl.dsl.load import load_source, load_text, loaded_of
from vitdsl.dsl.nodes import plain
from vitdsl.dsl.reader import read
from vitdsl.dsl.shape import entries, entry_at, fields_of, words_of
from vitdsl.dsl.study import Data, Metric, Model, Study, Train
from vitdsl.dsl.written import written

HERE = Path(__file__)
FULL = HERE.with_name("full.yaml").read_text()
TREE = plain(read(FULL, "full.yaml"))
WORDS = {"study", "title", "question", "max_conditions", "show", "x-note", "say", "thumbnails"}


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def changed(value):
    """Another value of the same type that the schema takes as well."""
    swaps = {"random": "pretrained", "step": "cosine", "greater": "less", "increasing": "decreasing"}
    swaps |= {
        "max": "min",
        "slope": "spearman",
        "stream": "branch",
        "skip": "branch",
        "spatial": "cls",
        "baseline": "scaled",
        "bicubic": "bilinear",
        "center": "squash",
        "blur": "noise",
    }
    swaps |= {"probe": "shared", "shared": "probe", "blocks": "stages", "stages": "blocks", "vit": "resnet"}
    swaps |= {
        "resnet": "vit",
        "accuracy": "norms",
        "norms": "accuracy",
        "drift": "accuracy",
        "no_skip": "scaled",
    }
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.5
    if isinstance(value, list):
        return (
            value[:-1]
            if len(value) > 1 and not all(isinstance(v, (int, float)) for v in value)
            else [
                *value[:-1],
                changed(value[-1]),
            ]
        )
    return swaps.get(value, f"{value}x")


def with_value(path, value):
    data = copy.deepcopy(TREE)
    here = data
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    data.pop("x-note", None)
    return data


@pytest.mark.parametrize("path", [path for path, _ in leaves(TREE)], ids=".".join)
def test_the_hash_changes_with_every_scientific_field(path):
    value = next(value for other, value in leaves(TREE) if other == path)
    base = load_text(FULL).study.hash
    if path == ("vitdsl",):
        return
    if path[-1] == "of" and path[0] == "models":
        pytest.skip("not a field")
    exempt = path[-1] in WORDS
    replacement = changed(value)
    if path == ("claims", "same", "is") or value == "close":
        replacement = "less"
    if path[-1] in ("against", "over"):
        replacement = None
    study = (
        Study.model_validate(with_value(path, replacement)) if path[0] != "x-note" else load_text(FULL).study
    )
    assert (study.hash == base) is exempt
    before, after = written(load_text(FULL).study), written(study)
    assert (before.rest_sha256 == after.rest_sha256) is (exempt or path[0] == "claims")
    assert (before.claims_sha256 == after.claims_sha256) is (path[0] != "claims")


def test_the_full_study_uses_every_field():
    used = {}

    def visit(value, path):
        entry = entry_at(path, Study)
        if isinstance(value, dict):
            if entry:
                used.setdefault(entry.__name__, set()).update(value)
            for key, inner in value.items():
                visit(inner, (*path, key))

    visit(TREE, ())
    for entry in filter(lambda one: words_of(one).home, entries(Study)):
        left_out = set(fields_of(entry)) - used[entry.__name__] - {"recipe", "folder_was"}
        assert not left_out, f"add {left_out} of {entry.__name__} to full.yaml"


def shuffled(value, rng):
    if not isinstance(value, dict):
        return value
    keys = list(value)
    rng.shuffle(keys)
    return {key: shuffled(value[key], rng) for key in keys}


@given(st.integers(0, 10_000))
def test_order_and_formatting_do_not_change_the_hash(seed):
    data = shuffled(TREE, random.Random(seed))
    text = yaml.safe_dump(data, default_flow_style=bool(seed % 2), sort_keys=False)
    assert load_text(text).study.hash == load_text(FULL).study.hash


def test_defaults_written_out_and_left_out_are_the_same():
    short = load_text(HERE.with_name("small.yaml").read_text())
    written = load_text(resolved_yaml(short))
    assert written.study.hash == short.study.hash and len(short.study.hash) == 64


def test_where_paths_start_counts_and_where_the_file_lies_does_not(tmp_path):
    (tmp_path / "in").mkdir()
    text = HERE.with_name("small.yaml").read_text()
    path = tmp_path / "in" / "small.yaml"
    hashes = []
    for folder in ("", "folder: cats\n", "folder: dogs\n"):
        path.write_text(text + folder)
        loaded = load_source(path)
        hashes.append(loaded.study.hash)
        again = tmp_path / "runs" / "x" / "spec.resolved.yaml"
        again.parent.mkdir(parents=True, exist_ok=True)
        again.write_text(resolved_yaml(loaded, into=again.parent))
        moved = load_source(again)
        assert moved.study.hash == hashes[-1] and moved.folder.resolve() == loaded.folder.resolve()
        deeper = again.parent / "y"
        deeper.mkdir(exist_ok=True)
        (deeper / "s.yaml").write_text(resolved_yaml(moved, into=deeper))
        assert load_source(deeper / "s.yaml").study.hash == hashes[-1]
    assert len(set(hashes)) == 3
    path.write_text(text + "folder: ./cats/\n")
    assert load_source(path).study.hash == hashes[1]


def test_load_dump_load_is_the_identity():
    first = load_text(FULL).study
    text = first.to_yaml()
    second = load_text(text).study
    assert second == first and second.to_yaml() == text and second.hash == first.hash
    assert list(second.models) == ["vit", "resnet", "hub", "mine", "kept"] and list(second.metrics) == list(
        TREE["metrics"]
    )


def test_other_readers_read_the_same():
    text = load_text(FULL).study.to_yaml()
    assert yaml.safe_load(text) == plain(read(text, "f"))


def test_the_resolved_study_names_every_origin():
    loaded = load_source(HERE.with_name("full.yaml"), overrides=["seed=4"])
    text = resolved_yaml(loaded, {("data", "probe", "batch"): 16})
    lines = text.splitlines()
    assert "seed: 4  # --set" in lines and "    batch: 16  # auto" in lines
    assert "    along: block  # full.yaml:72" in text or "# full.yaml:" in text
    for line in lines:
        assert not line or line.endswith(":") or "  # " in line
    assert load_text(resolved_yaml(loaded)).study.hash == loaded.study.hash


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TRICKY = st.sampled_from(
    [
        "no",
        "On",
        "1e-3",
        "012",
        "0o7",
        "08",
        "1_000",
        "12:30",
        "2024-01-01",
        "~",
        "",
        " a",
        "a ",
        "a: b",
        "a #b",
    ]
    + [
        "- a",
        "*a",
        "!a",
        "&a",
        "a,b",
        "[a",
        "{a",
        "'a",
        '"a',
        "=",
        "<<",
        ".",
        "...",
        "---",
        "é",
        "a\nb",
        "0x1f",
        ".inf",
    ]
)


@given(JSON | TRICKY)
def test_any_value_is_read_back_the_same(value):
    def clean(one):
        if isinstance(one, str):
            return "".join(
                c for c in one if c in "\n\t" or ("\x20" <= c < "\ud800" and not "\x7f" <= c < "\xa0")
            )
        if isinstance(one, list):
            return [clean(inner) for inner in one]
        return {clean(k): clean(v) for k, v in one.items()} if isinstance(one, dict) else one

    value = clean(value)
    text = f"{key_text('k')}: {flow(value)}\n"
    found = plain(read(text, "f"))["k"]
    assert found == value and type(found) is type(value)
    assert yaml.safe_load(text)["k"] == value


def test_a_study_built_in_python_is_the_one_in_yaml():
    built = Study(
        vitdsl=1,
        study="small",
        data={"images": Data(source="digits", split="test")},
        models={"vit": Model(arch="vit_tiny_patch16_224", weights="random")},
        metrics={"acc": Metric(kind="accuracy", of="vit")},
    )
    read_ = load_source(HERE.with_name("small.yaml")).study
    assert built == read_ and built.hash == read_.hash and load_text(built.to_yaml()).study == built
    built.check()


def test_a_recipe_named_in_python_is_written_out(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(
        "vitdsl: 1\nrecipe: mine\ntrain: {data: {source: digits}, epochs: 7}\n"
    )
    monkeypatch.setattr("vitdsl.dsl.recipes.shipped", lambda: {"mine": tmp_path / "mine.yaml"})
    small = load_source(HERE.with_name("small.yaml")).study
    model = Model(arch="a", train=Train(recipe="mine", epochs=2))
    study = small.model_copy(update={"models": {"vit": model}})
    loaded = loaded_of(study)
    assert loaded.study.models["vit"].train.epochs == 2
    assert loaded.study.models["vit"].train.data.source == "digits"
    assert study.hash == loaded.study.hash


def test_the_resolved_study_runs_from_another_folder(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "runs" / "one").mkdir(parents=True)
    study = tmp_path / "studies" / "study.yaml"
    study.write_text(HERE.with_name("small.yaml").read_text())
    loaded = load_source(study)
    saved = tmp_path / "runs" / "one" / "resolved.yaml"
    saved.write_text(resolved_yaml(loaded, into=saved.parent))
    again = load_source(saved)
    assert again.folder.resolve() == loaded.folder.resolve() == study.parent
    assert again.study.hash == loaded.study.hash
