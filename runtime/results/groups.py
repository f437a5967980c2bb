"""The numbers of a run: `results.nc`, one netCDF-4 group for each metric and model (or pair) of models.

Owns how groups are written and read back, and the hash that ties the file to its manifest. What identifies a
group (`model`, or `model_x` and `model_y`; `data`; swept fields such as `train.fraction`) are scalar coordinates.
netCDF has no names with `/`, and no coordinates with spaces: these are percent-encoded in the file.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h5py
import numpy as np
import xarray as xr

from vitdsl.runtime.results.writing import write_atomically

RESULTS = "results.nc"
NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"
OF_NETCDF = frozenset(
    "CLASS NAME DIMENSION_LIST REFERENCE_LIST _Netcdf4Dimid _Netcdf4Coordinates _nc3_strict _NCProperties".split()
)
"""Attributes by which netCDF-4 is laid out in HDF5."""
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
        with h5py.File(path, "r") as file:
            found = {name: xr.decode_cf(_dataset(group)) for name, group in _leaves(file)}
    except Exception as error:  # what HDF5 and xarray raise for a foreign file is not told
        why = f"{error}; {words}" if foreign else str(error)
        raise ValueError(f"its `{path.name}` cannot be read: {why}") from error
    if foreign:
        raise ValueError(f"its `{path.name}` is not the one that its manifest names: {words}")
    return {name: data.rename(_decoded(data)) for name, data in found.items()}


def _leaves(group: h5py.Group, path: str = "") -> Iterator[tuple[str, h5py.Group]]:
    """The groups that hold arrays, by their path."""
    if any(isinstance(one, h5py.Dataset) for one in group.values()):
        yield path, group
    for name, one in group.items():
        if isinstance(one, h5py.Group):
            yield from _leaves(one, f"{path}/{name}".lstrip("/"))


def _dataset(group: h5py.Group) -> xr.Dataset:
    """One group as netCDF-4 has it, not decoded.

    The dimensions of a variable are objects of its own group and are known by their address. Asking HDF5 for their
    names, as readers of any netCDF file do, searches the whole file for each: minutes, where there are hundreds.
    """
    arrays = {name: one for name, one in group.items() if isinstance(one, h5py.Dataset)}
    addresses = {h5py.h5o.get_info(one.id).addr: name for name, one in arrays.items()}

    def dims(name: str, array: h5py.Dataset) -> tuple[str, ...]:
        if "DIMENSION_LIST" not in array.attrs:
            return (name,) if array.ndim else ()
        scales = (h5py.h5r.dereference(refs[-1], array.id) for refs in array.attrs["DIMENSION_LIST"])
        return tuple(addresses[h5py.h5o.get_info(scale).addr] for scale in scales)

    variables = {
        name: (dims(name, array), _values(array), _attributes(array))
        for name, array in arrays.items()
        if not bytes(array.attrs.get("NAME", b"")).startswith(NO_VARIABLE)
    }
    return xr.Dataset(variables, attrs=_attributes(group))


def _values(array: h5py.Dataset) -> Any:
    return np.asarray(array.asstr()[()], str) if h5py.check_string_dtype(array.dtype) else array[()]


def _attributes(one: h5py.HLObject) -> dict[str, Any]:
    found = {name: value for name, value in one.attrs.items() if name not in OF_NETCDF}
    return {name: value[0] if getattr(value, "shape", ()) == (1,) else value for name, value in found.items()}


def _encoded(data: xr.Dataset) -> dict[str, str]:
    names = [str(name) for name in data.coords]
    table = str.maketrans(ENCODED)
    return {name: name.translate(table) for name in names if name != name.translate(table)}


def _decoded(data: xr.Dataset) -> dict[str, str]:
    return {str(name): unquote(str(name)) for name in data.coords if "%" in str(name)}
