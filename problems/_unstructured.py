"""−∇·(a∇u) = f on unstructured meshes, by finite elements."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from sciml.grids import AbstractRandomField, Grid, Neumann
from sciml.linear import from_skfem

from ._finite_elements import AbstractFiniteElements, Discretisation, scikit_fem
from ._meshes import ball, l_shape

# A number, or a function of the coordinates: one NumPy array per axis.
Data = int | float | Callable[..., Any]

# Per mesh: how it is made, its elements, its axes, and nodes per axis on which a random
# coefficient is drawn.
_MESHES = {"l_shape": (l_shape, "Tri", 2, 257), "ball": (ball, "Tet", 3, 65)}


class UnstructuredDiffusion(AbstractFiniteElements):
    """−∇·(a∇u) = f in an L-shaped domain or a ball, u = g on the boundary.

    Matrices without a grid behind them, whose rows differ in length and whose entries
    in size:

    - "l_shape": [−1, 1]² without its upper right quarter, triangles. Refined evenly
        `num_refinements` times and then five times more around the corner at 0, round
        k within the distance 2⁻ᵏ; u has a singularity there.
    - "ball": of radius 1, tetrahedra, whose boundary nodes lie on the sphere. Even.

    With linear elements there are n unknowns:

    | `num_refinements` | 2 | 3 | 4 | 5 | 6 |
    |---|---|---|---|---|---|
    | n, "l_shape" | 233 | 876 | 3 245 | 12 465 | 49 208 |
    | n, "ball" | 63 | 575 | 4 991 | 41 727 | 341 503 |

    **Arguments:**

    - `mesh`: "l_shape" (default) or "ball".
    - `num_refinements`: each halves the elements. Default 4.
    - `degree`: of the elements, 1 (default) or 2.
    - `coefficient`: a: a number, a function of the coordinates (`a(x, y)`, on NumPy
        arrays), or a `sciml.grids.AbstractRandomField`, which is drawn on a grid of
        [−1, 1]ᵈ (257² or 65³ nodes) and interpolated linearly. Default 1.
    - `source`: f, a number or a function. Default 1.
    - `boundary_value`: g, a number or a function. Default 0.

    !!! example

        ```python
        import problems

        problem = problems.UnstructuredDiffusion("l_shape", num_refinements=2)
        found = problem.discretise()
        found.operator.in_size(), found.coordinates.shape  # 233, (233, 2)
        ```
    """

    mesh: str = eqx.field(static=True)
    num_refinements: int = eqx.field(static=True)
    degree: int = eqx.field(static=True)
    coefficient: Data | AbstractRandomField
    source: Data
    boundary_value: Data

    def __init__(
        self,
        mesh: str = "l_shape",
        num_refinements: int = 4,
        degree: int = 1,
        coefficient: Data | AbstractRandomField = 1.0,
        source: Data = 1.0,
        boundary_value: Data = 0.0,
    ):
        if mesh not in _MESHES:
            raise ValueError(f"mesh: expected 'l_shape' or 'ball', got {mesh!r}.")
        if num_refinements < 1:
            raise ValueError(
                f"num_refinements: expected at least 1, got {num_refinements}."
            )
        if degree not in (1, 2):
            raise ValueError(f"degree: expected 1 or 2, got {degree!r}.")
        self.mesh, self.num_refinements, self.degree = mesh, num_refinements, degree
        self.coefficient, self.source = coefficient, source
        self.boundary_value = boundary_value

    def discretise(self, *, key: PRNGKeyArray | None = None) -> Discretisation:
        """Mesh, assemble, and eliminate the boundary.

        **Arguments:**

        - `key`: needed where the coefficient is a random field.

        **Raises:** `ImportError` without scikit-fem; `ValueError` where a random
        coefficient gets no key, or the coefficient is not positive and finite.
        """
        coefficient = self._coefficient(key)
        fem = scikit_fem()
        make, shape, _, _ = _MESHES[self.mesh]
        element = getattr(fem, f"Element{shape}P{self.degree}")()
        basis = fem.Basis(make(self.num_refinements), element)

        def bilinear(u, v, w):
            a = _evaluate(coefficient, w.x)
            if not (np.isfinite(a).all() and a.min() > 0):
                raise ValueError(
                    "coefficient: expected finite values above 0 in the whole domain, "
                    f"got values from {a.min()} to {a.max()}."
                )
            return a * fem.helpers.dot(fem.helpers.grad(u), fem.helpers.grad(v))

        matrix = fem.BilinearForm(bilinear).assemble(basis)
        load = fem.LinearForm(lambda v, w: _evaluate(self.source, w.x) * v)
        operator, vector, expand = from_skfem(
            matrix,
            load.assemble(basis),
            D=basis.get_dofs(),
            x=_evaluate(self.boundary_value, basis.doflocs),
        )
        free = basis.complement_dofs(basis.get_dofs())
        return Discretisation(
            operator,
            vector,
            expand,
            coordinates=basis.doflocs[:, free].T,
            near_null_space=np.ones((free.size, 1)),
        )

    def _coefficient(self, key: PRNGKeyArray | None) -> Data:
        """The coefficient as a number or a function of the coordinates."""
        if not isinstance(self.coefficient, AbstractRandomField):
            return self.coefficient
        if key is None:
            raise ValueError("key: a random coefficient needs one.")
        from scipy.interpolate import RegularGridInterpolator

        _, _, ndim, points = _MESHES[self.mesh]
        grid = Grid((points,) * ndim, 2.0, Neumann(), origin=-1.0)
        values = np.asarray(self.coefficient.sample(grid, key=key), float)
        axes = [grid.coordinates(axis) for axis in range(ndim)]
        interpolate = RegularGridInterpolator(axes, values)
        # Rounding may put a point of the mesh outside the box.
        return lambda *x: interpolate(np.clip(np.stack(x, axis=-1), -1.0, 1.0))


def _evaluate(data: Data, x: np.ndarray) -> np.ndarray:
    """Numbers and functions alike, at points of shape (ndim, …)."""
    values = data(*x) if callable(data) else data
    return np.broadcast_to(np.asarray(values, float), x.shape[1:])
