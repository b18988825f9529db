"""Variable-step BDF2 and its corrections, multiplied by the step size.

Only ratios of step sizes occur: nothing overflows, however long a step is.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Shaped

Number = Shaped[Array, ""]


class Ratios(eqx.Module):
    """r = h_n / h_{n-1} and s = h_{n-1} / h_{n-2}, of the last three steps."""

    r: Number
    s: Number

    def bdf2(self) -> tuple[Number, Number, Number]:
        """β with h D₂u_n = β₀ u_n + β₁ u_{n-1} + β₂ u_{n-2}."""
        r = self.r
        return (1 + 2 * r) / (1 + r), -(1 + r), r * r / (1 + r)

    def predicted(self, y: Array, k: Array) -> Array:
        """y + ∫ of the line through the last two values of f, over the step to come.

        `k` has h_n f at the earlier times, the latest first.
        """
        return y + k[0] + self.r / 2 * (k[0] - k[1])

    def second_order(self, k: Array) -> Array:
        """h (u' − D₂u) up to O(h⁴), of h_n f at the last three times."""
        return self._second_difference(k) / 3

    def third_order(self, k: Array) -> Array:
        """h (u' − D₂u) up to O(h⁵), of h_n f at the last four times.

        u' − D₂u = c (u'''/6 − (2 h_n + h_{n-1}) u''''/24) + …, c = h_n (h_n + h_{n-1}),
        with the derivatives at t_n of the cubic through the values of f = u'.
        """
        r, s = self.r, self.s
        latest = self._second_difference(k)
        before = Ratios(s, s)._second_difference(k[1:])
        # Multiplied with h_{n-1}² (h_{n-1} + h_{n-2}) as yet, and h_n f.
        before = before * (r * s * (1 + r) / (1 + s))
        weight = s * (1 + 2 * r) / (12 * (1 + s * (1 + r)))
        return latest / 3 + weight * (latest - before)

    def _second_difference(self, k: Array) -> Array:
        """h² (h + h₋) f[t, t₋, t₌], of h f."""
        return (k[0] - k[1]) - self.r * (k[1] - k[2])


def ratios(h: Number, before: Shaped[Array, " 2"], count: Any) -> Ratios:
    """Those of a step h after `count` others; one where there was none."""
    last = jnp.where(count > 0, before[0], h)
    one_before = jnp.where(count > 1, before[1], last)
    return Ratios(h / last, last / one_before)
