"""The Allen–Cahn equation: two phases part, and the walls between them move."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Complex, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, Grid, SquaredExponentialField

from ._evolution import AbstractSemilinear
from ._evolution_arguments import coefficient, periodic_grid, positive, refinement
from ._fourier import FourierSpace


class AllenCahn(AbstractSemilinear):
    """u_t = ε Δu + γ (u − u³) on [−1, 1)^d, periodic, d = 1, 2 or 3.

    u tends to 1 or to −1, with walls of width about 2 √(2ε/γ) in between; the defaults
    are those of the benchmark for physics-informed networks. Solved by a Fourier method
    and ETDRK4 (`problems.AbstractSemilinear`).

    **Arguments:**

    - `num_points`: nodes per axis. Default 256.
    - `diffusivity`: ε > 0, in units of length²/time; array leaf. Default 1e-4.
    - `rate`: γ > 0, in units of 1/time; array leaf. Default 5.
    - `initial_field`: distribution of u(0). Default
        `SquaredExponentialField(0.25, 0.1)`, analytic, of standard deviation 1/2.
    - `final_time`: default 1, when the phases have parted.
    - `time_step`: the longest step. Default 5e-3, which leaves errors in time of 1e-8;
        it need not follow the spacing.
    - `refine`: nodes of the solve per node of the grid and axis. Default 4, which on
        256 nodes leaves errors in space of 3e-5 (2 leaves 6e-3: the default walls are
        as thin as 1.6 nodes). 1 will do where the grid itself has ten nodes in a wall.
    - `kept`: fraction of the modes per axis that the cube is taken of and has. Default
        2/3; 1/2 removes all aliases, at the price of resolution, and 1 none.

    The reference solution in circulation (`AC.mat`, 512 nodes, u(0) = x² cos πx) solves
    the equations with aliases: `kept=1` and `time_step=1.25e-3` meet it to 5e-11, while
    solutions on finer grids are 1.4e-6 away from it.

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.AllenCahn((32, 32), diffusivity=5e-3, refine=2)
        u0 = problem.initial(key=jr.key(0))
        problem.solve(u0, num_saves=5).shape  # (5, 32, 32)
        ```

    Source: S. M. Allen and J. W. Cahn, Acta Metallurgica 27 (1979), 1085–1095. Domain
    and constants: M. Raissi, P. Perdikaris and G. E. Karniadakis, Physics-informed
    neural networks, J. Comput. Phys. 378 (2019), 686–707, section 3.1.2, which starts
    from u(0) = x² cos πx.
    """

    grid: Grid
    diffusivity: Float[Array, ""]
    rate: Float[Array, ""]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    refine: int = eqx.field(static=True)
    kept: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = 256,
        diffusivity: ArrayLike = 1e-4,
        rate: ArrayLike = 5.0,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 1.0,
        time_step: float = 5e-3,
        refine: int = 4,
        kept: float = 2 / 3,
    ):
        self.grid = periodic_grid(num_points, 2.0, -1.0)
        self.diffusivity = coefficient("diffusivity", diffusivity)
        self.rate = coefficient("rate", rate)
        if initial_field is None:
            initial_field = SquaredExponentialField(0.25, 0.1)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)
        self.time_step = positive("time_step", time_step)
        self.refine = refinement(refine)
        if not 0 < kept <= 1:
            raise ValueError(f"kept: expected a fraction, 0 < kept ≤ 1, got {kept}.")
        self.kept = float(kept)

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """A random u(0), of `initial_field`."""
        return self.initial_field.sample(self.grid, key=key)

    def symbol(self, squares: Any) -> Any:
        """γ − ε |κ|²."""
        return self.rate - self.diffusivity * squares

    def nonlinear(
        self, v: Complex[Array, "*modes"], space: FourierSpace
    ) -> Complex[Array, "*modes"]:
        """−γ u³."""
        u = space.field(v)
        return space.coefficients(-self.rate.astype(u.dtype) * u**3)
