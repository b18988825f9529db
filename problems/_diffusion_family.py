"""What the elliptic problems share: assembly, solving, data sets."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

import sciml
from sciml.data import Dataset
from sciml.grids import source_vector
from sciml.linear import StencilOperator, diffusion_operator
from sciml.preconditioners import Multigrid


class AbstractElliptic(sciml.AbstractLinearProblem):
    """Systems on a grid whose operator is symmetric, positive definite or, where
    constants are known to be its null space, semi-definite.
    """

    def solve(
        self,
        coefficient: Float[Array, "*space"],
        *,
        rtol: ArrayLike | None = None,
        x0: Float[Array, "*space"] | None = None,
        throw: bool = True,
    ) -> sciml.Solution:
        """u by conjugate gradients with multigrid, to a relative residual of `rtol`.

        **Arguments:**

        - `coefficient`: a field on the grid.
        - `rtol`: default that of `sciml.CG`: 1e-8 in float64, 1e-5 or the rounding
            floor in float32.
        - `x0`: first guess, default zero.
        - `throw`: as for `sciml.linear_solve`.
        """
        A, b = self.assemble(coefficient)
        solver = sciml.CG(rtol=rtol, max_steps=500)
        return sciml.linear_solve(
            A, b, solver, preconditioner=Multigrid(), x0=x0, throw=throw
        )

    def coefficients(self, num_samples: int, *, key: PRNGKeyArray) -> Dataset:
        """Random coefficients without solutions, those that `dataset` has.

        **Arguments:**

        - `num_samples`: how many.
        - `key`: sample i depends on `key` and i only.

        **Returns:** a `sciml.data.Dataset` without targets.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}.")
        return Dataset(np.asarray(_draw(self, key, num_samples)), None, self.grid)

    def dataset(
        self,
        num_samples: int,
        *,
        key: PRNGKeyArray,
        rtol: float | None = None,
        batch_size: int = 50,
        progress=None,
    ) -> Dataset:
        """Random coefficients and their solutions, every residual verified.

        **Arguments:**

        - `num_samples`: how many pairs.
        - `key`: sample i depends on `key` and i only, so more samples extend a set.
        - `rtol`: largest relative residual of a solution, default as in `solve`.
        - `batch_size`: how many systems are solved side by side.
        - `progress`: called with the number of samples that are done.

        **Returns:** a `sciml.data.Dataset`; inputs (samples, 1, *space) are the
        coefficients, targets (samples, 1, *space) the solutions.

        **Raises:** `RuntimeError` where a solve misses its tolerance.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}.")
        batch_size = min(batch_size, num_samples)
        inputs, targets = [], []
        for first in range(0, num_samples, batch_size):
            # The last batch is filled up, so that one program serves all.
            numbers = jnp.arange(first, first + batch_size)
            fields, solution = _solve_batch(self, key, numbers, rtol)
            failed = np.asarray(solution.result != sciml.RESULTS.successful)
            count = min(batch_size, num_samples - first)
            if failed[:count].any():
                worst = np.max(solution.stats["relative_residual"][:count])
                raise RuntimeError(
                    f"{int(failed[:count].sum())} of {count} systems missed the "
                    f"tolerance; the largest relative residual is {worst:.1e}. "
                    "float32 cannot reach small ones: enable float64, or raise rtol."
                )
            inputs.append(np.asarray(fields[:count, None]))
            targets.append(np.asarray(solution.value[:count, None]))
            if progress is not None:
                progress(first + count)
        return Dataset(np.concatenate(inputs), np.concatenate(targets), self.grid)


class AbstractDiffusion(AbstractElliptic):
    """−∇·(a∇u) = f on a grid, with that grid's boundary conditions."""

    source: eqx.AbstractVar[ArrayLike]

    def assemble(
        self, coefficient: Float[Array, "*space"]
    ) -> tuple[StencilOperator, Float[Array, "*space"]]:
        """A = −∇·(a∇·) as a stencil, b = source and boundary data."""
        b = source_vector(self.source, coefficient, self.grid)
        return diffusion_operator(coefficient, self.grid), b


@eqx.filter_jit
def _solve_batch(problem: AbstractElliptic, key, numbers, rtol):
    def one(number):
        field = problem.sample_coefficient(key=jr.fold_in(key, number))
        return field, problem.solve(field, rtol=rtol, throw=False)

    return jax.vmap(one)(numbers)


@eqx.filter_jit
def _draw(problem: AbstractElliptic, key, count: int):
    """(samples, 1, *space); a block at a time, as fields are sums of many modes."""

    def one(number):
        return problem.sample_coefficient(key=jr.fold_in(key, number))[None]

    return jax.lax.map(one, jnp.arange(count), batch_size=100)
