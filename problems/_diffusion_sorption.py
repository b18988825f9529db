"""Diffusion with sorption: a solute moves through a soil that holds it back."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, Dirichlet, Grid, Neumann

from ._evolution import AbstractEvolution
from ._evolution_arguments import coefficient, positive, refinement, same_shapes
from ._implicit_march import AbstractContent, Exchange, march

# R is infinite at u = 0; the data of PDEBench have it at u + 1e-6.
_SHIFT = 1e-6


class UniformState(AbstractRandomField):
    """The same number everywhere, uniformly distributed between `low` and `high`.

    **Arguments:**

    - `low`, `high`: default 0 and 0.2, the initial states of PDEBench's
        diffusion–sorption.

    **Raises:** `ValueError` unless low < high.
    """

    low: float = eqx.field(static=True, default=0.0)
    high: float = eqx.field(static=True, default=0.2)

    def __check_init__(self):
        if not self.low < self.high:
            raise ValueError(f"Expected low < high, got {self.low} and {self.high}.")

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        number = jr.uniform(key, minval=self.low, maxval=self.high)
        return jnp.full(grid.closed_shape if closed else grid.shape, number)


class DiffusionSorption(AbstractEvolution):
    """u_t = D/R(u) u_xx on (0, 1), u a concentration, R the retardation by sorption:

        R(u) = 1 + (1 − φ)/φ ρ k n u^(n − 1)       (Freundlich's isotherm),
        u(0, t) = 1 (inflow),    u(1, t) = −D u_x(1, t) (outflow).

    What is conserved is w(u) = u + (1 − φ)/φ ρ k uⁿ, dissolved and sorbed, of which
    w' = R: ∂w/∂t = D u_xx; it enters at x = 0 and leaves at x = 1 at the rate u(1, t).
    R is infinite at u = 0, so u + 1e-6 is put in place of u in it, as in PDEBench; w is
    the integral of that R. Below 0, where no concentration is, R stays what it is at 0.

    Solved by finite volumes around the nodes, of order 2 in space, both boundary
    conditions included, and a diagonally implicit method of order 4 in time that
    conserves w. The solution starts with layers at both sides, so steps grow with t.
    PDEBench's own program puts the boundary values half a cell outside of the sides,
    which is of order 1: on 256 cells it is 8e-3 away from this solution, and half as
    much on twice as many (`tests/test_diffusion_sorption.py`). Its fields are on the
    middles of cells, these on nodes.

    **The sign of the outflow condition.** The texts have u = D u_x at x = 1. With it
    something enters at the rate u(1, t), and where R is constant exp(x/D + t/(D R)) is
    a solution, which grows by a factor of e^(2000/R) in a second; differences on grids
    with spacings above D do not see it. The program that made PDEBench's data takes the
    difference (u_{N−1} − u_N)/h, hence u = −D u_x, as we do.

    **Arguments:**

    - `num_points`: nodes, those at x = 0 and x = 1 among them. Default 128; with
        `num_saves=50` and u(0) they make the 128 × 51 values of a sample.
    - `diffusivity`: D > 0, in units of length²/time; array leaf. Default 5e-4.
    - `porosity`: φ, 0 < φ < 1; array leaf. Default 0.29.
    - `bulk_density`: ρ > 0; array leaf. Default 2880.
    - `freundlich_coefficient`: k > 0, in units of 1/ρ; array leaf. Default 3.5e-4.
    - `freundlich_exponent`: n, 0 < n ≤ 1; array leaf. Default 0.874. With 1, R is
        constant and the problem linear.
    - `initial_field`: distribution of u(0), not negative. Default `UniformState()`, a
        constant between 0 and 0.2, as in PDEBench.
    - `final_time`: default 500.
    - `relative_step`: the longest step at time t over t (+ h², h the spacing of the
        solve, times `final_time`). Default 0.1, which leaves errors in time of
        1e-7 for the other defaults, less by 2⁴ with half of it.
    - `refine`: intervals of the solve per interval of the grid. Default 4, which on
        128 nodes leaves errors in space of 4e-5 at t = 10, 7e-6 at t = 50 and 7e-7 at
        the end (1 leaves 16 times as much; `test_errors_of_the_defaults`).

    The value of u(0) at x = 0 is not used; `initial` sets it to 1. `grid.boundary` has
    a Neumann condition on the outflow side, where the grid knows of no other that
    stores the node and prescribes nothing; its flux of 0 is not the problem's.

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.DiffusionSorption(64)
        data = problem.dataset(4, num_saves=50, key=jr.key(0))
        data.inputs.shape, data.targets.shape  # (4, 1, 64), (4, 50, 64)
        ```

    Source: M. Takamoto et al., PDEBench, NeurIPS 2022 (datasets and benchmarks),
    constants, u(0) and the sign from `sim_diff_sorp.py` of its program; N. Chalapathi,
    Y. Du and A. S. Krishnapriyan, Scaling physics-informed hard constraints with
    mixture-of-experts, ICLR 2024.
    """

    grid: Grid
    diffusivity: Float[Array, ""]
    porosity: Float[Array, ""]
    bulk_density: Float[Array, ""]
    freundlich_coefficient: Float[Array, ""]
    freundlich_exponent: Float[Array, ""]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)
    relative_step: float = eqx.field(static=True)
    refine: int = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = 128,
        diffusivity: ArrayLike = 5e-4,
        porosity: ArrayLike = 0.29,
        bulk_density: ArrayLike = 2880.0,
        freundlich_coefficient: ArrayLike = 3.5e-4,
        freundlich_exponent: ArrayLike = 0.874,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 500.0,
        relative_step: float = 0.1,
        refine: int = 4,
    ):
        points = (num_points,) if isinstance(num_points, int) else tuple(num_points)
        if len(points) != 1 or points[0] < 3:
            raise ValueError(
                f"num_points: expected nodes for 1 axis, at least 3, got {num_points}."
            )
        sides = ((Dirichlet(1.0, stored=True), Neumann()),)
        self.grid = Grid(points, 1.0, sides)
        self.diffusivity = coefficient("diffusivity", diffusivity)
        self.porosity = coefficient("porosity", porosity)
        self.bulk_density = coefficient("bulk_density", bulk_density)
        self.freundlich_coefficient = coefficient(
            "freundlich_coefficient", freundlich_coefficient
        )
        self.freundlich_exponent = coefficient(
            "freundlich_exponent", freundlich_exponent
        )
        for name, given, expected, fits in (
            ("porosity", self.porosity, "below 1", lambda p: p < 1),
            ("freundlich_exponent", self.freundlich_exponent, "≤ 1", lambda n: n <= 1),
        ):
            if not isinstance(given, jax.core.Tracer) and not fits(given):
                raise ValueError(
                    f"{name}: expected a positive number {expected}, got {given}."
                )
        if initial_field is None:
            initial_field = UniformState()
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)
        self.relative_step = positive("relative_step", relative_step)
        self.refine = refinement(refine)

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """A random u(0), of `initial_field`; 1 at x = 0."""
        return self.initial_field.sample(self.grid, key=key).at[0].set(1.0)

    def retardation(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """R(u), finite everywhere, node by node."""
        return self._content(u.dtype).slope(u)

    def content(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """w(u), dissolved and sorbed, node by node."""
        return self._content(u.dtype).value(u)

    def residual(
        self,
        u: Float[Array, "..."],
        u_t: Float[Array, "..."],
        u_xx: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """u_t − D/R(u) u_xx, node by node: what a loss or a constraint makes 0.

        Finite, with finite derivatives, also for u ≤ 0.

        **Arguments:**

        - `u`, `u_t`, `u_xx`: of one shape, any; from differences or from a network.

        **Raises:** `ValueError` where the shapes differ.
        """
        same_shapes(u=u, u_t=u_t, u_xx=u_xx)
        return u_t - self.diffusivity.astype(u.dtype) / self.retardation(u) * u_xx

    def inflow_residual(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """u − 1, 0 at x = 0."""
        return u - 1

    def outflow_residual(
        self, u: Float[Array, "..."], u_x: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """u + D u_x, 0 at x = 1. The sign is discussed above.

        **Raises:** `ValueError` where the shapes differ.
        """
        same_shapes(u=u, u_x=u_x)
        return u + self.diffusivity.astype(u.dtype) * u_x

    def trajectory(
        self, u0: Float[Array, " n"], num_saves: int
    ) -> Float[Array, "saves n"]:
        """As `solve`, finite or not."""
        dtype = u0.dtype
        num_cells = (self.grid.num_points[0] - 1) * self.refine
        h = 1 / num_cells
        # The unknowns are the nodes but the first; the last has half a cell, which
        # loses u through its side.
        between = self.diffusivity.astype(dtype) / h**2
        ones = jnp.ones((num_cells,), dtype)
        lower = ones.at[0].set(0).at[-1].set(2) * between
        upper = ones.at[-1].set(0) * between
        own = jnp.zeros_like(ones).at[-1].set(-2 / h).at[0].set(-between)
        source = jnp.zeros_like(ones).at[0].set(1) * between
        steps, ends = self._steps(num_saves)
        saved = march(
            self._content(dtype),
            Exchange(lower, upper, own),
            source,
            self._refined(u0),
            jnp.asarray(steps, dtype),
        )
        inflow = jnp.ones((num_saves, 1), dtype)
        inside = saved[ends, self.refine - 1 :: self.refine]
        return jnp.concatenate([inflow, inside], axis=1)

    def _content(self, dtype) -> "_Freundlich":
        ratio = (1 - self.porosity) / self.porosity
        factor = ratio * self.bulk_density * self.freundlich_coefficient
        return _Freundlich(factor.astype(dtype), self.freundlich_exponent.astype(dtype))

    def _refined(self, u0: Array) -> Array:
        """u(0) at the unknowns: linear in between, constant in the first interval."""
        first = jnp.full((self.refine,), u0[1])
        share = jnp.asarray(np.arange(1, self.refine + 1) / self.refine, u0.dtype)
        before, after = u0[1:-1, None], u0[2:, None]
        rest = before + share[None] * (after - before)
        return jnp.concatenate([first, rest.ravel()])

    def _steps(self, num_saves: int) -> tuple[np.ndarray, np.ndarray]:
        """The steps, and which of them end at the times that are saved."""
        # About the time in which a layer grows over one interval. The steps must not
        # depend on the parameters, with respect to which one differentiates.
        start = self.final_time / ((self.grid.num_points[0] - 1) * self.refine) ** 2
        steps, ends = [], []
        first = 0.0
        for last in self.times(num_saves):
            growth = np.log((last + start) / (first + start))
            count = max(1, int(np.ceil(growth / self.relative_step * (1 - 1e-9))))
            parts = (first + start) * np.expm1(growth * np.arange(count + 1) / count)
            steps.append(np.diff(parts))
            ends.append(count)
            first = last
        return np.concatenate(steps), np.cumsum(ends) - 1

    def _advice(self) -> str:
        return "Check that u0 and the parameters are finite, and that u0 is ≥ 0."


class _Freundlich(AbstractContent):
    """w(u) = u + factor · uⁿ, shifted off 0, and its tangent there for u < 0."""

    factor: Float[Array, ""]
    exponent: Float[Array, ""]

    def value(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        shift = jnp.asarray(_SHIFT, u.dtype)
        n = self.exponent
        sorbed = (jnp.maximum(u, 0) + shift) ** n - shift**n
        tangent = n * shift ** (n - 1) * jnp.minimum(u, 0)
        return u + self.factor * (sorbed + tangent)

    def slope(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        shifted = jnp.maximum(u, 0) + jnp.asarray(_SHIFT, u.dtype)
        return 1 + self.factor * self.exponent * shifted ** (self.exponent - 1)
