"""Files that are damaged, hostile or something else: a typed error for each."""

import hashlib
import json
import os
import pickle
import random

import numpy as np
import pytest
import safetensors.numpy
from serialisation_cases import Layered

from sciml import _container
from sciml._serialisation import SerialisationError, load, save


@pytest.fixture
def saved(tmp_path, getkey):
    model = Layered(3, 2, key=getkey())
    save(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors", model


def test_constructor_that_changed(saved, getkey):
    path, _ = saved
    document, _ = _container.unpack(path)
    arrays = safetensors.numpy.load_file(path)
    edits = {
        "shape": lambda d: d["model"]["arguments"].update(width=4),
        "other arrays": lambda d: d["model"]["arguments"].update(depth=1),
        "no argument 'colour'": lambda d: d["model"]["arguments"].update(colour=1),
        "rejects": lambda d: d["model"]["arguments"].update(depth="two"),
        "a form": lambda d: d["model"]["arguments"].update(depth={"eval": "1"}),
        "no argument 'key'": lambda d: d["model"]["arguments"].update(key=1),
        "function 'os.system'": lambda d: d["model"]["arguments"].update(
            activation={"function": "os.system"}
        ),
        "expected format": lambda d: d.update(format=99),
        "malformed": lambda d: d.update(leaves=[["a", "float99", [1], "jax"]]),
        "different names": lambda d: d.update(leaves=[]),
        "lacks": lambda d: d.pop("model"),
        "expected \\(": lambda d: d["leaves"][0].__setitem__(1, "float32"),
    }
    for message, edit in edits.items():
        changed = json.loads(json.dumps(document))
        edit(changed)
        path.write_bytes(_container.pack(changed, arrays))
        with pytest.raises(SerialisationError, match=message):
            load(path)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


BAD_FILES = {
    "empty": (b"", "truncated"),
    "seven bytes": (b"\0" * 7, "truncated"),
    "huge header": (b"\xff" * 7 + b"\x7f{}", "declares a header"),
    "header past the end": (b"\x09" + b"\0" * 7 + b"{}", "declares a header"),
    "empty header": (with_header(b""), "not valid JSON"),
    "not unicode": (with_header(b"\xff\xfe{}"), "not valid JSON"),
    "a list": (with_header(b"[]"), "expected a JSON object"),
    "deep nesting": (with_header(b"[" * 200_000), "not valid JSON"),
    "deep objects": (with_header(b'{"a":' * 200_000), "not valid JSON"),
    "huge integer": (with_header(b'{"a":' + b"9" * 5_000 + b"}"), "not valid JSON"),
    "NaN": (with_header(b'{"a":NaN}'), "NaN is not JSON"),
    "repeated name": (with_header(b'{"a":1,"a":2}'), "twice"),
    "no metadata": (with_header(b"{}"), "not one that"),
    "metadata of another kind": (with_header(b'{"__metadata__":{"sciml":1}}'), "not"),
    "no checksum": (with_header(b'{"__metadata__":{"sciml":"{}"}}'), "sha256"),
    "deep description": (
        with_header(b'{"__metadata__":{"sciml":"' + b"[" * 100_000 + b'"}}'),
        "not valid JSON",
    ),
    "offsets": (
        with_header(b'{"__metadata__":{"sciml":"{}"},"a":{"data_offsets":[0,-1]}}'),
        "data_offsets",
    ),
    "a tensor of 1e12 numbers": (
        with_header(
            b'{"__metadata__":{"sciml":"{}"},"a":{"dtype":"F64",'
            b'"shape":[1000000000000],"data_offsets":[0,8000000000000]}}'
        ),
        "truncated",
    ),
    "pickle": (pickle.dumps({"weights": [1.0] * 9}), "pickle"),
    "zip": (b"PK\x03\x04" + b"\xff" * 60, "zip"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "HDF5"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(SerialisationError, match=message) as error:
        load(tmp_path / "m")
    assert str(tmp_path / "m") in str(error.value)


def test_inconsistent_table_with_a_valid_checksum(tmp_path):
    # Whoever writes a file can also write its checksum.
    content = _container.pack({}, {"a": np.ones(2), "b": np.ones(2)})
    content = content.replace(b"[16,32]", b"[0,32] ")
    start = content.index(_container._CHECKSUM) + len(_container._CHECKSUM)
    blank = content[:start] + b"0" * 64 + content[start + 64 :]
    digest = hashlib.sha256(blank).hexdigest().encode()
    (tmp_path / "m").write_bytes(blank.replace(b"0" * 64, digest))
    with pytest.raises(SerialisationError, match="table of tensors"):
        load(tmp_path / "m")


def test_bad_paths(tmp_path):
    for path, message in [
        (tmp_path / "none", "no such file"),
        (tmp_path, "a folder"),
        ("a\0b", "cannot be read"),
    ]:
        with pytest.raises(SerialisationError, match=message):
            load(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SerialisationError, match="not a regular file"):
        load(tmp_path / "pipe")


def test_truncation_and_trailing_bytes(saved):
    path, _ = saved
    content = path.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(SerialisationError):
            load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(SerialisationError, match="too many"):
        load(path)


def test_mutations(saved):
    """Any byte of the file, changed, removed, doubled: a typed error."""
    path, _ = saved
    content = path.read_bytes()
    draw = random.Random(0)
    for _ in range(300):
        place, kind = draw.randrange(len(content)), draw.randrange(4)
        old = content[place : place + 1]
        new = {
            0: bytes([old[0] ^ (1 << draw.randrange(8))]),
            1: bytes([(old[0] + draw.randrange(1, 256)) % 256]),
            2: b"",
            3: old + old,
        }[kind]
        path.write_bytes(content[:place] + new + content[place + 1 :])
        with pytest.raises(SerialisationError):
            load(path)
