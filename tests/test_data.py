"""Data sets and their readers: what fits, and what a file that does not is told."""

import io
import random
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from sciml._serialisation import load, save
from sciml.data import DataError, Dataset, read_darcy_small, read_npz
from sciml.grids import Grid, Periodic

GRID = Grid((4, 5))


def fields(samples=6, channels=1, dtype: Any = np.float32):
    shape = (samples, channels, *GRID.shape)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture
def dataset():
    return Dataset(fields() > 3, fields(channels=2), GRID)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_index(convert):
    data = Dataset(convert(fields()), convert(fields(channels=2)), GRID)
    assert len(data) == 6
    mask = np.array([True, False, False, True, False, False])
    for index, expected in [
        (2, [2]),
        (-1, [5]),
        (np.int64(0), [0]),
        (slice(1, 3), [1, 2]),
        ([4, 0], [4, 0]),
        (np.array([-1, 1]), [5, 1]),
        (mask, [0, 3]),
    ]:
        part = data[index]
        assert isinstance(part, Dataset) and part.grid == GRID
        assert np.array_equal(part.inputs, fields()[expected])
        assert np.array_equal(part.targets, fields(channels=2)[expected])
    assert [int(sample.inputs[0, 0, 0, 0]) for sample in data] == [*range(0, 120, 20)]


def test_index_inside_jit(dataset):
    take = jax.jit(lambda index: dataset[index].targets)
    assert np.array_equal(take(jnp.array([3, 1])), dataset[[3, 1]].targets)


@pytest.mark.parametrize("index", [6, -7, [0, 6], [[0]], [0.5], [True, False], "a"])
def test_bad_index(dataset, index):
    with pytest.raises(IndexError):
        dataset[index]


def test_split(dataset):
    first, rest = dataset.split(4)
    assert (len(first), len(rest)) == (4, 2)
    assert np.array_equal(rest.inputs, dataset.inputs[4:])
    for size in (0, 6, -1, 7):
        with pytest.raises(DataError, match="between 1 and 5"):
            dataset.split(size)


def test_as_floating(dataset):
    assert dataset.as_floating().inputs.dtype == np.float32
    assert dataset.as_floating().targets is dataset.targets
    integers = Dataset(fields(dtype=int), None, GRID).as_floating()
    assert integers.inputs.dtype == np.float64 and integers.targets is None
    assert Dataset(fields(dtype=">f4"), None, GRID).inputs.dtype.isnative


def with_value(value, place):
    bad = fields()
    bad[place] = value
    return bad


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (fields()[:, 0], None, r"inputs: .*\(samples, channels, 4, 5\).*\[:, None\]"),
        (fields()[..., :-1], None, r"got \(6, 1, 4, 4\)"),
        (fields(), fields()[:, :, 1:], r"targets: .*got \(6, 1, 3, 5\)"),
        (fields(), fields(5), r"as many samples as inputs \(6\), got 5"),
        (fields()[:0], None, "at least one sample"),
        (fields()[:, :0], None, "no empty axis"),
        (fields().astype(str), None, "expected numbers"),
        (fields().astype(object), None, "expected numbers"),
        (with_value(np.nan, (2, 0, 1)), None, r"inputs: 5 of 120.*\(2, 0, 1, 0\)"),
        (fields(), jnp.asarray(with_value(np.inf, (3, 0, 0, 4))), r"targets: 1 of"),
        ([[1.0], [2.0, 3.0]], None, "expected an array"),
    ],
)
def test_what_does_not_fit(inputs, targets, message):
    with pytest.raises(DataError, match=message):
        Dataset(inputs, targets, GRID)


def test_annotations_hold():
    with pytest.raises((AttributeError, jaxtyping.TypeCheckError)):
        Dataset(fields(), None, (4, 5))  # pyright: ignore[reportArgumentType]


def test_save_and_load(dataset, tmp_path):
    save(tmp_path / "data", dataset)
    loaded = load(tmp_path / "data")
    assert loaded.inputs.dtype == bool and isinstance(loaded.inputs, np.ndarray)
    assert np.array_equal(loaded.inputs, dataset.inputs)
    assert np.array_equal(loaded.targets, dataset.targets)
    assert loaded.grid == GRID
    unlabelled = Dataset(jnp.asarray(fields()), None, GRID)
    save(tmp_path / "data", unlabelled)
    assert load(tmp_path / "data").targets is None


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_read_npz(tmp_path, write):
    path = tmp_path / "data.npz"
    fortran = np.asfortranarray(fields(channels=2))
    write(path, x=fields()[:, 0] > 3, y=fortran, a=fields().astype(">f8"))
    data = read_npz(path, grid=GRID)
    assert np.array_equal(data.inputs, fields() > 3)
    assert np.array_equal(data.targets, fields(channels=2))
    assert read_npz(path, inputs="a", targets=None, grid=GRID).targets is None


def test_read_npz_errors(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(
        path,
        x=fields(),
        short=fields(5),
        nan=with_value(np.nan, 0),
        objects=np.array([{}, []], object),
    )
    for names, message in [
        (("x", "y"), r"data.npz, array 'y': no such array.*'short', 'x'"),
        (("x", "short"), r"data.npz \(inputs='x', targets='short'\).*got 5"),
        (("nan", None), "NaN"),
        (("objects", None), "pickle"),
    ]:
        with pytest.raises(DataError, match=message):
            read_npz(path, inputs=names[0], targets=names[1], grid=GRID)
    with pytest.raises(DataError, match="for this grid"):
        read_npz(path, targets=None, grid=Grid((4, 6), boundary=Periodic()))
    np.save(tmp_path / "x.npy", fields())
    for other, message in [
        (tmp_path / "none.npz", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "x.npy", "not an .npz"),
    ]:
        with pytest.raises(DataError, match=message):
            read_npz(other, grid=GRID)


def npy(shape, data=b"", descr="<f8"):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**12,)), "expected 8000000000000 bytes"),
        (npy((2,), b"\0" * 17), "expected 16 bytes.*got 17"),
        (npy((-1,), b"\0" * 8), "bytes"),
        (b"not an array", "not an array in NumPy's format"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 9, "version"),
    ],
)
def test_hostile_members(tmp_path, content, message):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=message):
        read_npz(path, targets=None, grid=GRID)


def test_damaged_archives(tmp_path):
    """Truncated or with changed bytes: a typed error or the same data."""
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=fields(), y=fields(channels=2))
    content, draw = path.read_bytes(), random.Random(0)
    for trial in range(300):
        place = draw.randrange(len(content))
        if trial % 3:
            changed = bytes([content[place] ^ (1 << draw.randrange(8))])
            path.write_bytes(content[:place] + changed + content[place + 1 :])
        else:
            path.write_bytes(content[:place])
        try:
            data = read_npz(path, grid=GRID)
        except DataError as error:
            assert "data.npz" in str(error)
        else:
            assert np.array_equal(data.inputs, fields())
            assert np.array_equal(data.targets, fields(channels=2))


def write_darcy(folder, **changes):
    for name, samples in (("train", 3), ("test", 2)):
        x = np.zeros((samples, 16, 16), bool)
        x[:, 8:] = True
        y = np.full((samples, 16, 16), 0.5, np.float32)
        y[0, 0, 3] = -0.4
        np.savez(folder / f"{name}_16.npz", **({"x": x, "y": y} | changes))


def test_darcy_reader(tmp_path):
    write_darcy(tmp_path)
    train, test = read_darcy_small(tmp_path)
    assert (len(train), len(test)) == (3, 2)
    assert train.grid.spacing == (1 / 16, 1 / 16)
    assert np.array_equal(np.unique(train.inputs), np.array([0.02, 0.36], np.float32))
    assert train.inputs[0, 0, 8, 0] == np.float32(0.36)
    assert isinstance(train.targets, np.ndarray)
    assert not train.targets[:, :, 0].any() and not train.targets[:, :, :, 0].any()
    assert (train.targets[:, :, 1:, 1:] == 0.5).all()


@pytest.mark.parametrize(
    "changes", [{"x": np.zeros((3, 16, 16))}, {"y": np.zeros((3, 16, 15))}]
)
def test_darcy_reader_errors(tmp_path, changes):
    write_darcy(tmp_path, **changes)
    with pytest.raises(DataError, match=r"train_16.npz, array '[xy]': expected shape"):
        read_darcy_small(tmp_path)


def test_real_darcy(data_folder):
    train, test = read_darcy_small(data_folder / "darcy_small")
    assert train.inputs.shape == train.targets.shape == (1000, 1, 16, 16)
    assert test.targets.shape == (50, 1, 16, 16)
    assert train.targets.dtype == np.float32 and train.targets.min() == 0.0
    # What the docstring says about the files as they are.
    path = data_folder / "darcy_small" / "train_16.npz"
    raw = np.asarray(read_npz(path, grid=train.grid).targets)
    edge = np.asarray(train.grid.dirichlet_mask())
    assert (raw.min((1, 2, 3)) < 0).sum() == 12
    assert (raw[..., ~edge] > 0).all()
    assert 0.001 < np.median(raw[..., edge]) < 0.003
