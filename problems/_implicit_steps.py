"""Implicit time steps as linear problems: a surrogate predicts, CG finishes."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import (
    AbstractBoundary,
    AbstractRandomField,
    Dirichlet,
    GaussianField,
    Grid,
    Periodic,
    source_vector,
)
from sciml.linear import StencilOperator, diffusion_operator

from ._diffusion_family import AbstractElliptic


class AbstractImplicitStep(AbstractElliptic):
    """A u' = b(u) with one operator A: what is given is a state, not a medium.

    It may have any sign. `sciml.predict(model, problem, u)` is then one step: the model
    says u', and CG makes it true. `dataset` has pairs (u, u') to train a model on.
    """

    def check_coefficient(self, coefficient: Float[Array, "*space"]) -> None:
        """Refuse states that are not finite, where they are known."""
        if isinstance(coefficient, jax.core.Tracer):
            return
        bad = ~np.isfinite(np.asarray(coefficient))
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"coefficient: the state has {int(bad.sum())} values that are NaN or "
                f"infinite, the first at index {where}."
            )


class HeatStep(AbstractImplicitStep):
    """One backward Euler step of ∂u/∂t = ∇·(a∇u) + f:

        (W + Δt K) u' = W u + Δt (W f + g)

    with the stencil K of −∇·(a∇·), the cells' weights W and the boundary data g of the
    grid. First order in Δt, second in the spacing, and stable for every Δt. The state u
    is the field that is given, so that u' of one step is the input of the next.

    The guess that a time stepper has for nothing is the state before: a surrogate
    earns its place where it is nearer to u' than that, for long steps.

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 63 × 63.
    - `time_step`: Δt, default 0.01: heat spreads by 0.14 in one step.
    - `conductivity`: a, a number or a field on the grid. Default 1.
    - `source`: f, a number or a field. Default 0.
    - `boundary`, `extent`: as for `sciml.grids.Grid`. Default homogeneous Dirichlet, 1.
    - `initial`: distribution of u(0). Default `GaussianField()`.

    **Raises:** `ValueError` for a time step that is not positive and finite.

    !!! example

        ```python
        import jax.random as jr
        import problems
        import sciml

        step = problems.HeatStep((15, 15))
        u = step.sample_coefficient(key=jr.key(0))
        A, b = step.linear_system(u)
        u = sciml.linear_solve(A, b, sciml.CG(rtol=1e-5), x0=u).value
        ```
    """

    grid: Grid
    time_step: float = eqx.field(static=True)
    conductivity: ArrayLike
    source: ArrayLike
    initial: AbstractRandomField

    def __init__(
        self,
        num_points: int | Sequence[int] = (63, 63),
        time_step: float = 0.01,
        conductivity: ArrayLike = 1.0,
        source: ArrayLike = 0.0,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        extent: float | Sequence[float] = 1.0,
        initial: AbstractRandomField = GaussianField(),  # noqa: B008
    ):
        self.grid = Grid(num_points, extent, boundary)
        if not 0 < time_step < math.inf:
            raise ValueError(f"time_step: expected a positive number, got {time_step}.")
        self.time_step = float(time_step)
        self.conductivity = conductivity
        self.source = source
        self.initial = initial

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One initial state, with the boundary's values at stored Dirichlet nodes."""
        return self.grid.impose(self.initial.sample(self.grid, key=key))

    def assemble(
        self, coefficient: Float[Array, "*space"]
    ) -> tuple[StencilOperator, Float[Array, "*space"]]:
        """W + Δt K, and b of the state `coefficient`."""
        state = coefficient
        conductivity = jnp.asarray(self.conductivity, state.dtype)
        K = diffusion_operator(conductivity, self.grid)
        weights = jnp.asarray(self.grid.cell_weights(), state.dtype)
        mask = self.grid.dirichlet_mask()
        if mask is not None:
            weights = jnp.where(mask, 0, weights)
        scaled = jax.tree.map(lambda entry: self.time_step * entry, K.stencil)
        stencil = eqx.tree_at(lambda s: s.diagonal, scaled, scaled.diagonal + weights)
        A = StencilOperator(stencil, self.grid, K.tags)
        b = source_vector(self.source, conductivity, self.grid)
        return A, weights * state + self.time_step * b.astype(state.dtype)


class PressureStep(AbstractImplicitStep):
    """The pressure equation of an incompressible flow on a periodic box:

        −Δp = −d,  d = (ρ/Δt) ∇·u*

    for a tentative velocity u*, after which u* − (Δt/ρ) ∇p has no divergence. It has to
    be solved in every time step of a projection method, and takes most of its time.

    A is singular, with the constants in its null space: b is projected onto what A can
    reach, and p is known up to a constant, that of the guess.

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 64 × 64.
    - `extent`: as for `sciml.grids.Grid`. Default 1.
    - `divergence`: distribution of d for `sample_coefficient`. Default
        `GaussianField(tau=5.0)`.

    !!! example

        ```python
        import jax.random as jr
        import problems
        import sciml

        step = problems.PressureStep((16, 16))
        A, b = step.linear_system(key=jr.key(0))
        p = sciml.linear_solve(A, b, sciml.CG(rtol=1e-5)).value
        ```

    Source: Chorin, *Numerical solution of the Navier–Stokes equations*, Mathematics of
    Computation 22, 1968.
    """

    grid: Grid
    divergence: AbstractRandomField

    def __init__(
        self,
        num_points: int | Sequence[int] = (64, 64),
        extent: float | Sequence[float] = 1.0,
        divergence: AbstractRandomField = GaussianField(tau=5.0),  # noqa: B008
    ):
        self.grid = Grid(num_points, extent, Periodic())
        self.divergence = divergence

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One d, a field on the grid."""
        return self.divergence.sample(self.grid, key=key)

    def assemble(
        self, coefficient: Float[Array, "*space"]
    ) -> tuple[StencilOperator, Float[Array, "*space"]]:
        """−Δ, and b = −d without its mean."""
        A = diffusion_operator(jnp.ones_like(coefficient), self.grid)
        weights = jnp.asarray(self.grid.cell_weights(), coefficient.dtype)
        b = -weights * coefficient
        return A, b - jnp.mean(b)
