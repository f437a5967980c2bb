"""Selectors against a naive reference made of regular expressions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitdsl.dsl.selectors import SelectorError, check, match, nearest, parse

VIT = [
    "",
    "patch_embed",
    "patch_embed.proj",
    "blocks",
    *(
        f"blocks.{i}{rest}"
        for i in range(12)
        for rest in ("", ".attn", ".attn.qkv", ".attn.proj", ".mlp", ".mlp.fc1")
    ),
    "norm",
    "head",
]
RESNET = ["conv1", *(f"layer{s}.{b}{r}" for s in range(1, 5) for b in range(2) for r in ("", ".conv1"))]


@pytest.mark.parametrize(
    ("selectors", "names", "found"),
    [
        (["blocks.*"], VIT, [f"blocks.{i}" for i in range(12)]),
        (["blocks[0:3]"], VIT, ["blocks.0", "blocks.1", "blocks.2"]),
        (["blocks[-1]"], VIT, ["blocks.11"]),
        (["blocks[-2:]"], VIT, ["blocks.10", "blocks.11"]),
        (["blocks[::6]"], VIT, ["blocks.0", "blocks.6"]),
        (["blocks[3].attn"], VIT, ["blocks.3.attn"]),
        (["blocks[99]"], VIT, []),
        (["blocks[-1].{attn,mlp.fc1}"], VIT, ["blocks.11.attn", "blocks.11.mlp.fc1"]),
        (["blocks.[3-4].attn"], VIT, ["blocks.3.attn", "blocks.4.attn"]),
        (["blocks.?"], VIT, [f"blocks.{i}" for i in range(10)]),
        (["blocks.1?"], VIT, ["blocks.10", "blocks.11"]),
        (["**.qkv", "!blocks.[2-9].**", "!blocks.1?.**"], VIT, ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]),
        (["!norm", "norm", "head"], VIT, ["head"]),
        (["**"], VIT, VIT[1:]),
        (["blocks.**"], VIT, [name for name in VIT if name.startswith("blocks")]),
        (["layer[2-3].*"], RESNET, ["layer2.0", "layer2.1", "layer3.0", "layer3.1"]),
        (["layer*[-1]"], RESNET, [f"layer{s}.1" for s in range(1, 5)]),
        (["layer{1,4}.0"], RESNET, ["layer1.0", "layer4.0"]),
        (["head", "patch_*"], VIT, ["patch_embed", "head"]),
        ([""][:0], VIT, []),
        (["f:1"], ["f", "f:1", "f:2"], ["f:1"]),
        (["f:?", "!f:1"], ["f", "f:1", "f:2"], ["f:2"]),
        (["f"], ["f", "f:1"], ["f"]),
        (["b[-1].f:1"], ["b.0.f:1", "b.1.f", "b.1.f:1"], ["b.1.f:1"]),
    ],
)
def test_what_selectors_pick(selectors, names, found):
    assert match(selectors, names) == found


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("", 0, 0),
        ("!", 0, 1),
        ("a..b", 1, 2),
        (".a", 0, 1),
        ("a.", 1, 2),
        ("a**", 1, 3),
        ("a.[6-11]", 2, 8),
        ("a[z-b]", 1, 6),
        ("a[0:2", 1, 5),
        ("a[1]b", 1, 4),
        ("[0]", 0, 3),
        ("a[0:4:0]", 1, 8),
        ("a,b", 1, 2),
        ("{a,b", 0, 1),
        ("a}", 1, 2),
        ("{a,{b,c}}", 3, 4),
        ("{a,}", 0, 1),
        ("a b", 1, 2),
        ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", 30, 35),
        ("a" * 501, 0, 501),
    ],
)
def test_errors_point_at_the_characters(text, start, end):
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert (caught.value.start, caught.value.end) == (start, end)


def test_a_list_that_only_leaves_out():
    with pytest.raises(SelectorError, match="leaves out"):
        check(["!a", "!b"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("blocks.*.atn", "blocks.*.attn"),
        ("block.*", "blocks.*"),
        ("blocks.3.atn", "blocks.3.attn"),
        ("blocks[0:6].mpl", "blocks.*.mlp"),
        ("blokcs[3]", "blocks.*"),
        ("patchembed", "patch_embed"),
        ("heads", "head"),
    ],
)
def test_nearest(text, found):
    assert nearest(text, VIT)[0] == found
    assert len(nearest(text, VIT, 2)) <= 2


PIECES = st.sampled_from(["*", "**", "a", "b*", "?", "[a-b]1", "[0-1]", "1", "{a,b}1", "a1", "*1*"])
NAMES = st.lists(st.sampled_from(["a", "b", "a1", "b1", "0", "1", "2", "10"]), min_size=1, max_size=4).map(
    ".".join
)


def reference(selector, name):
    """Each part as a regular expression; `**` as a run of parts."""
    pattern = ""
    for part in selector.split("."):
        if part == "**":
            pattern += r"(?:[^.]+\.)*"
            continue
        words = re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
        words = re.sub(r"\\\[(.)\\-(.)\\\]", r"[\1-\2]", words)
        words = re.sub(r"\\\{(.*?)\\\}", lambda m: "(?:" + m.group(1).replace(",", "|") + ")", words)
        pattern += words + r"\."
    return re.fullmatch(pattern, name + ".") is not None


@given(st.lists(PIECES, min_size=1, max_size=4).map(".".join), st.lists(NAMES, unique=True, max_size=12))
def test_globs_agree_with_regular_expressions(selector, names):
    assert match([selector], names) == [name for name in names if reference(selector, name)]
    assert match(["**", "!" + selector], names) == [name for name in names if not reference(selector, name)]


BOUND = st.one_of(st.none(), st.integers(-6, 6))


@given(
    BOUND,
    BOUND,
    st.one_of(st.none(), st.integers(-3, 3).filter(bool)),
    st.sets(st.integers(0, 12), max_size=6),
)
def test_positions_are_those_of_a_python_list(start, stop, step, numbers):
    names = [f"blocks.{n}.attn" for n in sorted(numbers)]
    written = ":".join("" if one is None else str(one) for one in (start, stop))
    written += "" if step is None else f":{step}"
    picked = set(names[slice(start, stop, step)])
    assert match([f"blocks[{written}].attn"], names) == [name for name in names if name in picked]


@given(st.text(alphabet="ab1.*?[]{}-:,!_ é", max_size=20))
def test_any_text_parses_or_says_where_not(text):
    try:
        parse(text)
        match([text], ["a", "a.b", "a.1.b"])
    except SelectorError as error:
        assert 0 <= error.start <= error.end <= max(len(text), 1)
