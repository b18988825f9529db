"""The nearest point of a polyhedron."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._serialisation import register
from ..grids._check import positive_or_nan
from ..linear import Solution
from ._quadratic_program import quadratic_program


@register
class Polyhedron(eqx.Module):
    """{x : A x = b, G x ≤ h}, and the nearest point of it.

        P(u) = argmin_x  ½ Σ_i w_i (x_i − u_i)²   subject to  A x = b,  G x ≤ h

    A `quadratic_program`, which see for what its results mean and where P has
    derivatives: with respect to u, w and all the data, where no constraint is touched
    without being pressed on.

    **Arguments:**

    - `A`, `b`: equations (m, n) and (m,), default none.
    - `G`, `h`: inequalities (p, n) and (p,), default none.
    - `weights`: w > 0, a number or an array (n,). Default 1.

    `layer(u)` is P(u), and raises where there is none; `layer.project(u)` returns a
    `Solution`.

    **Raises:** `ValueError` where there is no constraint, or weights are not positive;
    shapes are checked at the call.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import Polyhedron

        simplex = Polyhedron(jnp.ones((1, 3)), jnp.ones(1), -jnp.eye(3), jnp.zeros(3))
        simplex(jnp.array([0.9, 0.5, -1.0]))  # [0.7, 0.3, 0]
        ```
    """

    A: Float[Array, "m n"] | None
    b: Float[Array, " m"] | None
    G: Float[Array, "p n"] | None
    h: Float[Array, " p"] | None
    weights: Float[Array, "..."]

    def __init__(
        self,
        A: ArrayLike | None = None,
        b: ArrayLike | None = None,
        G: ArrayLike | None = None,
        h: ArrayLike | None = None,
        weights: ArrayLike = 1.0,
    ):
        if A is None and G is None:
            raise ValueError("A, G: expected equations or inequalities, got neither.")
        as_array = lambda v: None if v is None else jnp.asarray(v)
        self.A, self.b, self.G, self.h = (as_array(v) for v in (A, b, G, h))
        dtype = next(v.dtype for v in (self.A, self.G) if v is not None)
        self.weights = positive_or_nan("weights", jnp.asarray(weights, dtype))

    def __call__(self, point: ArrayLike) -> Float[Array, " n"]:
        """P(u); raises where there is none."""
        return self.project(point).value

    def project(
        self,
        point: ArrayLike,
        *,
        rtol: float | None = None,
        max_steps: int = 100,
        throw: bool = True,
    ) -> Solution:
        """P(u) with the result and the statistics of `quadratic_program`.

        **Arguments:**

        - `point`: u, of shape (n,).
        - `rtol`, `max_steps`, `throw`: as for `quadratic_program`.
        """
        u = jnp.asarray(point)
        if self.weights.shape not in ((), u.shape):
            raise ValueError(
                f"weights: expected a number or an array of shape {u.shape}, as point "
                f"has, got {self.weights.shape}."
            )
        w = jnp.broadcast_to(self.weights, u.shape)
        return quadratic_program(
            jnp.diag(w),
            -w * u,
            self.A,
            self.b,
            self.G,
            self.h,
            rtol=rtol,
            max_steps=max_steps,
            throw=throw,
        )
