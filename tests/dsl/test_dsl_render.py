"""How diagnostics look: carets under tabs, wide characters and long lines; four formats; the cap."""

import json

import pytest

from vitdsl.dsl.diagnostics import Diagnostic, Span
from vitdsl.dsl.render import render


def span(line, start, end, number=7, file="a.yaml"):
    return Span(file, number, start, number, end, line)


def marked(line, start, end):
    """What stands above the caret, by column of the screen."""
    text = render([Diagnostic("VD102", "wrong", span(line, start, end))])
    source, caret = text.splitlines()[3:5]
    return source[4:], caret[4:]


@pytest.mark.parametrize(
    ("line", "start", "end", "shown", "caret"),
    [
        ("a: bcd", 4, 7, "a: bcd", "   ^^^"),
        ("\ta: b", 2, 3, "    a: b", "    ^"),
        ("a\tb: c", 3, 4, "a   b: c", "    ^"),
        ("日本: x", 5, 6, "日本: x", "      ^"),
        ("日本: x", 1, 3, "日本: x", "^^^^"),
        ("e\u0301: x", 5, 6, "e\u0301: x", "   ^"),
        ("a: \x1b[31m", 4, 5, "a: \\x1b[31m", "   ^^^^"),
        ("a:", 3, 3, "a:", "  ^"),
        ("a: b\r", 4, 5, "a: b\\x0d", "   ^"),
    ],
)
def test_carets(line, start, end, shown, caret):
    assert marked(line, start, end) == (shown, caret)


def test_a_long_line_is_cut_around_the_caret():
    shown, caret = marked("a: " + "x" * 300 + "HERE" + "y" * 300, 304, 308)
    start = caret.index("^")
    assert shown[start : start + 4] == "HERE" and len(shown) < 125
    assert shown.startswith("... ") and shown.endswith(" ...")


def test_a_span_over_several_lines_marks_the_first():
    one = Diagnostic("VD102", "wrong", Span("a.yaml", 2, 3, 9, 1, "a: [1,"))
    assert render([one]).splitlines()[4] == "  |   ^^^^"


BOTH = Diagnostic(
    "VD205",
    "it is 100% wrong, and\there",
    span("b: c", 4, 5, 12),
    "here",
    ("do, this: now",),
    ("note",),
    ((span("a: c", 1, 2, 3, "b,c:.yaml"), "there"),),
)


def test_full():
    assert (
        render([BOTH])
        == """\
error[VD205]: it is 100% wrong, and\\x09here
  --> a.yaml:12:4
   |
12 | b: c
   |    ^ here
  ::: b,c:.yaml:3:1
   |
 3 | a: c
   | - there
   |
   = help: do, this: now
   = note: note
   = note: run `vitdsl explain VD205`

found 1 error in a.yaml"""
    )


def test_concise_and_github():
    assert render([BOTH], "concise") == "a.yaml:12:4: VD205 it is 100% wrong, and\\x09here"
    assert render([BOTH], "github") == (
        "::error file=a.yaml,line=12,endLine=12,col=4,endColumn=5,title=VD205::"
        "it is 100%25 wrong, and\\x09here%0Ahelp: do, this: now"
    )
    other = Diagnostic("VD401", "no\nplace", span("", 1, 1, 1, "a,b:c%.yaml"))
    assert render([other], "github").startswith("::error file=a%2Cb%3Ac%25.yaml,line=1")
    assert "\n" not in render([other], "github")


def test_json_holds_everything():
    found = json.loads(render([BOTH], "json"))
    assert found["schema"] == "vitdsl.diagnostics/1" and found["count"] == 1
    one = found["diagnostics"][0]
    assert one["place"] == {"file": "a.yaml", "line": 12, "column": 4, "end_line": 12, "end_column": 5}
    assert one["secondary"][0]["label"] == "there" and one["help"] == ["do, this: now"]
    assert json.loads(render([], "json"))["diagnostics"] == []


def test_without_a_place():
    one = Diagnostic("VD408", "no device `cuda:7`", notes=("at `x`",))
    assert render([one]) == (
        "error[VD408]: no device `cuda:7`\n  = note: at `x`\n"
        "  = note: run `vitdsl explain VD408`\n\nfound 1 error"
    )
    assert render([one], "concise") == "VD408 no device `cuda:7`"


def test_the_cap():
    many = [Diagnostic("VD103", f"wrong {n}", span("a: b", 1, 2, n + 1)) for n in range(27)]
    text = render(many)
    assert text.count("error[") == 20 and "+7 more, see them with --all" in text
    assert text.endswith("found 27 errors in a.yaml")
    assert render(many, everything=True).count("error[") == 27
    assert len(render(many, "concise").splitlines()) == 21
    assert len(json.loads(render(many, "json"))["diagnostics"]) == 27


def test_styles_do_not_change_the_text():
    import re

    styled = render([BOTH], style=lambda text, name: f"\x1b[1m{text}\x1b[0m")
    assert re.sub(r"\x1b\[\dm", "", styled) == render([BOTH])
