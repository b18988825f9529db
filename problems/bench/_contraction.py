"""How much one V-cycle reduces the error, and how that depends on the grid."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from sciml.grids import Grid
from sciml.linear import diffusion_operator
from sciml.preconditioners import AbstractSmoother, Chebyshev, DampedJacobi, Multigrid

Row = dict[str, Any]

_CASES: tuple[tuple[int, AbstractSmoother, str, tuple[int, ...]], ...] = (
    (1, Chebyshev(2), "Chebyshev V(2,2)", (63, 127, 255, 511, 1023)),
    (2, Chebyshev(2), "Chebyshev V(2,2)", (63, 127, 255, 511, 1023)),
    (3, Chebyshev(3), "Chebyshev V(3,3)", (15, 31, 63)),
    (2, DampedJacobi(2), "damped Jacobi V(2,2)", (63, 127, 255, 511)),
    (3, DampedJacobi(2, 6 / 7), "damped Jacobi V(2,2)", (15, 31, 63)),
)


def bench_contraction(
    *, num_cycles: int = 30, seed: int = 7, on_row: Callable[[Row], None] | None = None
) -> list[Row]:
    """The asymptotic error reduction per V-cycle for the unit Laplacian.

    Iterates e ← e − M A e, normalised in the energy norm, and takes the geometric mean
    of the last ten reductions: the spectral radius of I − MA, from below.

    **Arguments:**

    - `num_cycles`: iterations.
    - `seed`: of the initial error.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `ndim`, `smoother`, `points` (per axis) and `contraction`.
    """
    rows = []
    for ndim, smoother, name, sizes in _CASES:
        for points in sizes:
            factor = contraction_factor(
                (points,) * ndim, smoother, num_cycles=num_cycles, seed=seed
            )
            row = {
                "ndim": ndim,
                "smoother": name,
                "points": points,
                "contraction": float(factor),
            }
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


@eqx.filter_jit
def contraction_factor(
    num_points: Sequence[int],
    smoother: AbstractSmoother,
    *,
    num_cycles: int = 30,
    seed: int = 7,
) -> jax.Array:
    """The mean reduction of the energy norm over the last ten cycles."""
    grid = Grid(tuple(num_points))
    A = diffusion_operator(1.0, grid)
    M = Multigrid(smoother, cycle_dtype=None).build(A)

    def energy(e):
        return jnp.sqrt(jnp.sum(e * A.mv(e)))

    def cycle(e, _):
        e = e - M.mv(A.mv(e))
        size = energy(e)
        return e / size, size

    e = jr.normal(jr.key(seed), grid.num_points)
    _, reductions = jax.lax.scan(cycle, e / energy(e), None, num_cycles)
    return jnp.exp(jnp.mean(jnp.log(reductions[-10:])))
