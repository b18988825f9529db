"""What is sought where no network is: the coefficient itself, node by node."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._problem import AbstractLinearProblem
from .._result import RESULTS
from ..grids import Grid, close_field
from ..linear import CG, linear_solve
from ..preconditioners import Multigrid
from ..weak_forms import AbstractCoefficient
from ._method import AbstractMisfit, precise
from ._observations import Observations


class FieldMisfit(AbstractMisfit):
    """Observations, and the system whose solution they are values of.

    A coefficient is a = kind.value(z), z being one number for each node.
    """

    problem: AbstractLinearProblem
    kind: AbstractCoefficient
    observations: Observations

    @property
    def grid(self) -> Grid:
        """Where coefficients are."""
        return self.problem.grid

    @property
    def domain(self) -> Grid:
        """Where u is: the same."""
        return self.problem.grid

    def coefficient_field(self, z: Float[Array, " nodes"]) -> Float[Array, "*space"]:
        """a at the nodes."""
        return self.kind.value(z).reshape(self.grid.shape)

    def field(self, z: Float[Array, " nodes"]) -> Float[Array, "*space"]:
        """u at the nodes, by conjugate gradients; NaN where they do not converge."""
        A, b = self.problem.assemble(self.coefficient_field(z))
        # (The search needs slopes that are right to a few digits.)
        rtol = 1e-5 if z.dtype == jnp.float32 else 1e-7
        solver = CG(rtol=rtol, max_steps=200)
        out = linear_solve(A, b, solver, preconditioner=Multigrid(), throw=False)
        return jnp.where(out.result == RESULTS.successful, out.value, jnp.nan)

    def solution(self, w, points):
        """u at points, linear between nodes."""
        return self._at(close_field(self.field(w), self.grid), points, True)[None]

    def coefficient(self, w, points):
        """a at points, linear between nodes and constant beyond the last."""
        return self._at(self.coefficient_field(w), points, False)

    def _at(self, field: Array, points: Array, closed: bool) -> Array:
        places = []
        for axis in range(self.grid.ndim):
            first = float(self.grid.coordinates(axis, closed=closed)[0])
            places.append((points[:, axis] - first) / self.grid.spacing[axis])
        return jax.scipy.ndimage.map_coordinates(field, places, 1, mode="nearest")


def field_misfit(
    problem: Any, kind: AbstractCoefficient, observations: Observations
) -> FieldMisfit:
    """Of a problem.

    **Raises:** `TypeError` for what is no problem; `ValueError` for periodic axes,
    points outside of the grid's box, and channels but the first.
    """
    if not isinstance(problem, AbstractLinearProblem):
        raise TypeError(
            f"model: expected a problem, got a {type(problem).__name__}. For a DGNO "
            "take method=Laplace() or NUTS()."
        )
    if any(problem.grid.periodic):
        raise ValueError("model: a problem with periodic axes is not supported.")
    observations.check_inside(problem.grid)
    observations.check_channels(1)
    return FieldMisfit(problem=problem, kind=kind, observations=precise(observations))
