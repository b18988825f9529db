"""A Chebyshev smoother whose interval a network chooses, level by level."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids import SymmetricStencil
from ._coarsening import evenly_spread
from ._local_network import LocalNetwork
from ._smoothers import AbstractSmoother, ChebyshevSmoothing, SmoothableMatrix, _weights

# The interval's lower end stays within these bounds.
_LEAST, _MOST = 0.01, 0.81
_NUM_FEATURES = 4


@register
class LearnedChebyshev(AbstractSmoother):
    """`Chebyshev` with a lower end of the damped interval that depends on the stencil:

        lower = 0.01 + 0.8 σ(network(means over the level's nodes) + constant)

    The means are of four numbers without units: how much the couplings along different
    axes differ, how much those along an axis in its two directions do, how much the two
    diagonals of a plane do, and the share of positive couplings. With turned anisotropy
    or jumps much of the error is damped slowly by points, and a wider interval pays.
    Axes along which the next level is not coarser do not count: nothing has to be
    smooth along them.

    0 < λ p(λ) < 2 on (0, 1] holds for every lower end, hence the smoother converges in
    the energy norm whatever the network says. At first it says 1/(1 + degree²), a good
    choice for one interval for all problems.

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

    def on_level(self, level: int, axes: tuple[int, ...]) -> AbstractSmoother:
        """The same, told which axes are coarsened."""
        del level
        return _AlongAxes(self, axes)

    def build(self, stencil: SmoothableMatrix) -> ChebyshevSmoothing:
        """Scales the rows and chooses the interval; a few passes over the stencil."""
        ndim = jnp.ndim(stencil.diagonal)
        return _AlongAxes(self, tuple(range(ndim))).build(stencil)


class _AlongAxes(AbstractSmoother):
    """A learned smoother on a level that is coarsened along these axes."""

    learned: LearnedChebyshev
    axes: tuple[int, ...] = eqx.field(static=True)

    def build(self, stencil: SmoothableMatrix) -> ChebyshevSmoothing:
        """Scales the rows and chooses the interval."""
        if not isinstance(stencil, SymmetricStencil):
            raise TypeError(
                "LearnedChebyshev reads the stencils of geometric multigrid, got "
                f"{type(stencil).__name__}. Use Chebyshev."
            )
        weights = _weights(stencil)
        degree = self.learned.degree
        start = 1.0 / (1 + degree**2)
        share = (start - _LEAST) / (_MOST - _LEAST)
        said = self.learned.network(stencil_means(stencil, self.axes))
        said = said + math.log(share / (1 - share))
        lower = _LEAST + (_MOST - _LEAST) * jax.nn.sigmoid(said)
        return ChebyshevSmoothing(weights, degree, lower.astype(weights.dtype))


def stencil_means(
    stencil: SymmetricStencil, axes: tuple[int, ...]
) -> list[Float[Array, ""]]:
    """What `LearnedChebyshev` knows of a level that is coarsened along some axes."""
    spread = evenly_spread(stencil.shape)
    diagonal = stencil.diagonal[spread]
    tiny = jnp.finfo(diagonal.dtype).tiny
    zero = jnp.zeros_like(diagonal)
    jumps, positive, along = zero, zero, []
    diagonals: dict[tuple[int, int], list[Array]] = {}
    for offset in stencil.offsets:
        ahead = stencil.coupling(offset)[spread]
        behind = stencil.coupling(tuple(-k for k in offset))[spread]
        size = jnp.abs(ahead) + jnp.abs(behind)
        along_axes = [axis for axis, k in enumerate(offset) if k]
        if not set(along_axes) <= set(axes):
            continue
        positive = positive + jnp.maximum(ahead, 0.0) + jnp.maximum(behind, 0.0)
        if len(along_axes) == 1:
            along.append(size)
            jumps = jumps + jnp.abs(jnp.abs(ahead) - jnp.abs(behind)) / (size + tiny)
        elif len(along_axes) == 2:
            one, other = along_axes
            parts = diagonals.setdefault((one, other), [])
            sign = offset[one] * offset[other]
            parts.append(sign * (ahead + behind))
    uneven = zero
    for one, other in itertools.combinations(along, 2):
        uneven = uneven + jnp.abs(one - other) / (one + other + tiny)
    turned = zero
    for parts in diagonals.values():
        turned = turned + jnp.abs(sum(parts[1:], parts[0])) / diagonal
    means = (uneven, jumps, turned, positive / diagonal)
    return [jnp.mean(field) for field in means]
