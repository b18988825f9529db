"""Burgers' equation: waves steepen, viscosity holds them back."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Complex, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, Grid, SquaredExponentialField

from ._evolution import AbstractSemilinear
from ._evolution_arguments import coefficient, periodic_grid, positive, refinement
from ._fourier import FourierSpace


class Burgers(AbstractSemilinear):
    """u_t + u u_x = ν u_xx on [0, L), periodic.

    Solved by a Fourier method and ETDRK4 (`problems.AbstractSemilinear`). Where u falls
    by 2U, a layer forms whose width is about 4 ν/U. It is resolved when the (refined)
    grid has some ten nodes in it; where it is not, there are wiggles.

    **Arguments:**

    - `num_points`: nodes of the grid. Default 256.
    - `viscosity`: ν > 0, in units of length²/time; array leaf. Default 0.01.
    - `extent`: L. Default 1.
    - `initial_field`: distribution of u(0). Default
        `SquaredExponentialField(1.0, L / 8)`, analytic, of variance 1, with a mean
        that is random as well and drifts the whole.
    - `final_time`: default 1, when most samples have formed their layers.
    - `time_step`: the longest step. Default 1e-3, which leaves errors in time below
        1e-6 for the other defaults, and in space none that is seen; take it in
        proportion to the spacing of the solve.
    - `refine`: nodes of the solve per node of the grid and axis. Default 2.

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.Burgers(64, viscosity=0.02)
        data = problem.dataset(8, num_saves=4, key=jr.key(0))
        data.inputs.shape, data.targets.shape  # (8, 1, 64), (8, 4, 64)
        ```

    Source: J. D. Cole, On a quasi-linear parabolic equation occurring in aerodynamics,
    Quart. Appl. Math. 9 (1951), 225–236, with solutions in closed form.
    """

    grid: Grid
    viscosity: Float[Array, ""]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    refine: int = eqx.field(static=True)
    kept: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = 256,
        viscosity: ArrayLike = 0.01,
        extent: float = 1.0,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 1.0,
        time_step: float = 1e-3,
        refine: int = 2,
    ):
        self.grid = periodic_grid(num_points, extent, axes=(1,))
        self.viscosity = coefficient("viscosity", viscosity)
        if initial_field is None:
            initial_field = SquaredExponentialField(1.0, self.grid.extent[0] / 8)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)
        self.time_step = positive("time_step", time_step)
        self.refine = refinement(refine)
        self.kept = 2 / 3

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random u(0), of `initial_field`."""
        return self.initial_field.sample(self.grid, key=key)

    def symbol(self, squares: Any) -> Any:
        """−ν κ²."""
        return -self.viscosity * squares

    def nonlinear(
        self, v: Complex[Array, " modes"], space: FourierSpace
    ) -> Complex[Array, " modes"]:
        """−(u²/2)_x."""
        square = space.coefficients(space.field(v) ** 2)
        return -0.5 * space.derivative(square, 0)
