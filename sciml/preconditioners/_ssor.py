"""Symmetric successive over-relaxation."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array

from ..linear import (
    AbstractPreconditioner,
    SymmetricOperator,
    _tree as tree,
    estimate_spectrum,
)
from ..linear._spectrum import random_vector, unit_diagonal
from ..linear._tree import Vector
from ._host import Matrix, host_matrix
from ._relaxation_plan import RelaxationPlan
from ._triangular import AbstractTriangularSolve, LevelSchedule

# Enough for the smallest eigenvalue of a 256² Laplacian to a tenth.
_NUM_STEPS = 200


class SSOR(AbstractPreconditioner):
    """M = ω (2 − ω) (D + ω Lᴴ)⁻¹ D (D + ω L)⁻¹ for A = L + D + Lᴴ.

    A Gauss–Seidel sweep over the unknowns and one back, over-relaxed by ω in (0, 2).
    Needs nothing but A's entries. ω decides: with the best one the number of CG steps
    doubles only with every second refinement of a grid.

    The best ω is known where the unknowns are *consistently ordered*, as those of
    five-point (in 3-D seven-point) stencils in the grid's order are:

        ω = 2 / (1 + √(1 − μ²)),  μ = ρ(I − D⁻¹A)

    Then this is the default, with μ by Lanczos. Elsewhere over-relaxation may cost more
    than it gains (on a graded triangular mesh ω = 1.8 took 1.6 times the steps of
    ω = 1), and the default is 1. The order is checked, exactly, not guessed.

    **Arguments:**

    - `omega`: in (0, 2), or None (default) for the choice above.
    - `solve`: how D + ωL is inverted. Default `LevelSchedule()`, exactly.
        `JacobiSweeps` suits accelerators; near ω = 2 many are needed.

    `stats["preconditioner"]["omega"]` tells ω. `update(M, A)` follows a sequence of
    slowly changing matrices: it corrects μ by one power step from the eigenvector that
    M keeps.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ValueError` for ω outside of (0, 2).

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        M = sciml.preconditioners.SSOR().build(A)
        solution = sciml.linear_solve(
            A, jnp.ones((31, 31)), sciml.CG(rtol=1e-4), preconditioner=M
        )
        ```

    Source: Young, *Iterative Solution of Large Linear Systems* (1971), ch. 6 and 15;
    Khodak, Chow, Balcan & Talwalkar (ICLR 2024), appendix A, for the sequences.
    """

    omega: float | None = eqx.field(static=True, default=None)
    solve: AbstractTriangularSolve = LevelSchedule()

    on_host: ClassVar[bool] = True

    def __check_init__(self):
        if self.omega is not None and not 0 < self.omega < 2:
            raise ValueError(
                f"omega: expected a number between 0 and 2, got {self.omega}; outside "
                "M is not positive definite."
            )

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The two sweeps for this operator, as a lineax operator."""
        matrix = host_matrix(self, operator)
        omega, mode = self.omega, None
        if omega is None:
            omega = 1.0
            if is_consistently_ordered(matrix):
                mu, mode = jacobi_spectrum(operator)
                omega = young_omega(mu)
        return self._operator(operator, omega, mode)

    def update(
        self, preconditioner: SymmetricOperator, operator: lx.AbstractLinearOperator
    ) -> SymmetricOperator:
        """M for a slightly different A, with ω from one warm-started power step.

        **Arguments:**

        - `preconditioner`: what `build` or `update` gave for the last matrix.
        - `operator`: the new A, of the same structure. The order of its unknowns is
            not checked again.
        """
        previous = getattr(preconditioner, "function", None)
        if not isinstance(previous, _Following):
            raise TypeError("preconditioner: expected what SSOR.build returned.")
        if self.omega is not None or previous.mode is None:
            return self.build(operator)
        mu, mode = power_step(previous.mode, operator)
        return self._operator(operator, young_omega(mu), mode)

    def _operator(self, operator, omega, mode: Vector | None) -> SymmetricOperator:
        M = RelaxationPlan(operator, self.solve).ssor(operator, omega)
        return SymmetricOperator(
            _Following(M.function, mode), M.in_structure(), M.tags, M.facts
        )


class _Following(eqx.Module):
    """The sweeps, and what `update` goes on from."""

    sweeps: Callable[[Vector], Vector]
    mode: Vector | None

    def __call__(self, vector):
        return self.sweeps(vector)


def young_omega(mu: Array) -> Array:
    """The best relaxation of a consistently ordered matrix of Jacobi radius μ < 1."""
    # (At μ = 1, a singular matrix, it would be 2.)
    return jnp.minimum(2 / (1 + jnp.sqrt(jnp.maximum(1 - mu**2, 0.0))), 1.999)


def is_consistently_ordered(matrix: Matrix) -> bool:
    """Whether numbers γ exist with γ_i − γ_j = 1 for all A_ij ≠ 0 with i > j.

    The condition of Young's theory; ordering by γ makes A block tridiagonal with
    diagonal blocks on the diagonal.
    """
    import scipy.sparse as sp
    import scipy.sparse.csgraph as csgraph

    lower = sp.tril(matrix, -1, format="coo")
    keep = lower.data != 0
    rows, columns = lower.row[keep], lower.col[keep]
    size = matrix.shape[0]

    def graph(rows, columns, size):
        return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (size, size))

    # A spanning forest gives γ, and every edge has to agree. One more node, joined to
    # a node of each component, makes it a tree.
    _, label = csgraph.connected_components(graph(rows, columns, size), directed=False)
    roots = np.unique(label, return_index=True)[1]
    extra = np.full(len(roots), size)
    joined = graph(np.append(rows, extra), np.append(columns, roots), size + 1)
    _, parent = csgraph.breadth_first_order(
        joined, size, directed=False, return_predecessors=True
    )
    parent[size] = size
    height = np.sign(np.arange(size + 1) - parent)
    height[roots] = 0
    # Doubling: after k rounds a node's height is relative to its 2ᵏ-th ancestor.
    while not (parent == size).all():
        height = height + height[parent]
        parent = parent[parent]
    return bool(np.all(height[rows] - height[columns] == 1))


@eqx.filter_jit
def jacobi_spectrum(operator: lx.AbstractLinearOperator) -> tuple[Array, Vector]:
    """ρ(I − D⁻¹A) of a consistently ordered A, and its eigenvector, scaled by √D."""
    # There the spectrum of I − D⁻¹A is symmetric to zero.
    spectrum = estimate_spectrum(
        unit_diagonal(operator), random_vector(operator), num_steps=_NUM_STEPS
    )
    return 1 - spectrum.smallest, spectrum.vector


@eqx.filter_jit
def power_step(
    mode: Vector, operator: lx.AbstractLinearOperator
) -> tuple[Array, Vector]:
    """μ and the mode after one product with I − D^{−½} A D^{−½}."""
    image = tree.subtract(mode, unit_diagonal(operator)(mode))
    mu = tree.norm(image)
    # Where A is diagonal there is no mode; any will do to go on from.
    inverse = 1 / jnp.where(mu > 0, mu, 1.0)
    return mu, tree.where(mu > 0, tree.scale(inverse, image), mode)
