"""MATLAB files of both versions: the same values, and what is refused."""

import os

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from sciml.data import DataError, read_mat, transitions
from sciml.grids import Dirichlet, Grid, Periodic

h5py = pytest.importorskip("h5py")

# As FNO's Darcy sets: the nodes of the boundary are among the values.
GRID = Grid((9, 7), boundary=Dirichlet(stored=True))
COEFF = np.where(np.arange(5 * 63).reshape(5, 9, 7) % 3 > 0, 12.0, 3.0)
SOL = np.sin(np.arange(5 * 63).reshape(5, 9, 7))
# As its Navier-Stokes sets: time comes last.
TIMES = np.cos(np.arange(5 * 63 * 4)).reshape(5, 9, 7, 4)


def write_5(path, variables, **options):
    scipy.io.savemat(path, variables, **options)
    return path


def write_73(path, variables, classes=()):
    """As MATLAB does: HDF5 after 512 bytes of its own, the axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file.create_dataset(name, data=np.asarray(value).T, compression="gzip")
            kind = {"f8": "double", "f4": "single", "b1": "logical", "u1": "uint8"}
            code = np.asarray(value).dtype.str[1:]
            text = dict(classes).get(name, kind.get(code, "int32"))
            file[name].attrs["MATLAB_class"] = np.bytes_(text)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116)
    with open(path, "r+b") as file:
        file.write(header + bytes(8) + b"\x00\x02IM")
    return path


WRITERS = {
    "5": write_5,
    "5 compressed": lambda path, v: write_5(path, v, do_compression=True),
    "7.3": write_73,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("stride", [1, 2, (4, 3)])
def test_values(tmp_path, name, stride):
    path = WRITERS[name](tmp_path / "d.mat", {"coeff": COEFF, "sol": SOL, "z": [1.0]})
    data = read_mat(path, grid=GRID, subsample=stride)
    sx, sy = (stride, stride) if isinstance(stride, int) else stride
    assert data.inputs.dtype == data.targets.dtype == np.float32
    np.testing.assert_array_equal(data.inputs[:, 0], COEFF[:, ::sx, ::sy].astype("f4"))
    np.testing.assert_array_equal(data.targets[:, 0], SOL[:, ::sx, ::sy].astype("f4"))
    # The nodes that are kept are where they were, and the sides where they are.
    for axis, step in ((0, sx), (1, sy)):
        np.testing.assert_allclose(
            data.grid.coordinates(axis), GRID.coordinates(axis)[::step]
        )
    assert data.grid.dirichlet_mask()[-1].all()
    exact = read_mat(path, grid=GRID, inputs="sol", targets=None, dtype=None)
    assert exact.targets is None
    np.testing.assert_array_equal(exact.inputs[:, 0], SOL)


@pytest.mark.parametrize("name", WRITERS)
def test_times_become_channels(tmp_path, name):
    path = WRITERS[name](tmp_path / "ns.mat", {"a": TIMES[..., 0], "u": TIMES})
    data = read_mat(path, inputs="a", targets="u", grid=GRID, dtype=None)
    assert data.inputs.shape == (5, 1, 9, 7) and data.targets.shape == (5, 4, 9, 7)
    np.testing.assert_array_equal(data.targets[3, 2], TIMES[3, ..., 2])
    pairs = transitions(data.targets[:, :, None], GRID)
    np.testing.assert_array_equal(pairs.inputs[0, 0], TIMES[0, ..., 0])
    np.testing.assert_array_equal(pairs.targets[2, 0], TIMES[0, ..., 3])


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["u1", "i4", "f4", "bool"])
def test_types(tmp_path, name, kind):
    values = (COEFF > 5).astype(kind)
    path = WRITERS[name](tmp_path / "d.mat", {"a": values})
    data = read_mat(path, inputs="a", targets=None, grid=GRID)
    assert data.inputs.dtype == np.float32
    np.testing.assert_array_equal(data.inputs[:, 0], values.astype("f4"))


def test_one_axis(tmp_path):
    grid = Grid(8, boundary=Periodic())
    u = np.arange(24.0).reshape(3, 8)
    for write in WRITERS.values():
        path = write(tmp_path / "b.mat", {"a": u, "u": u + 1})
        data = read_mat(path, inputs="a", targets="u", grid=grid, subsample=2)
        np.testing.assert_array_equal(data.targets[:, 0], u[:, ::2] + 1)


def broken(place, value):
    changed = SOL.copy()
    changed[place] = value
    return changed


REFUSED = {
    "missing": ({"coef": COEFF, "sol": SOL}, "'coeff'.*no .*the nearest is 'coef'"),
    "shape": (
        {"coeff": COEFF, "sol": SOL[:, 1:]},
        r"'sol': expected shape \(samples, 9, 7\), .* for this grid, got \(5, 8, 7\)",
    ),
    "order": (
        {"coeff": np.moveaxis(COEFF, 0, -1), "sol": SOL},
        r"'coeff': expected shape \(samples, 9, 7\), .* got \(9, 7, 5\)",
    ),
    "samples": (
        {"coeff": COEFF, "sol": SOL[1:]},
        "as many samples as inputs .5., got 4",
    ),
    "NaN": (
        {"coeff": COEFF, "sol": broken((2, 4, 6), np.nan)},
        r"'sol': 1 of 100 .* the first at index \(2, 4, 6\)",
    ),
    "overflow": ({"coeff": COEFF * 1e300, "sol": SOL}, "1.2e.301 do not fit float32"),
    "much": (
        {"coeff": np.zeros((2**14, 9, 7)), "sol": SOL},
        "more than max_bytes = 1 MiB",
    ),
    "complex": ({"coeff": COEFF + 1j, "sol": SOL}, "'coeff'.*expected real numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("version", WRITERS)
def test_refused(tmp_path, version, name):
    variables, message = REFUSED[name]
    path = WRITERS[version](tmp_path / "d.mat", variables)
    with pytest.raises(DataError, match=message) as error:
        read_mat(path, grid=GRID, subsample=2, max_bytes=2**20)
    assert str(error.value).startswith(str(path))


def test_what_are_no_numbers(tmp_path):
    cell = np.empty(3, object)
    cell[:] = [1.0, "a", 2.0]
    others = {
        "cell": cell,
        "struct": {"a": 1.0},
        "char": "text",
        "sparse": scipy.sparse.eye(3, format="csc"),
    }
    path = write_5(tmp_path / "d.mat", others | {"sol": SOL})
    for name in others:
        with pytest.raises(
            DataError, match=f"'{name}': expected numbers, got a {name}"
        ):
            read_mat(path, inputs=name, grid=GRID)
    path = write_73(tmp_path / "e.mat", {"a": SOL, "b": SOL, "c": SOL}, {"a": "char"})
    with h5py.File(path, "r+") as file:
        file["b"].attrs["MATLAB_empty"] = np.uint8(1)
        file["s/x"] = SOL
    for name, message in [
        ("a", "'a': expected numbers, got char"),
        ("b", "'b': expected numbers, got nothing"),
        ("s", "'s': expected a dataset, got a group"),
        ("d", "no 'd'; "),
    ]:
        with pytest.raises(DataError, match=message):
            read_mat(path, inputs=name, targets=None, grid=GRID)


def test_arguments_and_other_files(tmp_path):
    path = write_5(tmp_path / "d.mat", {"coeff": COEFF, "sol": SOL})
    with pytest.raises(DataError, match=r"d.mat: subsample: .*\[1, 2, 4, 8\]"):
        read_mat(path, grid=GRID, subsample=3)
    with pytest.raises(DataError, match="dtype: expected a floating"):
        read_mat(path, grid=GRID, dtype="i4")
    write_5(tmp_path / "4.mat", {"a": np.ones(3)}, format="4")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello")
    for other, message in [
        (tmp_path / "none.mat", "expected a .mat file, got no such file"),
        (tmp_path, "expected a .mat file, got a folder"),
        (tmp_path / "pipe", "expected a .mat file, got no regular file"),
        (tmp_path / "text", "expected a MATLAB file of version 5 or 7.3"),
        (tmp_path / "4.mat", "Of version 4. Save it anew"),
    ]:
        with pytest.raises(DataError, match=message):
            read_mat(other, grid=GRID)


@pytest.mark.parametrize("version", WRITERS)
def test_truncated(tmp_path, version):
    path = WRITERS[version](tmp_path / "d.mat", {"coeff": COEFF, "sol": SOL})
    content = path.read_bytes()
    for length in [*range(0, len(content), len(content) // 20), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DataError) as error:
            read_mat(path, grid=GRID)
        assert str(error.value).startswith(str(path))
