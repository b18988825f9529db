"""The heat equation, solved exactly in time by sines, cosines and waves."""

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
    Grid,
    Neumann,
    Periodic,
    SquaredExponentialField,
)

from ._evolution import AbstractEvolution
from ._evolution_arguments import (
    coefficient,
    positive,
    same_shapes,
    times_and_places,
)


class Heat(AbstractEvolution):
    """u_t = κ Δu on a box of one to three axes; u = 0, ∂u/∂n = 0 or periodic around it.

    Solved exactly for the interpolant of u(0) in eigenfunctions of Δ, as many as nodes:
    sines between Dirichlet sides, cosines between Neumann sides, with an odd number of
    quarter waves where the sides differ, whole waves where periodic. There is no
    step and no error in time. In space the only error is that of the interpolant,
    which falls faster than any power of the spacing h where u(0), continued by its
    mirror images, is smooth, as `initial` makes it; where the p-th derivative of that
    jumps, it falls at least as h^(p + 1). (Second differences on the same nodes have
    another solution, by O(h²).)

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 127, which with the other
        defaults are 1/128 apart.
    - `diffusivity`: κ > 0, in units of length²/time; array leaf. Default 0.01: at
        time t waves of length 0.6 √t are down to a third of their height, shorter ones
        to less.
    - `extent`: length of the box, one number or one per axis. Default 1.
    - `boundary`: the conditions, as for `sciml.grids.Grid`, all homogeneous. Default
        `Dirichlet()`, whose nodes, known to be 0, are not stored. What u(0) has at
        stored ones is not used.
    - `initial_field`: distribution on the whole line of which u(0) is made, by adding
        its mirror images and subtracting those at Dirichlet sides, over √2 per axis:
        of the same variance away from the sides. Default
        `SquaredExponentialField(1.0, L / 10)`, L the shortest extent, analytic.
    - `final_time`: default 1.

    **Raises:** `ValueError` for arguments out of their ranges, and for boundary data
    that are not 0.

    !!! example

        ```python
        import jax.numpy as jnp
        import problems

        problem = problems.Heat(63)
        modes = {"modes": (1, 3), "amplitudes": (1.0, 0.5)}
        u0 = problem.exact_solution(0.0, **modes)
        u = problem.solve(u0, num_saves=4)
        jnp.abs(u - problem.exact_solution(problem.times(4), **modes)).max()  # rounding
        ```

    Source: J. Fourier, Théorie analytique de la chaleur, 1822, chapters III and IV.
    """

    grid: Grid
    diffusivity: Float[Array, ""]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = 127,
        diffusivity: ArrayLike = 0.01,
        extent: float | Sequence[float] = 1.0,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        initial_field: AbstractRandomField | None = None,
        final_time: float = 1.0,
    ):
        grid = Grid(num_points, extent, boundary)
        for pair in grid.boundary:
            for condition in pair:
                _check_homogeneous(condition)
        self.grid = grid.homogeneous()
        self.diffusivity = coefficient("diffusivity", diffusivity)
        if initial_field is None:
            initial_field = SquaredExponentialField(1.0, min(self.grid.extent) / 10)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """A random u(0), of `initial_field`, with the symmetry of the conditions."""
        lines = [self._line(axis) for axis in range(self.grid.ndim)]
        lengths = [
            line.count * h for line, h in zip(lines, self.grid.spacing, strict=True)
        ]
        around = Grid([line.count for line in lines], lengths, Periodic())
        field = self.initial_field.sample(around, key=key)
        for axis, line in enumerate(lines):
            field = line.symmetric(jnp.moveaxis(field, axis, -1))
            field = jnp.moveaxis(field, -1, axis)
        return self._stored(field)

    def trajectory(
        self, u0: Float[Array, "*space"], num_saves: int
    ) -> Float[Array, "saves *space"]:
        """As `solve`, finite or not."""
        dtype = u0.dtype
        spread = self.diffusivity.astype(dtype) * jnp.asarray(
            self.times(num_saves), dtype
        )
        spread = spread.reshape(-1, *(1,) * u0.ndim)
        u = jnp.pad(self.grid.impose(u0), self.grid.margins)
        u = jnp.broadcast_to(u, (num_saves, *u.shape))
        for axis, h in enumerate(self.grid.spacing):
            line = self._line(axis)
            values = jnp.moveaxis(u, axis + 1, -1)
            v = jnp.fft.rfft(line.continued(values))
            squares = (2 * np.pi * np.fft.rfftfreq(line.count, h)) ** 2
            squares = jnp.asarray(squares, dtype).reshape(*(1,) * u0.ndim, -1)
            v = v * jnp.exp(-spread * squares).astype(v.dtype)
            values = jnp.fft.irfft(v, line.count)[..., : values.shape[-1]]
            u = jnp.moveaxis(values, -1, axis + 1)
        return self._stored(u)

    def exact_solution(
        self,
        times: ArrayLike,
        *coordinates: ArrayLike,
        modes: int | Sequence = 1,
        amplitudes: ArrayLike | Sequence[float] | None = None,
    ) -> Float[Array, "..."]:
        """u = Σ_i a_i exp(−κ |w_i|² t) Π_k φ_ik(x_k), with u(0) at t = 0.

        Mode m of an axis of length L is sin m π x/L between Dirichlet sides,
        cos m π x/L between Neumann sides, the same with m − ½ in place of m where the
        sides differ (a sine where the lower one is Dirichlet), and cos 2 m π x/L where
        it is periodic; w is the factor of x. For `jit`, `vmap`, and derivatives with
        respect to t, x, κ and the amplitudes.

        **Arguments:**

        - `times`: t ≥ 0, of any shape.
        - `coordinates`: x, one array per axis, all of one shape. Default the nodes of
            the grid.
        - `modes`: m, for each term one integer per axis; one integer is that of all
            axes, or of the only term. Default 1.
        - `amplitudes`: a_i, one per term. Default 1.

        **Returns:** shape (*times, *places), in the precision of the coordinates,
        where none are given of the times.

        **Raises:** `ValueError` for modes that there are not, and where numbers of
        modes, amplitudes and coordinates do not fit.

        !!! example

            ```python
            import jax
            import problems

            problem = problems.Heat((31, 31))
            u = lambda t, x, y: problem.exact_solution(t, x, y, modes=[(1, 2), (3, 1)])
            u(0.1, 0.5, 0.25), jax.grad(u)(0.1, 0.5, 0.25)  # u and u_t at one point
            ```
        """
        t, places = times_and_places(self.grid, times, coordinates)
        table = self._modes(modes)
        weights = jnp.ones(len(table)) if amplitudes is None else amplitudes
        weights = jnp.asarray(weights, t.dtype)
        if weights.shape != (len(table),):
            raise ValueError(
                f"amplitudes: expected one per term, {len(table)} of them, got shape "
                f"{weights.shape}."
            )
        diffusivity = self.diffusivity.astype(t.dtype)
        total = jnp.zeros((), t.dtype)
        for weight, mode in zip(weights, table, strict=True):
            term, square = weight, 0.0
            for axis, (m, x) in enumerate(zip(mode, places, strict=True)):
                w = self._wavenumber(axis, m)
                sine = isinstance(self.grid.boundary[axis][0], Dirichlet)
                term = term * (jnp.sin(w * x) if sine else jnp.cos(w * x))
                square += w**2
            total = total + term * jnp.exp(-diffusivity * t * square)
        return total

    def residual(
        self,
        u: Float[Array, "..."],
        u_t: Float[Array, "..."],
        laplacian: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """u_t − κ Δu, node by node: what a loss or a constraint makes 0.

        **Arguments:**

        - `u`, `u_t`, `laplacian`: of one shape, any; from differences
            (`sciml.grids.laplacian`) or from a network. The equation is linear, so
            that u itself is not in it.

        **Raises:** `ValueError` where the shapes differ.
        """
        same_shapes(u=u, u_t=u_t, laplacian=laplacian)
        return u_t - self.diffusivity.astype(u.dtype) * laplacian

    def _modes(self, modes: int | Sequence) -> list[list[int]]:
        ndim = self.grid.ndim
        terms = [modes] if isinstance(modes, int | np.integer) else list(modes)
        rows = [tuple(np.ravel(m)) * (1 if np.ndim(m) else ndim) for m in terms]
        whole = all(float(m).is_integer() for row in rows for m in row)
        if not rows or not whole or any(len(row) != ndim for row in rows):
            raise ValueError(
                f"modes: expected terms of one integer per axis, {ndim} of them, got "
                f"{modes}."
            )
        for axis, pair in enumerate(self.grid.boundary):
            least = int(any(isinstance(c, Dirichlet) for c in pair))
            if any(row[axis] < least for row in rows):
                raise ValueError(
                    f"modes: expected integers ≥ {least} on axis {axis}, got {modes}."
                )
        return [[int(m) for m in row] for row in rows]

    def _wavenumber(self, axis: int, mode: int) -> float:
        if self.grid.periodic[axis]:
            halves = 2.0 * mode
        else:
            halves = mode - 0.5 * (len(self._line(axis).signs) == 2)
        return float(np.pi * halves / self.grid.extent[axis])

    def _line(self, axis: int) -> "_Line":
        count = self.grid.closed_shape[axis]
        if self.grid.periodic[axis]:
            return _Line(count, ())
        low, high = (
            -1 if isinstance(c, Dirichlet) else 1 for c in self.grid.boundary[axis]
        )
        signs = (high,) if low == high else (high, low)
        return _Line((count - 1) * 2 ** len(signs), signs)

    def _stored(self, closed: Float[Array, "..."]) -> Float[Array, "..."]:
        """The nodes that are stored, of a field from the lower sides on."""
        window = [
            slice(before, before + n)
            for n, (before, _) in zip(
                self.grid.num_points, self.grid.margins, strict=True
            )
        ]
        return self.grid.impose(closed[(..., *window)])


class _Line(eqx.Module):
    """An axis that mirrors make a periodic one of `count` nodes.

    `signs` are what a mirror does to values: none where the axis is periodic, one where
    both sides are alike, else that of the upper side, then of the lower.
    """

    count: int = eqx.field(static=True)
    signs: tuple[int, ...] = eqx.field(static=True)

    def continued(self, values: Float[Array, "... n"]) -> Float[Array, "... count"]:
        """Values on the closed axis, and their images."""
        for sign in self.signs:
            values = jnp.concatenate([values, sign * values[..., -2::-1]], axis=-1)
        return values[..., : self.count]

    def symmetric(self, values: Float[Array, "... count"]) -> Float[Array, "... count"]:
        """The part that equals its images, scaled."""
        length = self.count // 2 ** len(self.signs)
        for sign, centre in zip(self.signs, (length, 0), strict=False):
            index = (2 * centre - np.arange(self.count)) % self.count
            values = (values + sign * values[..., index]) / math.sqrt(2)
        return values


def _check_homogeneous(condition: AbstractBoundary) -> None:
    if isinstance(condition, Dirichlet):
        data = condition.value
    else:
        data = condition.flux if isinstance(condition, Neumann) else 0.0
    if isinstance(data, jax.core.Tracer) or np.any(np.asarray(data) != 0):
        raise ValueError(
            f"boundary: expected conditions with data 0, got {condition}. Take off a "
            "steady solution that has these data; what is left has none."
        )
