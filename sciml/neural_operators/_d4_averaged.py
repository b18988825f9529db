"""A model made equivariant under the symmetries of the square."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._serialisation import register
from ..grids import Grid
from ..grids._boundary import BoundaryPair
from ..grids._square_symmetry import (
    check_square,
    d4_elements,
    moved_back,
    moved_by_d4,
)
from ._sample import floating, grid_of


@register
class D4Averaged(eqx.Module):
    """The mean of a model over the eight symmetries of the square:

        output = 1/8 Σ_g g⁻¹ model(g x),   g in D4

    which commutes with all of them, whatever the model is: rotating or mirroring the
    input does the same to the output. For problems that have the symmetry this
    projects the model's error onto symmetric maps, and so does not make the mean square
    error larger over data that are distributed alike in all eight positions. It costs
    eight applications; meant for evaluation. Training with `sciml.training.D4Augmented`
    goes with it.

    Channels are scalar fields. The components of a vector field would have to turn with
    the square, and do not here.

    **Arguments:**

    - `model`: maps one sample on square grids; its `boundary` has to be the same on all
        four sides, stored nodes and numbers included, and the extents of its `grid`,
        if it has one.

    **Raises:** `ValueError` for a model without a boundary or with one that is not
    symmetric, and for fields that are not square.

    !!! example

        ```python
        model = D4Averaged(MgNO(2, 1, 1, width=4, num_levels=3, key=jr.key(0)))
        model(jnp.ones((1, 31, 31))).shape  # (1, 31, 31)
        ```
    """

    model: Any

    def __check_init__(self):
        boundary = getattr(self.model, "boundary", None)
        if boundary is None:
            raise ValueError(
                "model: expected one that says in `boundary` what holds on the sides "
                f"of its grids, such as MgNO, got {type(self.model).__name__}."
            )
        # A model may know its grid, as `DGNO` does; others say no more than what holds
        # on the sides, and 3 nodes are allowed by all of that.
        known = getattr(self.model, "grid", None)
        unit = grid_of((3,) * len(boundary), boundary)
        check_square(known if isinstance(known, Grid) else unit)

    @property
    def boundary(self) -> tuple[BoundaryPair, ...]:
        """The wrapped model's boundary conditions."""
        return self.model.boundary

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The averaged output field of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, n, n)`.
        """
        x = floating(x)
        grid = grid_of(x.shape[1:], self.boundary)
        check_square(grid)
        periodic = grid.periodic[0]
        elements = jnp.asarray(d4_elements())

        def turned(element):
            y = self.model(moved_by_d4(x, element, periodic))
            return moved_back(y, element, periodic)

        return grid.impose(jnp.mean(jax.vmap(turned)(elements), 0))
