"""The file under `save` and `load`: safetensors with a checksum over every byte."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

# A header holds names, shapes and constructor arguments: kilobytes. The cap is checked
# before anything of the declared size is read.
_MAX_HEADER = 16 * 2**20
_LENGTH_BYTES = 8
# The document is a JSON string inside the JSON header, hence the escaped quotes. This
# spelling cannot occur inside an argument, whose quotes are escaped twice.
_CHECKSUM = b'\\"sha256\\":\\"'
_NO_CHECKSUM = "0" * 64

# Complex arrays, which the format lacks, are stored as pairs of real numbers.
_STORED = {
    "bool": "BOOL",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "F32",
    "complex128": "F64",
}

_OTHER_FORMATS = {
    b"\x80": "a pickle, which `load` refuses because reading one runs code",
    b"PK": "a zip archive (.npz or a PyTorch file)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a .npy file",
    b"\x1f\x8b": "a gzip archive",
}


class SerialisationError(ValueError):
    """A file could not be written or read; the message names the file and the cause."""


def fail(path: Path, message: str, cause: BaseException | None = None) -> NoReturn:
    """Raise a `SerialisationError` that starts with the file's name."""
    raise SerialisationError(f"{path}: {message}") from cause


def is_storable(dtype: Any) -> bool:
    """Whether arrays of this type can be written (typed PRNG keys cannot)."""
    return dtype.name in _STORED


def dtype_named(name: str) -> np.dtype:
    """The type with a storable name; `KeyError` for any other."""
    _STORED[name]
    return np.dtype(jnp.bfloat16) if name == "bfloat16" else np.dtype(name)


def atomic_write(path: str | os.PathLike, content: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and
    only then take the name; the folder is flushed last, so that the name survives a
    power cut. The temporary file is removed on every failure.

    **Raises:** `OSError`, with the old file untouched.
    """
    # A link keeps pointing where it points; what it points to is replaced.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # Some systems and file systems cannot open or flush a folder.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def pack(document: dict, arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a file that holds a JSON document and named arrays."""
    document = document | {"sha256": _NO_CHECKSUM}
    text = json.dumps(document, allow_nan=False, separators=(",", ":"), sort_keys=True)
    tensors = {name: _as_stored(array) for name, array in arrays.items()}
    content = safetensors.numpy.save(tensors, {"sciml": text})
    if int.from_bytes(content[:_LENGTH_BYTES], "little") > _MAX_HEADER:
        raise ValueError(f"names and arguments take more than {_MAX_HEADER} bytes.")
    start = content.index(_CHECKSUM) + len(_CHECKSUM)
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:start] + digest + content[start + len(digest) :]


def unpack(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Read a file that `pack` made; every byte is covered by its checksum.

    **Returns:** the document, and the arrays as stored (complex ones as pairs).

    **Raises:** `SerialisationError`.
    """
    content = _read(path)
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    raw_header = content[_LENGTH_BYTES:start]
    header = strict_json(path, raw_header, "the header")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("sciml"), str):
        fail(path, "a safetensors file, but not one that `sciml.save` wrote.")
    document = strict_json(path, metadata["sciml"], "the description of the model")
    _check_length(path, header, len(content) - start)
    _check_digest(path, content, raw_header, document.get("sha256"))
    try:
        tensors = dict(safetensors.deserialize(content))
    except Exception as error:
        fail(path, f"the table of tensors is inconsistent ({error}).", error)
    return document, {name: _array(path, name, t) for name, t in tensors.items()}


def strict_json(path: Path, text: bytes | str, what: str) -> dict:
    """Parse a JSON object; refuse NaN, repeated keys and bottomless nesting."""

    def no_constant(name: str):
        raise ValueError(f"{name} is not JSON")

    def no_repeats(pairs: list[tuple[str, object]]) -> dict:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        parsed = json.loads(
            text, parse_constant=no_constant, object_pairs_hook=no_repeats
        )
    except (ValueError, RecursionError) as error:
        fail(path, f"{what} is not valid JSON ({error}).", error)
    if not isinstance(parsed, dict):
        fail(path, f"{what}: expected a JSON object, got {type(parsed).__name__}.")
    return parsed


def from_stored(stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Undo `_as_stored`: pairs of real numbers to complex ones."""
    if dtype.kind != "c":
        return stored
    return np.ascontiguousarray(stored).view(dtype)[..., 0]


def stored_form(dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.dtype, tuple]:
    """Type and shape under which an array lies in the file."""
    if dtype.kind != "c":
        return dtype, shape
    return np.dtype(f"f{dtype.itemsize // 2}"), (*shape, 2)


def _as_stored(array: np.ndarray) -> np.ndarray:
    dtype, shape = stored_form(array.dtype, array.shape)
    # `ascontiguousarray` would turn a scalar into a vector.
    array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return array.reshape(-1).view(dtype).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        fail(path, "no such file.", error)
    except (OSError, ValueError) as error:
        fail(path, f"cannot be read ({error}).", error)
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        fail(path, f"expected a file that `sciml.save` wrote, got {kind}.")
    try:
        with open(path, "rb") as file:
            # Of the open file, which another process cannot replace meanwhile.
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(_LENGTH_BYTES)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < _LENGTH_BYTES:
                fail(path, f"truncated: {size} bytes cannot hold a header.")
            if length > min(_MAX_HEADER, size - _LENGTH_BYTES):
                fail(path, _not_a_header(prefix, length, size))
            content = prefix + file.read()
    except OSError as error:
        fail(path, f"cannot be read ({error}).", error)
    if len(content) < _LENGTH_BYTES + length:
        fail(path, "truncated: the header is incomplete.")
    return content


def _not_a_header(prefix: bytes, length: int, size: int) -> str:
    for magic, name in _OTHER_FORMATS.items():
        if prefix.startswith(magic):
            return f"expected a file that `sciml.save` wrote, got {name}."
    return (
        f"truncated, or not a safetensors file: it declares a header of {length} bytes "
        f"(at most {_MAX_HEADER} are accepted) and has {size} in all."
    )


def _check_length(path: Path, header: dict, actual: int) -> None:
    """Compare the bytes that the header declares with those that follow it."""
    declared = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if (
            not isinstance(offsets, list)
            or len(offsets) != 2
            or not all(type(offset) is int and offset >= 0 for offset in offsets)
        ):
            fail(path, f"bad header: tensor {name!r} has no valid data_offsets.")
        declared = max(declared, offsets[1])
    if actual < declared:
        fail(path, f"truncated: expected {declared} bytes of data, got {actual}.")
    if actual > declared:
        fail(path, f"{actual - declared} bytes too many follow the data.")


def _check_digest(path: Path, content: bytes, header: bytes, digest: object) -> None:
    if header.count(_CHECKSUM) != 1 or not isinstance(digest, str):
        fail(path, "bad header: expected one sha256 checksum.")
    start = content.index(_CHECKSUM) + len(_CHECKSUM)
    end = start + len(_NO_CHECKSUM)
    blank = hashlib.sha256(content[:start])
    blank.update(_NO_CHECKSUM.encode())
    blank.update(memoryview(content)[end:])
    actual = blank.hexdigest()
    if not actual == digest == content[start:end].decode("ascii", "replace"):
        fail(
            path,
            f"damaged: its sha256 checksum is {actual}, and {digest!r} was recorded "
            "when it was saved. Restore the file from a copy.",
        )


def _array(path: Path, name: str, tensor: dict) -> np.ndarray:
    for dtype_name, stored in _STORED.items():
        if tensor["dtype"] == stored:
            dtype = dtype_named(dtype_name)
            break
    else:
        fail(path, f"tensor {name!r} has the type {tensor['dtype']}, which is unknown.")
    if dtype.kind == "b":
        # Other bytes than 0 and 1 would make a truth value that is neither.
        # (Comparing an array without axes gives a scalar.)
        raw = np.frombuffer(tensor["data"], np.uint8).reshape(tensor["shape"])
        return np.asarray(raw != 0)
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
