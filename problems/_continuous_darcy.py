"""Darcy flow in a medium that varies continuously: DGNO's other benchmark."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import Dirichlet, Grid, LogNormalField, SquaredExponentialField
from sciml.weak_forms import EquilibratedDiffusion, SmoothCoefficient

from ._diffusion_family import AbstractDiffusion
from ._refined_reference import refined_reference

_VARIANCE, _CORRELATION_LENGTH = 0.25, 0.2


class ContinuousDarcy(AbstractDiffusion):
    """−∇·(a∇u) = 10 on the unit square, u = 0 around it, a continuous.

    The equation and the grid of the continuous benchmark of DGNO. How its media were
    drawn was not published; these are log-normal: log a has mean 0, variance 1/4 and
    the correlation exp(−r²/(2ℓ²)) with ℓ = 0.2, so that a is between 0.37 and 2.7 at
    95 % of the nodes. Between nodes a is linear along each axis, so that there is an
    exact problem, of which `reference` is a fine approximation.

    **Arguments:**

    - `num_points`: nodes per axis, those on the sides included. Default 29 × 29.
    - `source`: f. Default 10.

    !!! example

        ```python
        problem = problems.ContinuousDarcy()
        coefficients = problem.coefficients(1000, key=key)
        model = sciml.neural_operators.DGNO(problem.weak_form(), key=key)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    source: ArrayLike

    def __init__(
        self, num_points: int | Sequence[int] = (29, 29), source: float = 10.0
    ):
        self.grid = Grid(num_points, boundary=Dirichlet(stored=True))
        self.source = float(source)
        self.weak_form()  # refuses sizes and sources that it cannot be made for

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One medium, a field on the grid."""
        gaussian = SquaredExponentialField(_VARIANCE, _CORRELATION_LENGTH)
        return LogNormalField(gaussian).sample(self.grid, key=key)

    def weak_form(self, num_points: int = 576) -> EquilibratedDiffusion:
        """What `DGNO` is trained by.

        **Arguments:**

        - `num_points`: random points for each step.
        """
        return EquilibratedDiffusion(
            self.grid, self._kind, float(np.asarray(self.source)), num_points
        )

    def reference(
        self, coefficient: Float[Array, "*space"], refinement: int = 4
    ) -> Float[Array, "*space"]:
        """u on a grid that is finer by a factor, at the nodes of this one.

        **Arguments:**

        - `coefficient`: a field on the grid.
        - `refinement`: at least 2. Default 4; second order in the spacing.
        """
        if refinement < 2:
            raise ValueError(f"refinement: expected at least 2, got {refinement}.")
        return refined_reference(
            coefficient, self._kind, self.grid, self.source, refinement
        )

    @property
    def _kind(self) -> SmoothCoefficient:
        return SmoothCoefficient(centre=1.0, spread=_VARIANCE**0.5)
