"""Stencils as samples of a data set, for training what is built from them."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._serialisation import register
from ..data import Dataset
from ..grids import Grid, SymmetricStencil, half_offsets
from ..linear import StencilOperator


@register
class PackedStencils(eqx.Module):
    """From a sample of `pack_stencils` to the operator that it is.

    **Arguments:**

    - `grid`: of all samples.
    """

    grid: Grid

    def __call__(self, sample: Float[Array, "channels *space"]) -> StencilOperator:
        """A, with all 3ᵈ points; couplings of none are zero."""
        offsets = half_offsets(self.grid.ndim, diagonals=True)
        diagonal, *ahead = sample
        edges = []
        for offset, coupling in zip(offsets, ahead, strict=True):
            # Edges into the box from beyond its sides are zero.
            width = [(1, 0) if k > 0 else (0, 1) if k < 0 else (0, 0) for k in offset]
            edges.append(jnp.pad(coupling, width))
        periodic = (False,) * self.grid.ndim
        stencil = SymmetricStencil(diagonal, tuple(edges), offsets, periodic)
        return StencilOperator(stencil, self.grid)


def pack_stencils(
    operators: Sequence[StencilOperator],
) -> tuple[Dataset, PackedStencils]:
    """Operators on one grid as a data set, whatever problems they come from.

    A sample has a channel for the diagonal and one for each of the (3ᵈ − 1)/2 pairs of
    neighbours, divided by the largest entry of the diagonal: neither preconditioners
    nor CG mind the scale of A, single precision does.

    **Arguments:**

    - `operators`: on one grid without periodic sides, definite ones.

    **Returns:** a `sciml.data.Dataset` in float32 without targets, and what unpacks
    its inputs.

    **Raises:** `ValueError` for no operators, operators on different grids or periodic
    ones, and singular ones.

    !!! example

        ```python
        data, stencils = sciml.preconditioners.pack_stencils(operators)
        loss = sciml.preconditioners.UnrolledCG(stencils, num_steps=6)
        model, history = sciml.training.fit(
            model, data, loss=loss, num_steps=300, batch_size=8, key=key
        )
        ```
    """
    if not operators:
        raise ValueError("operators: expected at least one.")
    grid = operators[0].grid
    offsets = half_offsets(grid.ndim, diagonals=True)
    samples = []
    for k, operator in enumerate(operators):
        if not isinstance(operator, StencilOperator):
            raise ValueError(
                f"operators[{k}]: expected a sciml.linear.StencilOperator, got "
                f"{type(operator).__name__}."
            )
        stencil = operator.stencil
        if eqx.tree_equal(operator.grid, grid) is not True:
            raise ValueError(
                f"operators[{k}]: expected the grid of the first, {grid}, got "
                f"{operator.grid}."
            )
        if any(stencil.periodic):
            raise ValueError(f"operators[{k}]: periodic sides cannot be packed.")
        if operator.constant_null_space:
            raise ValueError(
                f"operators[{k}]: A is singular (constants); add a reaction or a "
                "Dirichlet side."
            )
        fields = [stencil.diagonal, *(stencil.coupling(offset) for offset in offsets)]
        sample = np.stack([np.asarray(field) for field in fields])
        samples.append((sample / sample[0].max()).astype(np.float32))
    return Dataset(np.stack(samples), None, grid), PackedStencils(grid)
