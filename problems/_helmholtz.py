"""The Helmholtz equation: indefinite with Dirichlet data, complex with impedance."""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

import sciml
from sciml.grids import (
    AbstractRandomField,
    Grid,
    Neumann,
    diffusion_stencil,
)
from sciml.linear import StencilOperator, from_scipy, to_scipy

from ._poisson import Poisson
from ._system import AbstractLinearSystem


class Helmholtz(sciml.AbstractLinearProblem):
    """−Δu − k² n u = f on the unit box with Dirichlet data, solution in closed form.

    Real and symmetric, with as many negative eigenvalues as −Δ has below k² (for
    n = 1): for `sciml.linear.MINRES`, not for CG. n is the squared index of refraction;
    f follows from it, so that u is that of `Poisson`, Π_k (sin πx_k + x_k²/2), for
    every n. Near an eigenvalue, for n = 1 near k² = π² Σ_k j_k² with integers j_k, the
    system is nearly singular.

    **Arguments:**

    - `num_points`: interior nodes per axis, one to three axes. Default 127 × 127.
    - `wavenumber`: k > 0. Default 20, about three wave lengths, with 40 nodes each.
    - `index`: distribution of n, for media that are not uniform; default n = 1.

    !!! example

        ```python
        import problems
        import sciml

        problem = problems.Helmholtz((31, 31), wavenumber=8.0)
        A, b = problem.linear_system(problem.constant_coefficient())
        # Positive definite, as MINRES wants it: a V-cycle for −Δ.
        laplacian = sciml.linear.diffusion_operator(1.0, problem.grid)
        M = sciml.preconditioners.Multigrid().build(laplacian)
        solver = sciml.linear.MINRES(rtol=1e-4)
        solution = sciml.linear_solve(A, b, solver, preconditioner=M)
        ```
    """

    poisson: Poisson
    grid: Grid
    wavenumber: float = eqx.field(static=True)
    index: AbstractRandomField | None

    def __init__(
        self,
        num_points: int | Sequence[int] = (127, 127),
        wavenumber: float = 20.0,
        index: AbstractRandomField | None = None,
    ):
        self.poisson = Poisson(num_points)
        self.grid = self.poisson.grid
        self.wavenumber = _checked_wavenumber(wavenumber)
        self.index = index

    def exact_solution(self) -> Float[Array, "*space"]:
        """u at the nodes."""
        return self.poisson.exact_solution()

    def constant_coefficient(self) -> Float[Array, "*space"]:
        """n = 1."""
        return self.poisson.constant_coefficient()

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One n, a field on the grid: 1 unless `index` was given."""
        if self.index is None:
            return self.constant_coefficient()
        return self.index.sample(self.grid, key=key)

    def assemble(
        self, coefficient: Float[Array, "*space"]
    ) -> tuple[StencilOperator, Float[Array, "*space"]]:
        """A = −Δ − k² n, tagged symmetric only, and b."""
        if jnp.shape(coefficient) != self.grid.num_points:
            raise ValueError(
                f"coefficient: expected shape {self.grid.num_points}, the grid's, got "
                f"{jnp.shape(coefficient)}."
            )
        shift = self.wavenumber**2 * coefficient
        laplacian, b = self.poisson.assemble(jnp.ones_like(coefficient))
        stencil = eqx.tree_at(
            lambda s: s.diagonal, laplacian.stencil, laplacian.stencil.diagonal - shift
        )
        A = StencilOperator(stencil, self.grid, lx.symmetric_tag)
        return A, b - shift * self.exact_solution().astype(shift.dtype)


class ImpedanceHelmholtz(AbstractLinearSystem):
    """−Δu − (1 + iα) k² u = 0 on the unit box, ∂u/∂n − i k u = g on all its sides.

    Waves leave through the sides; α > 0 damps them on the way. The matrix is complex
    and symmetric but not Hermitian: for `sciml.linear.GMRES`. g is such that a plane
    wave comes in, u = exp(i κ d·x) with κ = √(1 + iα) k and the direction d.

    Finite volumes, second order; the unknowns are the nodes of `grid`, sides included,
    flattened in C order. Every second-order scheme needs ever more nodes per wave
    length as k grows: its error behaves as k³h².

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 65 × 65.
    - `wavenumber`: k > 0. Default 20.
    - `absorption`: α ≥ 0. Default 0.
    - `direction`: d, normalised here; a number per axis. Default (2, 1) or (2, 1, 1).

    !!! example

        ```python
        import problems
        import sciml

        problem = problems.ImpedanceHelmholtz((17, 17), wavenumber=5.0)
        A, b = problem.linear_system()
        solution = sciml.linear_solve(A, b, sciml.linear.GMRES(restart=80, rtol=1e-4))
        abs(solution.value - problem.exact_solution()).max()  # O(h²)
        ```

    Source: Ihlenburg, *Finite Element Analysis of Acoustic Scattering*, ch. 4 (the
    error in k and h).
    """

    grid: Grid
    wavenumber: float = eqx.field(static=True)
    absorption: float = eqx.field(static=True)
    direction: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = (65, 65),
        wavenumber: float = 20.0,
        absorption: float = 0.0,
        direction: Sequence[float] | None = None,
    ):
        self.grid = Grid(num_points, boundary=Neumann())
        self.wavenumber = _checked_wavenumber(wavenumber)
        if not 0 <= absorption < math.inf:
            raise ValueError(f"absorption: expected a number ≥ 0, got {absorption}.")
        self.absorption = float(absorption)
        ndim = self.grid.ndim
        given = (2.0, 1.0, 1.0)[:ndim] if direction is None else tuple(direction)
        length = math.hypot(*given)
        if len(given) != ndim or not 0 < length < math.inf:
            raise ValueError(
                f"direction: expected {ndim} numbers, one per axis and not all 0, got "
                f"{direction}."
            )
        self.direction = tuple(float(d) / length for d in given)

    def linear_system(
        self, *, key: PRNGKeyArray | None = None
    ) -> tuple[lx.AbstractLinearOperator, Complex[Array, " n"]]:
        """A, without tags, and b."""
        del key
        import scipy.sparse as sp

        # Compiled as one program, not as dozens that run once each.
        stencil = eqx.filter_jit(diffusion_stencil)(1.0, self.grid)
        laplacian = to_scipy(StencilOperator(stencil, self.grid))
        k, inside = self.wavenumber, self._complex_wavenumber()
        shift = inside**2 * self.grid.cell_weights()
        shift = shift + 1j * k * self._from_sides(lambda u, cosine: np.ones_like(u))
        b = self._from_sides(lambda u, cosine: 1j * (inside * cosine - k) * u)
        A = from_scipy(laplacian - sp.diags(shift.ravel()))
        return A, jnp.asarray(b.ravel().astype(A.out_structure().dtype))

    def exact_solution(self) -> Complex[Array, " n"]:
        """u at the nodes, flattened as the unknowns."""
        dtype = jnp.result_type(complex)
        return jnp.asarray(self._wave(self.grid.mesh()).ravel().astype(dtype))

    def _complex_wavenumber(self) -> complex:
        return self.wavenumber * complex(1.0, self.absorption) ** 0.5

    def _wave(self, x: Sequence[np.ndarray]) -> np.ndarray:
        phase = sum(d * c for d, c in zip(self.direction, x, strict=True))
        return np.exp(1j * self._complex_wavenumber() * phase)

    def _from_sides(
        self, flux: Callable[[np.ndarray, float], np.ndarray]
    ) -> Complex[np.ndarray, "*space"]:
        """What a flux ∂u/∂n adds to the right-hand side.

        `flux` takes u on a side and the cosine between the wave and the side's normal.
        """
        grid = self.grid
        weights, u = grid.cell_weights(), self._wave(grid.mesh())
        out = np.zeros(grid.num_points, complex)
        for axis, d in enumerate(self.direction):
            for side, cosine in ((0, -d), (-1, d)):
                here = (*[slice(None)] * axis, side)
                # The cell's weight has the half of this side, its face has not.
                share = 2 * weights[here] / grid.spacing[axis]
                out[here] += share * flux(u[here], cosine)
        return out


def _checked_wavenumber(wavenumber: float) -> float:
    if not 0 < wavenumber < math.inf:
        raise ValueError(f"wavenumber: expected a positive number, got {wavenumber}.")
    return float(wavenumber)
