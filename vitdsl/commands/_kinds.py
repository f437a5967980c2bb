"""The kinds of this installation as the language wants them: what the schema and `explain` share."""

from typing import Any


def kinds() -> dict[str, Any]:
    """The kinds of this installation, plug-ins included, with their parameters."""
    from vitdsl.runtime.kinds import ABLATIONS, METRICS, SOURCES, Registry, summary

    sections: dict[str, Registry[Any]] = {"data": SOURCES, "ablations": ABLATIONS, "metrics": METRICS}
    return {
        section: {name: (summary(kind), kind.Params) for name, kind in registry.kinds().items()}
        for section, registry in sections.items()
    }
