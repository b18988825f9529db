"""MgNO as a time step: what is learned is the change of the state."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Periodic
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ..grids._convolution import Convolution
from ._layer_norms import LayerNormMultigridOperator, checked_points
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
class MgNOStepper(eqx.Module):
    """MgNO's network for time steps: the state plus what the multigrid cycles add.

        u₀ = input
        u_k = gelu(W_k u_{k−1}),   k = 1 … depth
        output = last channels of the input + D u_depth

    with cycles W_k that have biases in A and S (`MultigridOperator`) and a pointwise
    matrix D. In contrast to `MgNO` there is no pointwise path beside the cycles, and
    the input is added to the output, so that a small time step is a small task. Stored
    Dirichlet nodes are set to the boundary's value.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the state. The state
        that the output is added to are the last `out_channels` channels of the input;
        those before it may hold older states, forces or parameters.
    - `width`: channels of the layers. Default 32, the paper's for Navier–Stokes.
    - `depth`: number of layers. Default 5.
    - `num_levels`: grids per cycle. Default 5.
    - `boundary`: see `MgNO`. Default `Periodic()`.
    - `num_iterations`: see `MultigridOperator`. Default, None: (1, 0), and (2, 0) on
        the two coarsest levels, as published.
    - `norm_points`: the nodes per axis, for layer norms after each prolongation
        (`LayerNormMultigridOperator`): the network as it was published, which then
        works on that one grid only. With 2 axes, one channel, 64 × 64 nodes and the
        other defaults it has 2,885,194 parameters, 1,740,800 of them in the norms.
        Default, None: none, and any grid.
    - `key`: draws the parameters.

    **Raises:** `ValueError` as `MgNO`, and if there are more channels of output than of
    input.

    !!! example

        ```python
        model = sciml.neural_operators.MgNOStepper(2, 1, 1, width=16, key=jr.key(0))
        model(jnp.ones((1, 64, 64))).shape  # (1, 64, 64)
        ```

    Source: He, Liu & Xu, *MgNO: Efficient Parameterization of Linear Operators via
    Multigrid*, ICLR 2024, the network for Navier–Stokes in the accompanying code.
    """

    layers: tuple[MultigridOperator | LayerNormMultigridOperator, ...]
    output: Convolution
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
        width: int = 32,
        depth: int = 5,
        num_levels: int = 5,
        boundary: AbstractBoundary | Sequence = Periodic(),  # noqa: B008
        num_iterations: Sequence[Sequence[int]] | None = None,
        norm_points: Sequence[int] | None = None,
        *,
        key: PRNGKeyArray,
    ):
        check_counts(
            width=width, depth=depth, num_levels=num_levels, out_channels=out_channels
        )
        if out_channels > in_channels:
            raise ValueError(
                f"out_channels: the output is added to the last {out_channels} "
                f"channels of the input, which has {in_channels}."
            )
        if num_iterations is None:
            coarsest = min(2, num_levels)
            num_iterations = ((1, 0),) * (num_levels - coarsest) + ((2, 0),) * coarsest
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
        *layer_keys, output_key = jr.split(key, depth + 1)
        given: Any = dict(
            num_levels=num_levels,
            boundary=self.boundary,
            num_iterations=self.num_iterations,
            restriction=FieldRestriction(),
            use_bias=True,
        )
        layers = []
        for k, layer_key in enumerate(layer_keys):
            channels = in_channels if k == 0 else width
            if norm_points is None:
                layer = MultigridOperator(ndim, channels, width, **given, key=layer_key)
            else:
                layer = LayerNormMultigridOperator(
                    ndim, channels, width, norm_points, **given, key=layer_key
                )
            layers.append(layer)
        self.layers = tuple(layers)
        self.output = Convolution(ndim, width, out_channels, 1, key=output_key)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The next state of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        check_levels(x.shape[1:], self.boundary, self.num_levels)
        u = jnp.moveaxis(x, 0, -1)
        for layer in self.layers:
            u = jax.nn.gelu(layer.channels_last(u), approximate=True)
        change = jnp.moveaxis(self.output.channels_last(u), -1, 0)
        state = x[self.in_channels - self.out_channels :] + change
        return grid_of(state.shape[1:], self.boundary).impose(state)

    def transfer(self, factor: int = 2) -> Transferred:
        """The same operator on grids whose spacing is `factor` times finer.

        See `Transferred`, whose shortcut this is.
        """
        return Transferred(self, factor)
