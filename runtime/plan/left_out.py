"""What a metric does not read of a model: how much of it, and why, in one sentence; for `check`, `plan` and the report.

Owns the words. Does not own which sites a metric is defined at (`bind_metrics`), or which are hidden
(`graph.attention`, `graph.flow`).
"""

from collections.abc import Mapping

from vitdsl.dsl.text import counted
from vitdsl.runtime.graph.sites import Sites

UNITS = ("skip", "branch", "stream")


def left_out(
    sites: Sites, model: str, role: str, read: int, refused: Mapping[str, str], *, named: bool
) -> str:
    """How many of a model's attention modules or units a metric reads, and why not the others; "" where it reads all.

    Args:
        sites: The model's.
        model: The model's name.
        role: What the metric reads.
        read: How many it reads.
        refused: Those that it is not defined at, each with the reason.
        named: Whether `at` named what is read: then what is hidden was not meant.
    """
    hidden = {} if named else hidden_of(sites, role)
    others = [f"{_some(names)}: {why}" for why, names in _by_reason(refused).items()]
    if hidden:
        others.append(in_words(hidden, role))
    if not others:
        return ""
    total = read + len(refused) + sum(count for count, _ in hidden.values())
    what = "sums" if role in UNITS and hidden else "residual units" if role in UNITS else "attention modules"
    return f"reads {read} of {total} {what} of `{model}`; the others: {'; '.join(others)}"


def hidden_of(sites: Sites, role: str) -> dict[str, tuple[int, str]]:
    """Modules that the graph keeps whole with attention, or sums, inside: how many of them, and the module's class."""
    if role in UNITS:
        return {
            path: (count, type(sites.model.get_submodule(path)).__name__)
            for path, count in sites.hidden_sums.items()
        }
    if role not in ("attention", "heads"):
        return {}
    return {name: (1, kind) for name, kind in sites.attention.hidden.items()}


def in_words(hidden: Mapping[str, tuple[int, str]], role: str) -> str:
    """Where what is hidden is."""
    by_kind: dict[str, tuple[int, str]] = {}
    for path, (count, kind) in hidden.items():
        before, first = by_kind.get(kind, (0, path))
        by_kind[kind] = before + count, first
    return "; ".join(
        f"{count} inside `{kind}` (such as `{first}`), which is traced as one piece"
        for kind, (count, first) in by_kind.items()
    )


def _by_reason(refused: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in refused.items():
        found.setdefault(why, []).append(name)
    return found


def _some(names: list[str]) -> str:
    more = f" and {counted(len(names) - 1, 'more', 'more')}" if len(names) > 1 else ""
    return f"`{names[0]}`{more}"
