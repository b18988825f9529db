"""Where test functions sit."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._ball_quadrature import AbstractBallQuadrature, GaussBall
from ._wendland import Wendland


def latin_hypercube(
    num_points: int, ndim: int, *, key: PRNGKeyArray
) -> Float[Array, "num_points ndim"]:
    """Random points in the unit box, one in each of `num_points` slices of every axis.

    **Arguments:**

    - `num_points`, `ndim`: how many points, of how many coordinates.
    - `key`: draws them.

    !!! example

        ```python
        points = sciml.weak_forms.latin_hypercube(100, 2, key=jr.key(0))
        ```

    Source: McKay, Beckman & Conover, Technometrics 21 (1979), 239–245.
    """
    if num_points < 1 or ndim < 1:
        raise ValueError(
            f"num_points, ndim: expected at least 1, got {num_points} and {ndim}."
        )
    places, order = jr.split(key)
    within = jr.uniform(places, (ndim, num_points))
    slices = jnp.broadcast_to(jnp.arange(num_points), (ndim, num_points))
    slices = jr.permutation(order, slices, axis=1, independent=True)
    points = (slices.astype(within.dtype) + within) / num_points
    # (Rounding may reach the end.)
    return jnp.minimum(points, 1 - jnp.finfo(points.dtype).epsneg).T


class Particles(eqx.Module):
    """Test functions v((x − x_c)/R) and the nodes that their integrals are taken at.

    Integrals are means over a ball. With a vector field s and a scalar f the weak form
    of −∇·s = f is, since v vanishes on the ball's surface,

        mean of s·∇v/R − f v = 0     for each centre x_c.

    **Arguments:**

    - `centres`: x_c, shape `(num, ndim)`.
    - `radius`: R, a number or one per centre. What rounding makes of the residual is
        about ε |s|/R, what the quadrature misses falls with a power of R.
    - `quadrature`: default `GaussBall()`.

    **Raises:** `ValueError` for shapes that do not fit.

    !!! example

        ```python
        from sciml.weak_forms import Particles

        particles = Particles.random(100, 2, radius=0.1, key=jr.key(0))
        x = particles.nodes  # (100, 48, 2)
        flux = jnp.stack([-x[..., 0], -x[..., 1]], -1)  # −∇·flux = 2
        jnp.abs(particles.divergence(flux, 2.0 + 0 * x[..., 0])).max()  # rounding
        ```

    Source: Zang & Bao, ParticleWNN (arXiv 2305.12433); Zang & Koutsourelakis, DGenNO,
    J. Comput. Phys. 538 (2025) 114137.
    """

    centres: Float[Array, "num ndim"]
    radius: Float[Array, "..."]
    quadrature: AbstractBallQuadrature

    def __init__(
        self,
        centres: Float[Array, "num ndim"],
        radius: ArrayLike,
        quadrature: AbstractBallQuadrature = GaussBall(),  # noqa: B008
    ):
        if centres.ndim != 2 or centres.shape[1] not in (1, 2, 3):
            raise ValueError(
                "centres: expected shape (num, ndim) with one to three axes, got "
                f"{centres.shape}."
            )
        self.centres = centres
        self.radius = jnp.asarray(radius, centres.dtype)
        if self.radius.shape not in ((), centres.shape[:1]):
            raise ValueError(
                f"radius: expected a number or one per centre ({centres.shape[0]}), "
                f"got shape {self.radius.shape}."
            )
        self.quadrature = quadrature

    @classmethod
    def random(
        cls,
        num_particles: int,
        ndim: int,
        radius: float,
        quadrature: AbstractBallQuadrature = GaussBall(),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ) -> "Particles":
        """Centres by Latin hypercube, with balls that lie within the unit box.

        **Arguments:**

        - `num_particles`, `ndim`: how many, in how many dimensions.
        - `radius`: R, above 0 and below 1/2.
        - `quadrature`: as of the class.
        - `key`: draws the centres.
        """
        if not 0 < radius < 0.5:
            raise ValueError(
                f"radius: expected above 0 and below 1/2, the balls being within the "
                f"unit box, got {radius}."
            )
        points = latin_hypercube(num_particles, ndim, key=key)
        return cls(radius + (1 - 2 * radius) * points, radius, quadrature)

    @property
    def ndim(self) -> int:
        """Of space."""
        return self.centres.shape[1]

    @property
    def nodes(self) -> Float[Array, "num nodes ndim"]:
        """Where fields are to be given."""
        places, _ = self._rule()
        return self.centres[:, None] + self._radii()[..., None] * places[None]

    @property
    def values(self) -> Float[Array, " nodes"]:
        """weight · v at the nodes, the same for all centres."""
        places, weights = self._rule()
        return weights * Wendland(self.ndim)(places)

    @property
    def gradients(self) -> Float[Array, "nodes ndim"]:
        """weight · R ∇v at the nodes: divide by the radius."""
        places, weights = self._rule()
        return weights[:, None] * Wendland(self.ndim).gradient(places)

    def divergence(
        self, flux: Float[Array, "..."], source: Float[Array, "..."]
    ) -> Float[Array, " num"]:
        """mean of flux·∇v − source v for each centre: zero if −∇·flux = source.

        **Arguments:**

        - `flux`, `source`: at `nodes`, shapes `(num, nodes, ndim)` and `(num, nodes)`.
        """
        expected = (*self.centres.shape[:1], self._rule()[1].shape[0])
        if flux.shape != (*expected, self.ndim) or source.shape != expected:
            raise ValueError(
                f"flux, source: expected shapes {(*expected, self.ndim)} and "
                f"{expected}, at the nodes, got {flux.shape} and {source.shape}."
            )
        transport = jnp.einsum("cnd,nd->c", flux, self.gradients.astype(flux.dtype))
        against = jnp.einsum("cn,n->c", source, self.values.astype(source.dtype))
        return transport / self._radii()[:, 0] - against

    def _radii(self) -> Float[Array, "num 1"]:
        return jnp.broadcast_to(self.radius, self.centres.shape[:1])[:, None]

    def _rule(self) -> tuple[Array, Array]:
        nodes, weights = self.quadrature.rule(self.ndim)
        dtype = self.centres.dtype
        return jnp.asarray(nodes, dtype), jnp.asarray(weights, dtype)
