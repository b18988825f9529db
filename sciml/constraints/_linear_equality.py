"""The nearest point that satisfies A x = b."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from .._result import RESULTS
from ..grids._check import positive_or_nan
from ..linear import Solution
from ..linear._solve import as_vector
from ..linear._tree import structure_of
from ._outcome import all_finite, concluded, first_result, guarded

_NO_DERIVATIVE = (
    "LinearEquality: the rows of A are linearly dependent, so the projection has no "
    "derivative with respect to A; drop the redundant rows. With throw=False the "
    "derivative is NaN instead."
)


class LinearEquality(eqx.Module):
    """The nearest point that satisfies linear equations, exact to rounding.

        P(u) = argmin_x  Σ_i w_i (x_i − u_i)²   subject to  A x = b
             = u − W⁻¹ Aᵀ λ,   A W⁻¹ Aᵀ λ = A u − b

    For a few equations and many unknowns, as constraints are: A is written out (m rows
    of N numbers) and factorised by its singular values, at N m² operations. What
    rounding leaves of the residual is projected away twice more.

    Differentiable in u, b, A and w to any order, in forward and reverse mode; under
    `jit` and `vmap`. Where the rows are dependent but b fits them the point is still
    unique, and the derivatives in u and b (along b's that fit) are right; the one in A
    does not exist, and raises (NaN with `throw=False`).

    **Arguments:**

    - `operator`: A: a matrix (m, N) that acts on vectors, or a lineax operator, for
        instance one that acts on fields or pytrees.
    - `vector`: b, of A's output structure.
    - `weights`: w > 0, a number, or arrays of u's structure. Default 1; with
        `grid.cell_weights()` the norm is the grid's L2 norm.

    `layer(u)` is P(u), and raises where there is none; `layer.project(u)` returns a
    `Solution`.

    **Raises:** `ValueError` for shapes and types that do not fit, weights that are not
    positive. See `project` for results.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import LinearEquality

        layer = LinearEquality(jnp.ones((1, 4)), jnp.ones(1))  # components sum to 1
        layer(jnp.array([1.0, 2.0, 3.0, 4.0]))  # [-1.25, -0.25, 0.75, 1.75]
        ```

    Source: Golub and Van Loan, *Matrix Computations*, §6.2 (least squares with equality
    constraints).
    """

    operator: lx.AbstractLinearOperator
    vector: PyTree[Array]
    weights: PyTree[Array]

    def __init__(
        self,
        operator: lx.AbstractLinearOperator | ArrayLike,
        vector: PyTree[ArrayLike],
        weights: PyTree[ArrayLike] = 1.0,
    ):
        if not isinstance(operator, lx.AbstractLinearOperator):
            matrix = jnp.asarray(operator)
            if matrix.ndim != 2:
                raise ValueError(
                    "operator: expected a matrix of shape (equations, unknowns) or a "
                    f"lineax operator, got shape {matrix.shape}."
                )
            if not jnp.issubdtype(matrix.dtype, jnp.floating):
                raise ValueError(
                    f"operator: expected real floating-point numbers, got "
                    f"{matrix.dtype}; convert it with `.astype`."
                )
            operator = lx.MatrixLinearOperator(matrix)
        structure = operator.in_structure()
        if len({leaf.dtype for leaf in jtu.tree_leaves(structure)}) != 1:
            raise ValueError(
                "operator: expected one dtype for all parts of what it acts on, got "
                f"{structure}."
            )
        self.operator = operator
        self.vector = as_vector("vector", vector, operator.out_structure())
        self.weights = _as_weights(weights, structure)

    def __call__(self, point: PyTree[ArrayLike]) -> PyTree[Array]:
        """P(u); raises where there is none, see `project`."""
        return self.project(point).value

    def project(self, point: PyTree[ArrayLike], *, throw: bool = True) -> Solution:
        """P(u) with its result and statistics.

        `successful` only where the recomputed residual of every equation is rounding:
        |A x − b|_i ≤ (10 + √N) ε (|A| |x| + |b|)_i. `infeasible` where the rows are
        dependent and b contradicts them; `nonfinite` for NaN anywhere.

        Statistics: `relative_residual`, the largest |A x − b|_i / (|A| |x| + |b|)_i;
        `tolerance`, what was asked of it; `rank` of A; `distance`, ‖x − u‖ in the
        weighted norm; `multiplier`, λ.

        **Arguments:**

        - `point`: u, of A's input structure.
        - `throw`: raise where there is no such point (default), or return with the
            `result` that says why.
        """
        point = as_vector("point", point, self.operator.in_structure())
        return _compiled(self.operator, self.vector, self.weights, point, throw)


@eqx.filter_jit
def _compiled(operator, vector, weights, point, throw) -> Solution:
    with jax.default_matmul_precision("highest"):
        return _projected(operator, vector, weights, point, throw)


def _projected(operator, vector, weights, point, throw) -> Solution:
    A = operator.as_matrix()
    b, unravel_dual = ravel_pytree(vector)
    w, _ = ravel_pytree(weights)
    u, unravel = ravel_pytree(point)
    tiny = jnp.finfo(u.dtype).eps
    still = jax.lax.stop_gradient
    with_scale = lambda size: jnp.where(size > 0, size, 1.0)

    # Rows of equal length, so that a small row is not taken for a dependent one.
    half = jnp.sqrt(still(w))
    rows = still(A) / half[None, :]
    length = with_scale(jnp.sqrt(jnp.sum(rows**2, axis=1)))
    left, values, right = jnp.linalg.svd(rows / length[:, None], full_matrices=False)
    keep = values > 10 * max(A.shape) * tiny * jnp.max(values, initial=0.0)
    rank = jnp.sum(keep)
    inverse = jnp.where(keep, 1.0 / jnp.where(keep, values, 1.0), 0.0)

    def least_norm(residual):
        """The smallest change that takes the residual away."""
        return (right.T @ (inverse * (left.T @ (residual / length)))) / half

    def gram_inverse(_, residual):
        return left @ (inverse**2 * (left.T @ (residual / length))) / length

    full_rank = rank == A.shape[0]
    A = guarded(A, full_rank, _NO_DERIVATIVE, throw=throw)
    multiplier = jax.lax.custom_linear_solve(
        lambda v: A @ ((v @ A) / w), A @ u - b, gram_inverse, symmetric=True
    )
    x = u - (multiplier @ A) / w
    for _ in range(2):
        x = x - still(least_norm(still(A) @ still(x) - still(b)))

    residual = jnp.abs(still(A) @ still(x) - still(b))
    size = jnp.abs(still(A)) @ jnp.abs(still(x)) + jnp.abs(still(b))
    relative = jnp.max(residual / with_scale(size), initial=0.0)
    tolerance = (10 + u.size**0.5) * tiny
    met = relative <= tolerance
    result = first_result(
        (~all_finite(x, residual), RESULTS.nonfinite),
        (~met & ~full_rank, RESULTS.infeasible),
        (~met, RESULTS.stagnated),
    )
    x = guarded(x, result == RESULTS.successful, _FAILED, throw=throw)
    stats: dict[str, Any] = {
        "relative_residual": relative,
        "tolerance": jnp.asarray(tolerance, u.dtype),
        "rank": rank,
        "distance": jnp.sqrt(jnp.sum(still(w) * (still(x) - still(u)) ** 2)),
        "multiplier": unravel_dual(still(multiplier)),
    }
    return concluded(unravel(x), result, stats, throw=throw)


_FAILED = "LinearEquality: there is no projection, and so no derivative of it."


def _as_weights(weights: PyTree[ArrayLike], structure) -> PyTree[Array]:
    """One positive weight for each unknown."""
    dtype = jtu.tree_leaves(structure)[0].dtype
    if jtu.tree_structure(weights) == jtu.tree_structure(0.0) and not jnp.ndim(weights):
        one = positive_or_nan("weights", jnp.asarray(weights, dtype))
        return jtu.tree_map(lambda s: jnp.broadcast_to(one, s.shape), structure)
    weights = jtu.tree_map(lambda leaf: jnp.asarray(leaf, dtype), weights)
    if structure_of(weights) != structure:
        raise ValueError(
            f"weights: expected a number or arrays of the structure {structure}, as "
            f"the operator acts on, got {structure_of(weights)}."
        )
    return jtu.tree_map(lambda leaf: positive_or_nan("weights", leaf), weights)
