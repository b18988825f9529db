"""A trained model as a program that needs no sciml to run."""

import importlib
import os
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp

from ._container import atomic_write
from ._serialisation import SerialisationError


def export(
    path: str | os.PathLike,
    model: Any,
    shape: Sequence[int],
    *,
    dtype: Any = jnp.float32,
    platforms: Sequence[str] = ("cpu",),
) -> None:
    """Write a model as a compiled program for batches of any size, weights included.

    The file holds StableHLO, by `jax.export`. Whoever runs it needs JAX, but neither
    sciml nor equinox nor the model's code:

        program = jax.export.deserialize(pathlib.Path("model.stablehlo").read_bytes())
        outputs = program.call(inputs)          # (samples, *shape) of `dtype`

    JAX reads files of its versions of the last six months, and calls programs only on
    the platforms that they were lowered for. The file has no checksum: to keep a model
    and train it further use `sciml.save`.

    **Arguments:**

    - `path`: where to; an existing file is replaced, by renaming.
    - `model`: maps one sample.
    - `shape`: of one sample, `(in_channels, *space)`; the grid is fixed in the file.
    - `dtype`: of the inputs. Default float32.
    - `platforms`: where it shall run: "cpu", "cuda", "rocm", "tpu". Default ("cpu",).

    Needs flatbuffers (`pip install 'sciml-solvers[export]'`), the format of the file.

    **Raises:** `sciml.SerialisationError` where the file cannot be written; what the
    model raises for a shape that it does not take.

    !!! example

        ```python
        sciml.export("model.stablehlo", model, (1, 64, 64), platforms=("cpu", "cuda"))
        ```
    """
    _check_flatbuffers()
    (samples,) = jax.export.symbolic_shape("samples")
    inputs = jax.ShapeDtypeStruct((samples, *shape), dtype)
    arrays, rest = eqx.partition(model, eqx.is_array)

    # Weights are constants of the program: a model that is exported is not trained.
    def predict(x):
        return jax.vmap(eqx.combine(arrays, rest))(x)

    exported = jax.export.export(jax.jit(predict), platforms=tuple(platforms))(inputs)
    try:
        atomic_write(path, bytes(exported.serialize()))
    except OSError as error:
        raise SerialisationError(
            f"{os.fspath(path)}: could not be written ({error}); nothing was changed."
        ) from error


def _check_flatbuffers() -> None:
    try:
        importlib.import_module("flatbuffers")
    except ImportError as error:
        raise ImportError(
            "export: the format of the file needs flatbuffers. Install it with "
            "pip install 'sciml-solvers[export]'"
        ) from error
