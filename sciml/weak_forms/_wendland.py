"""Wendland's functions, which vanish outside of a ball."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Wendland(eqx.Module):
    """v(s), four times differentiable, positive in the unit ball and zero outside.

        v(s) = (1 − r)^{ℓ+2} ((ℓ² + 4ℓ + 3) r² + (3ℓ + 6) r + 3) / 3,     r = |s| ≤ 1
        ∇v(s) = −s (1 − r)^{ℓ+1} ((ℓ³ + 8ℓ² + 19ℓ + 12) r + ℓ² + 7ℓ + 12) / 3

    with ℓ = ⌊d/2⌋ + 3 in d dimensions: v(0) = 1, and v and its derivatives up to the
    fourth are zero where r = 1. A test function around x_c with radius R is
    v((x − x_c)/R), and its gradient ∇v((x − x_c)/R)/R.

    **Arguments:**

    - `ndim`: d, from 1 to 3.

    **Raises:** `ValueError` for other dimensions; when called, for another last axis.

    !!! example

        ```python
        v = sciml.weak_forms.Wendland(2)
        v(jnp.zeros((1, 2))), v.gradient(jnp.array([[0.5, 0.0]]))
        ```

    Source: H. Wendland, *Piecewise polynomial, positive definite and compactly
    supported radial functions of minimal degree*, Adv. Comput. Math. 4 (1995), 389–396;
    as test functions: Zang & Bao, ParticleWNN (arXiv 2305.12433).
    """

    ndim: int = eqx.field(static=True)

    def __check_init__(self):
        if self.ndim not in (1, 2, 3):
            raise ValueError(f"ndim: expected 1, 2 or 3, got {self.ndim!r}.")

    @property
    def order(self) -> int:
        """ℓ."""
        return self.ndim // 2 + 3

    def __call__(self, places: Float[Array, "*batch ndim"]) -> Float[Array, "*batch"]:
        """v at places s, from the centre in units of the radius."""
        ell, r = self.order, self._radius(places)
        bracket = (ell**2 + 4 * ell + 3) * r**2 + (3 * ell + 6) * r + 3
        return (1 - r) ** (ell + 2) * bracket / 3

    def gradient(
        self, places: Float[Array, "*batch ndim"]
    ) -> Float[Array, "*batch ndim"]:
        """∇v there, by s: divide it by the radius."""
        ell, r = self.order, self._radius(places)
        slope = ell**3 + 8 * ell**2 + 19 * ell + 12
        bracket = slope * r + ell**2 + 7 * ell + 12
        return -places * ((1 - r) ** (ell + 1) * bracket / 3)[..., None]

    def _radius(self, places: Array) -> Array:
        """min(|s|, 1), with derivative 0 at the centre."""
        if places.ndim < 1 or places.shape[-1] != self.ndim:
            raise ValueError(
                f"places: expected a last axis of length {self.ndim}, got shape "
                f"{places.shape}."
            )
        squares = jnp.sum(places**2, -1)
        off = squares > 0
        r = jnp.where(off, jnp.sqrt(jnp.where(off, squares, 1)), 0)
        return jnp.minimum(r, 1)
