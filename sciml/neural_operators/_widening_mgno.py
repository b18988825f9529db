"""MgNO whose channels grow from level to level."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Neumann
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ._layer_norms import FieldLayerNorm, checked_points
from ._mgno_level import FieldRestriction
from ._multigrid_operator import (
    Iterations,
    MultigridOperator,
    check_levels,
    iterations_of,
)
from ._sample import check_channels, check_counts, floating, grid_of, numeric_boundary
from ._transferred import Transferred


@register
class WideningMgNO(eqx.Module):
    """MgNO's network for wave problems: level l has l + 1 times the channels.

        u₀ = input
        u_k = gelu(N(W_k u_{k−1})),   k = 1 … depth
        output = W_{depth+1} u_depth

    with cycles W_k that have biases in A and S and on level l (0 finest) l + 1 times
    the channels (`MultigridOperator`), and layer norms N, or none. Long waves, which
    live on the coarse levels, get most of the parameters, at little cost. The last
    cycle maps to the output's channels. Stored Dirichlet nodes are set to the
    boundary's value.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `width`: channels of the finest level. Default 20, the paper's for Helmholtz.
    - `depth`: layers before the last cycle. Default 4.
    - `num_levels`: grids per cycle. Default 5.
    - `boundary`: see `MgNO`. Default `Neumann()`: convolutions mirror their input, as
        published.
    - `num_iterations`: see `MultigridOperator`; default, None, as there.
    - `norm_points`: the nodes per axis, for layer norms N over whole fields: the
        network as it was published, which then works on that one grid only. Default,
        None: no norms, and any grid.
    - `key`: draws the parameters.

    The published network has 5,351,806 parameters at 101 × 101 nodes with its released
    settings (the paper states 7.58 million, for settings that it does not state). Here
    are 11,241 fewer, those of kernels A that are never applied, and 246,554 more, since
    prolongations have 4 nodes where the published ones have 3 on two of the levels.

    **Raises:** `ValueError` as `MgNO`.

    !!! example

        ```python
        model = sciml.neural_operators.WideningMgNO(
            2, 1, 2, width=8, depth=2, num_levels=4, key=jr.key(0)
        )
        model(jnp.ones((1, 51, 51))).shape  # (2, 51, 51)
        ```

    Source: He, Liu & Xu, *MgNO: Efficient Parameterization of Linear Operators via
    Multigrid*, ICLR 2024, the network for Helmholtz in the accompanying code.
    """

    layers: tuple[MultigridOperator, ...]
    norms: tuple[FieldLayerNorm, ...]
    output: MultigridOperator
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    num_iterations: Iterations = eqx.field(static=True)
    norm_points: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        width: int = 20,
        depth: int = 4,
        num_levels: int = 5,
        boundary: AbstractBoundary | Sequence = Neumann(),  # noqa: B008
        num_iterations: Sequence[Sequence[int]] | None = None,
        norm_points: Sequence[int] | None = None,
        *,
        key: PRNGKeyArray,
    ):
        check_counts(width=width, depth=depth, num_levels=num_levels)
        if norm_points is not None:
            norm_points = checked_points(norm_points, ndim)
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.depth = depth
        self.num_levels = num_levels
        self.boundary = numeric_boundary(boundary, ndim)
        self.num_iterations = iterations_of(num_iterations, num_levels)
        self.norm_points = norm_points
        channels = [in_channels, *(width,) * depth, out_channels]
        *layers, self.output = (
            MultigridOperator(
                ndim,
                channels[k],
                channels[k + 1],
                num_levels,
                self.boundary,
                self.num_iterations,
                FieldRestriction(),
                use_bias=True,
                widening=range(1, num_levels + 1),
                key=layer_key,
            )
            for k, layer_key in enumerate(jr.split(key, depth + 1))
        )
        self.layers = tuple(layers)
        count = 0 if norm_points is None else depth
        self.norms = tuple(
            FieldLayerNorm(width, norm_points or ()) for _ in range(count)
        )

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        check_levels(x.shape[1:], self.boundary, self.num_levels)
        u = jnp.moveaxis(x, 0, -1)
        for k, layer in enumerate(self.layers):
            u = layer.channels_last(u)
            u = self.norms[k](u) if self.norms else u
            u = jax.nn.gelu(u, approximate=True)
        u = jnp.moveaxis(self.output.channels_last(u), -1, 0)
        return grid_of(u.shape[1:], self.boundary).impose(u)

    def transfer(self, factor: int = 2) -> Transferred:
        """The same operator on grids whose spacing is `factor` times finer.

        See `Transferred`, whose shortcut this is.
        """
        return Transferred(self, factor)
