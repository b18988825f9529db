"""−Δu = f with a solution in closed form."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import (
    AbstractBoundary,
    Dirichlet,
    Grid,
    Neumann,
    Periodic,
    source_vector,
)

from ._diffusion_family import AbstractDiffusion
from ._evolution_arguments import times_and_places


class Poisson(AbstractDiffusion):
    """−Δu = f on the unit box, whose solution is known:

        u(x) = Π_k g_k(x_k)

    with g = sin πx + x²/2 along axes with a Dirichlet or Neumann side (so that values
    and fluxes on the sides are not zero) and g = cos 2πx along periodic axes. f and
    all boundary data follow from u. Where no side is Dirichlet, u is known up to a
    constant: `exact_solution` has mean zero over the nodes, and f is shifted by O(h²)
    so that the discrete data are compatible.

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 63 × 63.
    - `boundary`: the kinds of conditions, as for `sciml.grids.Grid`; their data are
        replaced by u's. Default Dirichlet.

    !!! example

        ```python
        import jax.numpy as jnp
        import problems

        problem = problems.Poisson(num_points=(31, 31))
        solution = problem.solve(problem.constant_coefficient(), rtol=1e-5)
        jnp.abs(solution.value - problem.exact_solution()).max()  # O(h²)
        ```
    """

    grid: Grid
    source: ArrayLike

    def __init__(
        self,
        num_points: int | Sequence[int] = (63, 63),
        boundary: AbstractBoundary | Sequence = Dirichlet(),
    ):
        bare = Grid(num_points, boundary=boundary).homogeneous()
        periodic = bare.periodic
        pairs = tuple(
            tuple(
                _with_data(condition, axis, side, periodic)
                for side, condition in enumerate(pair)
            )
            for axis, pair in enumerate(bare.boundary)
        )
        self.grid = Grid(num_points, boundary=pairs)
        mesh = [jnp.asarray(x) for x in self.grid.mesh()]
        source = jnp.zeros(self.grid.num_points, mesh[0].dtype)
        for axis in range(self.grid.ndim):
            source = source - _product(mesh, periodic, axis, 2)
        if not any(isinstance(c, Dirichlet) for pair in pairs for c in pair):
            # Quadrature leaves the data incompatible by O(h²); the discrete system
            # needs them compatible to rounding.
            total = jnp.sum(source_vector(source, 1.0, self.grid))
            source = source - total / jnp.sum(jnp.asarray(self.grid.cell_weights()))
        self.source = source

    def exact_solution(self, *coordinates: ArrayLike) -> Float[Array, "..."]:
        """u at the nodes, or where you say.

        **Arguments:**

        - `coordinates`: x, one array per axis, all of one shape, that of the result,
            whose precision they have. Default the nodes of the grid.

        **Raises:** `ValueError` where their number or shapes do not fit.
        """
        _, places = times_and_places(self.grid, 0.0, coordinates)
        u = _product(places, self.grid.periodic, 0, 0)
        if any(isinstance(c, Dirichlet) for p in self.grid.boundary for c in p):
            return u
        nodes = [jnp.asarray(x) for x in self.grid.mesh()]
        mean = jnp.mean(_product(nodes, self.grid.periodic, 0, 0))
        return u - mean.astype(u.dtype)

    def constant_coefficient(self) -> Float[Array, "*space"]:
        """a = 1."""
        return jnp.ones(self.grid.num_points, jnp.result_type(float))

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """a = 1, whatever the key."""
        del key
        return self.constant_coefficient()


def _with_data(condition, axis: int, side: int, periodic) -> AbstractBoundary:
    if isinstance(condition, Periodic):
        return condition
    if isinstance(condition, Dirichlet):
        value = lambda *x: _product([jnp.asarray(c) for c in x], periodic, axis, 0)
        return Dirichlet(value, condition.stored)
    outward = 1 if side else -1
    flux = lambda *x: outward * _product([jnp.asarray(c) for c in x], periodic, axis, 1)
    return Neumann(flux)


def _product(mesh, periodic, axis: int, order: int) -> Array:
    """Π g_k with the factor of `axis` differentiated `order` times."""
    out = jnp.ones_like(mesh[0])
    for k, (x, wraps) in enumerate(zip(mesh, periodic, strict=True)):
        out = out * _factor(x, wraps, order if k == axis else 0)
    return out


def _factor(x: Array, periodic: bool, order: int) -> Array:
    if periodic:
        w = 2 * math.pi
        return (jnp.cos(w * x), -w * jnp.sin(w * x), -(w**2) * jnp.cos(w * x))[order]
    w = math.pi
    return (
        jnp.sin(w * x) + x**2 / 2,
        w * jnp.cos(w * x) + x,
        -(w**2) * jnp.sin(w * x) + 1.0,
    )[order]
