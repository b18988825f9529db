"""Checks of fields where the user stands: shapes always, values where known."""

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike


def check_field(
    name: str, field: ArrayLike, *shapes: tuple[int, ...], scalar: bool = False
) -> Array:
    """`field` as a floating-point array of one of `shapes`.

    **Raises:** `ValueError` that names the argument, what came and what was expected.
    """
    array = jnp.asarray(field)
    accepted = (*shapes, ()) if scalar else shapes
    if array.shape not in accepted:
        wanted = " or ".join(str(s) for s in dict.fromkeys(shapes))
        number = "a number or " if scalar else ""
        raise ValueError(
            f"{name}: expected {number}an array of shape {wanted}, got shape "
            f"{array.shape}."
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise ValueError(f"{name}: expected real values, got {array.dtype}.")
        array = array.astype(jnp.result_type(float))
    return array


def check_positive(name: str, field: Array) -> None:
    """Raise a `ValueError` unless every value is finite and positive.

    Values under a transformation are not known here, see `positive_or_nan`.
    """
    if isinstance(field, jax.core.Tracer):
        return
    values = np.asarray(field)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name}: expected finite values above 0, got {values[where]} at index "
            f"{where} ({int(bad.sum())} bad of {values.size})."
        )


def positive_or_nan(name: str, field: Array) -> Array:
    """`field`, checked as `check_positive` does where its values are known.

    Under a transformation bad values become NaN, so that a solve that uses them reports
    `RESULTS.nonfinite`: the harmonic mean of 1 and −2 is 4, and nothing would be wrong
    with that number.
    """
    if not isinstance(field, jax.core.Tracer):
        check_positive(name, field)
        return field
    if not jnp.issubdtype(field.dtype, jnp.floating):
        return field
    return jnp.where(jnp.isfinite(field) & (field > 0), field, jnp.nan)
