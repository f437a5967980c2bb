"""Metrics meet their inputs: a kind is given the fields that it takes, and no other.

Owns the errors of inputs. Does not own what they name (`dsl.references`), or what is read there (`bind_metrics`).
"""

from collections.abc import Sequence

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import BASELINE
from vitdsl.dsl.study import Metric as MetricEntry
from vitdsl.dsl.text import ticked
from vitdsl.runtime.metrics._base import Inputs, Metric

EVERY = tuple(field for inputs in (Inputs(roles=("skip",)), Inputs("layers")) for field in inputs.fields)
"""The fields of a metric that name an input."""


def inputs_fit(
    loaded: Loaded, name: str, entry: MetricEntry, kind: Metric, problems: list[Diagnostic]
) -> bool:
    """Whether a metric is given what its kind takes; what is wrong is noted.

    Args:
        loaded: The study.
        name: The metric's name.
        entry: The metric.
        kind: Its kind.
        problems: Where problems are noted.
    """
    before = len(problems)

    def problem(path: tuple[str, ...], message: str, label: str, help: Sequence[str]) -> None:
        where = ("metrics", name, *path)
        problems.append(loaded.problem("VD222", where, message, label=label, help=help, key=True))

    taken = kind.inputs.fields
    missing = [field for field in kind.inputs.needed if getattr(entry, field) is None]
    needed, lacks = (missing or taken)[0], bool(missing)
    names = list(loaded.study.models if needed == "of" else loaded.study.layers)
    section = "models" if needed == "of" else "layers"
    add = f"write `{needed}:` with a name of the `{section}`" + (f": {ticked(names)}" if names else "")
    wrong = [f for f in EVERY if f not in taken and getattr(entry, f) is not None]
    for field in wrong:
        output = field == "at" and kind.inputs.of == "models"
        reads = "reads the model's output" if output else f"is a metric of {kind.inputs.of}"
        help_ = add if lacks else f"remove `{field}`; it takes {ticked(taken)}"
        problem((field,), f"`{kind.name}` {reads} and takes no `{field}`", "not taken", (help_,))
    if lacks and not wrong:
        problem((), f"`{kind.name}` needs `{needed}`", f"`{needed}` is required here", (add,))
    if "against" in taken and entry.y is not None and entry.against == BASELINE:
        problem(
            ("against",),
            "`against: baseline` compares `x` with itself at the same sites, so there can be no `y`",
            "not beside `y`",
            ("leave one of the two out", "`against` a data entry has a `y`: its layers see the images there"),
        )
    return len(problems) == before
