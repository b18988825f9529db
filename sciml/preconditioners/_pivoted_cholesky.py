"""Randomly pivoted Cholesky for kernel matrices."""

import equinox as eqx
import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Inexact, PRNGKeyArray

from ..linear import AbstractPreconditioner, SymmetricOperator
from ..linear._tree import zeros_like
from ._host import flat_operator


class RandomisedPivotedCholesky(AbstractPreconditioner):
    """M = (F Fᵀ + μ I)⁻¹ with F Fᵀ ≈ K of low rank, for A = K + μ I.

    For the dense matrices of kernel methods, whose eigenvalues fall fast: with the rank
    well above the number of eigenvalues over μ the preconditioned system is well
    conditioned, and CG takes tens of steps instead of thousands. F has n × rank
    entries; finding it costs `rank` columns of K, chosen at random with probability
    proportional to the diagonal of what is left of K.

    Set up and applied on the device. Columns are read through products with A, so that
    a matrix-free A will do; its diagonal has to be known to `lineax.diagonal`.

    **Arguments:**

    - `rank`: columns of F, static.
    - `shift`: μ > 0, what is added to K's diagonal in A.
    - `key`: of the random choice.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import lineax as lx
        import sciml

        x = jnp.linspace(0.0, 1.0, 200)
        K = jnp.exp(-(((x[:, None] - x[None]) / 0.2) ** 2))
        A = lx.MatrixLinearOperator(
            K + 1e-3 * jnp.eye(200), lx.positive_semidefinite_tag
        )
        builder = sciml.preconditioners.RandomisedPivotedCholesky(
            20, 1e-3, key=jr.key(0)
        )
        M = builder.build(A)
        ```

    Source: Chen, Epperly, Tropp & Webber, *Randomly pivoted Cholesky*, Comm. Pure
    Appl. Math. 78 (2025) 995; Díaz, Epperly, Frangella, Tropp & Webber,
    arXiv:2304.12465.
    """

    rank: int = eqx.field(static=True)
    shift: Float[Array, ""]
    key: PRNGKeyArray

    def __init__(self, rank: int, shift: ArrayLike, *, key: PRNGKeyArray):
        if rank < 1:
            raise ValueError(f"rank: expected an integer ≥ 1, got {rank}.")
        if isinstance(shift, int | float) and not 0 < shift < float("inf"):
            raise ValueError(f"shift: expected a positive number, got {shift}.")
        self.rank = rank
        self.shift = jnp.asarray(shift, jnp.result_type(float))
        self.key = key

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """(F Fᵀ + μ I)⁻¹ for this operator, as a lineax operator."""
        if operator.in_size() < self.rank:
            raise ValueError(
                f"rank: expected at most the number of unknowns, "
                f"{operator.in_size()}, got {self.rank}."
            )
        return flat_operator(_set_up(self, operator), operator)


@eqx.filter_jit
def _set_up(builder: RandomisedPivotedCholesky, operator: lx.AbstractLinearOperator):
    zero, unravel = jfu.ravel_pytree(zeros_like(operator.in_structure()))
    dtype = zero.dtype
    real = jnp.finfo(dtype).dtype
    shift = builder.shift.astype(real)
    diagonal = jnp.real(lx.diagonal(operator)) - shift

    def add_column(k, carry):
        factor, left = carry
        # Gumbel's trick draws from probabilities that are only known up to a factor.
        noise = jr.gumbel(jr.fold_in(builder.key, k), left.shape, left.dtype)
        log = jnp.where(left > 0, jnp.log(jnp.where(left > 0, left, 1.0)), -jnp.inf)
        pivot = jnp.argmax(noise + log)
        unit = zero.at[pivot].set(1.0)
        column = jfu.ravel_pytree(operator.mv(unravel(unit)))[0]
        column = column - shift.astype(dtype) * unit
        known = jnp.matmul(
            factor, factor[pivot].conj(), precision=jax.lax.Precision.HIGHEST
        )
        column = column - known
        size = jnp.real(column[pivot])
        # Nothing is left once the rank of K is reached: zero columns from there on.
        scale = jnp.where(size > 0, jax.lax.rsqrt(jnp.where(size > 0, size, 1.0)), 0.0)
        scale = jnp.where(left[pivot] > 0, scale, 0.0)
        column = column * scale.astype(dtype)
        left = jnp.maximum(left - jnp.abs(column) ** 2, 0.0).at[pivot].set(0.0)
        return factor.at[:, k].set(column), left

    factor = jnp.zeros((zero.size, builder.rank), dtype)
    factor, _ = jax.lax.fori_loop(
        0, builder.rank, add_column, (factor, jnp.maximum(diagonal, 0.0))
    )
    vectors, values, _ = jnp.linalg.svd(factor, full_matrices=False)
    return _LowRank(vectors, 1.0 / (values**2 + shift), 1.0 / shift)


class _LowRank(eqx.Module):
    vectors: Inexact[Array, "n rank"]
    inverse: Float[Array, " rank"]
    rest: Float[Array, ""]

    def __call__(self, vector):
        dot = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        inside = dot(self.vectors.conj().T, vector)
        # (One sum: U (f(Σ) − f(0)) Uᴴ r + f(0) r.)
        weights = (self.inverse - self.rest).astype(vector.dtype)
        rest = self.rest.astype(vector.dtype)
        return dot(self.vectors, weights * inside) + rest * vector
