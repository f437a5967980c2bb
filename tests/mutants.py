"""One slip at any node of a study: what tests of mistakes share. Models are built once for each architecture."""

import copy
import os
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.emit import block
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.study import Model
from vitdsl.runtime.plan import bind as binding

OTHERS = [None, True, 7, -1.5, "text", "", [], {}, ["a", 1], {"a": 1}, {"from": 1}, [[]]]
SHARE = int(os.environ.get("VITDSL_MUTANTS", "40"))
"""One of so many mutants is taken; `VITDSL_MUTANTS=1` walks all, in hours."""

Path_ = tuple[str | int, ...]
Change = Callable[[Any, Any, Any], str | None]
_BUILT: dict[str, tuple[Any, VitdslError | None]] = {}


def place_of_studies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go where shipped studies bind: images for the study of a folder, and each architecture built once."""
    (folder / "photos").mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / "photos" / f"{index}.png")
    monkeypatch.chdir(folder)
    _build_once(monkeypatch)


def _build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skeletons and sites by architecture and options."""
    skeleton, sites_of = binding.skeleton, binding.sites_of

    def once(key: str, make: Callable[[], Any]) -> Any:
        if key not in _BUILT:
            try:
                _BUILT[key] = make(), None
            except VitdslError as error:
                _BUILT[key] = None, error
        value, error = _BUILT[key]
        if error is not None:
            raise error
        return value

    def key_of(model: Model) -> str:
        fields = model.model_dump(mode="json", include={"arch", "options", "input_size"})
        return canonical(fields) + str(model.weights == "pretrained")

    monkeypatch.setattr(binding, "skeleton", lambda model: once(key_of(model), lambda: skeleton(model)))
    monkeypatch.setattr(
        binding,
        "sites_of",
        lambda module, size, **more: once(f"{id(module)} {size}", lambda: sites_of(module, size, **more)),
    )


def nodes(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every node below the top."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield from nodes(inner, (*path, key))


def at(data: Any, path: Path_) -> Any:
    """The value at a path."""
    for part in path:
        data = data[part]
    return data


def mutants(data: Any) -> Iterator[tuple[str, Path_, str]]:
    """What was done, where, and the text."""
    for path in nodes(data):
        for what, change in changes(data, path):
            if zlib.crc32(f"{what}{path}".encode()) % SHARE:
                continue
            mutant = copy.deepcopy(data)
            text = change(mutant, at(mutant, path[:-1]), path[-1])
            if text is not None:
                yield what, path, text


def changes(data: Any, path: Path_) -> Iterator[tuple[str, Change]]:
    """Every way to spoil one node: a function of the copied study, the node's parent and its last key."""

    def delete(whole: Any, parent: Any, last: Any) -> str:
        del parent[last]
        return block(whole)

    def doubled(whole: Any, parent: Any, last: Any) -> str:
        parent[f"{last}__again"] = parent[last]
        return block(whole).replace("__again", "")

    def renamed(name: str) -> Change:
        def change(whole: Any, parent: Any, last: Any) -> str | None:
            items = [(name if key == last else key, value) for key, value in parent.items()]
            parent.clear()
            parent.update(items)
            return block(whole) if name != last else None

        return change

    def retyped(value: Any) -> Change:
        def change(whole: Any, parent: Any, last: Any) -> str:
            parent[last] = copy.deepcopy(value)
            return block(whole)

        return change

    def moved(seed: int) -> Change:
        def change(whole: Any, parent: Any, last: Any) -> str | None:
            value = parent.pop(last)
            homes = [home for home in [(), *nodes(whole)] if isinstance(at(whole, home), dict)]
            home = at(whole, random.Random(f"{path}{seed}").choice(homes))
            if str(last) in home:
                return None
            home[str(last)] = value
            return block(whole)

        return change

    yield "delete", delete
    for value in OTHERS:
        yield f"retype {value!r}", retyped(value)
    for seed in range(3):
        yield f"move {seed}", moved(seed)
    last = path[-1]
    if isinstance(last, str):
        yield "double", doubled
        for name in (f"{last}x", last[1:] + last[:1], last.upper()):
            yield f"rename {name}", renamed(name)
