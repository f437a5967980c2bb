"""A browser for tests that open a page; where there is none they are skipped, and fail where the gate says there is."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
NEEDED = "VITDSL_NEEDS_CHROMIUM"
"""Set by `.ci/run` where Chromium is there."""


@contextmanager
def opened() -> Iterator[Any]:
    """Chromium, started."""
    try:
        from playwright import sync_api
    except ImportError as error:
        absent(f"playwright is not installed: {error}")
    if CHROMIUM is None:
        absent("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except sync_api.Error as error:
            absent(f"Chromium does not start: {error}")
        yield browser
        browser.close()


def absent(why: str) -> NoReturn:
    """Skip a test that needs what is not there; fail where it is needed."""
    if os.environ.get(NEEDED):
        pytest.fail(f"{NEEDED} is set, and {why}")
    pytest.skip(why)
