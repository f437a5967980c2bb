"""A run folder: what a run leaves behind, how it is written and read. Free of torch.

    runs/<study>/<UTC time>-<spec hash>/
        manifest.json       what ran, on what, with which outcome (schema `vitdsl.run/1`)
        results.nc          one netCDF-4 group for each metric and model (or pair): /drift/vit, /across/vit~resnet
        summary.csv         the same numbers, one row for each
        images.csv          id, label and content hash of each image, in order
        spec.source.yaml    the study as written; spec.resolved.yaml, complete, which reruns alone
        log.txt, report.html, figures/

Dimensions come from one vocabulary (`condition, site, site_x, site_y, head, token, replicate`). A value `v` has
companions `v_low` and `v_high` (95 % interval over image blocks) and `v_replicates` (leave-one-image-block-out
estimates, for claims and later comparisons). Every write is atomic: a file is whole or not there.
"""

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem

SCHEMA = "vitdsl.run/1"
MANIFEST = "manifest.json"
RESULTS = "results.nc"
SUMMARY = "summary.csv"
IMAGES = "images.csv"
SOURCE = "spec.source.yaml"
RESOLVED = "spec.resolved.yaml"
REPORT = "report.html"
LOG = "log.txt"
COMPANIONS = ("_low", "_high", "_replicates")
SUMMARY_COLUMNS = (
    "metric", "group", "value", "condition", "site", "site_x", "site_y", "head", "token", "depth",
    "estimate", "low", "high", "units",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run, read back: everything that a report needs."""

    path: Path
    manifest: dict[str, Any]
    groups: dict[str, xr.Dataset]
    source: str
    resolved: str


def open_run(path: Path | str) -> Run:
    """Read a run folder.

    Raises:
        EnvironmentProblem: The folder is no run folder, or its run did not end well.
    """
    folder = Path(path)
    try:
        manifest = _manifest(folder / MANIFEST)
        absent = [name for name in (RESULTS, SOURCE, RESOLVED) if not (folder / name).is_file()]
        if absent:
            raise ValueError(f"it has no `{absent[0]}`")
        groups = _groups(folder / RESULTS)
        source, resolved = ((folder / name).read_text("utf-8") for name in (SOURCE, RESOLVED))
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(
            Diagnostic(
                "VD601",
                f"`{folder}` is not a complete run folder: {error}",
                help=_instead(folder),
            )
        ) from error
    return Run(folder, manifest, groups, source, resolved)


def _instead(folder: Path) -> tuple[str, ...]:
    """What to give in place of a folder that is no complete run."""
    if (folder / MANIFEST).is_file():
        return ("run the study again: what failed or was interrupted is not taken up",)
    runs = sorted(folder.glob(f"*/{MANIFEST}")) or sorted(folder.glob(f"*/*/{MANIFEST}"))
    newest = f"the newest run in it is `{runs[-1].parent}`" if runs else ""
    return newest, "give the folder that `vitdsl run` printed, such as `runs/skip_ablation/<time>-<hash>`"


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run that ended well."""
    if not path.is_file():
        raise ValueError(f"it has no `{MANIFEST}`" if path.parent.is_dir() else "there is no such folder")
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"its `{MANIFEST}` is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise ValueError(f"its `{MANIFEST}` is not a JSON object")
    if manifest.get("schema") != SCHEMA:
        raise ValueError(f"its manifest has schema {manifest.get('schema')!r}, not {SCHEMA!r}")
    if manifest.get("status") != "success":
        raise ValueError(f"its run has status `{manifest.get('status')}`, not `success`")
    return manifest


def _groups(path: Path) -> dict[str, xr.Dataset]:
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return {node.path.lstrip("/"): node.to_dataset().load() for node in tree.leaves if node.has_data}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"its `{RESULTS}` cannot be read: {error}") from error


def values_of(dataset: xr.Dataset) -> list[str]:
    """Names of a group's values, without their companions."""
    return [str(name) for name in dataset.data_vars if not str(name).endswith(COMPANIONS)]


def summary_rows(groups: Mapping[str, xr.Dataset]) -> Iterator[dict[str, Any]]:
    """One row for each number of each group: the columns of `summary.csv`, and one for each further dimension."""
    for path, dataset in groups.items():
        metric, _, group = path.partition("/")
        for name in values_of(dataset):
            array = dataset[name]
            low, high = dataset.get(f"{name}_low"), dataset.get(f"{name}_high")
            for index in np.ndindex(array.shape):
                row: dict[str, Any] = {"metric": metric, "group": group, "value": name}
                for dim, position in zip(array.dims, index, strict=True):
                    row[str(dim)] = dataset[dim].values[position] if dim in dataset.coords else position
                    if dim == "site" and "depth" in dataset.coords:
                        row["depth"] = float(dataset["depth"].values[position])
                row["estimate"] = float(array.values[index])
                if low is not None and high is not None:
                    row["low"], row["high"] = float(low.values[index]), float(high.values[index])
                row["units"] = array.attrs.get("units", "1")
                yield row


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    Raises:
        EnvironmentProblem: The file cannot be written (VD407).
    """
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        if handle is not None:
            Path(name).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise EnvironmentProblem(
            Diagnostic(
                "VD407",
                f"cannot write `{path}`: {error.strerror or error}",
                help=("free space, or give another folder with `--out DIR`",),
            )
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN becomes null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_groups(folder: Path, groups: Mapping[str, xr.Dataset]) -> None:
    """Write `results.nc` and `summary.csv`."""
    tree = xr.DataTree.from_dict({f"/{path}": dataset for path, dataset in groups.items()})
    encoding = {
        f"/{path}": {
            str(name): {"zlib": True, "complevel": 4} for name, v in dataset.data_vars.items() if v.ndim > 1
        }
        for path, dataset in groups.items()
    }
    # In memory first: where the disk is full, HDF5 does not raise but crashes.
    content = tree.to_netcdf(engine="h5netcdf", encoding=encoding)
    write_atomically(folder / RESULTS, lambda path: path.write_bytes(content))

    dims = dict.fromkeys(
        str(dim) for data in groups.values() for name in values_of(data) for dim in data[name].dims
    )
    more = [dim for dim in dims if dim not in SUMMARY_COLUMNS]
    place = SUMMARY_COLUMNS.index("estimate")

    def table(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*SUMMARY_COLUMNS[:place], *more, *SUMMARY_COLUMNS[place:]])
            writer.writeheader()
            writer.writerows(summary_rows(groups))

    write_atomically(folder / SUMMARY, table)


def write_images(folder: Path, records: Mapping[str, Iterable[tuple[str, int | None, str]]]) -> None:
    """Write `images.csv`: of each stream, position, id, label and content hash of its images, in order."""

    def table(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("data", "position", "id", "label", "sha256"))
            for name, rows in records.items():
                for position, (id, label, sha256) in enumerate(rows):
                    writer.writerow((name, position, id, "" if label is None else label, sha256))

    write_atomically(folder / IMAGES, table)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
