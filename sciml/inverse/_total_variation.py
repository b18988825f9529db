"""The classical way back: adjoint solves, and few jumps."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._result import RESULTS
from ..grids import Grid
from ..weak_forms import AbstractCoefficient
from ._field_misfit import FieldMisfit, field_misfit
from ._method import AbstractPosteriorMethod, Found


class _Search(eqx.Module):
    trial: Float[Array, " nodes"]
    # The best so far, and there:
    z: Float[Array, " nodes"]
    rows: Float[Array, " num"]
    jacobian: Float[Array, "num nodes"]
    strength: Float[Array, ""]
    damping: Float[Array, ""]
    num_steps: Array
    done: Array
    stalled: Array


def _number(given: Any) -> Array | None:
    """An array, so that another value is not compiled anew."""
    return None if given is None else jnp.asarray(given, jnp.result_type(float))


class TotalVariation(AbstractPosteriorMethod):
    """The coefficient of fewest jumps that explains the observations:

        min over z of ½ Σ ((u(x_i; a) − y_i)/std_i)² + λ TV(p),   a = value(z)
        TV(p) = Σ_nodes h^(d−1) √(Σ_axes (difference of p to the next node)² + δ²)

    p being a in the units of its kind, from −1 to 1 for two phases. No training and no
    prior of other media: what a model of a kind of media is to be compared with.

    Each step is one of Levenberg and Marquardt's with lagged diffusivity: the
    derivative of every observation by every node is one adjoint solve (by
    `sciml.linear_solve`, preconditioned with multigrid), and the normal equations of
    all nodes are solved directly, O(nodes³): for grids of up to a few thousand. λ
    starts large and is halved until the observations are met as well as their errors
    allow, Σ (…)² ≤ number: the discrepancy principle. A search has settled where an
    accepted step lowers the sum by less than a thousandth (with a given λ by 1e-5) of
    it, and has stagnated where no step lowers it.

    The spread is that of N(z*, H⁻¹), H being the matrix of the last step with the
    variance bound²/3 of a flat prior in every node; fields are linearised about z*.
    Total variation is no distribution that media have, so take it as an indication.

    `stats` of a `Posterior` by it: `misfit`, ½ Σ (…)², `strength`, the last λ,
    `total_variation`, `num_steps`, and `p_value` and `out_of_distribution` as of
    `Laplace`.

    **Arguments:**

    - `coefficient`: of what kind it is, `TwoPhaseCoefficient(…)` or
        `SmoothCoefficient(…)`.
    - `strength`: λ. Default None, by the discrepancy principle.
    - `smoothing`: δ, the difference below which p counts as smooth. Default 0.05.
    - `bound`: of |z|, so that phases do not run away. Default 4.
    - `max_steps`: Default 200.
    - `num_draws`: samples for the spread. Default 128.

    **Raises:** `ValueError` for numbers out of range, and for grids with periodic axes.

    !!! example

        ```python
        problem = problems.TwoPhaseDarcy()
        kind = sciml.weak_forms.TwoPhaseCoefficient(5.0, 10.0)
        method = sciml.inverse.TotalVariation(kind)
        found = sciml.inverse.posterior(problem, seen, method=method, key=key)
        ```

    Source: C. R. Vogel & M. E. Oman, *Iterative methods for total variation denoising*,
    SIAM J. Sci. Comput. 17 (1996), 227–238, for lagged diffusivity.
    """

    coefficient: AbstractCoefficient
    strength: Any = eqx.field(converter=_number, default=None)
    smoothing: Any = eqx.field(converter=_number, default=0.05)
    bound: Any = eqx.field(converter=_number, default=4.0)
    max_steps: int = eqx.field(static=True, default=200)
    num_draws: int = eqx.field(static=True, default=128)

    def __check_init__(self):
        for name in ("strength", "smoothing", "bound"):
            number = getattr(self, name)
            if number is None or isinstance(number, jax.core.Tracer):
                continue
            if number.ndim or not 0 < number < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {number}.")
        for name in ("max_steps", "num_draws"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected at least 1, got {getattr(self, name)}."
                )

    def misfit(self, model, observations, prior) -> FieldMisfit:
        """Of a problem; there is no other prior than the total variation."""
        if prior is not None:
            raise TypeError("prior: total variation is one, so expected None.")
        return field_misfit(model, self.coefficient, observations)

    def find(self, misfit: FieldMisfit, *, key: PRNGKeyArray) -> Found:
        """The search, and what is around its end."""
        dtype = misfit.values.dtype
        end = self._search(misfit)
        matrix, _ = self._normal(misfit.grid, end)
        variance = self.bound**2 / 3
        matrix = matrix + jnp.eye(len(end.z), dtype=dtype) / variance
        factor = jnp.linalg.cholesky(matrix)
        noise = jr.normal(key, (self.num_draws, len(end.z)), dtype)
        steps = jax.scipy.linalg.solve_triangular(factor, noise.T, lower=True, trans=1)
        mean, push = jax.linearize(lambda z: misfit.field(z).reshape(-1), end.z)
        moved = jax.vmap(push)(steps.T)
        misfits, variation = self._costs(misfit, end.z, end.rows)
        probable = jax.scipy.stats.chi2.sf(2 * misfits, len(misfit.values))
        names: Any = RESULTS
        result = names.where(end.stalled, names.stagnated, names.max_steps_reached)
        result = names.where(end.done, names.successful, result)
        finite = jnp.isfinite(misfits) & jnp.all(jnp.isfinite(moved))
        value = self.coefficient.value
        a, slopes = jax.jvp(value, (end.z,), (jnp.ones_like(end.z),))
        spread = jnp.sqrt(jnp.mean(steps**2, 1))
        return Found(
            end.z,
            jnp.clip(end.z[None] + steps.T, -self.bound, self.bound),
            mean[None],
            jnp.sqrt(jnp.mean(moved**2, 0))[None],
            a,
            jnp.abs(slopes) * spread,
            names.where(finite, result, names.nonfinite),
            {
                "misfit": misfits,
                "p_value": probable,
                "out_of_distribution": probable < 1e-3,
                "strength": end.strength,
                "total_variation": variation,
                "num_steps": end.num_steps,
            },
        )

    def _search(self, misfit: FieldMisfit) -> _Search:
        count, dtype = len(misfit.values), misfit.values.dtype
        zeros = jnp.zeros(misfit.grid.size, dtype)
        fixed = self.strength is not None
        start = _Search(
            zeros,
            zeros,
            jnp.full(count, jnp.inf, dtype),
            jnp.zeros((count, len(zeros)), dtype),
            jnp.asarray(self.strength if fixed else 0.0, dtype),
            jnp.asarray(1e-3, dtype),
            jnp.array(-1),  # the first evaluation is no step
            jnp.array(False),
            jnp.array(False),
        )

        def total(z, rows, strength):
            misfits, variation = self._costs(misfit, z, rows)
            return misfits + strength * variation

        def step(now: _Search) -> _Search:
            # (Once in the program, and also where the trial is refused: compiling a
            # solve with multigrid costs more than a few solves.)
            rows, pull = jax.vjp(misfit.seen, now.trial)
            (jacobian,) = jax.vmap(pull)(jnp.eye(count, dtype=dtype))
            strength = now.strength
            if not fixed:
                first = 0.5 * jnp.sum(rows**2)
                strength = jnp.where(now.num_steps < 0, first, strength)
            before = total(now.z, now.rows, strength)
            after = total(now.trial, rows, strength)
            # (Of NaN, not better.)
            better = after < before
            chosen = lambda new, old: jnp.where(better, new, old)
            z, rows = chosen(now.trial, now.z), chosen(rows, now.rows)
            jacobian = chosen(jacobian, now.jacobian)
            settled = better & (before - after < (1e-5 if fixed else 1e-3) * before)
            stalled = ~better & (now.damping > 1e6)
            done = settled & (fixed | (jnp.sum(rows**2) <= count))
            strength = jnp.where(settled & ~done, strength / 2, strength)
            damping = jnp.where(settled, 1e-3, now.damping * chosen(0.2, 5.0))
            best = _Search(
                z,
                z,
                rows,
                jacobian,
                strength,
                damping,
                now.num_steps + 1,
                done,
                stalled,
            )
            matrix, slope = self._normal(misfit.grid, best)
            added = damping * jnp.trace(matrix) / len(z)
            factor = jax.scipy.linalg.cho_factor(
                matrix + added * jnp.eye(len(z), dtype=dtype)
            )
            moved = jnp.clip(
                z - jax.scipy.linalg.cho_solve(factor, slope), -self.bound, self.bound
            )
            return eqx.tree_at(lambda best: best.trial, best, moved)

        ended = lambda now: now.done | now.stalled | (now.num_steps >= self.max_steps)
        going = lambda now: ~ended(now)
        return jax.lax.while_loop(going, step, start)

    def _costs(self, misfit: FieldMisfit, z: Array, rows: Array) -> tuple[Array, Array]:
        """½ Σ rows² and TV."""
        p = self._units(z).reshape(misfit.grid.shape)
        size = jnp.sqrt(sum(d**2 for d in _differences(p)) + self.smoothing**2)
        area = math.prod(misfit.grid.spacing) ** (1 - 1 / misfit.grid.ndim)
        return 0.5 * jnp.sum(rows**2), area * jnp.sum(size)

    def _units(self, z: Array) -> Array:
        return self.coefficient.normalised(self.coefficient.value(z))

    def _normal(self, grid: Grid, now: _Search) -> tuple[Array, Array]:
        """JᵀJ + λ S Dᵀ W D S, and the slope of the whole by z."""
        p, slope = jax.jvp(self._units, (now.z,), (jnp.ones_like(now.z),))
        differences = _differences(p.reshape(grid.shape))
        size = jnp.sqrt(sum(d**2 for d in differences) + self.smoothing**2)
        area = math.prod(grid.spacing) ** (1 - 1 / grid.ndim)
        weights = (now.strength * area / size).reshape(-1)
        matrix = now.jacobian.T @ now.jacobian
        gradient = now.jacobian.T @ now.rows
        for axis, difference in enumerate(differences):
            low, high = _edges(grid.shape, axis)
            weight, off = weights[low], difference.reshape(-1)[low]
            below, above = slope[low], slope[high]
            matrix = matrix.at[low, low].add(weight * below**2)
            matrix = matrix.at[high, high].add(weight * above**2)
            cross = weight * below * above
            matrix = matrix.at[low, high].add(-cross).at[high, low].add(-cross)
            gradient = gradient.at[low].add(-weight * off * below)
            gradient = gradient.at[high].add(weight * off * above)
        return matrix, gradient


def _differences(p: Float[Array, "*space"]) -> list[Float[Array, "*space"]]:
    """To the next node along each axis; 0 at the last."""
    return [
        jnp.diff(p, axis=axis, append=jnp.take(p, jnp.array([-1]), axis))
        for axis in range(p.ndim)
    ]


def _edges(shape: tuple[int, ...], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of nodes that have a next one along an axis, and of that."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    low = np.take(numbers, np.arange(shape[axis] - 1), axis).ravel()
    high = np.take(numbers, np.arange(1, shape[axis]), axis).ravel()
    return low, high
