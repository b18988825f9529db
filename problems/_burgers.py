"""Burgers' equation: waves steepen, viscosity holds them back."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Complex, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, Grid, SquaredExponentialField

from ._evolution import AbstractSemilinear
from ._evolution_arguments import (
    coefficient,
    periodic_grid,
    positive,
    refinement,
    same_shapes,
    times_and_places,
)
from ._fourier import FourierSpace

# Of the quadrature for u(0) = −U sin κx.
_NUM_NODES = 401


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
    Quart. Appl. Math. 9 (1951), 225–236, with the solutions in closed form.
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

    def residual(
        self,
        u: Float[Array, "..."],
        u_t: Float[Array, "..."],
        u_x: Float[Array, "..."],
        u_xx: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """u_t + u u_x − ν u_xx, node by node: what a loss or a constraint makes 0.

        **Arguments:**

        - `u`, `u_t`, `u_x`, `u_xx`: of one shape, any; from differences or from a
            network.

        **Raises:** `ValueError` where the shapes differ.
        """
        same_shapes(u=u, u_t=u_t, u_x=u_x, u_xx=u_xx)
        return u_t + u * u_x - self.viscosity.astype(u.dtype) * u_xx

    def exact_solution(
        self,
        times: ArrayLike,
        *coordinates: ArrayLike,
        amplitudes: ArrayLike | Sequence[float] = (0.9,),
        drift: ArrayLike = 0.0,
    ) -> Float[Array, "..."]:
        """u = c − 2ν θ_x/θ at x − c t, with a periodic solution θ > 0 of θ_t = ν θ_xx:

            θ = 1 + Σ_m a_m exp(−ν κ_m² t) cos κ_m x,  κ_m = 2πm/L,  m = 1, 2, …

        The transform of Hopf and Cole. With one amplitude a the speed is at most
        4πν/L · a/√(1 − a²) at t = 0, and the closer a is to 1, the steeper u falls in
        the middle. u(0) is what this gives at t = 0. For `jit`, `vmap`, and derivatives
        with respect to t, x, ν, a and c.

        **Arguments:**

        - `times`: t ≥ 0, of any shape.
        - `coordinates`: x, one array. Default the nodes of the grid.
        - `amplitudes`: a_1, a_2, …, such that θ > 0 at t = 0. Default 0.9 alone.
        - `drift`: c, the mean of u, in units of length/time. Default 0.

        **Returns:** shape (*times, *places), in the precision of the coordinates,
        where none are given of the times.

        **Raises:** `ValueError` where θ is not positive at t = 0 (seen at 32 points of
        the shortest wave; not under `jit`).

        !!! example

            ```python
            import jax
            import problems

            problem = problems.Burgers(64, viscosity=0.05)
            u = problem.exact_solution(problem.times(4), amplitudes=(0.5, 0.3))
            u.shape  # (4, 64)
            jax.grad(problem.exact_solution, 1)(0.1, 0.3)  # u_x at one point
            ```
        """
        t, (x,) = times_and_places(self.grid, times, coordinates)
        weights = jnp.asarray(amplitudes, t.dtype)
        if weights.ndim != 1 or weights.size == 0:
            raise ValueError(
                f"amplitudes: expected a_1, a_2, …, got shape {weights.shape}."
            )
        if not isinstance(weights, jax.core.Tracer):
            _check_positive(np.asarray(weights, float))
        nu, drift = self.viscosity.astype(t.dtype), jnp.asarray(drift, t.dtype)
        theta, slope = jnp.ones((), t.dtype), jnp.zeros((), t.dtype)
        for m, weight in enumerate(weights, 1):
            kappa = 2 * np.pi * m / self.grid.extent[0]
            height = weight * jnp.exp(-nu * kappa**2 * t)
            angle = kappa * (x - drift * t)
            theta = theta + height * jnp.cos(angle)
            slope = slope - kappa * height * jnp.sin(angle)
        return drift - 2 * nu * slope / theta

    def exact_solution_from_sine(
        self, times: ArrayLike, *coordinates: ArrayLike, amplitude: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The solution that starts from u(0) = −U sin κx, κ = 2π/L.

            u = −U ∫ sin κy g dη / ∫ g dη,  y = x − √(4νt) η,
            g = exp(−η² − U cos κy / (2νκ)),

        the transform of Hopf and Cole, by the trapezoidal rule with 401 nodes, which
        converges geometrically here. The benchmark on [−1, 1] with u(0) = −sin πx is
        `extent=2`: u is periodic and takes any x. With U = 1 and L = 2 errors are below
        1e-13 for ν from 0.005/π to 1 and t up to 10. For `jit`, `vmap`, and derivatives
        with respect to t > 0, x, ν and U. 401 numbers are held for every one of u.

        **Arguments:**

        - `times`: t ≥ 0, of any shape.
        - `coordinates`: x, one array. Default the nodes of the grid.
        - `amplitude`: U, in units of length/time. Default 1.

        **Returns:** shape (*times, *places), in the precision of the coordinates,
        where none are given of the times.

        Source: C. Basdevant et al., Spectral and finite difference solutions of the
        Burgers equation, Computers & Fluids 14 (1986), 23–41.
        """
        t, (x,) = times_and_places(self.grid, times, coordinates)
        nu, height = self.viscosity.astype(t.dtype), jnp.asarray(amplitude, t.dtype)
        kappa = 2 * np.pi / self.grid.extent[0]
        steepness = height / (2 * nu * kappa)
        # Behind it g is below the rounding of its largest value.
        end = jax.lax.stop_gradient(jnp.sqrt(2 * jnp.abs(steepness) + 40))
        nodes = np.linspace(-1, 1, _NUM_NODES).reshape(-1, *(1,) * t.ndim)
        eta = end * jnp.asarray(nodes, t.dtype)
        y = kappa * (x[None] - jnp.sqrt(4 * nu * t)[None] * eta)
        density = jax.nn.softmax(-(eta**2) - steepness * jnp.cos(y), axis=0)
        return -height * jnp.sum(density * jnp.sin(y), axis=0)


def _check_positive(amplitudes: np.ndarray) -> None:
    m = np.arange(1, len(amplitudes) + 1)
    angles = np.linspace(0, 2 * np.pi, 32 * len(m), endpoint=False)
    theta = 1 + np.cos(angles[:, None] * m) @ amplitudes
    if not theta.min() > 0:
        raise ValueError(
            "amplitudes: expected such that 1 + Σ a_m cos κ_m x is positive, got "
            f"{amplitudes}, with which it goes down to {theta.min():.3g}. If the sum "
            "of |a_m| is below 1, it is."
        )
