"""W: one learned V-cycle as a linear map between fields."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Dirichlet, coarse_alignment
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ..grids._convolution import Convolution, TransposedConvolution
from ..linear import v_cycle
from ._mgno_level import (
    AbstractRestriction,
    FieldRestriction,
    MgNOLevel,
    ResidualRestriction,
    SmoothingStep,
    smooth,
    smoothing_steps,
)
from ._sample import check_channels, check_counts, floating, numeric_boundary

Iterations = tuple[tuple[int, int], ...]

register(FieldRestriction)
register(ResidualRestriction)


@register
class MultigridOperator(eqx.Module):
    """MgNO's linear operator W: one learned V-cycle from f (channels) to u (channels).

    On level l = 0 (finest) … L − 1, with 3-node convolutions A, S, R, Π and 4-node
    transposed convolutions P that share no parameters, each with the grid's boundary:

        pre-smoothing      u ← u + S(f − A u)    (u = S f where u is still zero)
        restriction        u_c, f_c from u, f    (the slot `restriction`)
        coarser levels     u_c ← W_c(u_c, f_c)
        prolongation       u ← u + P u_c
        post-smoothing     u ← u + S(f − A u)

    and only smoothing on the coarsest level. There is no normalisation or activation in
    it: W is linear in f (affine with `use_bias`), and equivariant under shifts by
    multiples of 2^(L−1) nodes on a periodic grid whose sizes are such multiples. Its
    parameters do not depend on the grid, of which any size will do that has
    `num_levels` levels.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of f and of u.
    - `num_levels`: L. Default 6, as in the paper; a node of the coarsest grid then
        sees 64 nodes of the finest one.
    - `boundary`: one condition for all sides, or per axis one condition or a
        (low, high) pair; of each only the kind matters. Default `Dirichlet()`.
    - `num_iterations`: (pre, post) smoothing steps per level. Default, None: (1, 0),
        and (2, 0) on the coarsest, as in the paper's experiments. At least one
        pre-smoothing step each; on the coarsest level pre and post follow each other.
    - `restriction`: `FieldRestriction()` (default, the released code's) or
        `ResidualRestriction()` (the paper's text, and classical multigrid).
    - `use_bias`: whether A and S have a bias. Default False.
    - `widening`: level l has `widening[l]` times the channels of f and of u; the first
        factor is 1. Default, None: 1 everywhere. With (1, 2, 3, 4, 5) coarse levels
        hold about as much as fine ones cost, as in MgNO's Helmholtz network.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, a grid too small for
    `num_levels`, and another number of channels or axes than asked for.

    !!! example

        ```python
        operator = MultigridOperator(2, 1, 8, num_levels=4, key=jr.key(0))
        operator(jnp.ones((1, 33, 48))).shape  # (8, 33, 48)
        ```

    Source: He, Liu & Xu, *MgNO: Efficient Parameterization of Linear Operators via
    Multigrid*, ICLR 2024, section 3 and the accompanying code.
    """

    levels: tuple[MgNOLevel, ...]
    coarsest: tuple[SmoothingStep, ...]
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    num_iterations: Iterations = eqx.field(static=True)
    restriction: AbstractRestriction = eqx.field(static=True)
    use_bias: bool = eqx.field(static=True)
    widening: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        num_levels: int = 6,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        num_iterations: Sequence[Sequence[int]] | None = None,
        restriction: AbstractRestriction = FieldRestriction(),  # noqa: B008
        use_bias: bool = False,
        widening: Sequence[int] | None = None,
        *,
        key: PRNGKeyArray,
    ):
        check_counts(num_levels=num_levels)
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_levels = num_levels
        self.boundary = numeric_boundary(boundary, ndim)
        self.num_iterations = iterations_of(num_iterations, num_levels)
        self.restriction = restriction
        self.use_bias = use_bias
        self.widening = _widening(widening, num_levels)

        def convolution(in_channels, out_channels, stride=1, use_bias=False, *, key):
            size = 3
            sides = self.boundary
            return Convolution(
                ndim, in_channels, out_channels, size, stride, sides, use_bias, key=key
            )

        def smoother(in_channels, out_channels, *, key):
            return convolution(in_channels, out_channels, use_bias=use_bias, key=key)

        levels = []
        from_zero = True
        for l, level_key in enumerate(jr.split(key, num_levels)):
            pre_key, post_key, restrict_key, prolong_key = jr.split(level_key, 4)
            pre, post = self.num_iterations[l]
            channels = self._channels(l)
            pre = smoothing_steps(pre, from_zero, smoother, channels, pre_key)
            post = smoothing_steps(post, False, smoother, channels, post_key)
            if l == num_levels - 1:
                self.coarsest = pre + post
                break
            coarse = self._channels(l + 1)
            prolong = TransposedConvolution(
                ndim, coarse[1], channels[1], self.boundary, key=prolong_key
            )
            restrict = restriction.build(
                convolution, channels, coarse, key=restrict_key
            )
            levels.append(MgNOLevel(pre, restrict, prolong, post))
            from_zero = restriction.starts_from_zero
        self.levels = tuple(levels)

    def check(self, space: tuple[int, ...]) -> None:
        """**Raises:** `ValueError` if a grid cannot be halved often enough."""
        check_levels(space, self.boundary, self.num_levels)

    def _channels(self, level: int) -> tuple[int, int]:
        """Those of f and of u on a level."""
        factor = self.widening[level]
        return factor * self.in_channels, factor * self.out_channels

    def __call__(
        self, f: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """W f."""
        f = floating(f)
        check_channels(f, self.ndim, self.in_channels)
        u = self.channels_last(jnp.moveaxis(f, 0, -1))
        return jnp.moveaxis(u, -1, 0)

    def channels_last(
        self, f: Float[Array, "*space in_channels"]
    ) -> Float[Array, "*space out_channels"]:
        """The same for an array whose channels come last."""
        self.check(f.shape[:-1])
        return v_cycle(self.levels, lambda u, f: smooth(self.coarsest, u, f), f)


def check_levels(
    space: tuple[int, ...], boundary: tuple[BoundaryPair, ...], num_levels: int
) -> None:
    """**Raises:** `ValueError` if the grid cannot be halved often enough."""
    for axis, (num_points, pair) in enumerate(zip(space, boundary, strict=True)):
        n, possible = num_points, 1
        while n > 1 and possible < num_levels:
            n = coarse_alignment(n, pair)[1]
            possible += 1
        if possible < num_levels or n < 1:
            raise ValueError(
                f"num_levels: {num_levels} grids were asked for, but axis {axis} with "
                f"{num_points} nodes ({pair[0].kind}, {pair[1].kind}) can be coarsened "
                f"to {possible} of them only. Build the model with num_levels="
                f"{possible}, or use a finer grid."
            )


def iterations_of(given: Sequence[Sequence[int]] | None, num_levels: int) -> Iterations:
    """(pre, post) per level, the paper's if None; `ValueError` unless they fit."""
    if given is None:
        return ((1, 0),) * (num_levels - 1) + ((2, 0),)
    pairs = tuple(tuple(int(n) for n in pair) for pair in given)
    fits = len(pairs) == num_levels and all(
        len(pair) == 2 and pair[0] >= 1 and pair[1] >= 0 for pair in pairs
    )
    if not fits:
        raise ValueError(
            f"num_iterations: expected one pair (pre ≥ 1, post ≥ 0) for each of the "
            f"{num_levels} levels, finest first, got {given!r}."
        )
    return pairs  # pyright: ignore[reportReturnType]


def _widening(given: Sequence[int] | None, num_levels: int) -> tuple[int, ...]:
    if given is None:
        return (1,) * num_levels
    factors = tuple(int(factor) for factor in given)
    if len(factors) != num_levels or factors[0] != 1 or min(factors) < 1:
        raise ValueError(
            f"widening: expected one integer ≥ 1 for each of the {num_levels} levels, "
            f"1 for the finest, got {given!r}."
        )
    return factors
