"""Estimates of a symmetric operator's spectrum."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Inexact, PyTree, Shaped

from . import _tree as tree
from ._tree import Vector


class Spectrum(eqx.Module):
    """The outermost Ritz values of a symmetric operator.

    Exact eigenvalues lie outside of [`smallest`, `largest`] or on its ends: both are
    inner estimates. `lower` and `upper` hold an exact eigenvalue each between them and
    the Ritz value (‖A v − θ v‖ bounds the distance), which is no bound for the whole
    spectrum unless the method has found its ends.
    """

    smallest: Shaped[Array, ""]
    largest: Shaped[Array, ""]
    lower: Shaped[Array, ""]
    upper: Shaped[Array, ""]
    vector: PyTree[Inexact[Array, "..."]]
    """Unit Ritz vector of the smallest value."""


def estimate_spectrum(
    operator: lx.AbstractLinearOperator | Callable[[Vector], Vector],
    start: Vector,
    *,
    num_steps: int = 30,
) -> Spectrum:
    """The ends of the spectrum of a symmetric (Hermitian) A by the Lanczos method.

    After m steps the error of the ends is about (π/m)²/4 times the width of the
    spectrum in the worst case, and falls much faster where they are separated from the
    rest. Without reorthogonalisation: rounding repeats Ritz values, it does not move
    the outermost ones.

        **Arguments:**

        - `operator`: A, or the function x ↦ A x. It is believed to be symmetric.
    - `start`: any vector that no eigenvector of interest is orthogonal to: random, or
        an eigenvector of a similar operator. Not zero.
        - `num_steps`: m, static; two products with A each (the second pass makes the
            vector without storing all others). Default 30.

        **Returns:** a `Spectrum`.

        !!! example

            ```python
            import jax.numpy as jnp
            import jax.random as jr
    import jax.tree_util as jtu
            import sciml

            A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31,)))
            start = jr.normal(jr.key(0), (31,))
            spectrum = sciml.linear.estimate_spectrum(A, start, num_steps=31)
            spectrum.largest / spectrum.smallest  # 414.3, the condition number
            ```

        Source: Golub & Van Loan, *Matrix Computations*, §10.1.
    """
    apply = operator.mv if isinstance(operator, lx.AbstractLinearOperator) else operator
    dtype = tree.real_dtype(start)
    num_steps = max(1, min(num_steps, tree.size(start)))

    def advance(carry, _):
        previous, v, beta, _ = carry
        w = tree.axpy(-beta, previous, apply(v))
        alpha = tree.inner(v, w)
        w = tree.axpy(-alpha, v, w)
        norm = tree.norm(w)
        # An invariant subspace ends the recurrence: all that follows is zero.
        scale = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1.0), 0.0)
        return (v, tree.scale(scale, w), norm, v), (alpha, norm)

    # (Scaled first: squares of tiny or huge vectors leave the range.)
    largest = tree.max_abs(start)
    start = tree.scale(1 / jnp.where(largest > 0, largest, 1.0), start)
    start = tree.scale(1 / tree.norm(start), start)
    zero = jnp.zeros((), dtype)
    first = (tree.zeros_like(start), start, zero, start)
    _, (alphas, betas) = jax.lax.scan(advance, first, None, length=num_steps)
    live = jnp.cumprod(jnp.append(jnp.ones(1, dtype), betas[:-1]) > 0) > 0
    # Steps after the end stand far inside and play no part.
    diagonal = jnp.where(live, alphas, alphas[0])
    off = jnp.where(live[1:], betas[:-1], 0.0)
    matrix = jnp.diag(diagonal) + jnp.diag(off, 1) + jnp.diag(off, -1)
    values, vectors = jnp.linalg.eigh(matrix)
    residual = jnp.abs(betas[-1] * vectors[-1])

    def accumulate(carry, inputs):
        state, total = carry
        weight = inputs
        total = tree.axpy(weight, state[1], total)
        state, _ = advance(state, None)
        return (state, total), None

    nothing = tree.zeros_like(start)
    (_, vector), _ = jax.lax.scan(accumulate, (first, nothing), vectors[:, 0])
    return Spectrum(
        values[0],
        values[-1],
        values[0] - residual[0],
        values[-1] + residual[-1],
        tree.scale(1 / tree.norm(vector), vector),
    )


def absolute_row_sums(operator: lx.AbstractLinearOperator) -> Vector | None:
    """Σ_j |A_ij| as a vector of A's structure, or None where entries are not known."""
    if isinstance(operator, lx.TaggedLinearOperator):
        return absolute_row_sums(operator.operator)
    if isinstance(operator, lx.MatrixLinearOperator):
        return jnp.sum(jnp.abs(operator.matrix), axis=1)
    known = getattr(operator, "absolute_row_sums", None)
    return None if known is None else known()


def random_vector(operator: lx.AbstractLinearOperator) -> Vector:
    """A standard normal vector of A's structure, the same at each call."""
    structure = operator.in_structure()
    leaves, shape = jtu.tree_flatten(structure)
    keys = jr.split(jr.key(0), len(leaves))
    return jtu.tree_unflatten(
        shape,
        [jr.normal(k, s.shape, s.dtype) for k, s in zip(keys, leaves, strict=True)],
    )


def unit_diagonal(
    operator: lx.AbstractLinearOperator,
) -> Callable[[Vector], Vector]:
    """x ↦ D^{-1/2} A D^{-1/2} x, whose eigenvalues are those of D⁻¹A."""
    _, unravel = jfu.ravel_pytree(tree.zeros_like(operator.in_structure()))
    root = jtu.tree_map(
        lambda d: jax.lax.rsqrt(jnp.abs(d)), unravel(lx.diagonal(operator))
    )

    def apply(x: Vector) -> Vector:
        scaled = operator.mv(jtu.tree_map(jnp.multiply, root, x))
        return jtu.tree_map(jnp.multiply, root, scaled)

    return apply
