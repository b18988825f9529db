"""HDF5 files that are damaged, hostile, or not what they were taken for."""

import os
import sys

import numpy as np
import pytest
from data_cases import (
    SAMPLES,
    SIZE,
    TIMES,
    U,
    edit,
    replace,
    source,
    values,
    write,
)

from sciml.data import DataError

h5py = pytest.importorskip("h5py")


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "u.h5", {"u": U, "deep/er/a": values(SAMPLES, SIZE)})


def put(place, value):
    changed = U.copy()
    changed[place] = value
    return replace("u", changed)


def unwritten(file):
    del file["u"]
    file.create_dataset("u", U.shape, "f4")


def huge(file):
    del file["u"]
    file.create_dataset("u", (10**9, TIMES, SIZE), "f4", chunks=(1, TIMES, SIZE))


def half(file):
    del file["u"]
    file.create_dataset("u", U.shape, "f4", chunks=(1, TIMES, SIZE))[:2] = 1.0


def big_chunk(file):
    del file["u"]
    one = (2**15, TIMES, SIZE)
    data = file.create_dataset("u", one, "f4", chunks=one, compression="gzip")
    data[...] = 0


def virtual(file):
    layout = h5py.VirtualLayout(U.shape, "f4")
    layout[...] = h5py.VirtualSource("other.h5", "u", U.shape)
    del file["u"]
    file.create_virtual_dataset("u", layout)


def external(file):
    del file["u"]
    file.create_dataset("u", U.shape, "f4", external=[("/etc/passwd", 0, U.nbytes)])


def linked(link):
    def change(file):
        del file["u"]
        file["u"] = link

    return change


def circle(file):
    linked(h5py.SoftLink("/v"))(file)
    file["v"] = h5py.SoftLink("/u")


def through_a_link(file):
    linked(h5py.SoftLink("/way/u"))(file)
    file["way"] = h5py.ExternalLink("other.h5", "/")


def unknown_filter(file):
    """A set whose filter's number is one that nobody has."""
    replace("u", U, compression="lzf")(file)


RECORD = np.zeros(U.shape, [("re", "f4"), ("im", "f4")])
TEXTS = np.full(U.shape, "a", h5py.string_dtype())
REFUSED = {
    "nothing": (lambda f: f.move("u", "uu"), "no 'u'; the nearest is 'uu'; the file h"),
    "group": (lambda f: f.move("deep", "u") if f.pop("u", 1) else 0, "got a group"),
    "rank": (replace("u", U[0]), r"expected the axes \(sample, time, x\), got 2"),
    "space": (replace("u", U[..., 1:]), r"\(sample, time, 6\), got \(4, 5, 5\)"),
    "no sample": (replace("u", U[:0]), r"got \(0, 5, 6\): 0 along 'sample'"),
    "NaN": (put((2, 3, 1), np.nan), r"1 of 120 .*first at index \(2, 3, 1\)"),
    "infinite": (put((1, slice(2), 4), -np.inf), r"2 of .* index \(1, 0, 4\)"),
    "overflow": (replace("u", U.astype("f8") * 1e38), "1.19e.40 do not fit float32"),
    "text": (replace("u", TEXTS), "expected real numbers .* got object"),
    "fixed text": (replace("u", np.full(U.shape, b"ab")), "got .S2"),
    "record": (replace("u", RECORD), "expected real numbers"),
    "complex": (replace("u", U.astype(complex)), "got complex128"),
    "long double": (replace("u", U.astype(np.longdouble)), "at most 64 bits"),
    "empty": (replace("u", h5py.Empty("f4")), "it is empty"),
    "unwritten": (unwritten, "declares 480 bytes, the file has 0.*never written"),
    "half": (half, r"takes 4 chunks, the file has 2: it was not written to the end"),
    "1e9 samples": (huge, "takes 1000000000 chunks, the file has 0"),
    "a chunk": (big_chunk, "one chunk: .* takes 3.75 MiB, more than max_bytes = 1 MiB"),
    "virtual": (virtual, "it is virtual"),
    "external": (external, "values are in other files"),
    "link out": (linked(h5py.ExternalLink("other.h5", "/u")), "a link out of the file"),
    "soft link out": (through_a_link, "'way' is a link out of the file"),
    "circle": (circle, "links go round in circles"),
    "nowhere": (linked(h5py.SoftLink("/v")), "no 'v'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(path, name):
    change, message = REFUSED[name]
    write(path.with_name("other.h5"), {"u": U})
    edit(path, change)
    with pytest.raises(DataError, match=message) as error:
        source(path, max_bytes=2**20).read()
    assert str(error.value).startswith(f"{path}, dataset ")
    assert "'u'" in str(error.value) or "'/" in str(error.value)


def test_sets_that_declare_too_much(tmp_path):
    write(tmp_path / "u.h5", {"a": U})
    edit(tmp_path / "u.h5", lambda f: f.create_dataset("u", (10**12, 1, SIZE), "f8"))
    with pytest.raises(
        DataError, match="declares 48000000000000 bytes, the file has 0"
    ):
        source(tmp_path / "u.h5")
    # What is there may be read in parts, however little is allowed at once.
    with source(tmp_path / "u.h5", {"a": "sample time x"}, max_bytes=240) as s:
        assert s.read([0, 3])[0].shape == (2, TIMES, 1, SIZE)
        with pytest.raises(DataError, match="takes 360 bytes, more than max_b.* = 240"):
            s.dataset(range(3))


def test_unknown_filter(path):
    edit(path, replace("u", U, compression="lzf"))
    content = path.read_bytes()
    # In the header: the filter's number, then the size of its name.
    number = (32000).to_bytes(2, "little") + b"\x08\x00"
    assert content.count(number) == 1
    path.write_bytes(
        content.replace(number, (65000).to_bytes(2, "little") + b"\x08\x00")
    )
    message = "compressed by 'lzf' .HDF5 filter 65000., which is not installed"
    with pytest.raises(DataError, match=message):
        source(path)


def test_truncated(path):
    content = path.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="truncated") as error:
            source(path).read()
        assert str(path) in str(error.value)


def test_damaged_chunk(path):
    """A checksum that does not fit is an error when the chunk is read."""
    edit(path, replace("u", U, chunks=(1, TIMES, SIZE), fletcher32=True))
    content = bytearray(path.read_bytes())
    content[content.index(U[2].tobytes()) + 9] ^= 1
    path.write_bytes(content)
    with source(path) as s:
        s.read([0, 1, 3])
        with pytest.raises(DataError, match="dataset 'u': cannot be read: .* damaged"):
            s.read(2)


def test_other_things_than_files(tmp_path):
    (tmp_path / "text").write_text("no HDF5")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path / "none.h5", "expected an HDF5 file, got no such file"),
        (tmp_path, "expected an HDF5 file, got a folder"),
        (tmp_path / "pipe", "expected an HDF5 file, got no regular file"),
        (tmp_path / "text", "not an HDF5 file"),
        ("a\0b", "cannot be read"),
        ([], "expected files, each of them once"),
    ]:
        with pytest.raises(DataError, match=message):
            source(path)


def test_arguments(path):
    for options, message in [
        ({"fields": {"u": "sample time"}}, "expected the axes .sample, time., got 3"),
        ({"fields": {"u": "sample time y"}}, "its axes by name, out of .'sample'"),
        ({"fields": {"u": "x x time"}}, "its axes by name"),
        ({"fields": {"a*": "sample time x"}}, "a star may stand only for"),
        ({"fields": {"*/u": "sample time x"}}, "has no axis 'sample'"),
        ({"fields": {"*/u": "time x"}}, "expected a group for each sample"),
        ({"coefficients": {"u": "sample time x"}}, "do not change in time"),
        ({"coefficients": {"deep/er/a": "time x"}}, "do not change in time"),
        ({"coefficients": {"deep/er/a": "x sample"}}, r"expected shape \(6, 4\), got"),
        ({"times": [0, 1, 2]}, "times: expected 5 numbers, one per state, got shape"),
        ({"times": [0, 1, 1, 2, 3]}, "expected increasing numbers, got 1 and then 1"),
        ({"dtype": int}, "dtype: expected a floating-point type"),
        ({"dtype": np.float16, "max_bytes": 0}, "max_bytes: expected at least 1"),
        ({"subsample": (1, 2)}, "subsample: expected one number or 1"),
        ({"subsample": 0}, "subsample: expected at least 1"),
    ]:
        with pytest.raises(DataError, match=message):
            source(path, **options)
    with source(path, times=[0, 1, 2, 3, 5]) as s:
        s.dataset()
        with pytest.raises(DataError, match="times: expected even spacing, 1.25 on av"):
            s.transitions()


def test_files_that_differ(tmp_path):
    first = write(tmp_path / "a.h5", {"u": U})
    for u, message in [
        (U[:, 1:], "b.h5: expected 5 times as in .*a.h5, got 4"),
        (U[..., 1:], "b.h5, dataset 'u': expected shape"),
    ]:
        second = write(tmp_path / "b.h5", {"u": u})
        with pytest.raises(DataError, match=message):
            source([first, second])
    with pytest.raises(DataError, match="each of them once"):
        source([first, first])


def test_without_h5py(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'sciml-solvers\[data\]'"):
        source(path)


def test_names_that_are_no_text(tmp_path):
    """Bytes that are not UTF-8 in the names of attributes and datasets."""
    path = write(tmp_path / "u.h5", {"u": U, "good_name": U}, {"nice_name": 1.0})
    content = path.read_bytes()
    assert content.count(b"good_name") == content.count(b"nice_name") == 1
    content = content.replace(b"good_name", b"g\xffod_name")
    path.write_bytes(content.replace(b"nice_name", b"n\xffce_name"))
    with source(path) as s:
        assert list(s.parameters(0).values()) == [1.0]
    with pytest.raises(DataError, match=r"no 'good_name'; the nearest is 'g.udcffod_n"):
        source(path, {"good_name": "sample time x"})
