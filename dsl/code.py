"""What the catalogue knows of one error code."""

from dataclasses import dataclass, field
from inspect import cleandoc
from textwrap import dedent


@dataclass(frozen=True)
class Code:
    """An error code.

    Attributes:
        code: Such as `VD210`.
        title: What is wrong, in a few words.
        explanation: Why it is an error, and what to do.
        wrong: An example that has the error; a part of a study where it is YAML.
        right: The same without it.
        language: Of the examples: `yaml`, `shell` or `text`.
    """

    code: str
    title: str
    explanation: str
    wrong: str = ""
    right: str = ""
    language: str = field(default="yaml", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "explanation", cleandoc(self.explanation))
        for name in ("wrong", "right"):
            object.__setattr__(self, name, dedent(getattr(self, name).removeprefix("\n")).rstrip())
