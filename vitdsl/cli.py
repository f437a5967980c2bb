"""The command line: options that all commands share, and how errors become text and exit codes. No logic.

A command is a file of `vitdsl.commands` and is imported when it is called, so that `--help` stays fast.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from vitdsl import __version__
from vitdsl.commands._scan import COMMANDS, command, summaries
from vitdsl.output import Output, crash_file, show_errors
from vitdsl.runtime.cores import settle_threads
from vitdsl.streams import CANNOT, PIPE, Ended, finish, listen, ready

EXAMPLES = """\
\b
Examples:
  vitdsl run specs/skip_ablation.yaml
  vitdsl check study.yaml
  vitdsl sites vit_base_patch16_224 'blocks.*' --role branch
  vitdsl show study.yaml --resolved --set seed=1
  vitdsl explain VD210
"""

EXIT_CODES = """\
These options may also stand behind the command.

\b
Exit codes:
  0    ok
  1    ran, but a claim is not supported or a number moved (with --check), only a part is there,
       or two runs cannot be compared
  2    the study or the command line is wrong
  3    this machine cannot: files, network, memory, device, disk
  70   a bug in vitdsl; the message names a file with the details
  130  interrupted; 143 and 129 by SIGTERM and SIGHUP
  141  whoever read the answer closed the pipe
"""


class FolderGroup(click.Group):
    """A group whose commands are the files of a folder; one is imported when it is called, none for the list."""

    def __init__(self, *args: Any, package: str = COMMANDS, **options: Any) -> None:
        super().__init__(*args, **options)
        self.package = package

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of the commands, in the order of the help."""
        return list(summaries(self.package))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        return command(name, self.package) if name in summaries(self.package) else None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, and suggest one where there is none of that name."""
        name = args[0] if args else ""
        known = self.list_commands(context)
        if name and name not in known and not name.startswith("-") and not context.resilient_parsing:
            from vitdsl.dsl.text import did_you_mean, shown

            hint = did_you_mean(name, known, cutoff=0.6)
            context.fail(f"no such command `{shown(name)}`{'; ' + hint if hint else ''}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(summaries(self.package).items()))


@click.group(
    cls=FolderGroup,
    help=f"Ask how vision models see: run the studies that YAML files describe.\n\n{EXAMPLES}",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="vitdsl")
@click.option(
    "--output-format",
    type=click.Choice(["full", "concise", "json", "github"]),
    default="full",
    envvar="VITDSL_OUTPUT_FORMAT",
    help="How errors are written.",
)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour; NO_COLOR counts."
)
@click.option(
    "--all", "everything", is_flag=True, help="Show everything: all errors and not the first 20, all sites."
)
@click.option("--debug", is_flag=True, help="Show Python's traceback of an error.")
@click.pass_context
def group(context: click.Context, output_format: str, color: str, everything: bool, debug: bool) -> None:
    """The options that every command shares."""
    context.obj = Output.of(output_format, color, everything=everything, debug=debug)
    context.color = context.obj.color


def hoisted(words: Sequence[str]) -> list[str]:
    """The words with the shared options before the command, wherever they stood."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*front, *rest, word, *queue]
        name, equals, _ = word.partition("=")
        if word in ("--all", "--debug") or (equals and name in ("--color", "--output-format")):
            front.append(word)
        elif word in ("--color", "--output-format") and queue:
            front += [word, queue.pop(0)]
        else:
            rest.append(word)
            if word == "--set" and queue:
                rest.append(queue.pop(0))
    return [*front, *rest]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    settle_threads()
    ready()
    listen()
    sys.exit(finish(run(arguments)))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    output = Output.early(words)
    try:
        with group.make_context("vitdsl", hoisted(words)) as context:
            found: Any = group.invoke(context)
        sys.stdout.flush()
        return found if isinstance(found, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        return PIPE
    except (Exception, KeyboardInterrupt) as error:
        if output.debug and not isinstance(error, (click.ClickException, click.Abort, KeyboardInterrupt)):
            raise
        try:
            return _say_how_it_ended(error, output)
        except (OSError, MemoryError):  # there is nowhere to say it, or nothing to say it with
            return CANNOT


def _say_how_it_ended(error: BaseException, output: Output) -> int:
    """Say how it ended; the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        if instead := _instead(error):
            click.echo(instead, err=True)
        return error.exit_code
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        ended = f"ended by {error.name}" if isinstance(error, Ended) else "interrupted"
        click.echo(f"{ended}; image blocks that are done are kept", err=True)
        return error.code if isinstance(error, Ended) else 130
    code = show_errors(error, output) if isinstance(error, Exception) else None
    return crash_file(error) if code is None else code


def _instead(error: click.ClickException) -> str:
    """What to write in place of a word that is none of a few, or where a word is missing."""
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        lines = (error.ctx.command.epilog or "").splitlines()
        example = next((line.strip() for line in lines if line.strip().startswith("vitdsl ")), "")
        return f"Such as: {example.partition('#')[0].strip()}" if example else ""
    if isinstance(error, click.BadParameter) and error.param and isinstance(error.param.type, click.Choice):
        from vitdsl.dsl.text import did_you_mean

        found = re.match(r"'(.*?)' is not one of", error.message)
        hint = did_you_mean(found[1], list(map(str, error.param.type.choices)), cutoff=0.6) if found else ""
        return hint[:1].upper() + hint[1:]
    return ""


if __name__ == "__main__":
    main()
