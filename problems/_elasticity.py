"""Linear elasticity by finite elements: a clamped beam under its weight."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from sciml.linear import from_skfem

from ._finite_elements import AbstractFiniteElements, Discretisation, scikit_fem


class LinearElasticity(AbstractFiniteElements):
    """−∇·σ(u) = f in a beam that is clamped at its end x = 0 and free elsewhere,

        σ = λ (∇·u) I + μ (∇u + ∇uᵀ),  λ = E ν/((1 + ν)(1 − 2ν)),  μ = E/(2 (1 + ν)):

    isotropic material, in two dimensions in plane strain. Linear elements on triangles
    or tetrahedra, the dofs of a node next to each other. The benchmark of
    preconditioners for vector problems: near the null space are the rigid motions, not
    the constants alone, and the thinner the beam, the harder.

    **Arguments:**

    - `num_cells`: cells per axis, two or three axes; a cell is two triangles or six
        tetrahedra. Default 64 × 16.
    - `extent`: lengths, one number or one per axis. Default (4, 1).
    - `young`: E > 0. Default 1.
    - `poisson_ratio`: −1 < ν < 1/2. Default 0.3. Towards 1/2 linear elements lock.
    - `force`: f per volume, a number per axis. Default 1 downwards along the last axis.

    !!! example

        ```python
        import problems

        problem = problems.LinearElasticity((8, 2))
        found = problem.discretise()
        found.operator.in_size(), found.block_size  # 48, 2
        found.near_null_space.shape  # (48, 3)
        ```

    Source: Braess, *Finite Elements*, ch. VI §3.
    """

    num_cells: tuple[int, ...] = eqx.field(static=True)
    extent: tuple[float, ...] = eqx.field(static=True)
    young: float = eqx.field(static=True)
    poisson_ratio: float = eqx.field(static=True)
    force: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_cells: Sequence[int] = (64, 16),
        extent: float | Sequence[float] = (4.0, 1.0),
        young: float = 1.0,
        poisson_ratio: float = 0.3,
        force: Sequence[float] | None = None,
    ):
        cells = tuple(int(n) for n in num_cells)
        if len(cells) not in (2, 3) or min(cells) < 1:
            raise ValueError(
                "num_cells: expected two or three numbers, at least 1 each, got "
                f"{tuple(num_cells)}."
            )
        ndim = len(cells)
        lengths = (extent,) * ndim if isinstance(extent, int | float) else extent
        self.extent = tuple(float(length) for length in lengths)
        if len(self.extent) != ndim or not all(0 < e < math.inf for e in self.extent):
            raise ValueError(
                f"extent: expected one positive length or {ndim} of them, got {extent}."
            )
        if not 0 < young < math.inf:
            raise ValueError(f"young: expected a positive number, got {young}.")
        if not -1 < poisson_ratio < 0.5:
            raise ValueError(
                f"poisson_ratio: expected −1 < ν < 1/2, got {poisson_ratio}."
            )
        down = (0.0,) * (ndim - 1) + (-1.0,)
        self.force = down if force is None else tuple(float(f) for f in force)
        if len(self.force) != ndim or not np.isfinite(self.force).all():
            raise ValueError(
                f"force: expected {ndim} finite numbers, one per axis, got {force}."
            )
        self.num_cells = cells
        self.young, self.poisson_ratio = float(young), float(poisson_ratio)

    def discretise(self, *, key: PRNGKeyArray | None = None) -> Discretisation:
        """Mesh, assemble, and eliminate the clamped nodes; see `Discretisation`."""
        del key
        matrix, load, points = self.unclamped()
        ndim = len(self.num_cells)
        held = np.flatnonzero(np.repeat(points[:, 0] == 0.0, ndim))
        operator, vector, expand = from_skfem(matrix, load, D=held)
        free = points[points[:, 0] > 0.0]
        return Discretisation(
            operator,
            vector,
            expand,
            coordinates=np.repeat(free, ndim, axis=0),
            near_null_space=rigid_body_modes(free),
            block_size=ndim,
        )

    def unclamped(self) -> tuple[Any, np.ndarray, Float[np.ndarray, "nodes ndim"]]:
        """The SciPy matrix and the load of all dofs, and the nodes.

        Singular: rigid motions (`rigid_body_modes`) have no energy. For other boundary
        conditions than the clamped end, see `sciml.linear.from_skfem`.
        """
        fem = scikit_fem()
        model = fem.models.elasticity
        axes = [
            np.linspace(0.0, length, cells + 1)
            for cells, length in zip(self.num_cells, self.extent, strict=True)
        ]
        flat = len(axes) == 2
        mesh = (fem.MeshTri if flat else fem.MeshTet).init_tensor(*axes)
        element = fem.ElementTriP1() if flat else fem.ElementTetP1()
        basis = fem.Basis(mesh, fem.ElementVector(element))
        lame = model.lame_parameters(self.young, self.poisson_ratio)
        matrix = model.linear_elasticity(*lame).assemble(basis)
        load = fem.LinearForm(
            lambda v, w: sum(f * part for f, part in zip(self.force, v, strict=True))
        )
        return matrix, load.assemble(basis), mesh.p.T.copy()


def rigid_body_modes(
    points: Float[np.ndarray, "nodes ndim"],
) -> Float[np.ndarray, "dofs modes"]:
    """Displacements without strain: 2 translations and 1 rotation, or 3 and 3.

    What algebraic multigrid for elasticity is given as near null space. Rotations are
    about the mean of the points.

    **Arguments:**

    - `points`: of shape `(nodes, 2)` or `(nodes, 3)`.

    **Returns:** `(2 nodes, 3)` or `(3 nodes, 6)`; the components of a node are
    neighbours.

    !!! example

        ```python
        import numpy as np
        import problems

        problems.rigid_body_modes(np.array([[0.0, 0.0], [2.0, 0.0]]))[:, 2]
        # [0., -1., 0., 1.]: a rotation
        ```
    """
    count, ndim = points.shape
    if ndim not in (2, 3):
        raise ValueError(f"points: expected two or three axes, got {ndim}.")
    planes = [(0, 1), (1, 2), (2, 0)][: 2 * ndim - 3]
    modes = np.zeros((count, ndim, ndim + len(planes)))
    modes[:, np.arange(ndim), np.arange(ndim)] = 1.0
    centred = points - points.mean(axis=0)
    for number, (i, j) in enumerate(planes):
        modes[:, i, ndim + number] = -centred[:, j]
        modes[:, j, ndim + number] = centred[:, i]
    return modes.reshape(count * ndim, -1)
