"""Domains with holes: nodes of a grid that are held at zero."""

import jax.numpy as jnp
from jaxtyping import ArrayLike

from ..grids import SymmetricStencil
from ._stencil_operator import StencilOperator


def with_obstacle(operator: StencilOperator, obstacle: ArrayLike) -> StencilOperator:
    """A with zero Dirichlet conditions at the nodes of an obstacle.

    Couplings between the obstacle's nodes and all others are taken out, in rows and
    columns alike, so that A stays symmetric; diagonals stay. With b = 0 at the
    obstacle's nodes so is u, and everywhere else A u = b is the equation with u = 0
    there. It may be jitted and vmapped over obstacles.

    **Arguments:**

    - `operator`: on a grid without periodic sides.
    - `obstacle`: which nodes, booleans of the grid's shape; or how much of each node as
        numbers from 0 to 1, by which couplings are then reduced.

    **Raises:** `TypeError` for an operator without a stencil, `ValueError` for an
    obstacle of another shape and for periodic sides.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        obstacle = jnp.zeros((31, 31), bool).at[8:16, 10:20].set(True)
        b = jnp.where(obstacle, 0.0, 1.0)
        u = sciml.linear_solve(sciml.linear.with_obstacle(A, obstacle), b).value
        ```
    """
    if not isinstance(operator, StencilOperator):
        raise TypeError(
            "operator: expected a sciml.linear.StencilOperator, got "
            f"{type(operator).__name__}."
        )
    stencil = operator.stencil
    obstacle = jnp.asarray(obstacle)
    if obstacle.shape != stencil.shape:
        raise ValueError(
            f"obstacle: expected shape {stencil.shape}, the grid's, got "
            f"{obstacle.shape}."
        )
    if any(stencil.periodic):
        raise ValueError(
            "operator: obstacles on grids with periodic sides are missing."
        )
    free = 1 - obstacle.astype(stencil.diagonal.dtype)
    edges = []
    for offset, edge in zip(stencil.offsets, stencil.edges, strict=True):
        # Of both nodes of each edge; edges that leave the box have one, and are zero.
        low = jnp.pad(free, [(max(k, 0), max(-k, 0)) for k in offset])
        high = jnp.pad(free, [(max(-k, 0), max(k, 0)) for k in offset])
        edges.append(edge * low * high)
    cut = SymmetricStencil(
        stencil.diagonal, tuple(edges), stencil.offsets, stencil.periodic
    )
    return StencilOperator(cut, operator.grid, operator.tags)
