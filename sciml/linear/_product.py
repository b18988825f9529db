"""Products with an operator that remember which operator it is."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx

from ._tree import Vector
from ._verified import Apply


@dataclasses.dataclass(frozen=True)
class Product:
    """x ↦ function(x), the product with `operator`.

    Methods that work in another precision need the operator; all others call this as
    a function. Derivative solves get their function from JAX, which is the true adjoint
    even where an operator's tags are wrong.
    """

    function: Apply
    operator: lx.AbstractLinearOperator

    def __call__(self, vector: Vector) -> Vector:
        return self.function(vector)


def rounded(apply: Apply, name: str, vector: Vector, dtype: Any) -> Apply:
    """The product in another precision, for vectors of that precision.

    **Arguments:**

    - `apply`: a `Product`, or the identity (any other function).
    - `name`: of the argument, for the error.
    - `vector`: any vector of the operator's structure.
    - `dtype`: the real type; complex vectors take its complex companion.

    **Raises:** `TypeError` for an operator that insists on its own precision.
    """
    if not isinstance(apply, Product):
        return apply
    operator = jtu.tree_map(
        lambda x: to_precision(x, dtype) if eqx.is_inexact_array(x) else x,
        apply.operator,
    )
    expected = jax.eval_shape(lambda v: to_precision(v, dtype), vector)
    try:
        got = jax.eval_shape(operator.mv, expected)
        failed = None
    except (TypeError, ValueError) as error:
        got, failed = None, error
    if got != expected:
        raise TypeError(
            f"{name}: Refined needs it in {jnp.dtype(dtype).name}, and rounding the "
            f"arrays of this {type(apply.operator).__name__} does not give that. Pass "
            "an operator that holds its numbers as arrays (a stencil, a sparse or a "
            "dense matrix), not a function that closes over them."
        ) from failed
    return operator.mv


def to_precision(vector: Vector, dtype: Any) -> Vector:
    """Every leaf in a real type, complex ones in its complex companion."""
    companion = jnp.complex128 if jnp.finfo(dtype).bits >= 64 else jnp.complex64

    def convert(x):
        return x.astype(companion if jnp.iscomplexobj(x) else dtype)

    return jtu.tree_map(convert, vector)


def identity(vector: Vector) -> Vector:
    """The product with no preconditioner."""
    return vector


def product(operator: lx.AbstractLinearOperator | None) -> Apply:
    """Products with an operator; the identity for None."""
    return identity if operator is None else Product(operator.mv, operator)
