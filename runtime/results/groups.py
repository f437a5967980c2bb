"""The numbers of a run: `results.nc`, one netCDF-4 group for each metric and model (or pair) of models.

Owns how groups are written and read back, and the hash that ties the file to its manifest. What identifies a
group (`model`, or `model_x` and `model_y`; `data`; swept fields such as `train.fraction`) are scalar coordinates.
netCDF has no names with `/`, and no coordinates with spaces: these are percent-encoded in the file.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import xarray as xr

from vitdsl.runtime.results.writing import write_atomically

RESULTS = "results.nc"
ENCODED = {"%": "%25", "/": "%2F", " ": "%20"}


def write_groups(path: Path, groups: Mapping[str, xr.Dataset]) -> str:
    """Write the groups; the sha256 of the file."""
    tree = xr.DataTree.from_dict({f"/{name}": data.rename(_encoded(data)) for name, data in groups.items()})
    encoding = {
        f"/{name}": {
            str(value): {"zlib": True, "complevel": 4} for value, v in data.data_vars.items() if v.ndim > 1
        }
        for name, data in groups.items()
    }
    # In memory first: where the disk is full, HDF5 does not raise but crashes.
    content = tree.to_netcdf(engine="h5netcdf", encoding=encoding)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def read_groups(path: Path, sha256: str | None) -> dict[str, xr.Dataset]:
    """Read the groups back.

    Args:
        path: The file.
        sha256: What the manifest says of it.

    Raises:
        ValueError: It cannot be read, or is not the file that the manifest names.
    """
    foreign = hashlib.sha256(path.read_bytes()).hexdigest() != sha256
    words = "it was edited or cut short, or belongs to another run"
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            found = {node.path.lstrip("/"): node.to_dataset().load() for node in tree.leaves if node.has_data}
    except Exception as error:  # what HDF5 and xarray raise for a foreign file is not told
        why = f"{error}; {words}" if foreign else str(error)
        raise ValueError(f"its `{path.name}` cannot be read: {why}") from error
    if foreign:
        raise ValueError(f"its `{path.name}` is not the one that its manifest names: {words}")
    return {name: data.rename(_decoded(data)) for name, data in found.items()}


def _encoded(data: xr.Dataset) -> dict[str, str]:
    names = [str(name) for name in data.coords]
    table = str.maketrans(ENCODED)
    return {name: name.translate(table) for name in names if name != name.translate(table)}


def _decoded(data: xr.Dataset) -> dict[str, str]:
    return {str(name): unquote(str(name)) for name in data.coords if "%" in str(name)}
