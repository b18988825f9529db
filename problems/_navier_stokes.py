"""Incompressible flow in a periodic square, by its vorticity."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Complex, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, GaussianField, Grid

from ._evolution import AbstractSemilinear
from ._evolution_arguments import coefficient, periodic_grid, positive, refinement
from ._fourier import FourierSpace


class NavierStokesVorticity(AbstractSemilinear):
    """ω_t + u·∇ω = ν Δω + f on the unit torus, u = (ψ_y, −ψ_x), −Δψ = ω.

    ω = ∂u₂/∂x − ∂u₁/∂y is the vorticity of the velocity u, which has no divergence and
    no mean; f = s (sin 2π(x + y) + cos 2π(x + y)) drives it. The benchmark of the
    Fourier neural operator. Solved by a Fourier method and ETDRK4
    (`problems.AbstractSemilinear`); the mean of ω, 0 on a torus, is conserved.

    **Arguments:**

    - `num_points`: nodes per axis, two. Default 64 × 64.
    - `viscosity`: ν > 0, array leaf. Default 1e-3; the benchmark goes down to 1e-5,
        where 64 × 64 nodes need `refine=4` and `time_step=0.01` (up to t = 20 solutions
        with `refine=1` and 2 are 0.16 and 0.02 off, where |ω| is up to 2.8).
    - `forcing`: s, array leaf. Default 0.1; 0 lets the flow decay.
    - `initial_field`: distribution of ω(0). Default N(0, 7^{3/2} (−Δ + 49)^{−5/2}),
        as printed in the paper: `GaussianField(7.0, 2.5, scale=7.0**0.75)`.
    - `final_time`: default 10; the paper has 50 for ν = 1e-3, 30 and 20 for smaller ν.
    - `time_step`: the longest step. Default 0.02, for speeds up to about 0.5 on
        64 × 64 nodes (2 / (κ |u|), κ the largest wave number that is kept, is what is
        stable); take it in proportion to the spacing of the solve.
    - `refine`: nodes of the solve per node of the grid and axis. Default 1.

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.NavierStokesVorticity((32, 32), final_time=1.0)
        vorticity = problem.solve(problem.initial(key=jr.key(0)), num_saves=2)
        problem.velocity(vorticity[-1]).shape  # (2, 32, 32)
        ```

    Source: Z. Li et al., Fourier neural operator for parametric partial differential
    equations, ICLR 2021, section 5.3 and appendix A.3.3.
    """

    grid: Grid
    viscosity: Float[Array, ""]
    forcing: Float[Array, ""]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    refine: int = eqx.field(static=True)
    kept: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = (64, 64),
        viscosity: ArrayLike = 1e-3,
        forcing: ArrayLike = 0.1,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 10.0,
        time_step: float = 0.02,
        refine: int = 1,
    ):
        self.grid = periodic_grid(num_points, 1.0, axes=(2,))
        self.viscosity = coefficient("viscosity", viscosity)
        self.forcing = coefficient("forcing", forcing, at_least_zero=True)
        if initial_field is None:
            initial_field = GaussianField(7.0, 2.5, scale=7.0**0.75)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)
        self.time_step = positive("time_step", time_step)
        self.refine = refinement(refine)
        self.kept = 2 / 3

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, "n m"]:
        """A random ω(0), of `initial_field`, less its mean."""
        field = self.initial_field.sample(self.grid, key=key)
        return field - jnp.mean(field)

    def velocity(self, vorticity: Float[Array, "n m"]) -> Float[Array, "2 n m"]:
        """u of a vorticity, by spectral differentiation.

        **Arguments:**

        - `vorticity`: ω, a field on the grid. Its mean is ignored.
        """
        space = FourierSpace(self.grid.shape, self.grid.extent)
        u = _velocity(space.coefficients(vorticity), space)
        return jnp.stack([space.field(component) for component in u])

    def symbol(self, squares: Any) -> Any:
        """−ν |κ|²."""
        return -self.viscosity * squares

    def nonlinear(
        self, v: Complex[Array, "*modes"], space: FourierSpace
    ) -> Complex[Array, "*modes"]:
        """−u·∇ω + f."""
        first, second = _velocity(v, space)
        along_x, along_y = (space.field(space.derivative(v, k)) for k in (0, 1))
        transport = space.field(first) * along_x + space.field(second) * along_y
        phase = (
            2
            * np.pi
            * sum(
                np.meshgrid(
                    *(np.arange(n) / n for n in space.num_points), indexing="ij"
                )
            )
        )
        wave = jnp.asarray(np.sin(phase) + np.cos(phase), transport.dtype)
        source = self.forcing.astype(transport.dtype) * wave
        return space.coefficients(source - transport)


def _velocity(
    v: Complex[Array, "*modes"], space: FourierSpace
) -> tuple[Complex[Array, "*modes"], Complex[Array, "*modes"]]:
    squares = space.squares()
    squares[0, 0] = np.inf
    stream = v * jnp.asarray(1.0 / squares, v.dtype)
    return space.derivative(stream, 1), -space.derivative(stream, 0)
