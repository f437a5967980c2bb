"""Check study files: syntax, names, models and sites.

Owns which files of a folder are checked, and the exit code of many. Does not own what is wrong with a study.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitdsl.commands._folders import kind_of
from vitdsl.commands._options import SET
from vitdsl.dsl.diagnostics import Diagnostic, VitdslError
from vitdsl.dsl.text import counted, safe
from vitdsl.importing import importing
from vitdsl.output import Output

if TYPE_CHECKING:
    from vitdsl.runtime.plan.plan import Plan

PLACE = 20


@click.command(
    epilog="\b\nExamples:\n  vitdsl check study.yaml\n  vitdsl check specs --output-format github\n"
)
@click.argument("specs", nargs=-1, required=True, metavar="STUDY...", type=click.Path(path_type=Path))
@SET
@click.option("--need-images", is_flag=True, help="Exit with 3 where images are not here, as a run would.")
@click.pass_obj
def check(output: Output, specs: Sequence[Path], overrides: Sequence[str], need_images: bool) -> int:
    """Check study files, or every study in a folder; nothing is run or downloaded.

    Syntax first; where it holds, all at once: names, whether the models exist, the selectors match, and every kind
    takes what it is given. A folder of images that is not here is said, and the rest is checked.
    """
    found: list[Diagnostic] = []
    missing: list[Diagnostic] | None = None if need_images else []
    without: set[Path] = set()
    lines: list[str] = []
    codes = {0}
    counts: dict[Path, str] = {}
    files, skipped = _files(specs)
    for path in files:
        absent: list[Diagnostic] | None = None if missing is None else []
        error, plan = _checked(path, overrides, absent)
        if plan is not None:
            counts[path] = f"; {_counts(plan)}"
            lines += _said(plan)
        if missing is not None and absent:
            missing += absent
            without.add(path)
        if error is not None:
            found += error.diagnostics
            codes.add(error.exit_code)
    if output.format == "json" or found or missing:
        output.diagnostics(found, err=False, missing=tuple(dict.fromkeys(missing or ())))
    if not found and output.format in ("full", "concise"):
        for line in dict.fromkeys(lines):
            click.echo(safe(line))
        for path in files:
            but = ", but for images: how many there are, their labels and classes" if path in without else ""
            click.echo(f"{click.format_filename(path)}: ok{but}{counts.get(path, '')}")
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
            (files if kind_of(path) else skipped).append(path)
        if not inside:
            raise click.UsageError(f"there is no study in the folder `{spec}`")
    return list(dict.fromkeys(files)), skipped


def _counts(plan: "Plan") -> str:
    """How large a study is, in words."""
    words = [counted(len(plan.own_models), "model"), counted(plan.conditions, "condition")]
    read = dict.fromkeys(one.data for one in plan.passes)
    known = [plan.images[name] for name in read if name in plan.images]
    return ", ".join([*words, counted(sum(known), "image")] if len(known) == len(read) else words)


def _said(plan: "Plan") -> list[str]:
    """What to know of a study that is right: how its labels were read, what was left out, how few images there are."""
    from vitdsl.runtime.plan.few import few_of

    notes = [f"note: {one}" for one in plan.notes if one not in plan.about_images]
    return [*plan.about_images, *notes, *(f"warning: {one}" for one in few_of(plan))]


def _checked(
    path: Path, overrides: Sequence[str], missing: list[Diagnostic] | None
) -> tuple[VitdslError | None, "Plan | None"]:
    """Everything wrong with one file, or its plan; images that are not here are noted in `missing`, if it is a list."""
    from vitdsl.dsl.load import inspect_source, is_recipe, load_recipe
    from vitdsl.dsl.reader import read_text

    try:
        if not overrides and is_recipe(read_text(path, str(path)), str(path)):
            load_recipe(path)
            return None, None
        loaded = inspect_source(path, overrides=overrides)
        with importing():
            from vitdsl.runtime.plan.bind import bind

        return None, bind(loaded, missing=missing)
    except VitdslError as error:
        return error, None
