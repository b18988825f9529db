"""Algebraic multigrid: set up on the host by PyAMG, applied on the device."""

import abc
import math
import warnings
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from ..linear import (
    AbstractLevel,
    AbstractPreconditioner,
    SymmetricOperator,
    v_cycle,
)
from ..linear._convert import product_of
from ._host import Matrix, check_matrix, host_matrix
from ._smoothers import AbstractSmoother, AbstractSmoothing, Chebyshev

Vector = Float[Array, " n"]
_REMEDY = (
    "The interpolation does not suit A; try the other aggregation, "
    "SmoothedAggregation() or RugeStuben()."
)


class AbstractAggregation(eqx.Module):
    """How unknowns are coarsened: a matrix to its hierarchy, on the host."""

    # The faster unknowns get fewer from level to level, the more is left to smooth.
    default_smoother: ClassVar[AbstractSmoother] = Chebyshev(2)

    @abc.abstractmethod
    def hierarchy(
        self, matrix: Matrix, max_coarse_size: int
    ) -> tuple[list[tuple[Matrix, Matrix]], Matrix]:
        """(A, P) of each level, finest first, and the coarsest A."""


class RugeStuben(AbstractAggregation):
    """Classical coarsening: a subset of the unknowns, interpolation from its entries.

    The choice for scalar diffusion, whatever the coefficients.

    **Arguments:**

    - `strength`: an entry counts as strong from this fraction of its row's largest on.
        Default 0.25.

    Source: Ruge & Stüben, in *Multigrid Methods* (ed. McCormick), SIAM 1987, ch. 4.
    """

    strength: float = eqx.field(static=True, default=0.25)

    default_smoother: ClassVar[AbstractSmoother] = Chebyshev(1)

    def hierarchy(self, matrix, max_coarse_size):
        """(A, P) of each level, finest first, and the coarsest A."""
        pyamg = _pyamg()
        # PyAMG's own smoothers are not used.
        return _levels(
            pyamg.ruge_stuben_solver(
                matrix,
                strength=("classical", {"theta": self.strength}),
                max_coarse=max_coarse_size,
                max_levels=30,
                presmoother=None,
                postsmoother=None,
            )
        )


class SmoothedAggregation(AbstractAggregation):
    """Aggregates of unknowns, their piecewise constant interpolation smoothed once.

    Coarser and cheaper than `RugeStuben`, for more steps; and the choice for vector
    problems, where it interpolates what A hardly sees: the rigid motions of elasticity.

    **Arguments:**

    - `strength`: default 0, every entry counts.
    - `near_null_space`: a NumPy array of shape (n, m), vectors that A would map to
        zero without its boundary conditions. Default the constant.
    - `block_size`: unknowns per node, which are neighbours; aggregated together.
        Default 1.

    Source: Vaněk, Mandel & Brezina, Computing 56 (1996) 179.
    """

    strength: float = eqx.field(static=True, default=0.0)
    near_null_space: Float[np.ndarray, "n m"] | None = None
    block_size: int = eqx.field(static=True, default=1)

    def hierarchy(self, matrix, max_coarse_size):
        """(A, P) of each level, finest first, and the coarsest A."""
        pyamg = _pyamg()
        size, modes = matrix.shape[0], self.near_null_space
        if modes is not None and modes.shape[0] != size:
            raise ValueError(
                f"near_null_space: expected {size} rows, as many as the operator has "
                f"unknowns, got shape {modes.shape}."
            )
        if self.block_size < 1 or size % self.block_size:
            raise ValueError(
                f"block_size: {self.block_size} does not divide the number of "
                f"unknowns, {size}."
            )
        if self.block_size > 1:
            matrix = matrix.tobsr((self.block_size, self.block_size))
        return _levels(
            pyamg.smoothed_aggregation_solver(
                matrix,
                B=modes,
                strength=("symmetric", {"theta": self.strength}),  # pyright: ignore[reportArgumentType]
                max_coarse=max_coarse_size,
                max_levels=30,
                presmoother=None,
                postsmoother=None,
            )
        )


class AlgebraicMultigrid(AbstractPreconditioner):
    """One V-cycle of algebraic multigrid: for matrices that come without a grid.

    PyAMG builds the hierarchy from the entries of A, on the host; it is applied on the
    device, under `jit` and `vmap`, as sparse operators with smoothers whose spectrum is
    bounded level by level, which keeps M symmetric positive definite. (With the plain
    Jacobi smoother of weight 1 the same hierarchy can take many times the steps.)

    Set-up happens outside `jit`: `linear_solve(..., preconditioner=
    AlgebraicMultigrid())` does it where A's entries are known; under `jit` build M
    before and pass it. No derivative flows into M.

    **Arguments:**

    - `aggregation`: `RugeStuben()` (default) or `SmoothedAggregation()`.
    - `smoother`: before and after each coarse correction. Default None:
        `Chebyshev(1)` for `RugeStuben`, `Chebyshev(2)` for `SmoothedAggregation`. A
        cycle costs the products with its sparse matrices, of which the latter takes
        twice as many; it saves a fifth of the steps with the former and a third or
        more with `SmoothedAggregation`.
    - `max_coarse_size`: the level with at most so many unknowns is solved exactly.
        Default 100.
    - `cycle_dtype`: as for `Multigrid`: float32 by default, None for A's precision.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ImportError` without PyAMG, which is the extra `amg`.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import scipy.sparse as sp
        import sciml

        csr = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(999, 999)).tocsr()
        A = sciml.linear.from_scipy(csr, lx.positive_semidefinite_tag)
        M = sciml.preconditioners.AlgebraicMultigrid().build(A)
        solution = sciml.linear_solve(A, jnp.ones(999), sciml.CG(), preconditioner=M)
        ```
    """

    aggregation: AbstractAggregation = RugeStuben()
    smoother: AbstractSmoother | None = None
    max_coarse_size: int = eqx.field(static=True, default=100)
    cycle_dtype: Any = eqx.field(static=True, default=jnp.float32)

    on_host: ClassVar[bool] = True

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The V-cycle for this operator, as a lineax operator."""
        matrix = host_matrix(self, operator)
        structure = operator.in_structure()
        if np.iscomplexobj(matrix.data):
            raise TypeError("operator: AlgebraicMultigrid takes real operators only.")
        dtype = matrix.dtype if self.cycle_dtype is None else self.cycle_dtype
        # Scaled, so that its entries stay within the cycle's range in any units.
        unit = float(np.max(np.abs(matrix.diagonal()), initial=0.0))
        unit = unit if 0.0 < unit < math.inf else 1.0
        matrix.data = matrix.data / unit
        # PyAMG's C++ wants sorted 32-bit indices and double precision.
        matrix = matrix.astype(np.float64)
        matrix.sort_indices()
        found, coarsest = self.aggregation.hierarchy(matrix, self.max_coarse_size)
        for number, (A, _) in enumerate([*found[1:], (coarsest, None)], 1):
            where = f"the coarse matrix of level {number}"
            check_matrix(A, type(self).__name__, where, _REMEDY)
        matrices = tuple(_entries(A, dtype) for A, _ in found)
        # (Pᵀ laid out for itself: in a cycle P's entries would be moved at each step.)
        transfers = [(_product(P, dtype), _product(P.T, dtype)) for _, P in found]
        smoother = self.smoother
        smoother = self.aggregation.default_smoother if smoother is None else smoother
        levels = tuple(
            _Level(matrix, smoothing, *transfer)
            for matrix, smoothing, transfer in zip(
                matrices, _smoothings(smoother, matrices), transfers, strict=True
            )
        )
        inverse = jnp.asarray(_pseudo_inverse(coarsest), dtype)
        scale = jnp.asarray(1.0 / unit, jtu.tree_leaves(structure)[0].dtype)
        return SymmetricOperator(
            _Cycle(levels, inverse, scale), structure, lx.positive_semidefinite_tag
        )


class _Entries(eqx.Module):
    """A sparse matrix with what smoothers ask of it; vectors need no padding."""

    operator: Any
    diagonal: Vector
    sums: Vector

    def pad(self, u):
        return u

    def interior(self, padded):
        return padded

    def apply(self, padded):
        return self.operator.mv(padded)

    def absolute_row_sums(self):
        return self.sums


class _Level(AbstractLevel):
    matrix: _Entries
    smoothing: AbstractSmoothing
    interpolation: Any
    restriction: Any

    def pre_smooth(self, u, f):
        return self.smoothing(self.matrix, u, f)

    def restrict(self, u, f):
        return None, self.restriction.mv(f - self.matrix.apply(u))

    def prolong(self, u, coarse_u):
        return u + self.interpolation.mv(coarse_u)

    def post_smooth(self, u, f):
        return self.smoothing(self.matrix, u, f)


class _Cycle(eqx.Module):
    levels: tuple[_Level, ...]
    inverse: Float[Array, "n n"]
    scale: Array

    def __call__(self, f):
        leaves, tree = jtu.tree_flatten(f)
        (leaf,) = leaves
        solve = lambda u, g: jnp.matmul(
            self.inverse, g, precision=jax.lax.Precision.HIGHEST
        )
        u = v_cycle(self.levels, solve, leaf.ravel().astype(self.inverse.dtype))
        u = u.astype(leaf.dtype).reshape(leaf.shape) * self.scale
        return jtu.tree_unflatten(tree, [u])


def _entries(A: Matrix, dtype: Any) -> _Entries:
    sums = abs(A) @ np.ones(A.shape[0])
    return _Entries(
        _product(A, dtype),
        jnp.asarray(A.diagonal(), dtype),
        jnp.asarray(sums, dtype),
    )


# One program for all levels, instead of several for each.
@eqx.filter_jit
def _smoothings(smoother: AbstractSmoother, matrices):
    return tuple(smoother.build(matrix) for matrix in matrices)


def _product(matrix: Matrix, dtype: Any) -> Any:
    csr = matrix.tocsr()
    csr.sort_indices()
    return product_of(csr, dtype)


def _pseudo_inverse(matrix: Matrix) -> np.ndarray:
    """A⁺, without the eigenvalues that are zero but for rounding."""
    import scipy.linalg

    # (This driver stays on one thread, as suits a hundred unknowns.)
    values, vectors = scipy.linalg.eigh(matrix.toarray(), driver="evr")
    keep = values > values.size * 1e-14 * values[-1]
    inverse = np.where(keep, 1.0 / np.where(keep, values, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T


def _levels(solver):
    pairs = [(l.A.tocsr(), l.P.tocsr()) for l in solver.levels[:-1]]
    return pairs, solver.levels[-1].A.tocsr()


def _pyamg():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyamg
    except ImportError as error:
        raise ImportError(
            "AlgebraicMultigrid needs PyAMG: pip install 'sciml-solvers[amg]'."
        ) from error
    return pyamg
