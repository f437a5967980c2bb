"""The files that a run reads, as far as they can be told: where none of them changed, neither did its numbers.

Owns which files those are. Does not own how a change is seen (`vitdsl.runtime.results.program`), or what follows from
there being none (`vitdsl.unchanged`). What another package brings, and data sets that fetch, may read anything.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vitdsl.dsl.study import Data, Model, WeightsFile, WeightsHub
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.models import plugins
from vitdsl.runtime.models.architectures import family_of
from vitdsl.runtime.models.weight_files import ADAPTER_CONFIG, CONFIGS, INDEX, SUFFIXES
from vitdsl.runtime.paths import expanded
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.train.store import user_store


class _Unknown(Exception):
    """Which files are read is not known."""


def files_of(plan: Plan, manifest: Manifest) -> tuple[Path, ...] | None:
    """The files and folders that a run read beside its study; None where that is not known.

    Args:
        plan: What ran.
        manifest: What its run says, for where trained weights were found.
    """
    try:
        if not all(map(_ours, _kinds(plan))):
            return None
        found = [path for entry in plan.data.values() for path in _of_data(plan, entry)]
        found += [path for one in plan.own_models.values() for path in _of_model(plan, one.entry)]
    except _Unknown:
        return None
    details = (
        model.weights.detail for model in manifest.models.values() if model.weights.source == "trained"
    )
    trained = [Path(str(detail["file"])) for detail in details if "file" in detail]
    found += [path for one in trained for path in (one, user_store() / one.name)]
    return tuple(dict.fromkeys(path.absolute() for path in found))


def _ours(kind: type) -> bool:
    """Whether a kind comes with the program."""
    return kind.__module__.startswith("vitdsl.runtime.")


def _kinds(plan: Plan) -> Iterator[type]:
    yield from (type(group.kind) for one in plan.passes for group in one.groups)
    for model in plan.models.values():
        edits = (*model.always, *(edit for condition in model.conditions for edit in condition.edits))
        yield from (type(edit.kind) for edit in edits)


def _of_data(plan: Plan, entry: Data) -> Iterator[Path]:
    kind = SOURCES.find(entry.source)
    if not _ours(kind) or not kind.is_local(entry.params):
        raise _Unknown
    named = [list(_values(entry.params, field.split("."))) for field in kind.paths]
    if named and not named[0]:
        raise _Unknown
    for nth, text in enumerate(text for texts in named for text in texts):
        path = plan.loaded.folder / expanded(text)
        part = path / str(entry.params.get("split"))
        yield part if nth == 0 and part.is_dir() else path


def _values(params: Mapping[str, Any], field: Iterable[str]) -> Iterator[str]:
    """The paths that a field holds; none where it is not given, or holds something else."""
    here: Any = params
    for part in field:
        here = here.get(part) if isinstance(here, Mapping) else None
    yield from [here] if isinstance(here, str) else here if isinstance(here, (list, tuple)) else ()


def _of_model(plan: Plan, entry: Model) -> Iterator[Path]:
    if entry.given or plugins.is_named(entry.what):
        raise _Unknown
    if not entry.features and not family_of(entry.arch).startswith("timm."):
        raise _Unknown  # timm has it from elsewhere
    texts = [entry.features] if entry.features else []
    if isinstance(entry.weights, WeightsFile):
        texts.append(entry.weights.file)
    if isinstance(entry.weights, (WeightsFile, WeightsHub)) and entry.weights.adapter:
        texts.append(entry.weights.adapter)
    for text in texts:
        path = plan.loaded.folder / expanded(text)
        yield path
        if not path.is_dir():
            yield from (path.parent / name for name in (*CONFIGS, ADAPTER_CONFIG))
        if path.name.endswith(INDEX):
            yield from sorted(one for one in path.parent.iterdir() if one.suffix in SUFFIXES)
