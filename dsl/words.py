"""The fixed words of the language: its version, the names it keeps for itself, how messages speak of things.

Does not own the words of any one entry (`entries`).
"""

from dataclasses import dataclass

LANGUAGE_VERSION = 1
BASELINE = "baseline"
OWN = "own"

OTHER_WORDS = {
    "name": "study",
    "description": "question",
    "type": "kind",
    "lr": "learning_rate",
    "wd": "weight_decay",
    "batch_size": "batch",
    "n": "images",
    "dataset": "data",
    "backbone": "arch",
    "architecture": "arch",
    "checkpoint": "weights",
    "kwargs": "options",
    "experiments": "ablations",
    "inherit": "extends",
    "include": "extends",
}
"""What other programs call our fields."""


@dataclass(frozen=True)
class Words:
    """How messages speak of an entry.

    Attributes:
        noun: What it is: "a model".
        home: Where authors meet it: "`models.<name>`"; empty where nobody is sent.
        example: A small one, in YAML.
    """

    noun: str = ""
    home: str = ""
    example: str = ""


def bare(noun: str) -> str:
    """A noun without its article: `model` for `a model`."""
    return noun.removeprefix("an ").removeprefix("a ")
