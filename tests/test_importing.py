"""Imports of what is large: no search for garbage meanwhile, what came is set aside, and all is as before after it."""

import gc
import subprocess
import sys

import pytest

from vitdsl.importing import importing, seldom


def test_nobody_looks_for_garbage_meanwhile_and_what_came_is_set_aside() -> None:
    """In a process of its own: 200,000 lists would be looked through some hundred times."""
    code = (
        "import gc; from vitdsl.importing import importing\n"
        "searches = lambda: sum(one['collections'] for one in gc.get_stats())\n"
        "with importing():\n"
        "    before = searches(); import email.mime.text, xml.dom.minidom\n"
        "    kept = [[] for _ in range(200_000)]; assert searches() == before\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 200_000"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_nothing_is_imported_nothing_is_set_aside() -> None:
    """Garbage that is set aside is never given back: a process that imports again and again would grow."""
    there = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        import sys  # noqa: F401
    assert gc.isenabled() and gc.get_freeze_count() == there


def test_after_an_import_that_fails_garbage_is_looked_for_again() -> None:
    with pytest.raises(ImportError), importing():
        import vitdsl.there_is_no_such_module  # noqa: F401
    assert gc.isenabled()


def test_where_garbage_was_not_looked_for_it_stays_so() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_garbage_is_looked_for_as_often_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), seldom():
        assert gc.get_threshold()[0] > before[0] and gc.isenabled()
        raise KeyError
    assert gc.get_threshold() == before
