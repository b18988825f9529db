"""Exponential time differencing of order 4 for v' = z v / h + N(v), z diagonal."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

# The source has radius 1; with 2, points that come near 0 cancel eight times less.
_NUM_CONTOUR_POINTS, _RADIUS = 32, 2.0


class ETDRK4(eqx.Module):
    """A step of length h of v' = L v + N(v), with L diagonal, exact where N = 0:

        a = e^{z/2} v + q N(v)
        b = e^{z/2} v + q N(a)
        c = e^{z/2} a + q (2 N(b) − N(v))
        v ← e^z v + f₁ N(v) + f₂ (N(a) + N(b)) + f₃ N(c),  z = h L

    of order 4 for a smooth N. q and f_k cancel badly near z = 0, and are means over a
    circle around z instead.

    **Arguments:**

    - `symbol`: L, real or complex, of v's shape. A NumPy array has its coefficients
        computed in double precision on the host, whatever the precision of the steps;
        JAX's are computed in their own precision, and are differentiable.
    - `step_size`: h.
    - `dtype`: of the coefficients, the real or complex type of v; default the symbol's.

    Source: S. M. Cox and P. C. Matthews, J. Comput. Phys. 176 (2002), 430–455; the
    means are those of A.-K. Kassam and L. N. Trefethen, SIAM J. Sci. Comput. 26 (2005),
    1214–1233.
    """

    whole: Inexact[Array, "*modes"]
    half: Inexact[Array, "*modes"]
    weights: tuple[Inexact[Array, "*modes"], ...]

    def __init__(self, symbol: Any, step_size: float, dtype: Any = None):
        numpy = jnp if isinstance(symbol, jax.Array) else np
        z = symbol * step_size
        self.whole = jnp.asarray(numpy.exp(z), dtype)
        self.half = jnp.asarray(numpy.exp(z * 0.5), dtype)
        means = _contour_means(z, numpy)
        self.weights = tuple(jnp.asarray(step_size * mean, dtype) for mean in means)

    def __call__(
        self,
        v: Inexact[Array, "*modes"],
        nonlinear: Callable[[Inexact[Array, "*modes"]], Inexact[Array, "*modes"]],
    ) -> Inexact[Array, "*modes"]:
        """v after one step.

        **Arguments:**

        - `v`: the state, the coefficients of L's eigenfunctions.
        - `nonlinear`: N, of v alone.
        """
        q, first, middle, last = self.weights
        at_start = nonlinear(v)
        halfway = self.half * v
        a = halfway + q * at_start
        at_a = nonlinear(a)
        at_b = nonlinear(halfway + q * at_a)
        at_c = nonlinear(self.half * a + q * (2 * at_b - at_start))
        return self.whole * v + first * at_start + middle * (at_a + at_b) + last * at_c


def _contour_means(z: Any, numpy: Any) -> list[Any]:
    """q/h, f₁/h, f₂/h and f₃/h at z."""
    real = not numpy.iscomplexobj(z)
    # For real z the lower half of the circle has the conjugate values.
    count = _NUM_CONTOUR_POINTS // 2 if real else _NUM_CONTOUR_POINTS
    angles = 2 * np.pi * (np.arange(count) + 0.5) / _NUM_CONTOUR_POINTS
    w = z.astype(np.result_type(z.dtype, np.complex64))
    circle = (_RADIUS * np.exp(1j * angles)).astype(w.dtype)

    def add(totals, shift):
        values = _quotients(w + shift, numpy)
        values = [value.real if real else value for value in values]
        return [t + value for t, value in zip(totals, values, strict=True)], None

    # One point after the other: all at once would be 32 fields of memory.
    totals = [numpy.zeros_like(z)] * 4
    if numpy is jnp:
        totals, _ = jax.lax.scan(add, totals, circle)
    else:
        for shift in circle:
            totals, _ = add(totals, shift)
    return [total / count for total in totals]


def _quotients(w: Any, numpy: Any) -> list[Any]:
    """The same as they are written, w being away from 0."""
    # Powers of 1/w, since w³ overflows in single precision.
    r, e = 1.0 / w, numpy.exp(w)
    return [
        r * (numpy.exp(w * 0.5) - 1.0),
        r * (r * (r * (e * (4.0 + w * (w - 3.0)) - 4.0) - 1.0)),
        2.0 * r * (r * (1.0 + e + r * 2.0 * (1.0 - e))),
        r * (-1.0 + r * (r * (e * (4.0 - w) - 4.0) - 3.0)),
    ]
