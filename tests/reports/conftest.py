"""The synthetic run, and its page, for all tests of the report."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vitdsl.reports.render import render
from vitdsl.runtime.results.folder import Run


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reports_sample", Path(__file__).with_name("sample.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module `sample.py`."""
    return _load()


@pytest.fixture(scope="session")
def run(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The default study's run."""
    built: Run = made.sample(tmp_path_factory.mktemp("run"))
    return built


@pytest.fixture(scope="session")
def page(run: Run) -> str:
    """Its page."""
    return render(run)
