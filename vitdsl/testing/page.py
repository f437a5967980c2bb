"""The law of pages: the docstring of a kind's module explains it, and its example is a study's entry of it.

Does not own how pages are found and printed (`runtime.kinds`).
"""

import re
import textwrap
from typing import Any

import yaml

from vitdsl.dsl.study import Ablation as AblationEntry
from vitdsl.dsl.study import Data as DataEntry
from vitdsl.dsl.study import Metric as MetricEntry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.kinds import documentation
from vitdsl.runtime.metrics._base import Metric
from vitdsl.testing.law import hold, law

HEADINGS: dict[type[Any], tuple[str, ...]] = {
    Metric: ("What it measures", "Formula", "Shapes", "Range", "Cost", "Reference", "Limits", "Example"),
    Ablation: ("What it does", "Places", "What it does not show", "Reference", "Example"),
    Source: ("What it gives", "Limits", "Example"),
}
ENTRIES: dict[type[Any], tuple[str, type[Any]]] = {
    Metric: ("metrics", MetricEntry),
    Ablation: ("ablations", AblationEntry),
    Source: ("data", DataEntry),
}


def check_page(kind: type[Any]) -> None:
    """Hold a kind's page to what `vitdsl explain` promises.

    Its first line is a sentence, every heading is there in order, and the example parses as entries of this kind
    with parameters that it takes.

    Args:
        kind: A class that derives from Metric, Ablation or Source.

    Raises:
        LawBroken: The law `page`.
    """
    with law("page"):
        base = next(one for one in HEADINGS if issubclass(kind, one))
        page = documentation(kind)
        colon = ":?" if base is Source else ":"
        found = {heading: re.search(rf"\n{heading}{colon}\n", page) for heading in HEADINGS[base]}
        missing = [heading for heading, place in found.items() if place is None]
        hold(not missing, f"no heading {', '.join(missing)} in the docstring of {kind.__module__}")
        places = [place.start() for place in found.values() if place is not None]
        hold(places == sorted(places), f"the headings are not in the order {', '.join(HEADINGS[base])}")
        hold(page.splitlines()[0].endswith("."), "the first line is no sentence")
        section, entry = ENTRIES[base]
        example = yaml.safe_load(textwrap.dedent(page.partition("\nExample:\n")[2]))
        hold(set(example) == {section} and bool(example[section]), f"the example is no `{section}:`")
        for fields in example[section].values():
            _check_entry(kind, fields, entry(**fields))


def _check_entry(kind: type[Any], fields: dict[str, Any], parsed: Any) -> None:
    named = parsed.source if issubclass(kind, Source) else parsed.kind
    hold(named == kind.name, f"the example is of `{named}`, not of `{kind.name}`")
    params = kind.Params(**parsed.params)
    if not issubclass(kind, Metric):
        return
    bound = kind(params)
    taken = ("of", "at") if bound.inputs.of == "models" else ("x", "y", "against")
    given = {"of", "at", "x", "y", "against"} & set(fields)
    hold(bool(given) and given <= set(taken), f"the example names {sorted(given)}, the kind takes {taken}")
