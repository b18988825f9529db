"""A model that was trained on one grid, on grids finer than that."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._serialisation import register
from ..grids import Grid, interpolate, resample
from ..grids._boundary import BoundaryPair
from ._sample import floating, grid_of


@register
class Transferred(eqx.Module):
    """A model on grids `factor` times finer than the one that it was trained on.

        output = P model(R input)

    R takes the input to the grid that is coarsened log₂(factor) times
    (`Grid.coarsen`): its values there, where the grids are nested, which
    keeps a coefficient of two phases one of two phases; otherwise it is interpolated.
    P interpolates multilinearly between the coarse nodes, with exact values on
    Dirichlet sides. On nested grids the output at the coarse nodes is exactly what the
    model says there, so that the error can grow only by that of interpolation, whatever
    the weights are.

    A convolutional model called on a finer grid as it is sees another operator, since
    its kernels act on nodes and not on lengths. MgNO after 500 steps on Darcy flow at
    16 × 16 nodes (relative L2 error 8.6 %) has an error of 89 % at 32 × 32 nodes so,
    12.7 % with a finest level of injection and linear interpolation inserted in each of
    its cycles, and 8.8 % with this class. A Fourier neural operator trained alike goes
    from 11.9 % to 14.0 %.

    It is differentiable and can be trained further on the fine grid; nested transfers
    compose.

    **Arguments:**

    - `model`: maps one sample, and has a `boundary` as MgNO does.
    - `factor`: a power of two; 1 changes nothing.

    **Raises:** `ValueError` for other factors, a model without boundary conditions, and
    grids that cannot be coarsened so far.

    !!! example

        ```python
        fine = Transferred(model, factor=2)     # or model.transfer(2)
        fine(jnp.ones((1, 127, 127))).shape     # of a model trained at 63 × 63
        ```
    """

    model: Callable[[Array], Array]
    factor: int = eqx.field(static=True)

    def __init__(self, model: Callable[[Array], Array], factor: int = 2):
        if isinstance(factor, bool) or factor < 1 or factor & (factor - 1):
            raise ValueError(f"factor: expected a power of two, got {factor!r}.")
        if getattr(model, "boundary", None) is None:
            raise ValueError(
                "model: expected one with boundary conditions (a field `boundary`), "
                "which say how the grids are aligned."
            )
        self.model = model
        self.factor = int(factor)

    @property
    def boundary(self) -> tuple[BoundaryPair, ...]:
        """The model's boundary conditions."""
        return self.model.boundary  # pyright: ignore[reportFunctionMemberAccess]

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one input field on the fine grid.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        if x.ndim != 1 + len(self.boundary):
            raise ValueError(
                f"x: expected one sample (channels, *space) with {len(self.boundary)} "
                f"axes of space, got shape {x.shape}. Use `jax.vmap` for a batch."
            )
        fine = grid_of(x.shape[1:], self.boundary)
        coarse = _coarsened(fine, self.factor)
        return interpolate(self.model(resample(x, fine, coarse)), coarse, fine)


def _coarsened(grid: Grid, factor: int) -> Grid:
    while factor > 1:
        grid = grid.coarsen()
        factor //= 2
    return grid
