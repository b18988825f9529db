"""HDF5 files in any layout: what is read, and how."""

import os

import numpy as np
import pytest
from data_cases import (
    LINE,
    PLANE,
    SAMPLES,
    SIZE,
    TIMES,
    WIDE,
    U,
    edit,
    replace,
    source,
    values,
    write,
)

import problems
from sciml.data import DataError, Dataset, HDF5Source, transitions
from sciml.grids import Dirichlet, Grid, Neumann, Periodic

h5py = pytest.importorskip("h5py")


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "u.h5", {"u": U, "deep/er/a": values(SAMPLES, SIZE)})


def test_reading_parts(path):
    with source(path, coefficients={"deep/er/a": "sample x"}) as s:
        assert len(s) == SAMPLES and s.num_samples == (SAMPLES,)
        assert (s.fields, s.coefficients) == (("u",), ("a",))
        a = values(SAMPLES, SIZE)
        for samples in (None, 2, -1, slice(1, 4, 2), range(3, 0, -1), [3, 0, 0, 2]):
            states, fixed = s.read(samples)
            rows = np.arange(SAMPLES)
            index = list(samples) if isinstance(samples, range) else samples
            rows = rows if samples is None else np.atleast_1d(rows[index])
            assert states.dtype == np.float32
            np.testing.assert_array_equal(states[:, :, 0], U[rows])
            assert fixed is not None
            np.testing.assert_array_equal(fixed[:, 0], a[rows])
        states, _ = s.read(1, slice(1, None, 2))
        np.testing.assert_array_equal(states[0, :, 0], U[1, 1::2])
        for bad in ([4], [-5], slice(9, 10), [0.5], []):
            with pytest.raises(DataError, match="samples"):
                s.read(bad)
        for bad in (slice(9, 10), slice(None, None, -1)):
            with pytest.raises(DataError, match="saves: expected at least one of 5"):
                s.read(0, bad)
    with pytest.raises(DataError, match="closed"):
        s.read(0)


def test_axes_in_any_order_and_number(tmp_path):
    shape = (3, WIDE, 2, SAMPLES, SIZE, TIMES)
    contents = {"w": values(*shape), "line": values(WIDE), "p": values(TIMES, SAMPLES)}
    path = write(tmp_path / "w.h5", contents)
    with HDF5Source(
        path,
        {"w": "channel y channel sample x time", "p": "time sample"},
        coefficients={"line": "y"},
        grid=PLANE,
    ) as s:
        assert s.fields == (*(f"w[{k}]" for k in range(6)), "p")
        states, fixed = s.read([2, 0])
    expected = np.einsum("cydsxt->stcdxy", contents["w"])[[2, 0]]
    np.testing.assert_array_equal(
        states[:, :, :6], expected.reshape(2, TIMES, 6, SIZE, WIDE)
    )
    p = contents["p"].T[[2, 0]][..., None, None]
    np.testing.assert_array_equal(
        states[:, :, 6], np.broadcast_to(p, expected.shape[:2] + PLANE.shape)
    )
    assert fixed is not None and (fixed[1, 0] == contents["line"]).all()


def test_samples_and_pairs_look_like_generated_ones(tmp_path, getkey):
    """A set that a problem makes, written, is read as it was."""
    problem, key = problems.Advection(16, 0.3), getkey()
    made = problem.dataset(5, num_saves=4, key=key)
    states = np.concatenate([made.inputs, made.targets], 1)
    path = write(tmp_path / "u.h5", {"u": states})
    times = np.append(0.0, problem.times(4))
    with HDF5Source(
        path, {"u": "sample time x"}, grid=problem.grid, times=times, dtype=None
    ) as s:
        for read, expected in [
            (s.dataset(), made),
            (s.dataset(range(2, 5)), made[2:]),
            (s.transitions(), problem.transitions(5, num_saves=4, key=key)),
        ]:
            assert isinstance(read, Dataset) and read.grid == problem.grid
            assert read.inputs.dtype == np.float64
            np.testing.assert_array_equal(read.inputs, expected.inputs)
            np.testing.assert_array_equal(read.targets, expected.targets)
        np.testing.assert_array_equal(
            s.dataset(num_saves=2).targets, made.targets[:, 1::2]
        )
        pairs = s.transitions(num_saves=2)
        np.testing.assert_array_equal(pairs.inputs[1, 0], made.targets[0, 1])
        np.testing.assert_array_equal(pairs.targets[1, 0], made.targets[0, 3])
        with pytest.raises(DataError, match=r"4 intervals.*\[1, 2, 4\]"):
            s.dataset(num_saves=3)


def test_windows():
    states = np.random.default_rng(0).normal(size=(2, 5, 2, 6))
    fixed = np.random.default_rng(1).normal(size=(2, 1, 6))
    pairs = transitions(states, LINE, window=3, coefficients=fixed)
    assert pairs.inputs.shape == (4, 7, 6) and pairs.targets.shape == (4, 2, 6)
    for sample in range(2):
        for j in range(2):
            expected = np.concatenate([*states[sample, j : j + 3], fixed[sample]])
            np.testing.assert_array_equal(pairs.inputs[2 * sample + j], expected)
            np.testing.assert_array_equal(
                pairs.targets[2 * sample + j], states[sample, j + 3]
            )
    for arguments, message in [
        ((states, LINE, 5), "window: 5 states .* need 6 times, got 5"),
        ((states, LINE, 0), "window: expected a whole number"),
        ((states[:, :, 0], LINE, 1), r"states: expected shape \(samples, times"),
        ((states, PLANE, 1), "states: expected shape"),
    ]:
        with pytest.raises(DataError, match=message):
            transitions(*arguments[:2], window=arguments[2])
    with pytest.raises(DataError, match=r"coefficients: expected shape \(2, channels"):
        transitions(states, LINE, coefficients=fixed[:1])


def test_one_time_is_a_steady_problem(tmp_path):
    path = write(tmp_path / "s.h5", {"a": U[:, 0], "u": U[:, 1]})
    steady = {"u": "sample x"}
    with source(path, steady, coefficients={"a": "sample x"}) as s:
        data = s.dataset()
        np.testing.assert_array_equal(data.inputs, U[:, :1])
        np.testing.assert_array_equal(data.targets, U[:, 1:2])
    with source(path, steady) as s:
        assert s.dataset().targets is None
        with pytest.raises(DataError, match="need 2 times, got 1"):
            s.transitions()


@pytest.mark.parametrize("kind", [">f4", ">f8", "f2", "i2", ">i8", "u1", "bool"])
def test_types(tmp_path, kind):
    u = (U % 200).astype(kind)
    path = write(tmp_path / "u.h5", {"u": u})
    with source(path) as s:
        states, _ = s.read()
        assert states.dtype == np.float32 and states.dtype.isnative
        np.testing.assert_array_equal(states[:, :, 0], u.astype("f4"))
    with source(path, dtype=None) as s:
        states, _ = s.read()
        assert states.dtype == u.dtype.newbyteorder("=") and states.dtype.isnative
        np.testing.assert_array_equal(states[:, :, 0], u)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (2, 2, 4)},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
    ],
)
def test_storage(path, options):
    edit(path, replace("u", U, **options))
    with source(path) as s:
        np.testing.assert_array_equal(s.read()[0][:, :, 0], U)


def test_links_within_the_file(path):
    def link(file):
        file["v"] = h5py.SoftLink("/deep/w")
        file["deep/w"] = h5py.SoftLink("er/b")
        file["deep/er/b"] = h5py.SoftLink("/u")

    with source(edit(path, link), {"v": "sample time x"}) as s:
        np.testing.assert_array_equal(s.read(1)[0][0, :, 0], U[1])


def test_subsampling(tmp_path):
    u = values(2, 1, 13, 12)
    path = write(tmp_path / "u.h5", {"u": u})
    axes = {"u": "sample time x y"}
    given = Dirichlet(np.arange(12.0), stored=True)
    for boundary, stride, kept in [
        (((given, given), Periodic()), (3, 4), np.s_[::3, ::4]),
        (((given, Neumann()), (Dirichlet(), Neumann())), 3, np.s_[::3, 2::3]),
        ((Dirichlet(), (Neumann(), Dirichlet())), (7, 3), np.s_[6::7, ::3]),
    ]:
        grid = Grid((13, 12), 2.0, boundary, 0.5)
        with HDF5Source(path, axes, grid=grid, subsample=stride) as s:
            np.testing.assert_array_equal(s.read()[0][:, :, 0], u[:, :, *kept])
            # The box stays, and so do the nodes that are kept and their data.
            assert s.grid.extent == grid.extent and s.grid.origin == grid.origin
            for axis in (0, 1):
                np.testing.assert_allclose(
                    s.grid.coordinates(axis), grid.coordinates(axis)[kept[axis]]
                )
            low, whole = s.grid.boundary[0][0], grid.boundary[0][0]
            assert isinstance(low, Dirichlet) and isinstance(whole, Dirichlet)
            if isinstance(whole.value, np.ndarray):
                np.testing.assert_array_equal(low.value, np.arange(12.0)[kept[1]])
    message = r"u.h5: subsample: axis 0 .* 14 inter.* which 5 .*\[1, 2, 7, 14\]"
    with pytest.raises(DataError, match=message):
        HDF5Source(path, axes, grid=grid, subsample=(5, 1))


def test_few_files_are_open(tmp_path):
    paths = [
        write(tmp_path / f"{k}.h5", {"u": U + 100 * k}, {"k": k}) for k in range(6)
    ]
    opened = lambda: h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    before, descriptors = opened(), len(os.listdir("/proc/self/fd"))
    with source(paths, max_open_files=2) as s:
        assert len(s) == 6 * SAMPLES and opened() == before + 2
        order = np.random.default_rng(0).permutation(len(s))
        states, _ = s.read(order)
        expected = np.concatenate([U + 100 * k for k in range(6)])[order]
        np.testing.assert_array_equal(states[:, :, 0], expected)
        assert opened() == before + 2
        assert len(os.listdir("/proc/self/fd")) == descriptors + 2
        assert [s.parameters(k * SAMPLES)["k"] for k in range(6)] == list(range(6))
        # The two that were used last.
        assert {p.name for p in s._pool._files} == {"4.h5", "5.h5"}
    assert opened() == before and len(os.listdir("/proc/self/fd")) == descriptors
    # Nothing stays open after a failure either.
    with pytest.raises(DataError, match="no 'v'"):
        source(paths, {"v": "sample time x"})
    assert opened() == before


def test_parameters(tmp_path):
    contents = {"u": U, "nu": np.arange(SAMPLES) / 8, "w": values(2, SAMPLES)}
    path = write(tmp_path / "u.h5", contents, {"name": "burgers", "c": [1.0, 2.0]})
    edit(path, lambda f: f.attrs.create("ref", f["u"].ref, dtype=h5py.ref_dtype))
    with source(path, parameters={"nu": "sample", "w": "time sample"}) as s:
        found = s.parameters(3)
    assert found["nu"] == 0.375 and found["name"] == "burgers"
    assert found["w"].tolist() == [3.0, 7.0] and found["c"].tolist() == [1.0, 2.0]
    assert set(found) == {"nu", "w", "name", "c"}
    with pytest.raises(DataError, match="'u': expected the axes .sample"):
        source(path, parameters={"u": "sample"})
    with pytest.raises(
        DataError, match=r"'w': expected values of 4 samples, got.*2, 4"
    ):
        source(path, parameters={"w": "sample time"})
