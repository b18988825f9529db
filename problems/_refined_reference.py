"""The solution on a finer grid, for coefficients that are functions between nodes."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

import sciml
from sciml.grids import Grid, source_vector
from sciml.linear import diffusion_operator
from sciml.preconditioners import Multigrid
from sciml.weak_forms import AbstractCoefficient


def refined_reference(
    coefficient: Float[Array, "*space"],
    kind: AbstractCoefficient,
    grid: Grid,
    source: ArrayLike,
    refinement: int,
) -> Float[Array, "*space"]:
    """u of −∇·(a∇u) = f, zero on the sides, at the nodes of `grid`, all stored.

    **Arguments:**

    - `coefficient`: a at the nodes.
    - `kind`: says what it is between them.
    - `grid`: its nodes on the sides are stored.
    - `source`: f.
    - `refinement`: spacings of the finer grid in one of this.
    """
    counts = [refinement * (n - 1) - 1 for n in grid.num_points]
    fine = Grid(counts, extent=grid.extent, origin=grid.origin)
    dtype = coefficient.dtype
    points = jnp.stack([jnp.asarray(x, dtype).ravel() for x in fine.mesh()], -1)
    a = kind.between(coefficient, grid, points).reshape(fine.shape)
    solution = sciml.linear_solve(
        diffusion_operator(a, fine),
        source_vector(source, a, fine),
        sciml.CG(max_steps=500),
        preconditioner=Multigrid(),
    )
    return jnp.pad(solution.value, 1)[(slice(None, None, refinement),) * a.ndim]
