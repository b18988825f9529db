"""Taylor and Hood's elements for slow flow around a cylinder in a channel."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sciml.weak_forms import StokesChannel

from ._finite_elements import scikit_fem

# Neighbouring rings of nodes around the cylinder are a little farther apart than nodes
# along them.
_STRETCH = 1.2


@functools.lru_cache(maxsize=4)
def stokes_response(
    form: "Geometry", refinement: int
) -> Float[np.ndarray, "3 nodes inflow"]:
    """The matrices that map a at the nodes of the entrance to u, v, p.

    Those of the cubic spline through a's values, at the nodes of the form's domain; 0
    in the cylinder. Velocities are quadratic, pressures linear on triangles.

    **Arguments:**

    - `form`: what `Geometry.of` makes of the weak form.
    - `refinement`: 8 · refinement triangles across the channel.

    **Returns:** an array that is shared, and cannot be written to.

    **Raises:** `ImportError` without scikit-fem.
    """
    fem = scikit_fem()
    mesh = channel_mesh(form, refinement)
    element = fem.ElementVector(fem.ElementTriP2())
    velocity = fem.Basis(mesh, element, intorder=4)
    pressure = velocity.with_element(fem.ElementTriP1())
    symmetric, divergence = _forms(fem)
    stiffness = 2 * form.viscosity * symmetric.assemble(velocity)
    constraint = divergence.assemble(velocity, pressure)
    matrix = fem.bmat([[stiffness, -constraint.T], [-constraint, None]], "csc")
    held, values = _boundary_values(form, velocity)
    free = np.setdiff1d(np.arange(matrix.shape[0]), held)
    solution = np.zeros((matrix.shape[0], values.shape[1]))
    solution[held] = values
    right = -(matrix[free][:, held] @ values)
    import scipy.sparse.linalg

    solution[free] = scipy.sparse.linalg.splu(matrix[free][:, free]).solve(right)
    found = _at_nodes(fem, form, velocity, pressure, solution)
    found.setflags(write=False)
    return found


class Geometry(tuple[Any, ...]):
    """The numbers that the response depends on, comparable by value."""

    viscosity: float
    form: StokesChannel

    @classmethod
    def of(cls, form: StokesChannel) -> "Geometry":
        """Those of a weak form."""
        grid = form.grid
        nodes = tuple(grid.coordinates(0).tolist())
        if len(nodes) != grid.num_points[0] or nodes[0] != grid.origin[0]:
            raise ValueError("form: expected a grid with the nodes on both walls.")
        numbers = (form.viscosity, form.length, form.centre, form.radius)
        found = cls((*numbers, form.num_points, grid.extent, nodes))
        found.viscosity, found.form = form.viscosity, form
        return found


def channel_mesh(form: Geometry, refinement: int) -> Any:
    """Triangles between rings around the cylinder, and squares cut in two beyond."""
    from scipy.spatial import Delaunay

    fem, channel = scikit_fem(), form.form.channel
    spacing = channel.height / (8 * refinement)
    count = 32 * refinement
    centre = np.array([channel.centre])
    angles = 2 * np.pi / count * np.arange(count)
    rings, radius = [], channel.radius
    turn = 0.0
    largest = channel.radius + 0.9 * channel.gap
    while radius < largest and 2 * np.pi * radius / count < 1.2 * spacing:
        around = np.stack([np.cos(angles + turn), np.sin(angles + turn)], 1)
        rings.append(centre + radius * around)
        radius *= 1 + _STRETCH * 2 * np.pi / count * np.sqrt(3) / 2
        # (So that triangles are nearly equilateral.)
        turn += np.pi / count
    last = np.linalg.norm(rings[-1][0] - centre[0])
    along = max(round(channel.length / spacing), 1)
    x = np.linspace(0, channel.length, along + 1)
    y = np.linspace(channel.low, channel.low + channel.height, 8 * refinement + 1)
    grid = np.stack([m.ravel() for m in np.meshgrid(x, y, indexing="ij")], 1)
    room = last + np.pi * last / count + 0.3 * spacing
    on_side = (grid[:, 0] == x[0]) | (grid[:, 0] == x[-1])
    on_side |= (grid[:, 1] == y[0]) | (grid[:, 1] == y[-1])
    clear = np.linalg.norm(grid - centre, axis=1) > np.where(on_side, last, room)
    points = np.concatenate([*rings, grid[clear]])
    cells = Delaunay(points).simplices
    solid = (cells < count).all(1)
    corners = points[cells]
    edges = corners[:, 1:] - corners[:, :1]
    area = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0])
    kept = cells[~solid & (area > 1e-6 * spacing**2)]
    return fem.MeshTri(*(np.ascontiguousarray(k.T) for k in (points, kept)))


def _forms(fem: Any) -> tuple[Any, Any]:
    from skfem.helpers import ddot, div, sym_grad

    symmetric = fem.BilinearForm(lambda u, v, w: ddot(sym_grad(u), sym_grad(v)))
    return symmetric, fem.BilinearForm(lambda u, q, w: div(u) * q)


def _boundary_values(form: Geometry, velocity: Any) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom that are known, and a's matrix for them."""
    from scipy.interpolate import CubicSpline

    channel, grid = form.form.channel, form.form.grid
    facets = velocity.mesh.boundary_facets()
    known = velocity.get_dofs(facets).flatten()
    places = velocity.doflocs[:, known]
    near = 1e-9 * channel.height
    # Dofs of u and v alternate: at nodes, then on edges.
    across = np.zeros(velocity.N, bool)
    for dofs in (velocity.nodal_dofs, velocity.facet_dofs):
        across[dofs[1]] = True
    leaving = np.abs(places[0] - channel.length) < near
    inner = np.abs(places[1] - channel.low) > near
    inner &= np.abs(places[1] - channel.low - channel.height) > near
    held = ~(leaving & inner & ~across[known])
    known, places = known[held], places[:, held]
    values = np.zeros((known.size, grid.size))
    entering = (np.abs(places[0]) < near) & ~across[known]
    spline = CubicSpline(grid.coordinates(0), np.eye(grid.size))
    values[entering] = spline(places[1, entering])
    return known, values


def _at_nodes(
    fem: Any, form: Geometry, velocity: Any, pressure: Any, found: Any
) -> np.ndarray:
    domain, channel = form.form.domain, form.form.channel
    points = np.stack([m.ravel() for m in np.broadcast_arrays(*domain.mesh())])
    with jax.ensure_compile_time_eval():
        fluid = ~np.asarray(channel.within(jnp.asarray(points.T)))
    # (Those on the cylinder are off the triangles by rounding.)
    away = points[:, fluid] - np.array(channel.centre)[:, None]
    distance = np.linalg.norm(away, axis=0)
    least = channel.radius * (1 + 1e-9)
    away *= np.maximum(distance, least) / distance
    seen = away + np.array(channel.centre)[:, None]
    scalar = velocity.with_element(fem.ElementTriP2())
    quadratic, linear = scalar.probes(seen), pressure.probes(seen)
    result = np.zeros((3, points.shape[1], found.shape[1]))
    for k in range(2):
        part = np.zeros((scalar.N, found.shape[1]))
        part[scalar.nodal_dofs[0]] = found[velocity.nodal_dofs[k]]
        part[scalar.facet_dofs[0]] = found[velocity.facet_dofs[k]]
        result[k, fluid] = quadratic @ part
    result[2, fluid] = linear @ found[velocity.N :]
    return result
