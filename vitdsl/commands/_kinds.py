"""The kinds of this installation, as the schema, `list` and `explain` want them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitdsl.runtime.kinds import Registry


def kinds() -> dict[str, Any]:
    """The kinds of this installation, plug-ins included, with their parameters."""
    from vitdsl.runtime.kinds import summary

    sections = {"data": "sources", "ablations": "ablations", "metrics": "metrics"}
    return {
        section: {name: (summary(kind), kind.Params) for name, kind in registries()[sort].kinds().items()}
        for section, sort in sections.items()
    }


def registries() -> "Mapping[str, Registry[Any]]":
    """The registries of the three sorts of kinds, which are there once their rooms are imported."""
    from vitdsl.runtime.metrics._base import METRICS  # isort: skip
    from vitdsl.runtime.ablations._base import ABLATIONS  # isort: skip
    from vitdsl.runtime.data.sources._base import SOURCES  # isort: skip

    return {registry.section: registry for registry in (METRICS, ABLATIONS, SOURCES)}
