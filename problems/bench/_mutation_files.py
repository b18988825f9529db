"""Files that are to be damaged: how each is written, read and mutated."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import scipy.io

import sciml
from sciml._serialisation import fingerprint
from sciml.data._hdf5 import hdf5_library
from sciml.grids import Dirichlet, Grid, Periodic

_PLANE = Grid((6, 5), boundary=Dirichlet(stored=True))


class Kind(NamedTuple):
    """A kind of file.

    **Attributes:**

    - `write`: makes a valid one.
    - `read`: everything that its reader gives, as arrays and texts.
    - `error`: what the reader raises for damaged ones.
    - `checked`: whether the format has checksums over all that matters, so that no
        change may pass.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], list]
    error: type[Exception]
    checked: bool


def mutated(content: bytes, draw: random.Random) -> bytes:
    """One random change: a bit, a byte, some bytes, or the end of a file.

    **Arguments:**

    - `content`: the bytes of the file.
    - `draw`: says which change, and where.
    """
    place = draw.randrange(len(content))
    old, rest = content[place : place + 1], content[place + 1 :]
    match draw.randrange(8):
        case 0 | 1:
            new = bytes([old[0] ^ (1 << draw.randrange(8))])
        case 2 | 3:
            new = bytes([(old[0] + draw.randrange(1, 256)) % 256])
        case 4:
            new = b""
        case 5:
            new = old + old
        case 6:
            length = draw.randrange(2, 17)
            new = old + rest[: length - 1]
            while new == content[place : place + length]:
                new = draw.randbytes(len(new))
            rest = content[place + length :]
        case _:
            new, rest = b"", b""
    return content[:place] + new + rest


def _write_model(path: Path) -> None:
    model = sciml.neural_operators.FNO(
        1,
        in_channels=1,
        out_channels=1,
        width=4,
        depth=2,
        num_modes=3,
        key=jr.key(0),
    )
    # Whatever the precision of this session, that of the worker's has to do.
    single = lambda leaf: (
        leaf.astype(np.float32) if eqx.is_inexact_array(leaf) else leaf
    )
    sciml.save(path, jax.tree.map(single, model))


def _read_model(path: Path) -> list:
    model = sciml.load(path)
    arrays = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    return [fingerprint(model), *map(np.asarray, arrays)]


def _fields() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return tuple(draw.normal(size=(2, 8, 6, 5)).astype(np.float32))


def _write_npz(path: Path) -> None:
    x, y = _fields()
    with open(path, "wb") as file:
        np.savez(file, x=x, y=y)


def _write_compressed_npz(path: Path) -> None:
    x, y = _fields()
    with open(path, "wb") as file:
        np.savez_compressed(file, x=x, y=y)


def _read_npz(path: Path) -> list:
    data = sciml.data.read_npz(path, grid=_PLANE)
    return [data.inputs, data.targets]


def _write_mat(path: Path) -> None:
    x, y = _fields()
    scipy.io.savemat(path, {"coeff": x, "sol": y}, False, do_compression=True)


def _read_mat(path: Path) -> list:
    data = sciml.data.read_mat(path, grid=_PLANE)
    return [data.inputs, data.targets]


def _write_hdf5(path: Path, libver: Any = None, **options: Any) -> None:
    """Like PDEBench's 1-D files."""
    h5py = hdf5_library()
    u = np.random.default_rng(1).normal(size=(6, 5, 16)).astype(np.float32)
    with h5py.File(path, "w", libver=libver) as file:
        for name, values in {
            "tensor": u,
            "x-coordinate": (np.arange(16, dtype=np.float32) + 0.5) / 16,
            "t-coordinate": np.linspace(0, 1, 5, dtype=np.float32),
        }.items():
            chunks = (1, *values.shape[1:]) if values.ndim > 1 else values.shape
            choice = {"chunks": chunks, **options} if options else {}
            file.create_dataset(name, data=values, **choice)
        file.attrs["Nu"] = 0.01
        # A text of variable length lies in a heap, which never has a checksum.
        text = "equation: burgers\n"
        file.attrs["config"] = np.bytes_(text) if options else text


def _write_checked_hdf5(path: Path) -> None:
    # HDF5's newer formats have checksums over all but the values, Fletcher's filter
    # over these.
    _write_hdf5(path, "latest", fletcher32=True, compression="gzip")


def _read_hdf5(path: Path) -> list:
    with sciml.data.open_pdebench(path, boundary=Periodic()) as source:
        data = source.dataset()
        facts = [source.grid.extent, source.grid.origin, source.parameters(0)]
        return [repr(facts), source.times, data.inputs, data.targets]


KINDS = {
    "model": Kind(_write_model, _read_model, sciml.SerialisationError, True),
    "npz": Kind(_write_npz, _read_npz, sciml.data.DataError, True),
    "npz, compressed": Kind(
        _write_compressed_npz, _read_npz, sciml.data.DataError, True
    ),
    "HDF5": Kind(_write_hdf5, _read_hdf5, sciml.data.DataError, False),
    "HDF5, checksums": Kind(
        _write_checked_hdf5, _read_hdf5, sciml.data.DataError, True
    ),
    "MATLAB 5, compressed": Kind(_write_mat, _read_mat, sciml.data.DataError, True),
}
