"""The commands about study files themselves: check, show, explain, schema."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitdsl.dsl.diagnostics import Diagnostic, VitdslError
from vitdsl.output import Output

if TYPE_CHECKING:
    from vitdsl.runtime.kinds import Registry

SET = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set a value of the study; repeatable."
)
"""The override option of every command that takes a study."""


@click.command(
    epilog="\b\nExamples:\n  vitdsl check study.yaml\n  vitdsl check specs --output-format github\n"
)
@click.argument("specs", nargs=-1, required=True, metavar="STUDY...", type=click.Path(path_type=Path))
@SET
@click.pass_obj
def check(output: Output, specs: Sequence[Path], overrides: Sequence[str]) -> int:
    """Check study files, or every study in a folder; nothing is run or downloaded.

    Syntax, schema and names first. Where those hold: whether the models exist, the selectors match, and every
    kind takes what it is given.
    """
    found: list[Diagnostic] = []
    codes = {0}
    files, skipped = _files(specs)
    for path in files:
        error = _problem(path, overrides)
        if error is not None:
            found += error.diagnostics
            codes.add(error.exit_code)
    if output.format == "json" or found:
        output.diagnostics(found, err=False)
    if not found and output.format in ("full", "concise"):
        for path in files:
            click.echo(f"{click.format_filename(path)}: ok")
    if skipped and output.format == "full":
        click.echo(f"skipped, for they are no studies: {', '.join(map(str, skipped))}", err=True)
    return 2 if 2 in codes else max(codes)


def _files(specs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files to check: those named, and in folders those that are studies or recipes."""
    files: list[Path] = []
    skipped: list[Path] = []
    for spec in specs:
        if not spec.is_dir():
            files.append(spec)
            continue
        inside = sorted(path for ending in ("yaml", "yml") for path in spec.rglob(f"*.{ending}"))
        for path in inside:
            if any(part.startswith(".") for part in path.relative_to(spec).parts):
                continue
            head = path.read_bytes()[: 1 << 20].decode("utf-8", errors="replace")
            (files if re.search(r"(?m)^(study|recipe)\s*:", head) else skipped).append(path)
        if not inside:
            raise click.UsageError(f"there is no study in the folder `{spec}`")
    return list(dict.fromkeys(files)), skipped


def _problem(path: Path, overrides: Sequence[str]) -> VitdslError | None:
    """Everything wrong with one file."""
    from vitdsl.dsl.load import is_recipe, load_recipe, load_source
    from vitdsl.dsl.reader import read_text

    try:
        if not overrides and is_recipe(read_text(path, str(path)), str(path)):
            load_recipe(path)
            return None
        loaded = load_source(path, overrides=overrides)
        from vitdsl.runtime.plan.bind import bind

        bind(loaded)
    except VitdslError as error:
        return error
    return None


@click.command(
    epilog="\b\nExamples:\n  vitdsl show study.yaml\n  vitdsl show study.yaml --resolved --set seed=1\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--resolved", is_flag=True, help="Every value, defaults too, each with its origin.")
@click.option("--hash", "only_hash", is_flag=True, help="Only the hash of what the study computes.")
@SET
def show(study: Path, resolved: bool, only_hash: bool, overrides: Sequence[str]) -> None:
    """Print a study with what it extends, its recipes and overrides in place."""
    from vitdsl.dsl.emit import resolved_yaml, to_yaml
    from vitdsl.dsl.load import load_source

    loaded = load_source(study, overrides=overrides)
    if only_hash:
        click.echo(loaded.study.hash)
    else:
        click.echo(resolved_yaml(loaded) if resolved else to_yaml(loaded.study), nl=False)


@click.command(epilog="\b\nExamples:\n  vitdsl explain VD210\n  vitdsl explain cka\n")
@click.argument("subject", metavar="CODE|KIND")
def explain(subject: str) -> None:
    """Explain an error code, or a metric, ablation or source."""
    from vitdsl.dsl.codes import CATALOGUE, page

    code = subject.upper()
    if code in CATALOGUE:
        click.echo(page(CATALOGUE[code]))
        return
    from vitdsl.dsl.text import did_you_mean, shown

    if re.fullmatch(r"VD\d*", code):
        near = [[one for one in CATALOGUE if one.startswith(code[:end])] for end in (4, 3)]
        alike = near[0] or (near[1] if len(code) > 2 else [])
        hint = f"; there are {', '.join(alike)}" if alike else "; a code looks like VD210"
        raise click.UsageError(f"there is no error code `{shown(subject)}`{hint}")
    from vitdsl.runtime.kinds import explain as explain_kind

    registries()
    words: str | None = explain_kind(subject)
    if words is None:
        hint = did_you_mean(subject, [name for section in kinds().values() for name in section])
        raise click.UsageError(
            f"`{shown(subject)}` is neither an error code nor a kind; {hint or 'see `vitdsl list metrics`'}"
        )
    click.echo(words)


@click.command(epilog="\b\nExample:\n  vitdsl schema > vitdsl-1.schema.json\n")
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from vitdsl.dsl.json_schema import json_schema

    click.echo(json.dumps(json_schema(kinds()), indent=2, ensure_ascii=False))


def kinds() -> dict[str, Any]:
    """The kinds of this installation, plug-ins included, with their parameters."""
    from vitdsl.runtime.kinds import summary

    sections = {"data": "sources", "ablations": "ablations", "metrics": "metrics"}
    return {
        section: {name: (summary(kind), kind.Params) for name, kind in registries()[sort].kinds().items()}
        for section, sort in sections.items()
    }


def registries() -> "Mapping[str, Registry[Any]]":
    """The registries of the three sorts of kinds, which are there once their rooms are imported."""
    from vitdsl.runtime.metrics._base import METRICS  # isort: skip
    from vitdsl.runtime.ablations._base import ABLATIONS  # isort: skip
    from vitdsl.runtime.data.sources._base import SOURCES  # isort: skip

    return {registry.section: registry for registry in (METRICS, ABLATIONS, SOURCES)}
