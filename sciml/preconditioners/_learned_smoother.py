"""A Chebyshev smoother whose interval a network chooses, level by level."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids import SymmetricStencil
from ._local_network import LocalNetwork
from ._smoothers import AbstractSmoother, ChebyshevSmoothing, SmoothableMatrix, _weights

# The interval's lower end stays within these bounds, and starts at the classical 1/4.
_LEAST, _MOST, _START = 0.01, 0.81, 0.25
_NUM_FEATURES = 4


@register
class LearnedChebyshev(AbstractSmoother):
    """`Chebyshev` with a lower end of the damped interval that depends on the stencil:

        lower = 0.01 + 0.8 σ(network(means over the level's nodes) + constant)

    The means are of four numbers without units: how much the couplings along different
    axes differ, how much those along an axis in its two directions do, how much the two
    diagonals of a plane do, and the share of positive couplings. With strong anisotropy
    or jumps much of the error is damped slowly by points, and a wider interval pays; on
    Poisson's equation 1/4 is right.

    0 < λ p(λ) < 2 on (0, 1] holds for every lower end, hence the smoother converges in
    the energy norm whatever the network says. At first it says 1/4.

    **Arguments:**

    - `degree`: number of steps. Default 2; use 3 in three dimensions.
    - `width`: of the network's hidden layer. Default 8.
    - `key`: draws its weights.
    """

    degree: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    network: LocalNetwork

    def __init__(self, degree: int = 2, width: int = 8, *, key: PRNGKeyArray):
        if degree < 1:
            raise ValueError(f"degree: expected an integer ≥ 1, got {degree}.")
        self.degree, self.width = degree, width
        self.network = LocalNetwork(_NUM_FEATURES, width, key=key)

    def build(self, stencil: SmoothableMatrix) -> ChebyshevSmoothing:
        """Scales the rows and chooses the interval; a few passes over the stencil."""
        if not isinstance(stencil, SymmetricStencil):
            raise TypeError(
                "LearnedChebyshev reads the stencils of geometric multigrid, got "
                f"{type(stencil).__name__}. Use Chebyshev."
            )
        weights = _weights(stencil)
        share = (_START - _LEAST) / (_MOST - _LEAST)
        start = math.log(share / (1 - share))
        said = self.network(stencil_means(stencil)) + start
        lower = _LEAST + (_MOST - _LEAST) * jax.nn.sigmoid(said)
        chosen = lower.astype(weights.dtype)
        return ChebyshevSmoothing(weights, self.degree, _START, chosen)


def stencil_means(stencil: SymmetricStencil) -> list[Float[Array, ""]]:
    """What `LearnedChebyshev` knows of a level."""
    tiny = jnp.finfo(stencil.diagonal.dtype).tiny
    zero = jnp.zeros_like(stencil.diagonal)
    jumps, positive, along = zero, zero, []
    diagonals: dict[tuple[int, int], list[Array]] = {}
    for offset in stencil.offsets:
        ahead = stencil.coupling(offset)
        behind = stencil.coupling(tuple(-k for k in offset))
        size = jnp.abs(ahead) + jnp.abs(behind)
        positive = positive + jnp.maximum(ahead, 0.0) + jnp.maximum(behind, 0.0)
        axes = [axis for axis, k in enumerate(offset) if k]
        if len(axes) == 1:
            along.append(size)
            jumps = jumps + jnp.abs(jnp.abs(ahead) - jnp.abs(behind)) / (size + tiny)
        elif len(axes) == 2:
            sign = offset[axes[0]] * offset[axes[1]]
            parts = diagonals.setdefault((axes[0], axes[1]), [])
            parts.append(sign * (ahead + behind))
    uneven = zero
    for one, other in itertools.combinations(along, 2):
        uneven = uneven + jnp.abs(one - other) / (one + other + tiny)
    turned = zero
    for parts in diagonals.values():
        turned = turned + jnp.abs(sum(parts[1:], parts[0])) / stencil.diagonal
    means = (uneven, jumps, turned, positive / stencil.diagonal)
    return [jnp.mean(field) for field in means]
