"""Write the layers of a study as files of features.

Owns the answer. Does not own which layers are written, or what a file is (`vitdsl.runtime.run.features`).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from vitdsl.commands._options import DEVICE, JSON, QUIET, SET
from vitdsl.dsl.text import counted, safe
from vitdsl.importing import importing
from vitdsl.output import Output
from vitdsl.progress import StderrProgress

PLACE = 75


@click.command(
    epilog="\b\nExamples:\n  vitdsl features study.yaml --out features\n"
    "  vitdsl features study.yaml --data probe --set data.probe.images=1000\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@SET
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("features"),
    show_default=True,
    help="Where files go.",
)
@click.option("--data", metavar="NAME", help="Only of the images of this data entry.")
@DEVICE
@JSON
@QUIET
@click.pass_obj
def features(
    output: Output,
    study: Path,
    overrides: Sequence[str],
    out: Path,
    data: str | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the layers of a study, with the ids of their images, for other programs and other studies.

    One .safetensors file for each set of layers that a metric reads, of the intact model, in float32. `features: PATH`
    of a model reads it in again.
    """
    from vitdsl.dsl.load import load_source

    with StderrProgress(color=output.color, quiet=quiet) as progress:
        loaded = load_source(study, overrides=overrides)
        if data is not None and data not in loaded.study.data:
            raise click.UsageError(f"the study has no data `{data}`; it has {', '.join(loaded.study.data)}")
        with importing():
            from vitdsl.runtime.plan.bind import bind
            from vitdsl.runtime.run.environment import device as find_device
            from vitdsl.runtime.run.features import groups_of, write_features

        plan = bind(loaded)
        groups = groups_of(plan, data)
        written = write_features(plan, groups, out, device=find_device(device), progress=progress)
    if as_json:
        rows = [
            {
                "file": str(one.path),
                "layers": one.layers,
                "model": one.model,
                "data": one.data,
                "images": one.images,
                "shapes": {name: list(shape) for name, shape in one.shapes.items()},
            }
            for one in written
        ]
        click.echo(json.dumps({"schema": "vitdsl.features/1", "files": rows}, indent=2))
        return
    for one in written:
        what = f"{counted(len(one.shapes), 'layer')} of {safe(one.model)}, {counted(one.images, 'image')}"
        click.echo(f"{one.path}: {what} of {safe(one.data)}")
