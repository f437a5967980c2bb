"""Options that several commands share, one spelling for each."""

import re

import click

from vitdsl.dsl.sizes import bytes_of


class Size(click.ParamType):  # type: ignore[type-arg]
    """Pixels of an input, one number for a square, or height and width: as `input_size` of a study has them."""

    name = "SIZE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The setting for a model."""
        match = re.fullmatch(r"\s*\[?\s*([1-9]\d*)\s*(?:[,x×]\s*([1-9]\d*)\s*)?\]?\s*", value)
        if match is None:
            self.fail(
                f"`{value}` is no size; write pixels, such as `224`, or `HEIGHTxWIDTH`, such as `224x160`"
            )
        height, width = match.groups()
        return f"input_size=[{height}, {width}]" if width else f"input_size={height}"


class Memory(click.ParamType):  # type: ignore[type-arg]
    """Bytes, as people write them."""

    name = "SIZE"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The bytes."""
        try:
            return bytes_of(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error))


SET = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set a value of the study; repeatable."
)
"""The override option of every command that takes a study."""
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cuda, cuda:1, mps or cpu.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress; errors and the answer only.")
JSON = click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
MEMORY = click.option(
    "--memory",
    type=Memory(),
    help="What a pass may take, such as 4G: of more, its conditions run one part after the other. By default, a share "
    "of what is free.",
)
INPUT_SIZE = click.option(
    "--input-size",
    type=Size(),
    help="Pixels of the input, for models that take any size: `224`, or height and width, `224x160`.",
)
