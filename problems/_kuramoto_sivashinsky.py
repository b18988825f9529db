"""The Kuramoto–Sivashinsky equation: chaos in one dimension."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, Grid, SquaredExponentialField

from ._evolution import AbstractSemilinear
from ._evolution_arguments import periodic_grid, positive, refinement
from ._fourier import FourierSpace


class KuramotoSivashinsky(AbstractSemilinear):
    """u_t + u u_x + u_xx + u_xxxx = 0 on [0, L), periodic.

    Long waves grow, short ones decay, and u u_x hands energy from those to these. The
    mean is conserved; L decides how chaotic it is: 22 a little, 32π very. Trajectories
    part by a factor of e within 10 to 20 units of time, so that in single precision, or
    with another step, none can be followed for more than about 150.
    Solved by a Fourier method and ETDRK4 (`problems.AbstractSemilinear`).

    **Arguments:**

    - `num_points`: nodes of the grid. Default 128.
    - `extent`: L. Default 32π.
    - `initial_field`: distribution of u(0), whose mean is taken off. Default
        `SquaredExponentialField(1.0, 4.0)`, analytic; the attractor, where u is
        between about −3.5 and 3.5, is reached within some 50 units of time.
    - `final_time`: default 50.
    - `time_step`: the longest step. Default 0.025, which leaves errors in time of 3e-5
        at t = 50.
    - `refine`: nodes of the solve per node of the grid and axis. Default 2, which for
        the other defaults leaves errors in space of 3e-6 at t = 50 (1 leaves 0.3).

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.KuramotoSivashinsky(32, extent=22.0, final_time=20.0)
        data = problem.transitions(4, num_saves=10, key=jr.key(0))
        data.inputs.shape, data.targets.shape  # (40, 1, 32) both
        ```

    Source: Y. Kuramoto and T. Tsuzuki, Prog. Theor. Phys. 55 (1976), 356–369;
    G. I. Sivashinsky, Acta Astronautica 4 (1977), 1177–1206.
    """

    grid: Grid
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    refine: int = eqx.field(static=True)
    kept: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = 128,
        extent: float = 32 * math.pi,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 50.0,
        time_step: float = 0.025,
        refine: int = 2,
    ):
        self.grid = periodic_grid(num_points, extent, axes=(1,))
        if initial_field is None:
            initial_field = SquaredExponentialField(1.0, 4.0)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)
        self.time_step = positive("time_step", time_step)
        self.refine = refinement(refine)
        self.kept = 2 / 3

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random u(0), of `initial_field`, less its mean."""
        field = self.initial_field.sample(self.grid, key=key)
        return field - jnp.mean(field)

    def symbol(self, squares: Any) -> Any:
        """κ² − κ⁴."""
        return squares * (1.0 - squares)

    def nonlinear(
        self, v: Complex[Array, " modes"], space: FourierSpace
    ) -> Complex[Array, " modes"]:
        """−(u²/2)_x."""
        square = space.coefficients(space.field(v) ** 2)
        return -0.5 * space.derivative(square, 0)
