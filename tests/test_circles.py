"""No module of the project imports another in a circle, and the helper that says so finds one."""

import pytest

import circles


def test_the_project_has_no_import_circle():
    assert circles.circles(circles.FOLDERS) == []


@pytest.fixture
def made_up(tmp_path):
    def make(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return circles.circles({"p": tmp_path})

    return make


def test_a_circle_is_found_also_through_functions(made_up):
    found = made_up(
        a="import p.b",
        b="def f():\n    from p import c",
        c="class C:\n    def f(self):\n        if self:\n            from p.a import x",
        d="from p.a import x",
        e="import p.e",
    )
    assert found == [["p.a", "p.b", "p.c"], ["p.e"]]


def test_types_and_straight_lines_are_no_circle(made_up):
    found = made_up(
        __init__="",
        a="import os\nfrom p.b import x\nfrom p.sub.c import y",
        b="import typing\nfrom typing import TYPE_CHECKING\nif typing.TYPE_CHECKING:\n    import p.a",
        sub__in____init__="from p.sub.c import y",
        sub__in__c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import x\nelse:\n    x = 1",
    )
    assert found == []


def test_the_other_branch_counts(made_up):
    checking = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import os\nelse:\n    import p.a"
    assert made_up(a="import p.b", b=checking) == [["p.a", "p.b"]]
