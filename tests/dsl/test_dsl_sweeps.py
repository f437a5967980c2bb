"""Sweeps: order, names, fields in place, axes that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Ablation, Data, Model, Train
from vitdsl.dsl.sweeps import variants


def test_no_axes_is_one_variant():
    model = Model(arch="a", weights="random")
    assert [(one.name, one.entry, one.coordinates) for one in variants("vit", model)] == [("vit", model, {})]


def test_cross_product_with_the_first_axis_slowest():
    entry = Ablation(
        kind="scale_branch", of="vit", factor=1.0, vary={"factor": [0.0, 0.5], "at": ["a", ["b", "c"]]}
    )
    found = variants("scaled", entry)
    assert [one.name for one in found] == [
        "scaled[factor=0.0,at=a]",
        'scaled[factor=0.0,at=["b","c"]]',
        "scaled[factor=0.5,at=a]",
        'scaled[factor=0.5,at=["b","c"]]',
    ]
    assert found[3].entry.params == {"factor": 0.5} and found[3].entry.at == ("b", "c")
    assert found[3].coordinates == {"factor": 0.5, "at": ["b", "c"]}
    assert all(one.entry.vary == {} for one in found)


def test_deep_fields_options_and_nulls():
    model = Model(
        arch="a",
        train=Train(data=Data(source="digits"), epochs=3),
        vary={
            "train.fraction": [0.1, 1],
            "options.depth": [2],
            "train.clip_grad": [None],
            "train.data.split": ["x"],
        },
    )
    found = variants("vit", model)
    assert found[0].name == "vit[train.fraction=0.1,options.depth=2,train.clip_grad=null,train.data.split=x]"
    assert found[1].entry.train.fraction == 1.0 and found[1].entry.train.epochs == 3
    assert found[0].entry.options == {"depth": 2}
    assert found[0].entry.train.data.params == {"split": "x"}
    assert model.train.fraction == 1.0


@pytest.mark.parametrize(
    ("vary", "code"),
    [
        ({"sed": [1]}, "VD207"),
        ({"train.fracton": [1]}, "VD207"),
        ({"vary": [{}]}, "VD207"),
        ({"arch.x": [1]}, "VD207"),
        ({"seed": [1, 1]}, "VD208"),
        ({"seed": [-1]}, "VD105"),
        ({"seed": ["1"]}, "VD102"),
        ({"weights": ["pretraned"]}, "VD104"),
        ({"train.epochs": [0]}, "VD105"),
    ],
)
def test_axes_that_are_refused(vary, code):
    with pytest.raises(StudyError) as error:
        variants("vit", Model(arch="a", weights="random", vary=vary))
    assert [one.code for one in error.value.diagnostics] == [code]


def test_data_and_its_parameters_vary():
    found = variants("probe", Data(source="noise", vary={"images": [1, 2], "std": [0.5]}))
    assert [(one.entry.images, one.entry.params) for one in found] == [(1, {"std": 0.5}), (2, {"std": 0.5})]


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(), min_size=1, max_size=3, unique=True)))
def test_count_and_uniqueness(axes):
    found = variants(
        "m", Model(arch="a", weights="random", vary={f"options.{k}": v for k, v in axes.items()})
    )
    count = 1
    for values in axes.values():
        count *= len(values)
    assert len({one.name for one in found}) == len(found) == count
