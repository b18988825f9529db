"""−∇·(a K ∇u) = f in two dimensions with a constant anisotropic tensor K."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import (
    Dirichlet,
    Grid,
    SymmetricStencil,
    close_coefficient,
    half_offsets,
    source_vector,
)
from sciml.linear import StencilOperator

from ._diffusion_family import AbstractElliptic


class AnisotropicDiffusion(AbstractElliptic):
    """−∇·(a K ∇u) = f on the unit square, u = 0 around it,

        K = R(θ) diag(1, ε) R(θ)ᵀ,  R(θ) the rotation by θ:

    strong diffusion in the direction (cos θ, sin θ), weak across it. The benchmark
    where smoothers and coarsening that treat all directions alike fail: with θ = 0 the
    strong couplings are along the grid's first axis, with θ = π/6 along none.

    The stencil has nine points and is of second order where a is smooth. It is the sum
    over the grid's cells of ∫ a ∇u·K∇u with differences for derivatives (the mean of a
    over the cell's corners), hence symmetric positive definite for every ε and θ. For
    a = 1 these are central differences: five points, and ∓K₁₂/(2 h_x h_y) at the
    corners.

    **Arguments:**

    - `num_points`: interior nodes, two axes. Default 255 × 255.
    - `epsilon`: ε > 0, weak over strong. Default 1e-3.
    - `theta`: the angle θ from the first axis to the strong direction, in radians.
        Default π/6.
    - `source`: f, a number or a field. Default 1.

    `assemble` takes the field a, which `sample_coefficient` sets to 1.

    !!! example

        ```python
        import problems

        problem = problems.AnisotropicDiffusion((31, 31), epsilon=1e-2)
        A, b = problem.linear_system(problem.constant_coefficient())
        A.stencil.couples((1, 1))  # True: a corner of nine points
        ```

    Source: Trottenberg, Oosterlee & Schüller, *Multigrid*, §5.1.
    """

    grid: Grid
    epsilon: float = eqx.field(static=True)
    theta: float = eqx.field(static=True)
    source: ArrayLike

    def __init__(
        self,
        num_points: Sequence[int] = (255, 255),
        epsilon: float = 1e-3,
        theta: float = math.pi / 6,
        source: ArrayLike = 1.0,
    ):
        self.grid = Grid(num_points, boundary=Dirichlet())
        if self.grid.ndim != 2:
            raise ValueError(f"num_points: expected two axes, got {self.grid.ndim}.")
        if not 0 < epsilon < math.inf:
            raise ValueError(f"epsilon: expected a positive number, got {epsilon}.")
        if not math.isfinite(theta):
            raise ValueError(f"theta: expected an angle in radians, got {theta}.")
        self.epsilon, self.theta = float(epsilon), float(theta)
        self.source = source

    def tensor(self) -> tuple[float, float, float]:
        """K₁₁, K₁₂ = K₂₁ and K₂₂."""
        c, s = math.cos(self.theta), math.sin(self.theta)
        return (
            c * c + self.epsilon * s * s,
            (1.0 - self.epsilon) * c * s,
            s * s + self.epsilon * c * c,
        )

    def constant_coefficient(self) -> Float[Array, "*space"]:
        """a = 1."""
        return jnp.ones(self.grid.num_points, jnp.result_type(float))

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """a = 1, whatever the key."""
        del key
        return self.constant_coefficient()

    def assemble(
        self, coefficient: Float[Array, "..."]
    ) -> tuple[StencilOperator, Float[Array, "*space"]]:
        """A = −∇·(a K ∇·) as a stencil of nine points, and b = f.

        **Arguments:**

        - `coefficient`: a > 0, of the grid's shape or, with its values on the boundary,
            of `grid.closed_shape`. Without them the nearest values are taken, which
            keeps the order but not the constant of the error.
        """
        closed = close_coefficient(coefficient, self.grid)
        stencil = _stencil(closed, self.tensor(), self.grid.spacing)
        b = source_vector(self.source, coefficient, self.grid)
        return StencilOperator(stencil, self.grid), b


def _stencil(
    closed: Array, tensor: tuple[float, float, float], spacing: tuple[float, ...]
) -> SymmetricStencil:
    # Cells between neighbouring nodes, the boundary's included. An edge between
    # neighbours belongs to the two cells beside it, a diagonal to its one cell.
    sums = closed[:-1] + closed[1:]
    cells = (sums[:, :-1] + sums[:, 1:]) / 4
    (k11, k12, k22), (hx, hy) = tensor, spacing
    across = (cells[:, :-1] + cells[:, 1:]) * (k11 / (2 * hx * hx))
    along = (cells[:-1] + cells[1:]) * (k22 / (2 * hy * hy))
    corner = cells * (k12 / (2 * hx * hy))
    # The corners' shares of the diagonal, of both signs.
    diagonal = across[:-1] + across[1:] + along[:, :-1] + along[:, 1:]
    diagonal = diagonal + corner[:-1, :-1] + corner[1:, 1:]
    diagonal = diagonal - corner[:-1, 1:] - corner[1:, :-1]
    weights: dict[tuple[int, ...], Array] = {
        (1, 0): across,
        (0, 1): along,
        (1, 1): corner,
        (1, -1): -corner,
    }
    offsets = half_offsets(2, diagonals=True)
    edges = []
    for offset in offsets:
        ends = tuple(slice(1, -1) if k else slice(None) for k in offset)
        full = weights[offset]
        edges.append(jnp.zeros_like(full).at[ends].set(-full[ends]))
    return SymmetricStencil(diagonal, tuple(edges), offsets, (False, False))
