"""Meshes of the finite-element problems: a graded L-shape and a ball."""

from typing import Any

import numpy as np

from ._finite_elements import scikit_fem

# A scikit-fem mesh.
Mesh = Any
_LOCAL_ROUNDS = 5


def l_shape(num_refinements: int) -> Mesh:
    """Triangles, five times more refined around the corner, see the problem."""
    mesh = scikit_fem().MeshTri.init_lshaped().refined(num_refinements)
    for number in range(1, _LOCAL_ROUNDS + 1):
        centres = mesh.p[:, mesh.t].mean(axis=1)
        near = np.linalg.norm(centres, axis=0) < 0.5**number
        mesh = mesh.refined(np.flatnonzero(near))
    return mesh


def ball(num_refinements: int) -> Mesh:
    """An octahedron, refined evenly, its boundary moved to the sphere each time.

    The refinement of scikit-fem 12 compares the diagonals that it may choose in x and y
    only; its balls have ever flatter elements (the worst one's quality halves with each
    level), and linear elements on them converge with order 1.7 in place of 2.
    """
    fem = scikit_fem()
    mesh = fem.MeshTet.init_ball(0)
    for _ in range(num_refinements):
        mesh = fem.MeshTet(*_refined(mesh.p, mesh.t))
        points, outside = mesh.p.copy(), mesh.boundary_nodes()
        points[:, outside] /= np.linalg.norm(points[:, outside], axis=0)
        mesh = fem.MeshTet(points, mesh.t)
    return mesh


def _refined(points: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight tetrahedra from each: four at the corners, four from the octahedron left.

    That one is cut along the shortest of its diagonals, which keeps shapes from
    degenerating (Bey, Computing 55 (1995) 355).
    """
    pairs = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
    ends = np.sort(cells[pairs], axis=1)
    count = points.shape[1]
    edges, number = np.unique(
        ends[:, 0].astype(np.int64) * count + ends[:, 1], return_inverse=True
    )
    middles = (points[:, edges // count] + points[:, edges % count]) / 2
    points = np.hstack([points, middles])
    a, b, c, d = cells
    ab, ac, ad, bc, bd, cd = number.reshape(ends[:, 0].shape) + count
    corners = [(a, ab, ac, ad), (b, ab, bc, bd), (c, ac, bc, cd), (d, ad, bd, cd)]
    # Each diagonal with the ring of the four other points around it.
    ways = np.array(
        [
            (ab, cd, ac, bc, bd, ad),
            (ac, bd, ab, bc, cd, ad),
            (ad, bc, ab, ac, cd, bd),
        ]
    )
    lengths = np.linalg.norm(points[:, ways[:, 0]] - points[:, ways[:, 1]], axis=0)
    best = ways[np.argmin(lengths, axis=0), :, np.arange(cells.shape[1])].T
    inner = [(best[0], best[1], best[2 + k], best[2 + (k + 1) % 4]) for k in range(4)]
    return points, np.hstack([np.stack(cell) for cell in [*corners, *inner]])
