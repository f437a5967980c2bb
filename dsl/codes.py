"""The catalogue of error codes: what each means, with a wrong and a right example.

Adding a code is one `Code(...)` in the module of its range; `vitdsl explain` and `docs/errors.md` read it
here. A code is never used for anything else once it was released.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vitdsl.dsl.code import Code
from vitdsl.dsl.codes_bound import BOUND_CODES
from vitdsl.dsl.codes_machine import MACHINE_CODES
from vitdsl.dsl.codes_names import NAME_CODES
from vitdsl.dsl.codes_schema import SCHEMA_CODES
from vitdsl.dsl.codes_yaml import YAML_CODES

RANGES = {
    "VD0": "The file: YAML, `extends`, `--set`",
    "VD1": "The schema: fields and their values",
    "VD2": "Names: references, selectors, kinds, sites",
    "VD3": "Meaning: what cannot be measured or compared",
    "VD4": "The machine: files, network, memory, devices",
    "VD5": "The run",
    "VD6": "Results and reports",
}
"""What the first digit of a code says."""


def _catalogue() -> Mapping[str, Code]:
    found: dict[str, Code] = {}
    for one in (*YAML_CODES, *SCHEMA_CODES, *NAME_CODES, *BOUND_CODES, *MACHINE_CODES):
        if one.code in found:
            raise ValueError(f"{one.code} is in the catalogue twice")
        found[one.code] = one
    return MappingProxyType(dict(sorted(found.items())))


CATALOGUE = _catalogue()
"""Every code, in order."""


def page(one: Code) -> str:
    """The help page of a code, as `vitdsl explain` prints it."""
    lines = [f"{one.code}: {one.title}", "", one.explanation]
    for words, example in (("Wrong:", one.wrong), ("Right:", one.right)):
        if example:
            lines += ["", words, "", *(f"    {line}".rstrip() for line in example.splitlines())]
    return "\n".join(lines)


def reference() -> str:
    """All codes as one page of Markdown: docs/errors.md."""
    lines = [
        "# Error codes",
        "",
        "Every error has a code, and `vitdsl explain CODE` prints its page. This file is generated:",
        "`python -m vitdsl.dsl.codes > docs/errors.md`.",
    ]
    for digit, words in RANGES.items():
        lines += ["", f"## {digit}xx. {words}"]
        for one in CATALOGUE.values():
            if one.code.startswith(digit):
                lines += ["", f"### {one.code}: {one.title}", "", one.explanation, *_examples(one)]
    return "\n".join(lines) + "\n"


def _examples(one: Code) -> list[str]:
    lines: list[str] = []
    for words, example in (("Wrong:", one.wrong), ("Right:", one.right)):
        if example:
            lines += ["", words, "", f"```{one.language}", *example.splitlines(), "```"]
    return lines


if __name__ == "__main__":
    print(reference(), end="")
