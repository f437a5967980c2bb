"""`extends`, `--set` and recipes: what wins, what is refused, where a value comes from."""

from pathlib import Path

import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import is_recipe, load, load_recipe, load_source, load_text

SMALL = Path(__file__).with_name("small.yaml").read_text()
BASE = """\
vitdsl: 1
study: base
seed: 1
data: {images: {source: digits, images: 64, split: test}}
models:
  vit: {arch: vit_tiny_patch16_224, options: {img_size: 32, depth: 4}, weights: {file: a.pth}}
  resnet: {arch: resnet18, weights: random}
ablations:
  none: {kind: remove_skip, of: resnet, at: ["a", "b"]}
metrics:
  acc: {kind: accuracy, of: [vit, resnet]}
"""


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def child(text, name="study.yaml"):
        (tmp_path / name).write_text("extends: ./base.yaml\n" + text)
        return tmp_path / name

    return child


def codes(error):
    return [one.code for one in error.value.diagnostics]


def test_mappings_merge_lists_and_scalars_replace_null_removes(base):
    study = load(
        base("""\
study: child
seed: 2
data: {images: {images: 128, split: null}}
models:
  vit: {options: {depth: null, img_size: 64}, weights: {hub: a/b}}
  resnet: null
ablations: null
metrics: {acc: {of: vit}}
""")
    )
    assert (study.study, study.seed) == ("child", 2)
    assert study.data["images"].images == 128 and study.data["images"].params == {}
    assert list(study.models) == ["vit"] and study.models["vit"].options == {"img_size": 64}
    assert study.models["vit"].weights.hub == "a/b"
    assert study.ablations == {} and study.metrics["acc"].of == ("vit",)


def test_null_is_a_value_where_the_field_takes_it_and_an_error_elsewhere(base):
    assert load(base("data: {images: {images: null}}")).data["images"].images is None
    with pytest.raises(StudyError, match="`seed` takes a whole number, not null"):
        load(base("seed: null"))


def test_an_error_in_the_base_points_into_the_base(base, tmp_path):
    (tmp_path / "base.yaml").write_text(BASE.replace("seed: 1", "seed: one"))
    with pytest.raises(StudyError) as error:
        load(base("study: child"))
    span = error.value.diagnostics[0].span
    assert Path(span.file).name == "base.yaml" and (span.line, span.column) == (3, 7)
    assert "extended by" in error.value.diagnostics[0].notes[0]
    (tmp_path / "base.yaml").write_text("a: [")
    with pytest.raises(StudyError) as error:
        load(tmp_path / "study.yaml")
    assert error.value.diagnostics[0].notes[0].endswith("study.yaml:1`")


def test_origins(base):
    loaded = load_source(base("study: child\nseed: 2\n"), overrides=["data.images.batch=8"])
    assert loaded.source.origin(("study",)) == "study.yaml:2"
    assert loaded.source.origin(("models", "vit", "arch")) == "base.yaml:6"
    assert loaded.source.origin(("data", "images", "batch")) == "--set"
    assert loaded.source.origin(("data", "images", "shuffle")) == "default"
    assert [path.name for path in loaded.bases] == ["base.yaml"]
    assert loaded.overrides == ("data.images.batch=8",)


def test_cycles_long_chains_and_texts_are_refused(tmp_path):
    for index in range(6):
        (tmp_path / f"s{index}.yaml").write_text(f"extends: ./s{index + 1}.yaml\n")
    (tmp_path / "s6.yaml").write_text(SMALL)
    with pytest.raises(StudyError, match="more than 4"):
        load(tmp_path / "s0.yaml")
    assert load(tmp_path / "s2.yaml").study == "small"
    (tmp_path / "s6.yaml").write_text("extends: ./s5.yaml")
    with pytest.raises(StudyError, match="circle"):
        load(tmp_path / "s4.yaml")
    with pytest.raises(StudyError, match="VD015"):
        load_text("extends: ./base.yaml")


def test_a_base_one_folder_up_inside_the_project(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "base.yaml").write_text(SMALL)
    (tmp_path / "deep").mkdir()
    study = tmp_path / "deep" / "study.yaml"
    study.write_text("extends: ../base.yaml\nseed: 4\n")
    assert load(study).seed == 4


@pytest.mark.parametrize(
    ("argument", "read"),
    [
        ("seed=7", lambda s: s.seed == 7),
        ("title=A: b = c #d", lambda s: s.title == "A: b = c #d"),
        ("title='12'", lambda s: s.title == "12"),
        ("title=no", lambda s: s.title == "no"),
        ("title=null", lambda s: s.title is None),
        ("data.images.images= 1_000", None),
        ("metrics.acc.of=[vit]", lambda s: s.metrics["acc"].of == ("vit",)),
        ("metrics.acc.at=**.attn", lambda s: s.metrics["acc"].at == ("**.attn",)),
        ("metrics.acc.at=!a", None),
        ("models.vit.options.depth=3", lambda s: s.models["vit"].options == {"depth": 3}),
        ("models.vit.weights.file=x.pth", lambda s: s.models["vit"].weights.file == "x.pth"),
        (
            'models.vit.vary."options.depth"=[1, 2]',
            lambda s: s.models["vit"].vary == {"options.depth": [1, 2]},
        ),
        ("models.two={arch: a, weights: random}", lambda s: list(s.models) == ["vit", "two"]),
        ("x-note=1", lambda s: True),
    ],
)
def test_overrides_are_typed_by_the_schema(argument, read):
    if read is None:
        with pytest.raises(StudyError) as error:
            load_text(SMALL, overrides=[argument])
        assert all(one.span.file == "--set" for one in error.value.diagnostics)
    else:
        assert read(load_text(SMALL, overrides=[argument]).study)


@pytest.mark.parametrize(
    ("argument", "code", "column", "end"),
    [
        ("seed", "VD016", 4, 5),
        ("seed:3", "VD016", 6, 7),
        ("=3", "VD016", 1, 3),
        ("a..b=3", "VD016", 3, 7),
        ("seed=no", "VD102", 6, 8),
        ("seed=null", "VD102", 6, 10),
        ("sede=3", "VD103", 1, 5),
        ("models.vit.epochs=3", "VD103", 12, 18),
        ("models.vti.seed=3", "VD018", 8, 11),
        ("metrics.acc.of=vti", "VD201", 16, 19),
        ("metrics.acc.of=[vit, vti]", "VD201", 22, 25),
        ("models.vit.seed=[1", "VD004", 17, 18),
        ("title=\x1b[31m", "VD012", 7, 8),
        ("data=null", "VD102", 6, 10),
        ("extends=./x.yaml", "VD103", 1, 8),
        ("seed=1e999", "VD011", 6, 11),
    ],
)
def test_errors_point_into_the_argument(argument, code, column, end):
    with pytest.raises(StudyError) as error:
        load_text(SMALL, overrides=[argument])
    one = error.value.diagnostics[0]
    assert (one.code, one.span.file, one.span.line) == (code, "--set", 1)
    assert (one.span.column, one.span.end_column) == (column, end)
    assert one.span.source_line == argument


def test_overrides_as_a_mapping_and_in_order():
    study = load_text(SMALL, overrides={"seed": 2, "models.vit.options": {"a": [1.5, None]}}).study
    assert study.seed == 2 and study.models["vit"].options == {"a": [1.5, None]}
    assert load_text(SMALL, overrides=["seed=1", "seed=2"]).study.seed == 2
    with pytest.raises(StudyError) as error:
        load_text(SMALL, overrides=["seed=a", "title=3"])
    assert [one.span.file for one in error.value.diagnostics] == ["--set #1", "--set #2"]


RECIPE = """\
vitdsl: 1
recipe: mine
train:
  data: {source: digits, split: train, images: 256}
  epochs: 7
  augment: {hflip: 0.5}
"""


def test_a_recipe_is_written_out_under_the_fields_of_the_study(tmp_path):
    (tmp_path / "mine.yaml").write_text(RECIPE)
    study = tmp_path / "study.yaml"
    study.write_text(
        SMALL.replace(
            "weights: random", "train: {recipe: ./mine.yaml, data: {images: 8}, augment: {vflip: 1}}"
        )
    )
    loaded = load_source(study)
    train = loaded.study.models["vit"].train
    assert train.recipe is None and train.epochs == 7
    assert train.data.images == 8 and train.data.params == {"split": "train"}
    assert (train.augment.hflip, train.augment.vflip) == (0.5, 1.0)
    assert loaded.source.origin(("models", "vit", "train", "epochs")) == "recipe mine:5"
    assert load_recipe(tmp_path / "mine.yaml").train.epochs == 7
    assert is_recipe(RECIPE, "r") and not is_recipe(SMALL, "s")
    assert load(study, overrides=["models.vit.train.epochs=1"]).models["vit"].train.epochs == 1


def test_an_error_in_a_recipe_points_into_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(RECIPE.replace("epochs: 7", "epohcs: 7"))
    study = tmp_path / "study.yaml"
    study.write_text(SMALL.replace("weights: random", "train: {recipe: ./mine.yaml}"))
    for attempt in (lambda: load(study), lambda: load_recipe(tmp_path / "mine.yaml")):
        with pytest.raises(StudyError) as error:
            attempt()
        one = error.value.diagnostics[0]
        assert (one.code, Path(one.span.file).name, one.span.line) == ("VD103", "mine.yaml", 5)


@pytest.mark.parametrize("text", ["a: 1", RECIPE.replace("train:", "trian:"), RECIPE + "  recipe: other\n"])
def test_what_is_no_recipe(text, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    study = tmp_path / "study.yaml"
    study.write_text(SMALL.replace("weights: random", "train: {recipe: ./mine.yaml}"))
    with pytest.raises(StudyError, match="VD017"):
        load(study)
