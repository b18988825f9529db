"""Burgers' equation between two ends: DGNO's time-dependent benchmark."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.data import Dataset
from sciml.grids import Dirichlet, Grid
from sciml.weak_forms import PotentialBurgers, PrescribedValues

from ._burgers import Burgers
from ._evolution import AbstractEvolution
from ._evolution_arguments import positive

_NUM_MODES, _SCALE = 16, 0.5


class DirichletBurgers(AbstractEvolution):
    """u_t + u u_x = ν u_xx on (−1, 1), u = 0 at both ends.

    The equation, viscosity and grid of the benchmark of DGNO. How its initial states
    were drawn was not published; these are

        u(0) = Σ_k c_k ξ_k sin(kπ(x + 1)/2),  k = 1 … 16,  c_k ∝ 1/(1 + (k/4)²)

    with ξ_k ~ N(0, 1) and a standard deviation of 0.5 in the mean over x. Solved as a
    periodic problem on twice the interval: u is odd about both ends and stays so.

    **Arguments:**

    - `num_points`: nodes, both ends included. Default 128.
    - `viscosity`: ν, in units of length²/time. Default 0.1/π.
    - `final_time`: default 1.
    - `time_step`: the longest step of the solver. Default 2e-3, which leaves errors
        below 1e-6.

    !!! example

        ```python
        problem = problems.DirichletBurgers(64)
        states = problem.coefficients(10, key=jr.key(0))
        form = problem.weak_form()
        problem.reference(jnp.asarray(states.inputs[0, 0])).shape  # (101, 64)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    final_time: float = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    _whole: Burgers

    def __init__(
        self,
        num_points: int = 128,
        viscosity: ArrayLike = 0.1 / np.pi,
        final_time: float = 1.0,
        time_step: float = 2e-3,
    ):
        self.grid = Grid((num_points,), 2.0, Dirichlet(stored=True), -1.0)
        self.final_time = positive("final_time", final_time)
        self.time_step = positive("time_step", time_step)
        self._whole = Burgers(
            2 * num_points - 2,
            viscosity,
            4.0,
            final_time=self.final_time,
            time_step=self.time_step,
        )

    @property
    def viscosity(self) -> Float[Array, ""]:
        """ν."""
        return self._whole.viscosity

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random u(0)."""
        numbers = np.arange(1, _NUM_MODES + 1)
        sizes = 1 / (1 + (numbers / 4) ** 2)
        # (The mean of sin² is 1/2.)
        sizes *= _SCALE / np.sqrt(np.sum(sizes**2) / 2)
        angles = np.pi / 2 * np.outer(self.grid.coordinates(0) + 1, numbers)
        waves = jnp.asarray(np.sin(angles) * sizes).at[jnp.array([0, -1])].set(0)
        draws = jr.normal(key, (1, _NUM_MODES), waves.dtype)
        # (A product of matrices rounds differently in batches of other sizes.)
        return jnp.sum(waves * draws, axis=-1)

    def coefficients(self, num_samples: int, *, key: PRNGKeyArray) -> Dataset:
        """Random u(0) without what becomes of them.

        **Arguments:**

        - `num_samples`: how many.
        - `key`: sample i depends on `key` and i only.

        **Returns:** a `sciml.data.Dataset` without targets.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}.")
        states = [self.initial(key=jr.fold_in(key, i)) for i in range(num_samples)]
        return Dataset(np.stack(states)[:, None], None, self.grid)

    def trajectory(
        self, u0: Float[Array, "*space"], num_saves: int
    ) -> Float[Array, "saves *space"]:
        """As `solve`, finite or not."""
        count = self.grid.num_points[0]
        odd = jnp.concatenate([u0, -u0[-2:0:-1]])
        return self._whole.trajectory(odd, num_saves)[:, :count]

    def weak_form(
        self, num_points: int = 300, num_times: int = 101
    ) -> PotentialBurgers:
        """What `DGNO` is trained by.

        **Arguments:**

        - `num_points`: random points for each step.
        - `num_times`: at which the model gives u, evenly spaced, t = 0 included.
        """
        return PotentialBurgers(
            self.grid,
            PrescribedValues(_SCALE, 0.03),
            float(self.viscosity),
            self.final_time,
            num_times,
            num_points,
        )

    def reference(
        self, u0: Float[Array, "*space"], num_times: int = 101
    ) -> Float[Array, "times *space"]:
        """u at the nodes of the weak form's domain.

        **Arguments:**

        - `u0`: u(0), a field on the grid.
        - `num_times`: evenly spaced, t = 0 included.
        """
        return jnp.concatenate([u0[None], self.trajectory(u0, num_times - 1)])
