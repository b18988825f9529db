"""Darcy flow in a medium of two phases: DGNO's benchmark."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import Dirichlet, GaussianField, Grid, TwoPhaseField
from sciml.weak_forms import EquilibratedDiffusion, TwoPhaseCoefficient

from ._diffusion_family import AbstractDiffusion
from ._refined_reference import refined_reference

# P(g ≥ 0.0204) = 0.47 in the mean over the nodes of the unit square, g being
# `GaussianField()`, whose standard deviation is 0.16 in the middle and 0.47 in corners.
_THRESHOLD = 0.0204


class TwoPhaseDarcy(AbstractDiffusion):
    """−∇·(a∇u) = 10 on the unit square, u = 0 around it, a = 5 or 10.

    The equation, sizes and values of the two-phase benchmark of DGNO. How its media
    were drawn was not published; these are a Gaussian field of covariance (−Δ + τ²)⁻²,
    τ = 3, cut where 0.47 of the area is the higher phase in the mean, as much as in
    the one medium that was. The medium is the same in the cell around each node, so
    that there is an exact problem, of which the grid's own solution is an
    approximation (0.18 % off in L2, in the mean), and `reference` a finer one.

    **Arguments:**

    - `num_points`: nodes per axis, those on the sides included. Default 29 × 29.
    - `low`, `high`: the phases. Default 5 and 10.
    - `source`: f. Default 10.

    !!! example

        ```python
        problem = problems.TwoPhaseDarcy()
        coefficients = problem.coefficients(1000, key=key)
        model = sciml.neural_operators.DGNO(problem.weak_form(), key=key)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    source: ArrayLike
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = (29, 29),
        low: float = 5.0,
        high: float = 10.0,
        source: float = 10.0,
    ):
        self.grid = Grid(num_points, boundary=Dirichlet(stored=True))
        self.source = float(source)
        kind = TwoPhaseCoefficient(float(low), float(high))
        self.low, self.high = kind.low, kind.high
        self.weak_form()  # refuses sizes and sources that it cannot be made for

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One medium, a field on the grid."""
        field = TwoPhaseField(self.low, self.high, GaussianField(), _THRESHOLD)
        return field.sample(self.grid, key=key)

    def weak_form(self, num_points: int = 576) -> EquilibratedDiffusion:
        """What `DGNO` is trained by.

        **Arguments:**

        - `num_points`: random points for each step.
        """
        return EquilibratedDiffusion(
            self.grid, self._kind, float(np.asarray(self.source)), num_points
        )

    def reference(
        self, coefficient: Float[Array, "*space"], refinement: int = 5
    ) -> Float[Array, "*space"]:
        """u on a grid that is finer by an odd factor, at the nodes of this one.

        Cells of the medium end half way between finer nodes, where the stencil's
        harmonic means are exact: second order in the spacing. With 5 it is 1e-4 off.

        **Arguments:**

        - `coefficient`: a field on the grid.
        - `refinement`: odd and at least 3, so that the halves of cells on the sides
            have nodes. Default 5.
        """
        if refinement < 3 or refinement % 2 == 0:
            raise ValueError(
                f"refinement: expected an odd number from 3 on, got {refinement}."
            )
        return refined_reference(
            coefficient, self._kind, self.grid, self.source, refinement
        )

    @property
    def _kind(self) -> TwoPhaseCoefficient:
        return TwoPhaseCoefficient(self.low, self.high)
