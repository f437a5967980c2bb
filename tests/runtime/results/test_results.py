"""Run folders: what is written is read back, whole or not at all.

Longer than 300 lines: one run is written once and read by every test.
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.results import csvs
from vitdsl.runtime.results import folder as results
from vitdsl.runtime.results.groups import RESULTS, read_groups, write_groups
from vitdsl.runtime.results.manifest import SCHEMA
from vitdsl.runtime.results.writing import new_folder, write_atomically, write_json, write_text

GROUPS = ("within/vit", "across/vit[train.fraction=0.1]~resnet", "files/m[weights.file=a/b.pth]", "lines/vit")


def text(*values: str) -> np.ndarray:
    return np.asarray(values, dtype=object)


def matrix(seed: int, replicates: int = 4, **attrs: Any) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    dims = ("condition", "site_x", "site_y")
    values = rng.normal(size=(2, 3, 2)) * 10.0 ** rng.integers(-300, 300, size=(2, 3, 2))
    values[0, 1, 1], values[1, 0, 0] = np.nan, 1 / 3
    return xr.Dataset(
        {
            "cka": (
                dims,
                values,
                {"units": "1", "long_name": "CKA – unbiased", "relative": 0, "valid_max": 1.0},
            ),
            "cka_low": (dims, values - 0.5, {"units": "1"}),
            "cka_high": (dims, values + 0.5, {"units": "1"}),
            "cka_replicates": (("replicate", *dims), rng.normal(size=(replicates, 2, 3, 2)), {"units": "1"}),
        },
        {
            "condition": ("condition", text("baseline", "no_skip@blocks.3.attn")),
            "site_x": ("site_x", text("blocks.0", "größe", "")),
            "site_y": ("site_y", text("layer1.0", "層")),
            "depth_x": ("site_x", [0.0, 0.5, np.nan]),
            "model_x": "vit[train.fraction=0.1]",
            "model_y": "m[weights.file=a/b.pth]",
            "data": "probe",
            "train.fraction": 0.1,
            "images": 512,
            "options.a/b c%": 3,
            "weights": '{"file":"a/b.pth"}',
            "empty": "",
        },
        {
            "metric": "m",
            "title": "",
            "paired": 0,
            "left_out": np.asarray([8.0, 8.0, 8.0, 3.0]),
            "undefined": json.dumps(["`größe` is constant"]),
            **attrs,
        },
    )


def line(seed: int) -> xr.Dataset:
    values = np.random.default_rng(seed).normal(size=(1, 2, 3))
    return xr.Dataset(
        {"ratio": (("condition", "site", "row"), values, {"units": "px"})},
        {
            "condition": ("condition", text("baseline")),
            "site": ("site", text("a", "b")),
            "depth": ("site", [0.25, 1.0]),
        },
    )


def made() -> dict[str, xr.Dataset]:
    return {path: line(i) if path.startswith("lines") else matrix(i) for i, path in enumerate(GROUPS)}


OPENING: dict[str, Any] = {
    "schema": SCHEMA,
    "vitdsl": "0.1.0",
    "study": "größe",
    "title": "Größe",
    "question": "",
    "run_id": "größe/1",
    "status": "success",
    "started_at": "2026-11-22T11:00:00Z",
    "argv": [],
    "overrides": [],
    "spec": {"hash": "ab", "source_sha256": "cd"},
    "git": None,
    "environment": {
        "python": "3.11", "packages": {}, "platform": "", "cpu": "", "cores": None, "threads": 1, "cuda": None,
        "gpus": [],
    },
    "device": "cpu",
    "dtype": "float32",
    "seed": 0,
    "warnings": [],
}  # fmt: skip


def complete(folder: Path, **manifest: Any) -> Path:
    sha256 = write_groups(folder / RESULTS, made())
    csvs.write_summary(folder / csvs.SUMMARY, made())
    write_json(folder / results.MANIFEST, OPENING | {"results_sha256": sha256} | manifest)
    for name in (results.SOURCE, results.RESOLVED):
        write_text(folder / name, f"study: größe # {name}\n")
    return folder


def test_round_trip(tmp_path: Path) -> None:
    run = results.open_run(complete(tmp_path / "runs" / "größe"))
    assert set(run.groups) == set(GROUPS)
    flat = [path for path in GROUPS if path.count("/") == 1]
    assert [path for path in run.groups if path in flat] == flat, "in the order of the study"
    for path, wanted in made().items():
        found = run.groups[path]
        xr.testing.assert_equal(found, wanted)
        assert all(found[name].dtype == np.float64 for name in found.data_vars)
        assert set(found.attrs) == set(wanted.attrs)
        for key, value in wanted.attrs.items():
            np.testing.assert_array_equal(found.attrs[key], value)
        assert list(found.coords) == list(wanted.coords)
        for name, coord in wanted.coords.items():
            assert found[name].dtype.kind in (coord.dtype.kind, "U"), "numbers stay numbers"
        for name in wanted.data_vars:
            assert found[name].attrs == wanted[name].attrs
    assert run.source.startswith("study: größe") and run.manifest.status == "success"
    assert csvs.values_of(run.groups["within/vit"]) == ["cka"]


def test_a_run_without_replicates_and_one_with_a_long_list_of_reasons(tmp_path: Path) -> None:
    many = json.dumps([f"layer {i} is constant" for i in range(20_000)])
    groups = {"m/a": matrix(0, replicates=0), "m/b": matrix(1, undefined=many)}
    found = read_groups(tmp_path / RESULTS, write_groups(tmp_path / RESULTS, groups))
    xr.testing.assert_equal(found["m/a"], groups["m/a"])
    assert found["m/b"].attrs["undefined"] == many


def test_summary_is_the_same_numbers(tmp_path: Path) -> None:
    run = results.open_run(complete(tmp_path))
    with (tmp_path / csvs.SUMMARY).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(name for name in rows[0] if name != "row") == csvs.SUMMARY_COLUMNS
    assert len(rows) == sum(data[name].size for data in run.groups.values() for name in csvs.values_of(data))
    for row in rows:
        data = run.groups[f"{row['metric']}/{row['group']}"]
        at = {dim: row[dim] for dim in ("condition", "site", "site_x", "site_y") if dim in data.dims}
        if "row" in data.dims:
            data = data.isel(row=int(row["row"]))
        one = data.sel(at)
        assert float(row["estimate"]) == float(one[row["value"]]) or np.isnan(float(row["estimate"]))
        assert np.isnan(float(row["estimate"])) == bool(np.isnan(one[row["value"]]))
        if row["low"]:
            np.testing.assert_array_equal(float(row["low"]), float(one[f"{row['value']}_low"]))
            np.testing.assert_array_equal(float(row["high"]), float(one[f"{row['value']}_high"]))
        assert row["units"] == one[row["value"]].attrs["units"]
        if "site" in at:
            assert float(row["depth"]) == float(one["depth"])


def test_images(tmp_path: Path) -> None:
    csvs.write_images(tmp_path / csvs.IMAGES, {"probe": [("a,b.png", 3, "f0"), ("ü\n.png", None, "f1")]})
    with (tmp_path / csvs.IMAGES).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["probe", "0", "a,b.png", "3", "f0"], ["probe", "1", "ü\n.png", "", "f1"]]


def test_json_of_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    value = {
        "a": np.float64("nan"),
        "b": [np.inf, np.int64(3), (1.5, None)],
        4: np.float32(0.5),
        "c": np.bool_(True),
    }
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "a": None,
        "b": [None, 3, [1.5, None]],
        "4": 0.5,
        "c": True,
    }


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), RuntimeError("broken")])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_an_environment_problem(tmp_path: Path) -> None:
    def full(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentProblem) as caught:
        write_atomically(tmp_path / "a.txt", full)
    (problem,) = caught.value.diagnostics
    assert problem.code == "VD407" and "No space left" in problem.message and "a.txt" in problem.message
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of files are a POSIX matter")
@pytest.mark.parametrize("limit", [0, 500, 8000])
def test_results_on_a_disk_that_is_really_full(tmp_path: Path, limit: int) -> None:
    """HDF5 itself would end the process with a segmentation fault here."""
    script = textwrap.dedent(f"""
        import resource, signal, sys
        from pathlib import Path
        import numpy as np, xarray as xr
        from vitdsl.dsl.diagnostics import EnvironmentProblem
        from vitdsl.runtime.results.groups import write_groups
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            write_groups(Path(sys.argv[1]) / "results.nc", {{"m/a": xr.Dataset({{"v": ("x", np.arange(9000.0))}})}})
        except EnvironmentProblem as problem:
            sys.exit(30 if problem.diagnostics[0].code == "VD407" else 31)
    """)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True)
    assert done.returncode == 30, done.stderr.decode()[-2000:]
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_an_environment_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda path: write_text(path / "a.txt", ""),
        lambda path: write_groups(path / RESULTS, made()),
        lambda path: csvs.write_summary(path / csvs.SUMMARY, made()),
        lambda path: csvs.write_images(path / csvs.IMAGES, {}),
        lambda path: write_json(path / "a.json", {}),
        lambda path: new_folder(path / "a", "b.json"),
    ):
        with pytest.raises(EnvironmentProblem, match="VD407"):
            write(tmp_path / "file" / "run")
    (tmp_path / "taken" / "a.txt").mkdir(parents=True)
    with pytest.raises(EnvironmentProblem, match="VD407"):
        write_text(tmp_path / "taken" / "a.txt", "")
    assert os.listdir(tmp_path / "taken") == ["a.txt"]


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def broken(name: str, content: bytes | None) -> Any:
    def make(folder: Path) -> None:
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)

    return make


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (broken("manifest.json", None), "manifest.json"),
        (broken("manifest.json", b"{"), "`manifest.json` is not JSON"),
        (broken("manifest.json", b"[]"), "not a JSON object"),
        (broken("manifest.json", b"\xff\xfe"), "`manifest.json` is not JSON"),
        (broken("manifest.json", b'{"schema": "other/2"}'), "schema 'other/2'"),
        (broken("manifest.json", b'{"schema": "vitdsl.run/3"}'), "status `None`"),
        (broken("manifest.json", b'{"schema": "vitdsl.run/3", "status": "failed"}'), "status `failed`"),
        (broken("results.nc", None), "results.nc"),
        (broken("results.nc", b""), "results.nc"),
        (broken("results.nc", b"not HDF5 at all" * 100), "`results.nc` cannot be read"),
        (broken("spec.source.yaml", None), "spec.source.yaml"),
        (broken("spec.resolved.yaml", None), "spec.resolved.yaml"),
    ],
)
def test_open_refuses_what_is_no_complete_run(tmp_path: Path, breaks: Any, says: str) -> None:
    breaks(complete(tmp_path))
    with pytest.raises(EnvironmentProblem) as caught:
        results.open_run(tmp_path)
    (problem,) = caught.value.diagnostics
    assert problem.code == "VD601" and str(tmp_path) in problem.message and says in problem.message
    assert problem.help


def test_open_refuses_truncated_results(tmp_path: Path) -> None:
    complete(tmp_path)
    content = (tmp_path / RESULTS).read_bytes()
    (tmp_path / RESULTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(EnvironmentProblem, match="VD601"):
        results.open_run(tmp_path)


def test_open_refuses_no_folder_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file", str(tmp_path / "none")):
        with pytest.raises(EnvironmentProblem, match="VD601"):
            results.open_run(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": None}, "`seed`: input should be a valid integer"),
        ({"seconds": "38"}, "`seconds`: input should be a valid number"),
        ({"spec": {"hash": "ab"}}, "it has no `spec.source_sha256`"),
        ({"colour": "red"}, "`colour` is no field of one"),
        ({"trust": [{"check": "output"}]}, "it has no `trust[0].model`, and 4 more"),
        ({"schema": "vitdsl.run/1"}, "schema 'vitdsl.run/1'"),
    ],
)
def test_open_says_what_is_wrong_with_a_manifest(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(EnvironmentProblem, match="VD601") as caught:
        results.open_run(complete(tmp_path, **changes))
    assert says in caught.value.diagnostics[0].message


@pytest.mark.parametrize("name", [name for name in OPENING if name not in ("schema", "status")])
def test_open_names_a_field_that_is_missing(tmp_path: Path, name: str) -> None:
    complete(tmp_path)
    manifest = json.loads((tmp_path / results.MANIFEST).read_text())
    del manifest[name]
    write_json(tmp_path / results.MANIFEST, manifest)
    with pytest.raises(EnvironmentProblem, match=f"VD601.*it has no `{name}`"):
        results.open_run(tmp_path)


def test_open_refuses_results_of_another_run(tmp_path: Path) -> None:
    """Whole and readable, but not what the manifest names."""
    complete(tmp_path)
    write_groups(tmp_path / RESULTS, {"m/a": matrix(7)})
    with pytest.raises(EnvironmentProblem, match="VD601.*not the one that its manifest names"):
        results.open_run(tmp_path)


def test_open_refuses_results_that_were_edited(tmp_path: Path) -> None:
    complete(tmp_path)
    content = bytearray((tmp_path / RESULTS).read_bytes())
    at = content.index(b"no_skip@blocks.3.attn")
    content[at : at + 7] = b"no_help"
    (tmp_path / RESULTS).write_bytes(content)
    with pytest.raises(EnvironmentProblem, match="VD601.*edited or cut short, or belongs to another run"):
        results.open_run(tmp_path)


def test_open_refuses_results_that_the_manifest_does_not_name(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="VD601.*not the one that its manifest names"):
        results.open_run(complete(tmp_path, results_sha256=None))


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    sha256 = write_groups(tmp_path / RESULTS, made())
    assert hashlib.sha256((tmp_path / RESULTS).read_bytes()).hexdigest() == sha256


def test_processes_that_start_together_get_a_folder_each(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "study" / "now"
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from vitdsl.runtime.results.writing import new_folder
        print("ready", flush=True)
        sys.stdin.readline()
        print(new_folder(Path(sys.argv[1]), "manifest.json").name)
    """)
    command = [sys.executable, "-c", script, str(folder)]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=tmp_path, env=os.environ)
        for _ in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    found = sorted(worker.communicate()[0].strip() for worker in workers)
    assert found == sorted(["now", *(f"now-{number}" for number in range(2, 9))])
    assert sorted(os.listdir(folder.parent)) == found
