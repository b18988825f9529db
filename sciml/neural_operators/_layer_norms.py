"""Layer norms over whole fields, as two of MgNO's published networks have them.

They make the multigrid operator non-linear, tie it to one grid, and break its
equivariance under shifts: that is why they are blocks of their own.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids import Dirichlet, coarse_alignment
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ..linear import AbstractLevel, v_cycle
from ._mgno_level import AbstractRestriction, Field, FieldRestriction, MgNOLevel, smooth
from ._multigrid_operator import Iterations, MultigridOperator


class FieldLayerNorm(eqx.Module):
    """(u − mean) / √(variance + 1e-5) · scale + shift, over channels and nodes at once.

    Scale and shift have an entry for every channel and node: 2 · channels · nodes
    parameters. Channels are last.

    **Arguments:**

    - `channels`, `num_points`: of the only fields that it takes.
    """

    scale: Float[Array, "*space channels"]
    shift: Float[Array, "*space channels"]

    def __init__(self, channels: int, num_points: Sequence[int]):
        self.scale = jnp.ones((*num_points, channels))
        self.shift = jnp.zeros((*num_points, channels))

    def __call__(self, u: Field) -> Field:
        """The normalised field."""
        if u.shape != self.scale.shape:
            raise ValueError(
                f"u: this layer norm belongs to fields of {self.scale.shape[:-1]} "
                f"nodes, got {u.shape[:-1]}. Build the model for that grid, or without "
                "layer norms (`norm_points=None`)."
            )
        centred = u - jnp.mean(u)
        scaled = centred / jnp.sqrt(jnp.mean(centred**2) + 1e-5)
        return scaled * self.scale.astype(u.dtype) + self.shift.astype(u.dtype)


class _NormalisedLevel(AbstractLevel):
    """A level whose u is normalised after prolongation."""

    level: MgNOLevel
    norm: FieldLayerNorm

    def pre_smooth(self, u, f):
        return self.level.pre_smooth(u, f)

    def restrict(self, u, f):
        return self.level.restrict(u, f)

    def prolong(self, u, coarse_u):
        return self.norm(self.level.prolong(u, coarse_u))

    def post_smooth(self, u, f):
        return self.level.post_smooth(u, f)


@register
class LayerNormMultigridOperator(eqx.Module):
    """A `MultigridOperator` with layer norms: MgNO's published Navier–Stokes block.

        u ← LayerNorm(u + P u_c)

    after each prolongation, the rest as in `MultigridOperator`. It is not linear, works
    on the grid `num_points` only, and is not equivariant under shifts, even on a
    periodic grid: what it is here for is to reproduce the published network.

    **Arguments:**

    - `num_points`: nodes per axis of the only grid that it takes.
    - the others: see `MultigridOperator`.

    **Raises:** `ValueError` as `MultigridOperator`, and for another grid.

    !!! example

        ```python
        block = LayerNormMultigridOperator(2, 1, 8, (32, 32), 4, Periodic(), key=key)
        block.channels_last(jnp.ones((32, 32, 1))).shape  # (32, 32, 8)
        ```

    Source: the code that accompanies He, Liu & Xu, *MgNO: Efficient Parameterization of
    Linear Operators via Multigrid*, ICLR 2024.
    """

    operator: MultigridOperator
    norms: tuple[FieldLayerNorm, ...]
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    num_points: tuple[int, ...] = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    num_iterations: Iterations = eqx.field(static=True)
    restriction: AbstractRestriction = eqx.field(static=True)
    use_bias: bool = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        num_points: Sequence[int],
        num_levels: int = 6,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        num_iterations: Sequence[Sequence[int]] | None = None,
        restriction: AbstractRestriction = FieldRestriction(),  # noqa: B008
        use_bias: bool = False,
        *,
        key: PRNGKeyArray,
    ):
        self.operator = MultigridOperator(
            ndim,
            in_channels,
            out_channels,
            num_levels,
            boundary,
            num_iterations,
            restriction,
            use_bias,
            key=key,
        )
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_points = checked_points(num_points, ndim)
        self.num_levels = num_levels
        self.boundary = self.operator.boundary
        self.num_iterations = self.operator.num_iterations
        self.restriction = restriction
        self.use_bias = use_bias
        norms, points = [], self.num_points
        for _ in range(num_levels - 1):
            norms.append(FieldLayerNorm(out_channels, points))
            aligned = zip(points, self.boundary, strict=True)
            points = tuple(coarse_alignment(n, pair)[1] for n, pair in aligned)
        self.norms = tuple(norms)

    def channels_last(
        self, f: Float[Array, "*space in_channels"]
    ) -> Float[Array, "*space out_channels"]:
        """The block's output for an array whose channels come last."""
        self.operator.check(f.shape[:-1])
        inner = self.operator
        levels = [
            _NormalisedLevel(level, norm)
            for level, norm in zip(inner.levels, self.norms, strict=True)
        ]
        return v_cycle(levels, lambda u, f: smooth(inner.coarsest, u, f), f)


def checked_points(num_points: Sequence[int], ndim: int) -> tuple[int, ...]:
    """**Raises:** `ValueError` unless there is a positive number per axis."""
    points = tuple(int(n) for n in num_points)
    if len(points) != ndim or min(points) < 1:
        raise ValueError(
            f"num_points: expected {ndim} positive numbers, one per axis, got "
            f"{num_points!r}."
        )
    return points
