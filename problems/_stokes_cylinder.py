"""Slow flow around a cylinder in a channel: DGNO's benchmark of three fields."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from sciml.data import Dataset
from sciml.grids import Dirichlet, Grid
from sciml.weak_forms import PrescribedValues, StokesChannel

from ._stokes_elements import Geometry, stokes_response

# The root mean square of a, about, and the largest of its frequencies.
_SCALE, _HIGHEST = 2.5, 2 * np.pi


class StokesCylinder(eqx.Module):
    """−∇·σ = 0, ∇·u = 0 in [0, 2] × [0, 1] around a cylinder, μ = 0.01.

    The cylinder has its centre at (0.5, 0.6) and the radius 0.1. The fluid enters with
    u = (a(y), 0),

        a(y) = 2 sin(πy) (1 + sin β_1 y + cos β_2 y)

    sticks to walls and cylinder, and leaves at x = 2 with p = 0 and no velocity across.
    The equation and the form of a are those of a benchmark of DGNO; how β was drawn was
    not published. Here both are uniform from 0 to 2π.

    **Arguments:**

    - `num_inflow`: nodes of a across the channel. Default 65.
    - `refinement`: of the reference, 8 · refinement triangles across the channel and
        four times as many around the cylinder. Default 4.

    !!! example

        ```python
        problem = problems.StokesCylinder()
        profiles = problem.coefficients(10, key=jr.key(0))
        model = sciml.neural_operators.DGNO(problem.weak_form(), key=jr.key(1))
        problem.reference(jnp.asarray(profiles.inputs[0, 0])).shape  # (3, 65, 33)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    refinement: int = eqx.field(static=True)

    def __init__(self, num_inflow: int = 65, refinement: int = 4):
        if refinement < 2:
            raise ValueError(f"refinement: expected at least 2, got {refinement}.")
        self.grid = Grid((num_inflow,), boundary=Dirichlet(stored=True))
        self.refinement = refinement

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        """One a, at the nodes of the grid."""
        first, second = _HIGHEST * jr.uniform(key, (2,))
        y = jnp.asarray(self.grid.coordinates(0))
        return 2 * jnp.sin(np.pi * y) * (1 + jnp.sin(first * y) + jnp.cos(second * y))

    def coefficients(self, num_samples: int, *, key: PRNGKeyArray) -> Dataset:
        """Random a without the flows.

        **Arguments:**

        - `num_samples`: how many.
        - `key`: sample i depends on `key` and i only.

        **Returns:** a `sciml.data.Dataset` without targets.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}.")
        fields = [
            self.sample_coefficient(key=jr.fold_in(key, i)) for i in range(num_samples)
        ]
        return Dataset(np.stack(fields)[:, None], None, self.grid)

    def weak_form(self, num_samples: int = 300) -> StokesChannel:
        """What `DGNO` is trained by.

        **Arguments:**

        - `num_samples`: random points for each step. Default 300.
        """
        values = PrescribedValues(_SCALE, 0.01)
        return StokesChannel(self.grid, values, num_samples=num_samples)

    def reference(self, a: Shaped[Array, "..."]) -> Float[Array, "3 x y"]:
        """u, v and p at the nodes of the weak form's domain, by finite elements.

        **Arguments:**

        - `a`: velocities at the nodes of the grid, a cubic spline between them. Units
            are those of μ, lengths and velocities; p is in those of μ times a velocity
            over a length.

        **Raises:** `ValueError` for another shape; `ImportError` without scikit-fem.
        """
        if a.shape != self.grid.shape:
            raise ValueError(f"a: expected shape {self.grid.shape}, got {a.shape}.")
        if not jnp.issubdtype(a.dtype, jnp.floating):
            a = a.astype(jnp.result_type(float))
        form = self.weak_form()
        response = stokes_response(Geometry.of(form), self.refinement)
        found = jnp.asarray(response, a.dtype) @ a
        return found.reshape(3, *form.domain.shape)
