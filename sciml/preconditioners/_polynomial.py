"""A polynomial in D⁻¹A as preconditioner."""

from typing import Any

import equinox as eqx
import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, PyTree, Shaped

from ..linear import (
    AbstractPreconditioner,
    SymmetricOperator,
    _tree as tree,
    absolute_row_sums,
    estimate_spectrum,
)
from ..linear._spectrum import random_vector, unit_diagonal
from ..linear._tree import Vector

# Lanczos values lie inside the spectrum: after this many steps by less than the margin
# for every spectrum without an outlier that the start hardly contains.
_NUM_STEPS = 20
_MARGIN = 1.1


class ChebyshevPolynomial(AbstractPreconditioner):
    """M = p(D⁻¹A) D⁻¹, p the Chebyshev polynomial of a degree for 1/λ.

    `degree` products with A per application, all the parallelism that A has, and no
    inner products: for accelerators, and for operators that are only known by their
    products. The number of CG steps falls by nearly the degree, the number of products
    with A does not: worth it where inner products or the vector operations of CG cost
    more than A does.

    M is positive definite as 0 < λ p(λ) < 2 on (0, λ_max], where λ_max bounds the
    spectrum of D⁻¹A: max_i Σ_j |A_ij| / A_ii (Gershgorin) where A knows its entries,
    otherwise 1.1 times its largest Ritz value. The polynomial is small on
    [λ_max/`ratio`, λ_max].

    **Arguments:**

    - `degree`: of p times λ, the products with A. Default 4.
    - `ratio`: default 50. Larger ones leave less to CG where A is ill conditioned; the
        number of steps hardly depends on it between 30 and 300.
    - `largest_eigenvalue`: λ_max of D⁻¹A where you know it. Default: see above.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        M = sciml.preconditioners.ChebyshevPolynomial(8).build(A)
        solution = sciml.linear_solve(
            A, jnp.ones((31, 31)), sciml.CG(rtol=1e-4), preconditioner=M
        )
        ```

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §12.3.
    """

    degree: int = eqx.field(static=True, default=4)
    ratio: float = eqx.field(static=True, default=50.0)
    largest_eigenvalue: float | Shaped[Array, ""] | None = None

    def __check_init__(self):
        if self.degree < 1:
            raise ValueError(f"degree: expected an integer ≥ 1, got {self.degree}.")
        if not 1 < self.ratio < float("inf"):
            raise ValueError(f"ratio: expected a number > 1, got {self.ratio}.")

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """p(D⁻¹A) D⁻¹ for this operator, as a lineax operator."""
        return SymmetricOperator(
            _set_up(self, operator),
            operator.in_structure(),
            lx.positive_semidefinite_tag,
        )


@eqx.filter_jit
def _set_up(builder: ChebyshevPolynomial, operator: lx.AbstractLinearOperator):
    _, unravel = jfu.ravel_pytree(tree.zeros_like(operator.in_structure()))
    weights = jtu.tree_map(lambda d: 1.0 / d, unravel(lx.diagonal(operator)))
    bound: Any = builder.largest_eigenvalue
    if bound is None:
        sums = absolute_row_sums(operator)
        if sums is not None:
            ratios = jtu.tree_map(lambda s, w: jnp.max(s * jnp.abs(w)), sums, weights)
            bound = jnp.max(jnp.stack(jtu.tree_leaves(ratios)))
        else:
            spectrum = estimate_spectrum(
                unit_diagonal(operator), random_vector(operator), num_steps=_NUM_STEPS
            )
            bound = _MARGIN * spectrum.largest
    weights = jtu.tree_map(lambda w: w / jnp.asarray(bound).astype(w.dtype), weights)
    return _Polynomial(operator, weights, builder.degree, 1.0 / builder.ratio)


class _Polynomial(eqx.Module):
    operator: lx.AbstractLinearOperator
    weights: PyTree[Shaped[Array, "..."]]
    degree: int = eqx.field(static=True)
    lower: float = eqx.field(static=True)

    def __call__(self, vector: Vector) -> Vector:
        # Chebyshev iteration from zero in units of λ_max: Saad, algorithm 12.1.
        centre, half = (1 + self.lower) / 2, (1 - self.lower) / 2
        sigma = centre / half
        rho = 1 / sigma
        scaled = lambda r: jtu.tree_map(jnp.multiply, self.weights, r)
        steps, scales = [], []
        for _ in range(self.degree - 1):
            rho_next = 1 / (2 * sigma - rho)
            steps.append(rho_next * rho)
            scales.append(2 * rho_next / half)
            rho = rho_next

        def advance(carry, weights):
            # (A loop, as products written out one after the other fuse: then each
            # recomputes those before it.)
            x, step = carry
            residual = jtu.tree_map(jnp.subtract, vector, self.operator.mv(x))
            step = tree.scale(weights[0], step)
            step = tree.axpy(weights[1], scaled(residual), step)
            return (jtu.tree_map(jnp.add, x, step), step), None

        step = jtu.tree_map(lambda z: z / centre, scaled(vector))
        dtype = tree.real_dtype(vector)
        weights = jnp.asarray([steps, scales], dtype).T
        (x, _), _ = jax.lax.scan(advance, (step, step), weights)
        return x
