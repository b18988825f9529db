"""Waves in a random medium, driven from one side: a surrogate benchmark."""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import sciml
from sciml.data import Dataset
from sciml.grids import (
    AbstractRandomField,
    GaussianField,
    Grid,
    Neumann,
    source_vector,
)
from sciml.linear import StencilOperator, diffusion_operator, to_scipy


class HelmholtzWaves(sciml.AbstractLinearProblem):
    """−Δu − (ω/c)² u = 0 on the unit square, driven through a part of one side.

    ∂u/∂n = 1 on the part 0.35 ≤ x₁ ≤ 0.65 of the side x₂ = 1, 0 elsewhere, and the wave
    speed is random, c = 20 + tanh(g) with a Gaussian field g (τ = 3, alpha = 2). The
    default ω has eight wave lengths on a side. u is real: nothing is absorbed, the
    waves stand, and near a resonance u is large.

    Finite volumes on nodes that include the sides, second order; the error of any such
    scheme grows as k³h² with k = ω/c, and what a surrogate learns is the map of this
    grid, not of a finer one. For that use `dataset` on a finer grid and
    `sciml.data.Dataset.coarsen`.

    The matrix is symmetric and indefinite: `sciml.linear.MINRES`, not CG. `dataset`
    factorises it on the host.

    **Arguments:**

    - `num_points`: nodes per axis, sides included. Default 101 × 101, as published.
    - `frequency`: ω > 0. Default 1000.
    - `speed`: distribution of g. Default `GaussianField()`.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.HelmholtzWaves((41, 41), frequency=300.0)
        train = problem.dataset(20, key=jr.key(0))
        ```

    Source: de Hoop, Huang, Qian and Stuart, *The cost-accuracy trade-off in operator
    learning with neural networks*, 2022, section 3 (the problem; its data are not
    used).
    """

    grid: Grid
    frequency: float = eqx.field(static=True)
    speed: AbstractRandomField

    def __init__(
        self,
        num_points: int | Sequence[int] = (101, 101),
        frequency: float = 1000.0,
        speed: AbstractRandomField = GaussianField(),  # noqa: B008
    ):
        plain = Grid(num_points, boundary=Neumann())
        if plain.ndim != 2:
            raise ValueError(f"num_points: expected two axes, got {plain.ndim}.")
        if not 0 < frequency < math.inf:
            raise ValueError(
                f"frequency: expected a positive number, got {frequency!r}."
            )
        x = plain.coordinates(0)
        # Half of the flux where the driven part ends at a node.
        flux = (np.abs(x - 0.5) < 0.15 - 1e-9) + 0.5 * np.isclose(abs(x - 0.5), 0.15)
        driven = Neumann(jnp.asarray(flux, jnp.result_type(float)))
        sides = (Neumann(), (Neumann(), driven))
        self.grid = Grid(num_points, boundary=sides)
        self.frequency = float(frequency)
        self.speed = speed

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One wave speed c, a field on the grid."""
        return 20 + jnp.tanh(self.speed.sample(self.grid, key=key))

    def assemble(
        self, coefficient: Float[Array, "*space"]
    ) -> tuple[StencilOperator, Float[Array, "*space"]]:
        """A = −Δ − (ω/c)², tagged symmetric only, and b."""
        if jnp.shape(coefficient) != self.grid.num_points:
            raise ValueError(
                f"coefficient: expected shape {self.grid.num_points}, the grid's, got "
                f"{jnp.shape(coefficient)}."
            )
        weights = jnp.asarray(self.grid.cell_weights(), coefficient.dtype)
        shift = weights * (self.frequency / coefficient) ** 2
        one = jnp.ones_like(coefficient)
        laplacian = diffusion_operator(one, self.grid)
        stencil = eqx.tree_at(
            lambda s: s.diagonal, laplacian.stencil, laplacian.stencil.diagonal - shift
        )
        A = StencilOperator(stencil, self.grid, lx.symmetric_tag)
        return A, source_vector(0.0, one, self.grid)

    def dataset(
        self,
        num_samples: int,
        *,
        key: PRNGKeyArray,
        rtol: float = 1e-9,
        progress=None,
    ) -> Dataset:
        """Random wave speeds and their waves, by sparse LU, every residual verified.

        Solved in float64 on the host, whatever JAX's default type is.

        **Arguments:**

        - `num_samples`: how many pairs.
        - `key`: sample i depends on `key` and i only, so more samples extend a set.
        - `rtol`: largest relative residual of a solution.
        - `progress`: called with the number of samples that are done.

        **Returns:** a `sciml.data.Dataset`; inputs (samples, 1, *space) are the speeds,
        targets (samples, 1, *space) the waves.

        **Raises:** `RuntimeError` where a solve misses its tolerance.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}.")
        speeds = np.asarray(_sample(self, key, jnp.arange(num_samples)))
        solve = wave_solver(self)
        waves = np.empty_like(speeds)
        for i, speed in enumerate(speeds):
            waves[i], residual = solve(speed)
            if not residual <= rtol:
                raise RuntimeError(
                    f"sample {i}: the relative residual is {residual:.1e}, above rtol "
                    f"= {rtol:.1e}; the frequency is probably a resonance of this "
                    "medium."
                )
            if progress is not None:
                progress(i + 1)
        return Dataset(speeds[:, None], waves[:, None], self.grid)


def wave_solver(
    problem: HelmholtzWaves,
) -> Callable[[np.ndarray], tuple[np.ndarray, float]]:
    """A function of the wave speed: u by sparse LU in float64, its relative residual.

    What does not depend on the speed is assembled once.
    """
    import scipy.sparse as sp
    import scipy.sparse.linalg as spla

    one = jnp.ones(problem.grid.num_points)
    laplacian = to_scipy(eqx.filter_jit(diffusion_operator)(one, problem.grid))
    laplacian = laplacian.astype(np.float64)
    b = np.asarray(source_vector(0.0, one, problem.grid), np.float64).ravel()
    weights = problem.grid.cell_weights().astype(np.float64)

    def solve(speed: np.ndarray) -> tuple[np.ndarray, float]:
        shift = weights * (problem.frequency / speed.astype(np.float64)) ** 2
        A = sp.csc_matrix(laplacian - sp.diags(shift.ravel()))
        u = np.asarray(spla.spsolve(A, b))
        residual = np.linalg.norm(b - A @ u) / np.linalg.norm(b)
        return u.reshape(speed.shape), float(residual)

    return solve


@eqx.filter_jit
def _sample(problem: HelmholtzWaves, key, numbers):
    one = lambda i: problem.sample_coefficient(key=jr.fold_in(key, i))
    return jax.lax.map(one, numbers)
