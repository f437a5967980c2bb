"""A run folder: what a run leaves behind, and how it is read back whole. Free of torch.

    runs/<study>/<UTC time>-<spec hash>/
        manifest.json       what ran, on what, with which outcome (`manifest`)
        results.nc          one netCDF-4 group for each metric and model (or pair): /drift/vit, /across/vit~resnet
        summary.csv         the same numbers, one row for each
        images.csv          id, label and content hash of each image, in order
        thumbnails.json     small pictures of a few images, for the report (`thumbnails`)
        spec.source.yaml    the study as written; spec.resolved.yaml, complete, which reruns alone
        log.txt, report.html, figures/

Dimensions come from one vocabulary (`condition, site, site_x, site_y, head, token, replicate`). A value `v` has
companions `v_low` and `v_high` (95 % interval over image blocks) and `v_replicates` (leave-one-image-block-out
estimates, for claims and later comparisons). The manifest names `results.nc` by its hash. Every write is atomic: a
file is whole or not there.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.source import dotted
from vitdsl.runtime.results.manifest import SCHEMA, Manifest
from vitdsl.runtime.results.thumbnails import Thumbnails, read_thumbnails

if TYPE_CHECKING:
    import xarray as xr

MANIFEST = "manifest.json"
SOURCE = "spec.source.yaml"
RESOLVED = "spec.resolved.yaml"
BASES = "bases"
BLOCKS = "blocks.txt"
"""The keys of the image blocks that a run is made of, one a line."""
STORE = ".store"
"""Beside the studies in a folder of runs: what image blocks gave, and which run answers which study."""
ANSWERS = "answers"
"""In the store: for each study as it was asked, its run (`vitdsl.unchanged`)."""
REPORT = "report.html"
LOG = "log.txt"


@dataclass(frozen=True)
class Run:
    """A finished run, read back: everything that a report needs."""

    path: Path
    manifest: Manifest
    groups: "dict[str, xr.Dataset]"
    source: str
    resolved: str
    thumbnails: Thumbnails = Thumbnails()

    def __repr__(self) -> str:
        """What a person wants to see of it."""
        return f"Run({str(self.path)!r}, {self.manifest.status}, groups: {', '.join(self.groups)})"


@dataclass(frozen=True)
class Outcome:
    """Where a run's folder is, and what its manifest says; `folder` is None for a process that does not lead."""

    folder: Path | None
    manifest: Manifest


def open_run(path: Path | str) -> Run:
    """Read a run folder.

    Raises:
        EnvironmentProblem: The folder is no run folder, or its run did not end well.
    """
    from vitdsl.runtime.results.groups import RESULTS, read_groups

    folder = Path(path)
    try:
        manifest = read_manifest(folder / MANIFEST)
        absent = [name for name in (RESULTS, SOURCE, RESOLVED) if not (folder / name).is_file()]
        if absent:
            raise ValueError(f"it has no `{absent[0]}`")
        groups = read_groups(folder / RESULTS, manifest.results_sha256)
        source, resolved = ((folder / name).read_text("utf-8") for name in (SOURCE, RESOLVED))
        thumbnails = read_thumbnails(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise EnvironmentProblem(
            Diagnostic(
                "VD601",
                f"`{folder}` is not a complete run folder: {error}",
                help=_instead(folder),
            )
        ) from error
    return Run(folder, manifest, groups, source, resolved, thumbnails)


def _instead(folder: Path) -> tuple[str, ...]:
    """What to give in place of a folder that is no complete run."""
    if (folder / MANIFEST).is_file():
        return ("run the study again: what was computed is found, and the rest is added",)
    runs = sorted(folder.glob(f"*/{MANIFEST}")) or sorted(folder.glob(f"*/*/{MANIFEST}"))
    newest = f"the newest run in it is `{runs[-1].parent}`" if runs else ""
    return newest, "give the folder that `vitdsl run` printed, such as `runs/skip_ablation/<time>-<hash>`"


def read_manifest(path: Path) -> Manifest:
    """The manifest of a run that ended well.

    Raises:
        ValueError: It is none, or of a run that did not.
        OSError: It cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"it has no `{MANIFEST}`" if path.parent.is_dir() else "there is no such folder")
    try:
        text = path.read_text("utf-8")
        written = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its `{MANIFEST}` is not JSON: {error}") from error
    if not isinstance(written, dict):
        raise ValueError(f"its `{MANIFEST}` is not a JSON object")
    if written.get("schema") != SCHEMA:
        raise ValueError(f"its manifest has schema {written.get('schema')!r}, not {SCHEMA!r}")
    if written.get("status") != "success":
        raise ValueError(f"its run has status `{written.get('status')}`, not `success`")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"its `{MANIFEST}` is not a manifest: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in words, and how many more there are."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    field, kind = f"`{dotted(found[0]['loc'])}`", found[0]["type"]
    words = {"missing": f"it has no {field}", "extra_forbidden": f"{field} is no field of one"}
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return words.get(kind, f"{field}: {found[0]['msg'][:1].lower()}{found[0]['msg'][1:]}") + more
