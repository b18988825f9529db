"""Whether a stencil is one that geometric multigrid with point smoothers suits."""

import itertools

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..grids import SymmetricStencil

# Couplings of a node along one axis that differ by more are a jump that counts …
_JUMP = 1e3
# … and those along different axes an anisotropy.
_RATIO = 10.0
# Of the nodes, above which multigrid took more than twice the steps of Ruge-Stüben AMG.
_MANY_JUMPS = 0.2
_MANY_ANISOTROPIC = 0.5


def suitability(
    stencil: SymmetricStencil, spacing: tuple[float, ...]
) -> dict[str, Array]:
    """What speaks against multigrid for this stencil, in a few passes over it.

    **Returns:** `jump_share`, the share of nodes whose couplings along one axis differ
    by more than a thousand; `anisotropic_share`, of those whose couplings in different
    directions differ by more than ten (as the eigenvalues of −Σ_o c_o (h∘o)(h∘o)ᵀ,
    plane by plane); `expected_poor`, whether one of them is large enough for multigrid
    to be the wrong choice.
    """
    jumps = jnp.zeros(stencil.shape, bool)
    moment: dict[tuple[int, int], Float[Array, "*space"]] = {}
    mean = jnp.zeros_like(stencil.diagonal)
    for offset in stencil.offsets:
        ahead = stencil.coupling(offset)
        behind = stencil.coupling(tuple(-k for k in offset))
        low = jnp.minimum(jnp.abs(ahead), jnp.abs(behind))
        high = jnp.maximum(jnp.abs(ahead), jnp.abs(behind))
        # (A coupling of zero belongs to the boundary.)
        jumps = jumps | ((low > 0) & (high > _JUMP * low))
        mean = -(ahead + behind) * jnp.where(low > 0, 0.5, 1.0)
        steps = [k * h for k, h in zip(offset, spacing, strict=True)]
        for i, a in enumerate(steps):
            for j, b in enumerate(steps[: i + 1]):
                if a and b:
                    part = (a * b) * mean
                    moment[i, j] = moment[i, j] + part if (i, j) in moment else part
    stretched = jnp.zeros(stencil.shape, bool)
    for i, j in itertools.combinations(range(len(spacing)), 2):
        # Eigenvalues of a 2 × 2 matrix differ by more than r where t² > (1 + r)²/r d.
        trace = moment[i, i] + moment[j, j]
        determinant = moment[i, i] * moment[j, j] - moment.get((j, i), 0.0) ** 2
        limit = (1 + _RATIO) ** 2 / _RATIO
        stretched = stretched | (trace**2 > limit * determinant)
    anisotropic_share = jnp.mean(stretched.astype(mean.dtype))
    jump_share = jnp.mean(jumps.astype(mean.dtype))
    return {
        "jump_share": jump_share,
        "anisotropic_share": anisotropic_share,
        "expected_poor": (jump_share > _MANY_JUMPS)
        | (anisotropic_share > _MANY_ANISOTROPIC),
    }
