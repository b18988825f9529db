"""Bounds on every value: smooth maps, the projection, and mass besides."""

import math

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._result import RESULTS
from .._serialisation import register
from ..grids import Grid
from ..linear import Solution
from ._conservation import mass
from ._outcome import all_finite, concluded, first_result, guarded


@register
class Positive(eqx.Module):
    """low + s · log(1 + exp(u / s)): smooth, increasing, never below `low`.

    Softplus; far above `low` it is low + u, far below it falls to `low`, from some
    40 s (float64; 17 s in float32) on to `low` itself, where its derivative is all but
    0. NaN stays NaN.

    **Arguments:**

    - `low`: the bound, a number or an array that broadcasts with u. Default 0.
    - `sharpness`: 1/s, default 1: the larger, the nearer to max(u, 0) + low.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import Positive

        Positive()(jnp.array([-50.0, 0.0, 50.0]))  # [2e-22, 0.69, 50]
        ```
    """

    low: ArrayLike = 0.0
    sharpness: float = 1.0

    def __check_init__(self):
        if not isinstance(self.sharpness, jax.Array) and not self.sharpness > 0:
            raise ValueError(f"sharpness: expected above 0, got {self.sharpness}.")

    def __call__(self, field: ArrayLike) -> Float[Array, "..."]:
        """The field's image, of its shape and dtype."""
        field = jnp.asarray(field)
        k = jnp.asarray(self.sharpness, field.dtype)
        return _matched("low", self.low, field) + jax.nn.softplus(k * field) / k


@register
class Between(eqx.Module):
    """low + (high − low) σ(u): smooth, increasing, within [low, high].

    The logistic map; within rounding of a bound its derivative is all but 0. NaN stays
    NaN.

    **Arguments:**

    - `low`, `high`: numbers or arrays that broadcast with u; low ≤ high.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import Between

        Between(1.0, 3.0)(jnp.array([-100.0, 0.0, 100.0]))  # [1, 2, 3]
        ```
    """

    low: ArrayLike
    high: ArrayLike

    def __check_init__(self):
        _check_order(self.low, self.high)

    def __call__(self, field: ArrayLike) -> Float[Array, "..."]:
        """The field's image, of its shape and dtype."""
        field = jnp.asarray(field)
        low, high = _matched("low", self.low, field), _matched("high", self.high, field)
        share = jax.nn.sigmoid(field)
        # Rounding of low + (high − low) may pass the bound.
        value = low * (1 - share) + high * share
        return jnp.clip(value, low, high)


@register
class Clip(eqx.Module):
    """min(max(u, low), high): the nearest field within [low, high].

    Its derivative with respect to u is 1 where low ≤ u ≤ high and 0 elsewhere. On a
    bound itself, where each number from 0 to 1 is a subgradient, it is 1, so that a
    value that has come to lie there is not stuck. With respect to the bound it is 1
    where the bound is what comes out, strictly outside. NaN stays NaN.

    **Arguments:**

    - `low`, `high`: numbers or arrays that broadcast with u; low ≤ high. Default no
        bound.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import Clip

        Clip(0.0, 1.0)(jnp.array([-0.5, 0.25, 2.0]))  # [0, 0.25, 1]
        ```
    """

    low: ArrayLike = -math.inf
    high: ArrayLike = math.inf

    def __check_init__(self):
        _check_order(self.low, self.high)

    def __call__(self, field: ArrayLike) -> Float[Array, "..."]:
        """The nearest field, of the same shape and dtype."""
        field = jnp.asarray(field)
        low, high = _matched("low", self.low, field), _matched("high", self.high, field)
        return jnp.where(field < low, low, jnp.where(field > high, high, field))


@register
class NonNegativeWithMass(eqx.Module):
    """The nearest field in L2 with x ≥ 0 and ∫ x = m.

        x = max(u − τ, 0),   τ such that the mass is m

    The projection on a simplex, found exactly by sorting; ∫ is `mass`. The derivative
    is that of x with the nodes that are positive held fixed; it exists but where a node
    is on the verge (u = τ), where that node counts as zero.

    **Arguments:**

    - `grid`: where the fields live.

    `layer(u, m)` is the field and raises where there is none; `layer.project(u, m)`
    returns a `Solution`.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import NonNegativeWithMass
        from sciml.grids import Grid, Periodic

        layer = NonNegativeWithMass(Grid(4, boundary=Periodic()))
        layer(jnp.array([1.0, -2.0, 3.0, 0.0]), 1.0)  # [1, 0, 3, 0]
        ```

    Source: Held, Wolfe and Crowder, *Validation of subgradient optimization*,
    Mathematical Programming 6, 1974; Duchi et al., ICML 2008.
    """

    grid: Grid

    def __call__(self, field: ArrayLike, target: ArrayLike) -> Float[Array, "*space"]:
        """The field of mass `target`; raises where there is none, see `project`."""
        return self.project(field, target).value

    def project(
        self, field: ArrayLike, target: ArrayLike, *, throw: bool = True
    ) -> Solution:
        """The field with its result and statistics.

        `infeasible` for m < 0, `nonfinite` for NaN. Statistics: `relative_residual`,
        |∫ x − m| / (2 m); `threshold`, τ; `num_positive`, the number of nodes.

        **Arguments:**

        - `field`: u, of shape `grid.num_points`; for more of them use `vmap`.
        - `target`: m ≥ 0, a number.
        - `throw`: raise where it fails (default), or return with the `result`.
        """
        grid, u = self.grid, jnp.asarray(field)
        if u.shape != grid.num_points or not jnp.issubdtype(u.dtype, jnp.floating):
            raise ValueError(
                f"field: expected real values of shape {grid.num_points}, as the grid "
                f"has, got {u.dtype} of shape {u.shape}."
            )
        m = jnp.asarray(target, u.dtype)
        if m.shape:
            raise ValueError(f"target: expected a number, got shape {m.shape}.")
        w = jnp.asarray(grid.cell_weights() * math.prod(grid.spacing), u.dtype)
        positive = jax.lax.stop_gradient(_positive_nodes(u.ravel(), w.ravel(), m))
        positive = positive.reshape(u.shape)
        share = jnp.where(positive, w, 0.0)
        # From the largest value down, where nothing cancels.
        peak = jax.lax.stop_gradient(jnp.max(u))
        total = jnp.sum(share)
        threshold = peak + (jnp.sum(share * (u - peak)) - m) / total
        value = jnp.where(positive, u - threshold, 0.0)
        value = value + jnp.where(positive, (m - jnp.sum(share * value)) / total, 0.0)
        # (The derivative does not see where rounding goes.)
        value = value + jax.lax.stop_gradient(jnp.maximum(value, 0.0) - value)

        found, goal = jax.lax.stop_gradient((mass(value, grid), m))
        size = jnp.where(found + goal > 0, found + goal, 1.0)
        relative = jnp.abs(found - goal) / size
        tolerance = 20 * jnp.finfo(u.dtype).eps
        result = first_result(
            (~all_finite(value, goal), RESULTS.nonfinite),
            (goal < 0, RESULTS.infeasible),
            (relative > tolerance, RESULTS.stagnated),
        )
        good = result == RESULTS.successful
        message = "NonNegativeWithMass: the projection failed; it has no derivative."
        value = guarded(value, good, message, throw=throw)
        stats = {
            "relative_residual": relative,
            "threshold": jax.lax.stop_gradient(threshold),
            "num_positive": jnp.sum(positive),
        }
        return concluded(value, result, stats, throw=throw)


def _positive_nodes(u: Array, w: Array, m: Array) -> Array:
    """Which nodes keep a positive value: those above the threshold."""
    order = jnp.argsort(-u)
    values, weights = u[order], w[order]
    # From the largest value down, where nothing cancels.
    above = values - values[0]
    thresholds = (jnp.cumsum(weights * above) - m) / jnp.cumsum(weights)
    last = jnp.max(jnp.where(above > thresholds, jnp.arange(u.size), 0))
    return jnp.zeros(u.shape, bool).at[order].set(jnp.arange(u.size) <= last)


def _matched(name: str, bound: ArrayLike, field: Array) -> Array:
    """A bound in the field's dtype and number of axes, or an error that names it."""
    array = jnp.asarray(bound, field.dtype)
    shape = field.shape
    try:
        fits = jnp.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name}: expected a number or an array that broadcasts to the field's "
            f"shape {shape}, got shape {array.shape}."
        )
    return array.reshape((1,) * (field.ndim - array.ndim) + array.shape)


def _check_order(low: ArrayLike, high: ArrayLike) -> None:
    if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
        return
    # (NumPy's, since within a trace JAX would make tracers of numbers.)
    if not np.all(np.asarray(low) <= np.asarray(high)):
        raise ValueError(f"low, high: expected low ≤ high, got {low} and {high}.")
