"""What time-dependent problems share: times, data sets, spectral solves."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray, Shaped

from sciml.data import Dataset, transitions
from sciml.grids import Grid

from ._etdrk4 import ETDRK4
from ._fourier import FourierSpace, refined


class BlowUpError(ArithmeticError):
    """A solution is not finite; the message says from when on, and what to try."""


class AbstractEvolution(eqx.Module):
    """A field that evolves from u(0), on a grid, up to `final_time`.

    What surrogates of time-dependent problems are trained on. Solutions are saved at
    `times`, evenly spaced.

    **Promises**, as fields: `grid`, `final_time`.
    """

    grid: eqx.AbstractVar[Grid]
    final_time: eqx.AbstractVar[float]

    @abc.abstractmethod
    def initial(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """A random u(0)."""

    @abc.abstractmethod
    def trajectory(
        self, u0: Float[Array, "*space"], num_saves: int
    ) -> Float[Array, "saves *space"]:
        """As `solve`, finite or not."""

    def times(self, num_saves: int = 1) -> Float[np.ndarray, " saves"]:
        """When solutions are saved: `num_saves` times, up to `final_time`, without 0.

        **Arguments:**

        - `num_saves`: default 1, the end only.
        """
        if num_saves < 1:
            raise ValueError(f"num_saves: expected at least 1, got {num_saves}.")
        return self.final_time * np.arange(1, num_saves + 1) / num_saves

    def solve(
        self, u0: Shaped[Array, "*space"], *, num_saves: int = 1
    ) -> Float[Array, "saves *space"]:
        """u at `times(num_saves)`, in the precision of u0.

        For `jit`, `vmap` (over u0 and over parameters) and derivatives of both kinds,
        with respect to u0 and to the parameters.

        **Arguments:**

        - `u0`: u(0), a field on the grid.
        - `num_saves`: how many times. Default 1, the end only.

        **Raises:** `ValueError` for a field of another shape or type;
        `problems.BlowUpError` where a value is not finite (under `jit` and `vmap`
        Equinox's run-time error, with the same advice).
        """
        times = self.times(num_saves)
        if jnp.shape(u0) != self.grid.shape:
            raise ValueError(
                f"u0: expected shape {self.grid.shape}, the grid's, got "
                f"{jnp.shape(u0)}; for several, use jax.vmap."
            )
        if not jnp.issubdtype(jnp.result_type(u0), jnp.floating):
            raise ValueError(
                f"u0: expected floating-point numbers, got {jnp.result_type(u0)}."
            )
        found = self.trajectory(jnp.asarray(u0), num_saves)
        if isinstance(found, jax.core.Tracer):
            text = f"A solution is not finite. {self._advice()}"
            return eqx.error_if(found, ~jnp.isfinite(found).all(), text)
        self._check_finite(np.asarray(found)[None], times, 0)
        return found

    def dataset(
        self,
        num_samples: int,
        *,
        num_saves: int = 1,
        key: PRNGKeyArray,
        batch_size: int = 50,
    ) -> Dataset:
        """Random u(0) and what becomes of them.

        **Arguments:**

        - `num_samples`: how many.
        - `num_saves`: times, the channels of the targets. Default 1, the end only.
        - `key`: sample i depends on `key` and i only, so more samples extend a set.
        - `batch_size`: how many are solved side by side.

        **Returns:** a `sciml.data.Dataset`; inputs (samples, 1, *space) are u(0),
        targets (samples, num_saves, *space) are u at `times(num_saves)`.

        **Raises:** `problems.BlowUpError` where a value is not finite.
        """
        initial, saved = self._samples(num_samples, num_saves, key, batch_size)
        return Dataset(initial[:, None], saved, self.grid)

    def transitions(
        self,
        num_samples: int,
        *,
        num_saves: int = 10,
        key: PRNGKeyArray,
        batch_size: int = 50,
    ) -> Dataset:
        """Pairs of states one saving interval apart, for models that march in time.

        **Arguments:**

        - `num_samples`: how many trajectories.
        - `num_saves`: pairs of each; Δt = final_time / num_saves. Default 10.
        - `key`, `batch_size`: as for `dataset`, which has the same trajectories.

        **Returns:** a `sciml.data.Dataset`; inputs (num_samples · num_saves, 1, *space)
        are u(t), targets of the same shape u(t + Δt), one trajectory after the other.

        **Raises:** `problems.BlowUpError` where a value is not finite.
        """
        initial, saved = self._samples(num_samples, num_saves, key, batch_size)
        states = np.concatenate([initial[:, None], saved], axis=1)
        return transitions(states[:, :, None], self.grid)

    def _samples(
        self, num_samples: int, num_saves: int, key: PRNGKeyArray, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        for name, number in (("num_samples", num_samples), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}.")
        times = self.times(num_saves)
        batch_size = min(batch_size, num_samples)
        initial, saved = [], []
        for first in range(0, num_samples, batch_size):
            # The last batch is filled up, so that one program serves all.
            numbers = jnp.arange(first, first + batch_size)
            count = min(batch_size, num_samples - first)
            u0, found = _solve_batch(self, key, numbers, num_saves)
            initial.append(np.asarray(u0)[:count])
            saved.append(np.asarray(found)[:count])
            self._check_finite(saved[-1], times, first)
        return np.concatenate(initial), np.concatenate(saved)

    def _check_finite(self, saved: np.ndarray, times: np.ndarray, first: int) -> None:
        finite = np.isfinite(saved).reshape(*saved.shape[:2], -1).all(-1)
        if not finite.all():
            sample, save = (int(i) for i in np.argwhere(~finite)[0])
            count = np.count_nonzero(~np.all(finite, axis=-1))
            raise BlowUpError(
                f"{type(self).__name__}: {count} of {len(saved)} solutions "
                f"are not finite; sample {first + sample} is not at "
                f"t = {times[save]:.6g}. {self._advice()}"
            )

    def _advice(self) -> str:
        return "Check that u0 and the parameters are finite."


class AbstractSemilinear(AbstractEvolution):
    """u_t = L u + N(u), L a Fourier multiplier: solved by a spectral method and ETDRK4.

    Errors in space fall faster than any power of the spacing once the solution is
    resolved, those in time as `time_step`⁴; halve either to see what is left. The
    solve is on a grid `refine` times finer, from the trigonometric interpolant of
    u(0), and is saved at the nodes of `grid`.

    Without `jit` around it, `solve` computes the method's coefficients in double
    precision even where u0 is in single.

    **Promises**, as fields, besides `grid` and `final_time`:

    - `time_step`: the longest step; each saving interval is divided into equal ones.
    - `refine`: nodes of the solve per node of the grid and axis.
    - `kept`: the fraction of the modes per axis that N sees and gives. With 2/3
        products of two fields have no aliases.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import problems
        from sciml.grids import Grid, Periodic, SquaredExponentialField

        class FisherKPP(problems.AbstractSemilinear):
            grid: Grid = Grid(64, boundary=Periodic())
            diffusivity: float = 1e-3
            final_time: float = 2.0
            time_step: float = 0.02
            refine: int = 1
            kept: float = 2 / 3

            def initial(self, *, key):
                return SquaredExponentialField().sample(self.grid, key=key) ** 2

            def symbol(self, squares):
                return 1.0 - self.diffusivity * squares

            def nonlinear(self, v, space):
                return -space.coefficients(space.field(v) ** 2)

        data = FisherKPP().dataset(4, num_saves=2, key=jr.key(0))
        ```
    """

    time_step: eqx.AbstractVar[float]
    refine: eqx.AbstractVar[int]
    kept: eqx.AbstractVar[float]

    @abc.abstractmethod
    def symbol(self, squares: Any) -> Any:
        """L as a function of |κ|², NumPy's or JAX's like the parameters."""

    @abc.abstractmethod
    def nonlinear(
        self, v: Complex[Array, "*modes"], space: FourierSpace
    ) -> Complex[Array, "*modes"]:
        """N in Fourier space; v has only the modes that are kept in products."""

    def trajectory(
        self, u0: Float[Array, "*space"], num_saves: int
    ) -> Float[Array, "saves *space"]:
        """As `solve`, finite or not."""
        num_points = tuple(n * self.refine for n in self.grid.shape)
        space = FourierSpace(num_points, self.grid.extent, self.kept)
        interval = self.final_time / num_saves
        # A hair less, so that rounding does not add a step.
        num_steps = max(1, math.ceil(interval / self.time_step * (1 - 1e-9)))
        squares = space.squares()
        parameters, rest = eqx.partition(self, eqx.is_inexact_array)
        leaves = jax.tree.leaves(parameters)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            convert = lambda leaf: leaf.astype(u0.dtype)
            squares = jnp.asarray(squares, u0.dtype)
        else:
            convert = lambda leaf: np.asarray(leaf, np.float64)
        own = eqx.combine(jax.tree.map(convert, parameters), rest)
        symbol = own.symbol(squares)
        dtype = np.result_type(u0.dtype, np.complex64)
        step = ETDRK4(symbol, interval / num_steps, dtype)
        return _march(self, step, space, u0, num_steps, num_saves)

    def _advice(self) -> str:
        return (
            f"The step is probably too long for this resolution and u0: time_step is "
            f"{self.time_step:.3g}, try {self.time_step / 2:.3g}."
        )


@eqx.filter_jit
def _march(
    problem: AbstractSemilinear,
    step: ETDRK4,
    space: FourierSpace,
    u0: Array,
    num_steps: int,
    num_saves: int,
) -> Array:
    def nonlinear(v):
        # Masked on both sides, while L acts on all modes: u(0) is kept as it is.
        return space.truncate(problem.nonlinear(space.truncate(v), space))

    # For the backward pass only the saved states are kept; the rest is recomputed.
    @jax.checkpoint
    def advance(v, _):
        v, _ = jax.lax.scan(
            lambda v, _: (step(v, nonlinear), None), v, length=num_steps
        )
        return v, space.field(v)

    v = space.coefficients(refined(u0, problem.refine))
    _, saved = jax.lax.scan(advance, v, length=num_saves)
    return saved[(slice(None), *[slice(None, None, problem.refine)] * u0.ndim)]


@eqx.filter_jit
def _solve_batch(problem: AbstractEvolution, key, numbers, num_saves: int):
    def one(number):
        u0 = problem.initial(key=jr.fold_in(key, number))
        return u0, problem.trajectory(u0, num_saves)

    return jax.vmap(one)(numbers)
