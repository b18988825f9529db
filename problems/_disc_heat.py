"""A step of the heat equation on random triangulations of a disc."""

from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from sciml.grids import Grid, Neumann, SquaredExponentialField
from sciml.linear import from_skfem

from ._finite_elements import AbstractFiniteElements, Discretisation, scikit_fem

# Noise that is blurred with a Gaussian of 51.2 pixels, of 1024 on a side of length 2.
_CORRELATION_LENGTH = 0.1 * 2**0.5
_NOISE_POINTS = 65
# What part of the boundary is held.
_HELD = (0.3, 0.5)


class DiscHeat(AbstractFiniteElements):
    """(M + Δt κ K) u⁺ = M u, one backward Euler step on the unit disc.

    M and K are the matrices of mass and stiffness of linear elements. Every key gives
    another mesh, the disc turned by a random angle and refined within random discs of
    radius 0.4; another u, a smooth random field scaled to [−1, 1]; and another arc of
    30 to 50 % of the boundary on which u is held. No flux passes the rest.

    A family of systems to train preconditioners on, and for those that were.

    **Arguments:**

    - `num_refinements`: of the whole disc, each halves the elements. Default 3: about
        200 unknowns.
    - `num_rounds`: of random local refinement. Default 2.
    - `diffusion`: Δt κ, in units of the radius squared. Default 1.

    !!! example

        ```python
        import jax.random as jr
        import problems

        A, b = problems.DiscHeat().linear_system(key=jr.key(0))
        ```

    Source: the heat equation of Li et al., ICML 2023 (arXiv 2305.16432); meshes,
    first states and steps are not its own.
    """

    num_refinements: int = eqx.field(static=True, default=3)
    num_rounds: int = eqx.field(static=True, default=2)
    diffusion: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if self.num_refinements < 1 or self.num_rounds < 0:
            raise ValueError(
                "num_refinements, num_rounds: expected at least 1 and 0, got "
                f"{self.num_refinements} and {self.num_rounds}."
            )
        if not 0 < self.diffusion < float("inf"):
            raise ValueError(
                f"diffusion: expected a positive number, got {self.diffusion}."
            )

    def discretise(self, *, key: PRNGKeyArray | None = None) -> Discretisation:
        """Mesh, assemble, and eliminate the arc.

        **Arguments:**

        - `key`: of mesh, field and arc; needed.

        **Raises:** `ImportError` without scikit-fem; `ValueError` without a key.
        """
        if key is None:
            raise ValueError("key: a random mesh needs one.")
        mesh_key, field_key, arc_key = jr.split(key, 3)
        fem = scikit_fem()
        mesh = self._mesh(mesh_key)
        basis = fem.Basis(mesh, fem.ElementTriP1())
        mass = fem.models.poisson.mass.assemble(basis)
        stiffness = fem.models.poisson.laplace.assemble(basis)
        state = _field(mesh.p, field_key)
        share, first = np.asarray(jr.uniform(arc_key, (2,)))
        share = _HELD[0] + share * (_HELD[1] - _HELD[0])
        outside = mesh.boundary_nodes()
        angle = np.arctan2(mesh.p[1, outside], mesh.p[0, outside]) / (2 * np.pi)
        held = outside[(angle - first) % 1.0 < share]
        operator, vector, expand = from_skfem(
            mass + self.diffusion * stiffness, mass @ state, D=held, x=state
        )
        free = np.setdiff1d(np.arange(mesh.p.shape[1]), held)
        return Discretisation(
            operator,
            vector,
            expand,
            coordinates=mesh.p[:, free].T,
            near_null_space=np.ones((free.size, 1)),
        )

    def _mesh(self, key: PRNGKeyArray) -> Any:
        mesh = scikit_fem().MeshTri.init_circle(self.num_refinements)
        numbers = np.asarray(jr.uniform(key, (self.num_rounds + 1, 2)))
        for radius, angle in numbers[1:]:
            # (Uniform in the disc.)
            size, turn = np.sqrt(radius), 2 * np.pi * angle
            centre = size * np.array([np.cos(turn), np.sin(turn)])
            middles = mesh.p[:, mesh.t].mean(axis=1)
            near = np.linalg.norm(middles - centre[:, None], axis=0) < 0.4
            mesh = mesh.refined(np.flatnonzero(near))
        turn = 2 * np.pi * numbers[0, 0]
        rotation = np.array(
            [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        )
        return type(mesh)(rotation @ mesh.p, mesh.t)


def _field(points: np.ndarray, key: PRNGKeyArray) -> np.ndarray:
    """A smooth random field at points of shape (2, n), from −1 to 1."""
    from scipy.interpolate import RegularGridInterpolator

    grid = Grid((_NOISE_POINTS,) * 2, 2.0, Neumann(), origin=-1.0)
    noise = SquaredExponentialField(1.0, correlation_length=_CORRELATION_LENGTH)
    values = np.asarray(noise.sample(grid, key=key), float)
    low, high = values.min(), values.max()
    values = 2 * (values - low) / (high - low) - 1
    axes = [grid.coordinates(axis) for axis in range(2)]
    return RegularGridInterpolator(axes, values)(np.clip(points.T, -1.0, 1.0))
