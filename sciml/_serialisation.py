"""Save and load models: one atomic, self-describing file without pickle."""

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from . import _container
from ._container import SerialisationError as SerialisationError, fail
from ._registry import decode, device_dtype, encode, register as register, shape_of

_FORMAT = 1


def save(path: str | os.PathLike, model: eqx.Module) -> None:
    """Write a model to one file: what builds it, its arrays, and a checksum.

    The file is in the safetensors format, without pickle. Its metadata hold the
    registered class and constructor arguments (JSON scalars, tuples, lists, registered
    modules, arrays, and well-known activations such as `jax.nn.gelu`), the versions
    that wrote it, and a SHA-256 checksum over all of it. The file is written beside
    its destination and renamed, so that a crash or a full disk leaves the old file.

    Before anything is written the model is rebuilt from its arguments and compared, so
    that a file that is there can be loaded.

    **Arguments:**

    - `path`: where to; an existing file is replaced.
    - `model`: an instance of a registered class (all of sciml's models are; see
        `sciml.register`). What holds functions, as `HardConstraint` does, has to be
        built again around the network that was saved.

    **Raises:** `sciml.SerialisationError` that names the argument or array which
    cannot be saved, or the reason why the file cannot be written.

    !!! example

        ```python
        sciml.save("model.safetensors", model)
        model = sciml.load("model.safetensors")
        ```
    """
    path = _as_path(path)
    description = encode(path, type(model).__name__, model)
    if "module" not in description:
        fail(path, f"model: expected a registered module, got {model!r}.")
    leaves, arrays = [], {}
    for name, leaf in _named_arrays(model):
        if isinstance(leaf, jax.core.Tracer):
            fail(path, f"{name} is being traced; call `save` outside of `jit`.")
        if not _container.is_storable(leaf.dtype):
            fail(path, f"{name} has the type {leaf.dtype}, which cannot be saved.")
        home = "jax" if isinstance(leaf, jax.Array) else "numpy"
        leaves.append([name, leaf.dtype.name, list(leaf.shape), home])
        arrays[name] = np.asarray(leaf)
    if len(arrays) != len(leaves):
        fail(path, "two arrays of the model have the same name; rename a dict's key.")
    skeleton = _build(path, description)
    _compare(path, skeleton, leaves, "the model")
    if fingerprint(skeleton) != fingerprint(model):
        fail(
            path,
            f"the constructor of {type(model).__name__} does not rebuild this model "
            "from its arguments: a field that is not an array differs. Was it changed "
            f"after construction?\nrebuilt: {fingerprint(skeleton)}\n"
            f"model:   {fingerprint(model)}",
        )
    document = {
        "format": _FORMAT,
        "model": description,
        "leaves": leaves,
        "versions": {
            "sciml": _version("sciml-solvers"),
            "jax": jax.__version__,
            "equinox": _version("equinox"),
        },
    }
    try:
        _container.atomic_write(path, _container.pack(document, arrays))
    except (OSError, ValueError) as error:
        fail(path, f"could not be written ({error}); nothing was changed.", error)


def load(path: str | os.PathLike) -> Any:
    """Read a model that `sciml.save` wrote.

    Nothing that a file names is imported or run: only classes that are registered
    already can be built, by their own constructors, and those see shapes and no data.
    Arrays keep the dtype that the file has.

    **Arguments:**

    - `path`: the file.

    **Raises:** `sciml.SerialisationError` for a file that is missing, truncated,
    damaged (one changed bit is noticed), of another format, or of a class that is not
    registered or has changed; and for 64-bit weights while JAX's x64 mode is off.

    !!! example

        ```python
        model = sciml.load("model.safetensors")
        prediction = model(coefficient)
        ```
    """
    path = _as_path(path)
    document, stored = _container.unpack(path)
    try:
        leaves = _checked_leaves(document)
    except (KeyError, TypeError, ValueError) as error:
        fail(path, f"the list of arrays is malformed ({error}).", error)
    if {leaf[0] for leaf in leaves} != set(stored):
        fail(path, "the list of arrays and the tensors have different names.")
    wide = [f"{n} ({dtype})" for n, dtype, _, home in leaves if _too_wide(dtype, home)]
    if wide:
        fail(
            path,
            f"holds 64-bit arrays ({', '.join(wide[:3])}{', …' * (len(wide) > 3)}), "
            "which JAX would silently round while its x64 mode is off. Call "
            'jax.config.update("jax_enable_x64", True) first.',
        )
    try:
        skeleton = _build(path, document["model"])
    except KeyError as error:
        fail(path, f"the description of the model lacks {error}.", error)
    _compare(path, skeleton, leaves, "the file")
    values = []
    for name, dtype_name, shape, home in leaves:
        dtype = _container.dtype_named(dtype_name)
        array, form = stored[name], _container.stored_form(dtype, tuple(shape))
        if (array.dtype, array.shape) != form:
            fail(path, f"{name}: expected {form}, got {(array.dtype, array.shape)}.")
        array = _container.from_stored(array, dtype)
        values.append(jnp.asarray(array) if home == "jax" else array.copy())
    abstract, rest = eqx.partition(skeleton, _is_array)
    filled = jtu.tree_unflatten(jtu.tree_structure(abstract), values)
    return eqx.combine(filled, rest)


def _as_path(path: str | os.PathLike) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        raise SerialisationError(
            f"path: expected the name of a file, got {path!r}."
        ) from error


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _too_wide(dtype_name: str, home: str) -> bool:
    return home == "jax" and device_dtype(dtype_name).name != dtype_name


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _named_arrays(tree: Any) -> list[tuple[str, Any]]:
    return [
        (jtu.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jtu.tree_leaves_with_path(tree)
        if _is_array(leaf)
    ]


def fingerprint(tree: Any) -> str:
    """Everything of a module that is not an array: structure, static fields, leaves."""
    others = eqx.filter(tree, _is_array, inverse=True)
    text = f"{jtu.tree_structure(others)} {jtu.tree_leaves(others)}"
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _build(path: Path, description: Any) -> Any:
    """The model with shapes in place of arrays."""
    try:
        return eqx.filter_eval_shape(lambda: decode(path, description))
    except SerialisationError:
        raise
    except Exception as error:
        fail(path, f"the model cannot be rebuilt from the file: {error}", error)


def _checked_leaves(document: dict) -> list[tuple[str, str, tuple[int, ...], str]]:
    if document.get("format") != _FORMAT:
        raise ValueError(
            f"expected format {_FORMAT}, got {document.get('format')!r}: written by "
            "another version of sciml"
        )
    leaves = []
    for name, dtype_name, shape, home in document["leaves"]:
        if not isinstance(name, str) or home not in ("jax", "numpy"):
            raise ValueError(f"unexpected entry {name!r}, {home!r}")
        _container.dtype_named(dtype_name)
        leaves.append((name, dtype_name, shape_of(shape), home))
    if len({leaf[0] for leaf in leaves}) != len(leaves):
        raise ValueError("a name occurs twice")
    return leaves


def _compare(path: Path, skeleton: Any, leaves: Any, what: str) -> None:
    """Check names, shapes and kinds of type against the rebuilt model.

    Widths may differ: a float32 model stays one in a float64 session.
    """
    built = _named_arrays(skeleton)
    expected, got = [name for name, _ in built], [leaf[0] for leaf in leaves]
    if expected != got:
        missing = [name for name in expected if name not in got]
        extra = [name for name in got if name not in expected]
        fail(
            path,
            f"the constructor makes other arrays than {what} has: missing "
            f"{missing or 'none'}, not expected {extra or 'none'}.",
        )
    for (name, array), leaf in zip(built, leaves, strict=True):
        dtype_name, shape = leaf[1], leaf[2]
        if array.shape != tuple(shape):
            fail(path, f"{name}: expected shape {array.shape}, got {tuple(shape)}.")
        kinds = [_kind(array.dtype), _kind(_container.dtype_named(dtype_name))]
        if kinds[0] != kinds[1]:
            fail(path, f"{name}: expected {array.dtype}, got {dtype_name}.")


def _kind(dtype: Any) -> str:
    kinds = {
        "boolean": jnp.bool_,
        "unsigned": jnp.unsignedinteger,
        "signed": jnp.signedinteger,
        "floating": jnp.floating,
        "complex": jnp.complexfloating,
    }
    return next((k for k, v in kinds.items() if jnp.issubdtype(dtype, v)), "other")
