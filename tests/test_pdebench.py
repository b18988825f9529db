"""PDEBench's files: what is found in them, and what must be."""

import numpy as np
import pytest
from data_cases import (
    SAMPLES,
    SIZE,
    TIMES,
    WIDE,
    T,
    X,
    Y,
    burgers,
    compressible,
    darcy,
    edit,
    reaction,
    replace,
    values,
)

from sciml.data import DataError, open_pdebench
from sciml.grids import Dirichlet, Neumann, Periodic

h5py = pytest.importorskip("h5py")


def test_tensor_in_one_dimension(tmp_path):
    path = burgers(tmp_path / "1D_Burgers.hdf5")
    u = values(SAMPLES, TIMES, SIZE)
    with open_pdebench(path, boundary=Periodic()) as source:
        assert len(source) == SAMPLES and source.fields == ("tensor",)
        np.testing.assert_array_equal(source.times, T)
        assert source.parameters(0) == {"Nu": 0.01}
        # The coordinates are those of the file, and the box has the right length.
        grid = source.grid
        np.testing.assert_allclose(grid.coordinates(0), X, rtol=0, atol=2e-7)
        assert grid.extent == (1.0,) and grid.periodic == (True,)
        data, pairs = source.dataset(), source.transitions([2])
    np.testing.assert_array_equal(data.inputs, u[:, :1])
    np.testing.assert_array_equal(data.targets, u[:, 1:])
    np.testing.assert_array_equal(pairs.inputs[:, 0], u[2, :-1])
    np.testing.assert_array_equal(pairs.targets[:, 0], u[2, 1:])


def test_darcy(tmp_path):
    with open_pdebench(darcy(tmp_path / "d.hdf5"), boundary=Dirichlet()) as source:
        assert (source.coefficients, source.fields) == (("nu",), ("tensor",))
        data = source.dataset([1, 3])
        np.testing.assert_allclose(source.grid.coordinates(0), X, rtol=0, atol=2e-7)
        np.testing.assert_allclose(source.grid.coordinates(1), Y, rtol=0, atol=2e-7)
        # As the docstring says: a spacing outside of the first and the last centre.
        assert source.grid.origin == pytest.approx((-0.5 / SIZE, -0.5 / WIDE), abs=1e-6)
        assert source.grid.extent == pytest.approx((7 / 6, 9 / 8), abs=1e-6)
        assert source.parameters(0) == {"beta": 1.0}
    np.testing.assert_array_equal(
        data.inputs, values(SAMPLES, SIZE, WIDE)[[1, 3]][:, None]
    )
    np.testing.assert_array_equal(
        data.targets, values(SAMPLES, 1, SIZE, WIDE, start=1)[[1, 3]]
    )


def test_a_dataset_per_field(tmp_path):
    path = compressible(tmp_path / "2D_CFD.hdf5")
    shape = (SAMPLES, TIMES, SIZE, WIDE)
    vx, vy, density, pressure = (values(*shape, start=k) for k in range(4))
    with open_pdebench(path, boundary=Periodic()) as source:
        assert source.fields == ("density", "pressure", "Vx", "Vy")
        states, fixed = source.read()
        assert fixed is None and source.parameters(1)["M"] == 1.0
        data = source.dataset(num_saves=2)
    expected = np.stack([density, pressure, vx, vy], 2)
    np.testing.assert_array_equal(states, expected)
    np.testing.assert_array_equal(data.inputs, expected[:, 0])
    np.testing.assert_array_equal(
        data.targets, expected[:, 2::2].reshape(SAMPLES, 8, SIZE, WIDE)
    )
    with open_pdebench(
        path, boundary=Periodic(), fields=["Vy", "density"], subsample=(2, 1)
    ) as source:
        states, _ = source.read(2)
        assert source.grid.shape == (3, WIDE)
    np.testing.assert_array_equal(states[0], np.stack([vy, density], 2)[2, ..., ::2, :])


def test_a_group_per_sample(tmp_path):
    path = reaction(tmp_path / "2D_diff-react.h5", samples=11)
    for renamed in ("0010", "0001"):  # In numerical order, not in that of the letters.
        edit(path, lambda f, name=renamed: f.move(name, str(int(name))))
    with open_pdebench([path], boundary=Neumann()) as source:
        assert len(source) == 11 and source.fields == ("data[0]", "data[1]")
        states, _ = source.read([10, 1, 4])
        assert "seed: 4" in source.parameters(4)["config"]
        pairs = source.transitions(window=2)
    expected = np.stack([values(TIMES, SIZE, WIDE, 2, start=k) for k in (10, 1, 4)])
    np.testing.assert_array_equal(states, np.moveaxis(expected, -1, 2))
    assert pairs.inputs.shape == (11 * 3, 4, SIZE, WIDE)


def test_pdebench_files_together(tmp_path):
    paths = [burgers(tmp_path / f"{k}.h5") for k in range(3)]
    edit(paths[1], lambda f: f.attrs.modify("Nu", 0.1))
    with open_pdebench(paths, boundary=Periodic(), max_open_files=1) as source:
        assert len(source) == 3 * SAMPLES
        assert [source.parameters(k)["Nu"] for k in (3, 4, 8)] == [0.01, 0.1, 0.01]
    edit(paths[2], replace("x-coordinate", X + 1))
    message = "2.h5, dataset 'x-coordinate': expected the same as in .*0.h5, got"
    with pytest.raises(DataError, match=message):
        open_pdebench(paths, boundary=Periodic())
    with pytest.raises(
        DataError, match="d.h5: expected .'tensor'. as in .*, got .'ten"
    ):
        open_pdebench([paths[0], darcy(tmp_path / "d.h5")], boundary=Periodic())


def shifted(values_, k, by):
    changed = values_.copy()
    changed[k] += by
    return changed


PDEBENCH = {
    "no axis": (
        burgers,
        lambda f: f.move("x-coordinate", "x"),
        "no 'x-coordinate'; the",
    ),
    "bent axis": (
        burgers,
        replace("x-coordinate", shifted(X, 3, 0.01)),
        "'x-coordinate': expected even spacing, 0.166667 on average, but index 3 is at",
    ),
    "falling axis": (
        burgers,
        replace("x-coordinate", X[::-1]),
        "'x-coordinate': expected increasing numbers, got 0.916667 and then 0.75 at",
    ),
    "NaN in an axis": (
        burgers,
        replace("x-coordinate", shifted(X, 1, np.nan)),
        "'x-coordinate': 1 of 6 values .* NaN or infinite, the first at index .1,",
    ),
    "two axes": (
        burgers,
        lambda f: f.create_dataset("y-coordinate", data=X),
        r"'tensor': expected shape \(samples, times, x, y\), since there are 2 axes",
    ),
    "other size": (
        burgers,
        replace("x-coordinate", X[:-1]),
        r"'tensor': expected shape \(sample, time, 5\), got \(4, 5, 6\): 6 along 'x'",
    ),
    "matrix as axis": (burgers, replace("x-coordinate", X[None]), "got shape .1, 6."),
    "one node": (
        lambda path: burgers(path, tensor=values(2, TIMES, 1)),
        replace("x-coordinate", X[:1]),
        "expected at least two numbers, got one",
    ),
    "no times": (burgers, lambda f: f.pop("t-coordinate"), "no 't-coordinate'"),
    "two times too many": (
        burgers,
        replace("t-coordinate", np.arange(7.0)),
        "'t-coordinate': expected 5 times, one per state .or 6, .*, got 7",
    ),
    "unsorted times": (
        burgers,
        replace("t-coordinate", np.array([0, 1, 3, 2, 4.0])),
        "'t-coordinate': expected increasing numbers, got 3 and then 2 at index 3",
    ),
    "no field": (
        burgers,
        lambda f: f.move("tensor", "tensors"),
        "expected a dataset 'tensor', .* the nearest is 'tensors'; .*HDF5Source",
    ),
    "several times of Darcy": (
        darcy,
        replace("nu", values(SAMPLES, SIZE, 7)),
        r"'nu': expected shape \(4, 6, 8\), got \(4, 6, 7\): 7 along 'y'",
    ),
    "field of another size": (
        compressible,
        replace("Vy", values(3, TIMES, SIZE, WIDE)),
        r"'Vy': expected shape \(4, 5, 6, 8\), got \(3, 5, 6, 8\): 3 along 'sample'",
    ),
    "grid of another sample": (
        reaction,
        replace("0002/grid/y", Y * 2),
        "'0002/grid/y': expected the same coordinates as those of the first sample",
    ),
    "times of another sample": (
        reaction,
        replace("0002/grid/t", T * 2),
        "'0002/grid/t': expected the same coordinates",
    ),
    "channels of another sample": (
        reaction,
        replace("0002/data", values(TIMES, SIZE, WIDE, 3)),
        "'0002/data': expected .2. channels as before, got .3.",
    ),
    "sample without data": (
        reaction,
        lambda f: f.pop("0002/data"),
        "no 'data' in '0002'",
    ),
}


@pytest.mark.parametrize("name", PDEBENCH)
def test_pdebench_refuses(tmp_path, name):
    make, change, message = PDEBENCH[name]
    path = edit(make(tmp_path / "file.h5"), change)
    with pytest.raises(DataError, match=message) as error:
        with open_pdebench(path, boundary=Periodic()) as source:
            source.read()
    assert str(error.value).startswith(str(path))


def test_pdebench_arguments(tmp_path):
    path = compressible(tmp_path / "c.h5")
    for options, message in [
        ({"boundary": [Periodic()]}, "c.h5: boundary: expected one .* per axis .2 of"),
        ({"boundary": Periodic(), "fields": ["vx"]}, "no 'vx'; the nearest is 'Vx'"),
        ({"boundary": Periodic(), "subsample": 4}, r"axis 0 has 6 .*\[1, 2, 3, 6\]"),
    ]:
        with pytest.raises(DataError, match=message):
            open_pdebench(path, **options)
    with pytest.raises(DataError, match="all channels are in one dataset per sample"):
        open_pdebench(reaction(tmp_path / "r.h5"), boundary=Neumann(), fields=["u"])
