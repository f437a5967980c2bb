"""Options that several commands share, one spelling for each."""

import click

SET = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set a value of the study; repeatable."
)
"""The override option of every command that takes a study."""
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cuda, cuda:1, mps or cpu.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress; errors and the answer only.")
JSON = click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
