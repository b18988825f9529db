"""−∇·(a∇u) + c u on a grid: its stencil and what boundary data add to the source."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._boundary import Dirichlet, Neumann, boundary_data
from ._check import check_field, positive_or_nan
from ._grid import Grid, side_index
from ._stencil import SymmetricStencil, half_offsets


def diffusion_stencil(
    coefficient: ArrayLike,
    grid: Grid,
    *,
    reaction: ArrayLike | None = None,
) -> SymmetricStencil:
    """The second-order finite-volume stencil of −∇·(a∇u) + c u.

    Between neighbouring nodes i and j flows  ā_ij (u_i − u_j)/h,  with the harmonic
    mean ā = 2 a_i a_j/(a_i + a_j), which is exact in one dimension where a jumps half
    way between them. Rows are divided by the volume of an interior cell; a row on a
    Neumann side thus carries the weight 1/2 (1/4 on an edge, …; see
    `Grid.cell_weights`), which keeps the matrix symmetric. Rows of stored Dirichlet
    nodes are decoupled multiples of the identity.

    **Arguments:**

    - `coefficient`: a > 0: a number, a field of shape `grid.num_points`, or one of
        shape `grid.closed_shape` that also has the boundary nodes that are not stored
        (otherwise their value is taken from the nearest stored node).
    - `grid`: the grid.
    - `reaction`: c ≥ 0, a number or a field of shape `grid.num_points`; default none.

    **Returns:** a `SymmetricStencil`, positive semidefinite, and definite unless every
    side is Neumann or periodic and c = 0.

    **Raises:** `ValueError` where the coefficient has the wrong shape or, if its values
    are known, is not positive and finite.

    Source: Patankar, *Numerical Heat Transfer and Fluid Flow*, §4.2-3 (harmonic mean).
    """
    closed = close_coefficient(coefficient, grid)
    weights = jnp.asarray(grid.cell_weights(), closed.dtype)
    mask = grid.dirichlet_mask()
    diagonal = jnp.zeros(grid.num_points, closed.dtype)
    edges = []
    offsets = half_offsets(grid.ndim, diagonals=False)
    for axis in range(grid.ndim):
        faces = _conductance(closed, grid, axis, weights)
        low = faces[_span(grid.ndim, axis, 0, -1)]
        high = faces[_span(grid.ndim, axis, 1, None)]
        diagonal = diagonal + low + high
        edges.append(_interior_edges(faces, grid, axis, mask))
    if reaction is not None:
        field = check_field("reaction", reaction, grid.num_points, scalar=True)
        extra = weights * field.astype(closed.dtype)
        # Rows of stored Dirichlet nodes only say diagonal · u = diagonal · value.
        diagonal = diagonal + (extra if mask is None else jnp.where(mask, 0.0, extra))
    return SymmetricStencil(diagonal, tuple(edges), offsets, grid.periodic)


def boundary_source(coefficient: ArrayLike, grid: Grid) -> Float[Array, "*space"]:
    """What Dirichlet and Neumann data add to the right-hand side of the stencil.

    With A = `diffusion_stencil(a, grid)` the system A u = w f + `boundary_source`
    (w = `grid.cell_weights()` except at stored Dirichlet nodes, where w f is replaced)
    discretises −∇·(a∇u) = f with the grid's boundary conditions.
    `source_vector` puts both together.

    **Arguments:** as `diffusion_stencil`.

    **Returns:** a field of shape `grid.num_points`, linear in the boundary data. At
    stored Dirichlet nodes it holds diagonal × value.
    """
    closed = close_coefficient(coefficient, grid)
    weights = jnp.asarray(grid.cell_weights(), closed.dtype)
    mask = grid.dirichlet_mask()
    source = jnp.zeros(grid.num_points, closed.dtype)
    values = grid.impose(source)
    diagonal = source
    for axis, pair in enumerate(grid.boundary):
        faces = _conductance(closed, grid, axis, weights)
        low = faces[_span(grid.ndim, axis, 0, -1)]
        high = faces[_span(grid.ndim, axis, 1, None)]
        diagonal = diagonal + low + high
        if mask is not None:
            # Neighbours of stored Dirichlet nodes, whose coupling left the matrix.
            known = _padded(values, grid, axis)
            source = source + low * known[_span(grid.ndim, axis, 0, -2)]
            source = source + high * known[_span(grid.ndim, axis, 2, None)]
        for side, condition in enumerate(pair):
            here = side_index(grid.ndim, axis, side)
            data = jnp.asarray(boundary_data(condition), closed.dtype)
            if isinstance(condition, Dirichlet) and not condition.stored:
                face = (low, high)[side][here]
                source = source.at[here].add(face * data)
            elif isinstance(condition, Neumann):
                # weights holds the factor 1/2 of this side; a face has none of it.
                scale = 2.0 * weights[here] / grid.spacing[axis]
                source = source.at[here].add(scale * data)
    if mask is not None:
        source = jnp.where(mask, diagonal * values, source)
    return source


def source_vector(
    source: ArrayLike, coefficient: ArrayLike, grid: Grid
) -> Float[Array, "*space"]:
    """The right-hand side b of A u = b for −∇·(a∇u) = f with the grid's boundary data.

    **Arguments:**

    - `source`: f, a number or a field of shape `grid.num_points`.
    - `coefficient`, `grid`: as for `diffusion_stencil`.

    **Returns:** b, of shape `grid.num_points`.
    """
    boundary = boundary_source(coefficient, grid)
    field = check_field("source", source, grid.num_points, scalar=True)
    weighted = jnp.asarray(grid.cell_weights(), boundary.dtype) * field.astype(
        boundary.dtype
    )
    mask = grid.dirichlet_mask()
    if mask is not None:
        weighted = jnp.where(mask, 0.0, weighted)
    return weighted + boundary


def close_coefficient(coefficient: ArrayLike, grid: Grid) -> Float[Array, "*closed"]:
    """A coefficient on all nodes, boundary nodes that are not stored included.

    Numbers are spread out; a field of shape `grid.num_points` is continued by its
    nearest value; a field of shape `grid.closed_shape` is returned as it is.
    """
    if np.ndim(coefficient) == 0:
        field = positive_or_nan("coefficient", jnp.asarray(coefficient))
        if not jnp.issubdtype(field.dtype, jnp.floating):
            field = field.astype(jnp.result_type(float))
        return jnp.full(grid.closed_shape, field)
    field = check_field("coefficient", coefficient, grid.num_points, grid.closed_shape)
    field = positive_or_nan("coefficient", field)
    if field.shape == grid.closed_shape:
        return field
    return jnp.pad(field, grid.margins, mode="edge")


def _conductance(closed: Array, grid: Grid, axis: int, weights: Array) -> Array:
    """ā/h² of the n+1 faces across `axis`, times the share of the face in the box.

    0 on the outer face of a stored side; wrapped where the axis is periodic.
    """
    # Other axes: only the stored nodes.
    for k, (before, after) in enumerate(grid.margins):
        if k != axis:
            stop = closed.shape[k] - after
            closed = closed[_span(grid.ndim, k, before, stop)]
    if grid.periodic[axis]:
        first = closed[_span(grid.ndim, axis, 0, 1)]
        last = closed[_span(grid.ndim, axis, -1, None)]
        closed = jnp.concatenate([last, closed, first], axis)
    low = closed[_span(grid.ndim, axis, 0, -1)]
    high = closed[_span(grid.ndim, axis, 1, None)]
    # 2/(1/a + 1/b) would overflow later than 2ab/(a + b) underflows for tiny a.
    faces = 2.0 / (1.0 / low + 1.0 / high)
    width = [(0, 0)] * grid.ndim
    if not grid.periodic[axis]:
        before, after = grid.margins[axis]
        width[axis] = (1 - before, 1 - after)
        faces = jnp.pad(faces, width)
    # Share of the face: the cell's weight without this axis' own halves. An interior
    # node along `axis` has none of them; take any such node's, or undo the half.
    share = _tangential_weights(weights, grid, axis)
    return faces * (share / grid.spacing[axis] ** 2)


def _tangential_weights(weights: Array, grid: Grid, axis: int) -> Array:
    line = weights[_span(grid.ndim, axis, 0, 1)]
    low = grid.boundary[axis][0]
    halved = low.stores_nodes and not grid.periodic[axis]
    return line * 2.0 if halved else line


def _interior_edges(faces: Array, grid: Grid, axis: int, mask) -> Array:
    """Minus the conductance where both end points are unknowns, else 0."""
    if not grid.periodic[axis]:
        inner = _span(grid.ndim, axis, 1, -1)
        keep = jnp.zeros(faces.shape, faces.dtype).at[inner].set(1.0)
        faces = faces * keep
    if mask is not None:
        free = _padded(jnp.asarray(~mask, faces.dtype), grid, axis)
        both = (
            free[_span(grid.ndim, axis, 0, -1)] * free[_span(grid.ndim, axis, 1, None)]
        )
        faces = faces * both
    return -faces


def _padded(field: Array, grid: Grid, axis: int) -> Array:
    width = [(0, 0)] * grid.ndim
    width[axis] = (1, 1)
    return jnp.pad(field, width, mode="wrap" if grid.periodic[axis] else "constant")


def _span(ndim: int, axis: int, start: int, stop: int | None) -> tuple[slice, ...]:
    index = [slice(None)] * ndim
    index[axis] = slice(start, stop)
    return tuple(index)
