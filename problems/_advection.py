"""Advection with constant velocity: the solution is known."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, Grid, SquaredExponentialField

from ._evolution import AbstractEvolution
from ._evolution_arguments import periodic_grid, positive
from ._fourier import FourierSpace


class Advection(AbstractEvolution):
    """u_t + c·∇u = 0 on a periodic box: u(t, x) = u(0, x − c t).

    Solved by shifting the trigonometric interpolant of u(0), which is exact: no step,
    and no error but in rounding.

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 128.
    - `velocity`: c, one number or one per axis, in units of length/time; array leaf.
        Default 1.
    - `extent`: periods, one number or one per axis. Default 1.
    - `initial_field`: distribution of u(0). Default
        `SquaredExponentialField(1.0, L / 10)`, L the shortest period, analytic.
    - `final_time`: default 1, once around.

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.Advection(64, velocity=0.3)
        u0 = problem.initial(key=jr.key(0))
        problem.solve(u0, num_saves=5).shape  # (5, 64)
        ```
    """

    grid: Grid
    velocity: Float[Array, " ndim"]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = 128,
        velocity: ArrayLike | Sequence[float] = 1.0,
        extent: float | Sequence[float] = 1.0,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 1.0,
    ):
        self.grid = periodic_grid(num_points, extent)
        found = jnp.asarray(velocity, jnp.result_type(float))
        if found.shape not in ((), (self.grid.ndim,)):
            raise ValueError(
                f"velocity: expected one number or {self.grid.ndim} of them, got shape "
                f"{found.shape}."
            )
        self.velocity = jnp.broadcast_to(found, (self.grid.ndim,))
        if initial_field is None:
            initial_field = SquaredExponentialField(1.0, min(self.grid.extent) / 10)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """A random u(0), of `initial_field`."""
        return self.initial_field.sample(self.grid, key=key)

    def trajectory(
        self, u0: Float[Array, "*space"], num_saves: int
    ) -> Float[Array, "saves *space"]:
        """As `solve`, finite or not."""
        space = FourierSpace(self.grid.shape, self.grid.extent)
        v = space.coefficients(u0)
        velocity = self.velocity.astype(u0.dtype)
        saved = []
        for time in self.times(num_saves):
            shifted = v
            for axis, n in enumerate(space.num_points):
                index, kappa = space.indices()[axis], space.wavenumbers()[axis]
                angle = jnp.asarray(kappa * time, u0.dtype) * velocity[axis]
                # The highest mode of an even number of nodes is a cosine.
                sine = jnp.where(2 * np.abs(index) == n, 0, jnp.sin(angle))
                shifted = shifted * jax.lax.complex(jnp.cos(angle), -sine)
            saved.append(space.field(shifted))
        return jnp.stack(saved)
