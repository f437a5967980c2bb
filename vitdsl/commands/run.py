"""Run a study and write its report.

Owns the order of the stages. Does not own any stage, or the words of the answer (`_answers`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitdsl.commands._answers import as_answer, print_all, print_one
from vitdsl.commands._folders import kind_of
from vitdsl.commands._options import DEVICE, JSON, MEMORY, QUIET, SET
from vitdsl.importing import importing
from vitdsl.output import Output
from vitdsl.painters import Painters
from vitdsl.progress import StderrProgress
from vitdsl.unchanged import Asked, Done

if TYPE_CHECKING:
    from vitdsl.runtime.progress import Progress

PLACE = 10


def _shard(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """`3/16` as a number from 0 and a count."""
    if text is None:
        return None
    part, slash, count = text.partition("/")
    if not (slash and part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
        raise click.BadParameter(f"`{text}` is not a share such as 3/16: from 1/16 to 16/16")
    return int(part) - 1, int(count)


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl run specs/skip_ablation.yaml\n"
    "  vitdsl run studies/                 # every study of a folder, and one table of claims\n"
    "  vitdsl run study.yaml --device cuda --dtype bf16 --set data.probe.images=5000\n"
    "  vitdsl run study.yaml --json | jq .report\n"
    "  torchrun --nproc-per-node 4 -m vitdsl run study.yaml\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@SET
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs go."
)
@DEVICE
@click.option(
    "--dtype",
    type=click.Choice(["float32", "tf32", "bf16", "fp16"]),
    default="float32",
    show_default=True,
    help="What models compute in: tf32 on CUDA, bf16 and fp16 by autocast. Gram matrices stay float32, sums float64.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Fold batch norms into convolutions, and on CUDA replay what was recorded: other numbers by rounding.",
)
@MEMORY
@click.option("--force", is_flag=True, help="Compute again what is there already.")
@click.option(
    "--shard",
    metavar="I/N",
    callback=_shard,
    help="Compute one of N shares and stop; a run then merges them.",
)
@click.option("--check", "must_hold", is_flag=True, help="Exit with 1 unless every claim is supported.")
@click.option("--no-report", is_flag=True, help="Do not draw report.html.")
@click.option(
    "--open", "browse_it", is_flag=True, help="Open the report, or the page of all studies, in the browser."
)
@JSON
@QUIET
@click.pass_obj
def run(
    output: Output,
    study: Path,
    overrides: Sequence[str],
    out: Path,
    device: str,
    dtype: str,
    fast: bool,
    memory: float | None,
    force: bool,
    shard: tuple[int, int] | None,
    must_hold: bool,
    no_report: bool,
    browse_it: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a study: stream its images once, write the run folder and the report.

    Of a folder, all its studies one after the other, with one table of their claims at the end, and the same as a page,
    `index.html` among the runs. The last line of the answer is the path of the report, or of that page. What image
    blocks gave is kept beside the runs: a run that was killed goes on where it was, and what is there is not computed
    again. A study of which nothing changed is answered by its run that is there. Image blocks can be dealt to several
    processes (torchrun) or shares (--shard) on one disk.
    """
    from vitdsl.dsl.load import inspect_source
    from vitdsl.runtime.ranks import Ranks, launched, own_device, together

    done: list[Done] = []
    quiet = quiet or launched()[0] > 0
    with StderrProgress(color=output.color, quiet=quiet) as progress, Painters() as painters:
        with together() as ranks:
            alone = shard is None and ranks.size == 1
            for path in _studies(study):
                loaded = inspect_source(path, overrides=overrides)
                if not loaded.problems:
                    progress.say(f"study {loaded.study.study}: {loaded.study.title or path}")
                asked = Asked(loaded, out, device, dtype, fast) if alone and not loaded.problems else None
                there = asked.answer() if asked and not force else None
                if there is not None:
                    progress.say(f"unchanged: answered by {there.folder} (--force computes it again)")
                    done.append(Done(there, asked))
                    continue
                if not no_report and shard is None and ranks.leads:
                    painters.start()
                with importing():
                    from vitdsl.runtime.plan.bind import bind
                    from vitdsl.runtime.run.environment import device as find_device
                    from vitdsl.runtime.run.memory import keep_freed_memory
                    from vitdsl.runtime.run.run import run as run_plan

                chosen = own_device(find_device(device))
                if chosen.type == "cpu":
                    keep_freed_memory()
                mine = ranks if shard is None else Ranks(*shard, shard=True)
                plan = bind(loaded)
                outcome = run_plan(
                    plan,
                    out=out,
                    device=chosen,
                    dtype=dtype,
                    fast=fast,
                    progress=progress,
                    ranks=mine,
                    force=force,
                    memory=memory,
                )
                done.append(Done(outcome, asked, plan))
        led = [one for one in done if one.outcome.folder is not None]
        if not led:
            if shard is not None:
                click.echo(
                    f"shard {shard[0] + 1}/{shard[1]} is done; run without --shard to merge what is there"
                )
            return 0
        if not no_report:
            _draw(led, progress, painters)
        for one in led:
            one.keep()
        pages = [one.report for one in led if one.report is not None]
        if study.is_dir():
            from vitdsl.reports.index import write_index

            pages = [write_index(out, [(one.outcome.manifest, one.report) for one in led])]
    if as_json:
        found = [as_answer(one) for one in led]
        click.echo(json.dumps(found if study.is_dir() else found[0], ensure_ascii=False, indent=2))
    else:
        for one in led:
            print_one(one)
        if study.is_dir():
            print_all([one.outcome for one in led], pages[0])
    if browse_it and pages:
        from vitdsl.commands._pages import browse

        browse(pages[0])
    claims = [claim for one in led for claim in one.outcome.manifest.claims.values()]
    return 1 if must_hold and any(claim.verdict != "supported" for claim in claims) else 0


def _studies(path: Path) -> list[Path]:
    """The study, or the studies of a folder by name: its YAML files with a `study:`."""
    if not path.is_dir():
        return [path]
    files = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml") and one.is_file())
    return [one for one in files if kind_of(one) == "study"] or [path]


def _draw(done: Sequence[Done], progress: "Progress", painters: Painters) -> None:
    """Draw the report of each run that has none yet."""
    lacking = [one for one in done if not one.find_report()]
    if not lacking:
        return
    painters.start()
    progress.begin("draw", len(lacking), "reports")
    for one in lacking:
        one.draw(painters)
        progress.step(1, one.outcome.manifest.study)
    progress.end()
