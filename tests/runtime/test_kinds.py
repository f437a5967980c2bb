"""The registries: what is found, what is refused, and what each kind says of itself."""

import importlib
import importlib.metadata
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.dsl.study import Entry
from vitdsl.runtime import kinds
from vitdsl.runtime.ablations._base import ABLATIONS, Ablation
from vitdsl.runtime.data.sources._base import SOURCES, Source
from vitdsl.runtime.kinds import Registry
from vitdsl.runtime.metrics._base import METRICS, Metric, Seen

ALL = [(registry, name) for registry in (METRICS, ABLATIONS, SOURCES) for name in registry.kinds()]


def files(registry: Registry[Any]) -> set[str]:
    folder = Path(str(importlib.import_module(registry.package).__file__)).parent
    return {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}


@pytest.mark.parametrize("registry", [METRICS, ABLATIONS, SOURCES], ids=lambda registry: registry.section)
def test_every_file_is_a_kind_of_its_name(registry: Registry[Any]) -> None:
    found = registry.kinds()
    assert set(found) == files(registry) and list(found) == sorted(found)
    for name, kind in found.items():
        assert kind.name == name and kind.__module__ == f"{registry.package}.{name}"
        assert issubclass(kind, registry.base)


def test_the_kinds_that_must_be_there() -> None:
    assert {"accuracy", "cka", "skip_ratio", "attention_distance"} <= set(METRICS.kinds())
    assert {"remove_skip", "remove_branch"} <= set(ABLATIONS.kinds())
    assert {"digits", "folder", "timm", "noise"} <= set(SOURCES.kinds())


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[f"{r.section}-{n}" for r, n in ALL])
def test_every_kind_explains_itself(registry: Registry[Any], name: str) -> None:
    kind, page = registry.kinds()[name], kinds.explain(name)
    assert page is not None and kinds.documentation(kind) in page
    first = kinds.summary(kind)
    assert first.endswith(".") and 20 < len(first) < 120 and page.count("\nExample:\n") >= 1
    assert "Undefined" not in page, "a default that pydantic does not have"
    for field, info in kinds.parameters(kind).items():
        assert f"\n  {field}: " in page and info.description, f"{field} has no description"
    if issubclass(kind, Metric):
        for value in kind.VALUES:
            assert re.search(rf"\n  {value}( \[.+\])?: ", page)
        assert kind.reference


def test_no_such_kind() -> None:
    assert kinds.explain("no_such_kind") is None


METRIC = '''"""A metric of somewhere else.

Example:
    metrics: {}
"""
from vitdsl.runtime.metrics._base import Metric, Value
from vitdsl.runtime.metrics._output import OUTPUT

class Other(Metric):
    name = "NAME"
    VALUES = {"v": Value((), "something")}
    def reducer(self): return OUTPUT
    def observe(self, seen): return {}
    def estimate(self, statistics, sites): return {}
'''
ABLATION = '''"""An ablation of somewhere else."""
from vitdsl.runtime.ablations._base import Ablation

class Another(Ablation):
    name = "NAME"
    roles = ("skip",)
    def rewrite(self, place, build): return build.before
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package of kinds, importable as `made_up_kinds`."""
    folder = tmp_path / "made_up_kinds"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("made_up_kinds", "a_plugin")]:
        del sys.modules[name]


@pytest.fixture
def registry() -> Iterator[Registry[Metric]]:
    before = dict(Registry.all)
    yield Registry("metrics of a test", "made_up_kinds", Metric)
    Registry.all.clear()
    Registry.all.update(before)


def test_a_file_is_all_that_a_kind_takes(package: Path, registry: Registry[Metric]) -> None:
    (package / "fresh.py").write_text(METRIC.replace("NAME", "fresh"))
    (package / "_helper.py").write_text(METRIC.replace("NAME", "hidden"))
    found = registry.kinds()
    assert list(found) == ["fresh"]
    assert kinds.summary(found["fresh"]) == "A metric of somewhere else."


def test_a_name_that_is_not_the_files(package: Path, registry: Registry[Metric]) -> None:
    (package / "fresh.py").write_text(METRIC.replace("NAME", "stale"))
    with pytest.raises(RuntimeError, match=r"made_up_kinds\.fresh defines 'stale': the file's name"):
        registry.kinds()


def test_two_kinds_of_one_name(package: Path, registry: Registry[Metric]) -> None:
    (package / "fresh.py").write_text(METRIC.replace("NAME", "fresh"))
    (package / "other.py").write_text(METRIC.replace("NAME", "fresh"))
    with pytest.raises(
        RuntimeError, match=r"two metrics of a test are named 'fresh': made_up_kinds\.fresh, .*other"
    ):
        registry.kinds()


def test_a_file_that_does_not_import(package: Path, registry: Registry[Metric]) -> None:
    (package / "fresh.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        registry.kinds()


def test_an_abstract_class_is_no_kind(package: Path, registry: Registry[Metric]) -> None:
    source = METRIC.replace("NAME", "fresh") + "\nclass Half(Metric):\n    name = 'half'\n"
    (package / "fresh.py").write_text(source)
    assert list(registry.kinds()) == ["fresh"]


def plugin(monkeypatch: pytest.MonkeyPatch, value: str = "a_plugin") -> None:
    point = importlib.metadata.EntryPoint("made", value, kinds.PLUGINS)

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        assert group == "vitdsl.plugins"
        return [point]

    monkeypatch.setattr(kinds, "entry_points", entry_points)


@pytest.mark.parametrize("value", ["a_plugin", "a_plugin:Other"])
def test_a_plugin_brings_kinds_of_every_sort(
    package: Path, registry: Registry[Metric], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (package / "fresh.py").write_text(METRIC.replace("NAME", "fresh"))
    both = METRIC.replace("NAME", "foreign") + ABLATION.replace("NAME", "cut")
    (package.parent / "a_plugin.py").write_text(both)
    plugin(monkeypatch, value)
    assert list(registry.kinds()) == ["foreign", "fresh"]
    cuts: Registry[Ablation] = Registry("ablations of a test", "made_up_kinds", Ablation)
    assert list(cuts.kinds()) == ["cut"]
    sources: Registry[Source] = Registry("sources of a test", "made_up_kinds", Source)
    assert sources.kinds() == {}


def test_a_plugin_cannot_replace_a_kind(
    package: Path, registry: Registry[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "fresh.py").write_text(METRIC.replace("NAME", "fresh"))
    (package.parent / "a_plugin.py").write_text(METRIC.replace("NAME", "fresh"))
    plugin(monkeypatch)
    with pytest.raises(RuntimeError, match=r"named 'fresh': made_up_kinds\.fresh, a_plugin"):
        registry.kinds()


def test_a_plugin_that_does_not_import_is_named(
    package: Path, registry: Registry[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    (package.parent / "a_plugin.py").write_text("raise ValueError('half installed')\n")
    plugin(monkeypatch)
    with pytest.raises(
        EnvironmentProblem, match=r"^VD413 plugin `made` \(module `a_plugin`\) cannot be imported"
    ) as caught:
        registry.kinds()
    assert caught.value.diagnostics[0].notes == ("ValueError: half installed",)
    assert str(caught.value.__cause__) == "half installed"


def test_an_error_of_a_plugins_code_names_it(
    package: Path, registry: Registry[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = METRIC.replace("NAME", "foreign").replace("return {}", "raise ValueError('a slip')", 1)
    (package.parent / "a_plugin.py").write_text(both)
    plugin(monkeypatch)
    metric = registry.kinds()["foreign"](Entry())
    with pytest.raises(ValueError, match="a slip") as caught:
        metric.observe(Seen(()))
    found = kinds.plugin_of("".join(traceback.format_exception(caught.value)))
    assert found is not None and (found.name, found.module) == ("made", "a_plugin")
    with pytest.raises(TypeError) as ours:
        registry.find(3)  # type: ignore[arg-type]
    assert kinds.plugin_of("".join(traceback.format_exception(ours.value))) is None


def test_kinds_of_two_sorts_may_share_a_name(
    package: Path, registry: Registry[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "shared.py").write_text(METRIC.replace("NAME", "shared"))
    second = package.parent / "a_plugin"
    second.mkdir()
    (second / "__init__.py").write_text("")
    (second / "shared.py").write_text(ABLATION.replace("NAME", "shared"))
    Registry("ablations of a test", "a_plugin", Ablation)
    page = kinds.explain("shared")
    assert (
        page is not None
        and "A metric of somewhere else." in page
        and "An ablation of somewhere else." in page
    )
