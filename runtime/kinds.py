"""What a registry of kinds is: the kinds of one sort, found by folder scan, and what each says of itself.

A kind is one file in its folder, named as the kind, holding one class that derives from the folder's base.
Its module docstring is its documentation: `vitdsl explain`, `vitdsl list`, the JSON Schema and the report's
footnotes all read it. Packages outside bring kinds through the entry-point group `vitdsl.plugins`: each entry
point names a module with such classes. A plugin that fails to import is a problem of the machine (VD413), and an
error of its code names it (`plugin_of`). A file that fails to import, a wrong name or a second kind of one name is an
error of whoever wrote it.

Does not own: which sorts there are. Each has its registry beside its base class: `METRICS` in `metrics/_base`,
`ABLATIONS` in `ablations/_base`, `SOURCES` in `sources/_base`.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.shape import written
from vitdsl.dsl.study import Entry
from vitdsl.dsl.text import did_you_mean, shown

PLUGINS = "vitdsl.plugins"
T = TypeVar("T")


class Registry(Generic[T]):
    """The kinds of one sort.

    Attributes:
        all: Every registry by its section.
        section: The sort in the plural, such as `metrics`.
        package: The package to scan.
        base: The class to look for.
        field: The field of an entry that names a kind.
    """

    all: ClassVar[dict[str, "Registry[Any]"]] = {}

    def __init__(self, section: str, package: str, base: Any, field: str = "kind") -> None:
        self.section, self.package, self.field = section, package, field
        self.base: type[T] = base
        Registry.all[section] = self

    def find(self, name: str) -> type[T]:
        """A kind by its name.

        Raises:
            StudyError: There is none (VD220).
        """
        kinds = self.kinds()
        if name not in kinds:
            raise StudyError(
                Diagnostic(
                    "VD220",
                    f"there is no {self.section.removesuffix('s')} `{shown(name)}`",
                    label=f"no such {self.field}",
                    help=(did_you_mean(name, list(kinds)), f"{self.section}: {', '.join(kinds)}"),
                    about=((self.field,),),
                )
            )
        return kinds[name]

    @cache  # noqa: B019  (a registry lives as long as the program)
    def kinds(self) -> dict[str, type[T]]:
        """Every kind by name, sorted."""
        found: dict[str, type[T]] = {}
        for module in self._modules():
            for kind in self._defined(module):
                name = kind.name  # type: ignore[attr-defined]
                if name in found:
                    raise RuntimeError(
                        f"two {self.section} are named {name!r}: {found[name].__module__}, {kind.__module__}"
                    )
                if (
                    module.__name__.startswith(f"{self.package}.")
                    and module.__name__.rpartition(".")[2] != name
                ):
                    raise RuntimeError(
                        f"{module.__name__} defines {name!r}: the file's name is the kind's name"
                    )
                found[name] = kind
        return dict(sorted(found.items()))

    def _modules(self) -> Iterator[ModuleType]:
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith("_"):
                yield importlib.import_module(f"{self.package}.{info.name}")
        for point in entry_points(group=PLUGINS):
            try:
                yield importlib.import_module(point.module)
            except Exception as error:
                raise EnvironmentProblem(unimportable(point, error)) from error

    def _defined(self, module: ModuleType) -> list[type[T]]:
        return [
            member
            for _, member in inspect.getmembers(module, inspect.isclass)
            if issubclass(member, self.base)
            and member.__module__ == module.__name__
            and not inspect.isabstract(member)
        ]


def plugin_of(traceback: str) -> EntryPoint | None:
    """The plugin whose code a traceback speaks of last, or None: the traceback's text, also of another process."""
    found: dict[tuple[int, bool], EntryPoint] = {}
    for point in entry_points(group=PLUGINS):
        package = point.module.partition(".")[0]
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == package:
                place = traceback.rfind(f'File "{getattr(module, "__file__", None)}"')
                found[place, name == point.module] = point
    last = max(found, default=(-1, False))
    return found[last] if last[0] >= 0 else None


def unimportable(point: EntryPoint, error: Exception) -> Diagnostic:
    """What is said of a plugin whose module fails to import."""
    package = f"`{point.dist.name}`" if point.dist else "that brings it"
    return Diagnostic(
        "VD413",
        f"plugin `{shown(point.name)}` (module `{shown(point.module)}`) cannot be imported",
        help=(f"repair or uninstall the package {package}",),
        notes=(f"{type(error).__name__}: {error}",),
    )


def documentation(kind: type[Any]) -> str:
    """The kind's page: the docstring of its module."""
    return inspect.cleandoc(inspect.getmodule(kind).__doc__ or "")


def summary(kind: type[Any]) -> str:
    """The first line of the kind's page."""
    return documentation(kind).partition("\n")[0]


def parameters(kind: type[Any]) -> dict[str, FieldInfo]:
    """The kind's own fields by the name that they have in a study."""
    params: type[Entry] = kind.Params
    return {written(name, field): field for name, field in params.model_fields.items()}


def explain(name: str) -> str | None:
    """The page of a kind of any sort with its parameters and values, or None where there is no such kind.

    Kinds of different sorts may share a name, such as a source and an ablation: then the pages of both.
    """
    pages = []
    for registry in Registry.all.values():
        kind = registry.kinds().get(name)
        if kind is not None:
            pages.append("\n\n".join(filter(None, (documentation(kind), _fields(kind), _values(kind)))))
    return "\n\n\n".join(pages) or None


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True)
    return f" = {'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def _fields(kind: type[Any]) -> str:
    found = parameters(kind).items()
    rows = [
        f"  {name}: {_type(info.annotation)}{_default(info)}\n      {info.description or ''}"
        for name, info in found
    ]
    return "Parameters:\n" + "\n".join(rows) if rows else ""


def _type(annotation: Any) -> str:
    """A field's type as a reader of YAML has it, without what only checks it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inside[0])
    if origin is Literal:
        return " | ".join(map(str, inside))
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(map(_type, inside)))
    if origin in (list, tuple):
        return f"[{', '.join(['...' if one is Ellipsis else _type(one) for one in inside])}]"
    if annotation is NoneType:
        return "null"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _values(kind: type[Any]) -> str:
    """What a kind gives, of those that say so in `VALUES`."""
    found = getattr(kind, "VALUES", {})
    rows = []
    for name, value in found.items():
        dims = f" [{', '.join(value.dims)}]" if value.dims else ""
        units = f" ({value.units})" if value.units != "1" else ""
        rows.append(f"  {name}{dims}: {value.long_name}{units}")
    return "Values:\n" + "\n".join(rows) if rows else ""
