"""The Well's files: what is found in them, and what must be."""

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
    edit,
    replace,
    values,
    well,
    write,
)

from sciml.data import DataError, open_the_well
from sciml.grids import Dirichlet, Neumann, Periodic

h5py = pytest.importorskip("h5py")


def test_the_well(tmp_path):
    path = well(tmp_path / "w.hdf5")
    shape = (SAMPLES, TIMES, SIZE, WIDE)
    with open_the_well(path) as source:
        assert source.fields == (
            *("pressure", "velocity[0]", "velocity[1]"),
            *(f"strain[{k}]" for k in range(4)),
        )
        assert source.coefficients == ("speed", "depth")
        assert source.grid.periodic == (True, True) and source.grid.extent == (1, 1)
        np.testing.assert_allclose(source.grid.coordinates(1), Y, rtol=0, atol=1e-7)
        np.testing.assert_array_equal(source.times, T)
        states, fixed = source.read()
        pairs = source.transitions()
        parameters = source.parameters(2)
    np.testing.assert_array_equal(states[:, :, 0], values(*shape))
    np.testing.assert_array_equal(
        states[:, :, 1:3], np.moveaxis(values(*shape, 2, start=3), -1, 2)
    )
    strain = values(*shape, 2, 2, start=4)
    for k in range(4):
        np.testing.assert_array_equal(states[:, :, 3 + k], strain[..., k // 2, k % 2])
    assert fixed is not None
    np.testing.assert_array_equal(fixed[:, 0], values(SAMPLES, SIZE, WIDE, start=1))
    assert (fixed[:, 1] == values(SIZE, start=2)[None, :, None]).all()
    # Coefficients are the last channels of every input.
    assert pairs.inputs.shape == (SAMPLES * (TIMES - 1), 9, SIZE, WIDE)
    np.testing.assert_array_equal(pairs.inputs[-1, 7:], fixed[-1])
    np.testing.assert_array_equal(pairs.targets[-1], states[-1, -1])
    assert parameters["zeta"] == 3.0 and parameters["dataset_name"] == "made_up"
    np.testing.assert_array_equal(parameters["force"], values(SAMPLES, TIMES)[2])


def test_the_fields_that_are_asked_for(tmp_path):
    path = well(tmp_path / "w.hdf5")
    wanted = ["velocity", "t0_fields/speed"]
    with open_the_well([path], fields=wanted, subsample=2, dtype=None) as source:
        assert source.fields == ("velocity[0]", "velocity[1]")
        assert source.coefficients == ("speed",)
        states, _ = source.read(3)
    expected = values(SAMPLES, TIMES, SIZE, WIDE, 2, start=3)[3, :, ::2, ::2]
    np.testing.assert_array_equal(states[0], np.moveaxis(expected, -1, 1))
    for name, message in [
        ("velocty", "the nearest is 't1_fields/velocity'"),
        ("x", "no"),
    ]:
        with pytest.raises(DataError, match=message):
            open_the_well(path, fields=[name])
    with pytest.raises(DataError, match="varies in time, got only .'t0_fields/speed'"):
        open_the_well(path, fields=["speed"])


def test_a_tensor_with_its_indices_on_one_axis(tmp_path):
    path = well(tmp_path / "w.hdf5")
    strain = values(SAMPLES, TIMES, SIZE, WIDE, 4, start=4)
    edit(path, replace("t2_fields/strain", strain))
    with open_the_well(path, fields=["strain"]) as source:
        np.testing.assert_array_equal(source.read()[0], np.moveaxis(strain, -1, 2))


def test_sides_of_the_well(tmp_path):
    path = well(tmp_path / "w.hdf5", ("PERIODIC", "WALL"))
    message = r"it says \['WALL'\] of axis 'y', which does not determine .*\('x', 'y'\)"
    with pytest.raises(DataError, match=message):
        open_the_well(path)
    with open_the_well(path, boundary=(Periodic(), (Dirichlet(), Neumann()))) as source:
        assert source.grid.periodic == (True, False)
    with pytest.raises(
        DataError, match=r"says \['PERIODIC'\] of .*'x', but .*'neumann'"
    ):
        open_the_well(path, boundary=Neumann())
    with pytest.raises(DataError, match=r"says \['WALL'\] of .*'y', but .*'periodic'"):
        open_the_well(path, boundary=Periodic())
    path = well(tmp_path / "o.hdf5", ("OPEN", "PERIODIC"))
    with pytest.raises(DataError, match=r"it says \['OPEN'\] of axis 'x'"):
        open_the_well(path)
    path = well(tmp_path / "i.hdf5")

    def obstacle(file):
        group = file.create_group("boundary_conditions/maze")
        group.attrs["bc_type"], group.attrs["associated_dims"] = "wall", ["x", "y"]

    edit(path, obstacle)
    with pytest.raises(DataError, match="may be an obstacle inside"):
        open_the_well(path)
    open_the_well(path, boundary=Periodic()).close()


def unless(name, key, value):
    return lambda f: f[name].attrs.__setitem__(key, value)


def without(name, key):
    return lambda f: f[name].attrs.__delitem__(key)


WELL = {
    "sphere": (unless("/", "grid_type", "spherical"), "'cartesian', got 'spherical'"),
    "no grid type": (without("/", "grid_type"), "attributes of '/': no 'grid_type'"),
    "axes": (unless("/", "n_spatial_dims", 3), "n_spatial_dims is 3, but .*'x', 'y'"),
    "samples": (unless("/", "n_trajectories", 9), "expected 9 trajectories, .*, got 4"),
    "text": (unless("/", "n_trajectories", "4"), "'n_trajectories': expected a number"),
    "names": (
        unless("t0_fields", "field_names", ["presure"]),
        "'field_names' lists 'presure', which is not there; the nearest is 'pressure'",
    ),
    "no fields": (
        lambda f: [f.pop(f"t{k}_fields") for k in range(3)],
        "This is not a file of The Well",
    ),
    "no dimensions": (lambda f: f.pop("dimensions"), "no 'dimensions'"),
    "no times": (lambda f: f.pop("dimensions/time"), "no 'time' in 'dimensions'"),
    "grids": (
        unless("dimensions/x", "sample_varying", True),
        "expected one grid for al",
    ),
    "moving": (unless("dimensions/x", "time_varying", True), "time_varying is True"),
    "no flag": (
        without("t0_fields/pressure", "time_varying"),
        "'t0_fields/pressure': no 'time_varying'",
    ),
    "flag": (unless("t0_fields/speed", "time_varying", "no"), "expected True or False"),
    "flags": (
        unless("t0_fields/speed", "dim_varying", [True]),
        r"expected 2 entries of 'dim_varying', got \[True\]",
    ),
    "components": (
        replace("t1_fields/velocity", values(SAMPLES, TIMES, SIZE, WIDE, 3)),
        r"axes \(sample, time, x, y\) and 2 components, .*, got .*\(4, 5, 6, 8, 3\)",
    ),
    "short": (
        replace("t0_fields/pressure", values(SAMPLES, TIMES - 1, SIZE, WIDE)),
        r"expected 5 numbers, one per state|expected shape",
    ),
    "bend": (replace("dimensions/y", Y**2), "'dimensions/y': expected even spacing"),
    "kind": (
        unless("boundary_conditions/x_periodic", "bc_type", "reflecting"),
        "expected 'PERIODIC', 'WALL' or 'OPEN', got 'REFLECTING'",
    ),
    "NaN": (
        replace("t0_fields/depth", np.full(SIZE, np.nan)),
        "'t0_fields/depth': 6 of 6 .* first at index .0,.",
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_the_well_refuses(tmp_path, name):
    change, message = WELL[name]
    path = edit(well(tmp_path / "file.h5"), change)
    with pytest.raises(DataError, match=message) as error:
        with open_the_well(path) as source:
            source.read()
    assert str(error.value).startswith(str(path))


def test_times_of_the_well(tmp_path):
    path = well(tmp_path / "w.h5")
    edit(path, replace("dimensions/time", np.stack([T] * SAMPLES)))
    edit(path, unless("dimensions/time", "sample_varying", True))
    with open_the_well(path) as source:
        np.testing.assert_array_equal(source.times, T)
    edit(path, replace("dimensions/time", T * np.arange(1, 5)[:, None]))
    with pytest.raises(DataError, match="expected the same times for all samples"):
        open_the_well(path)


def test_files_of_the_well_together(tmp_path):
    paths = [well(tmp_path / f"{k}.h5") for k in range(2)]
    with open_the_well(paths) as source:
        assert len(source) == 2 * SAMPLES
    edit(paths[1], lambda f: f.move("t0_fields/speed", "t0_fields/v"))
    edit(paths[1], unless("t0_fields", "field_names", ["pressure", "v", "depth"]))
    with pytest.raises(
        DataError, match="1.h5: expected .*speed.* as in .*0.h5, got .*v"
    ):
        open_the_well(paths)
    other = well(tmp_path / "2.h5", ("PERIODIC", "WALL"))
    with pytest.raises(
        DataError, match="'boundary_conditions': expected .*, got .*WALL"
    ):
        open_the_well([paths[0], other], boundary=Periodic())


def test_not_of_the_well(tmp_path):
    path = write(tmp_path / "x.h5", {"a": X})
    with pytest.raises(DataError, match="x.h5, attributes of '/': no 'grid_type'"):
        open_the_well(path)
