"""Solves with a triangular factor: exactly, or by a few Jacobi sweeps."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact, Int32

from .._serialisation import register
from ..linear import from_scipy
from ._host import Matrix

Vector = Inexact[Array, " n"]

# What a step of the compiled loop costs, in entries of the factor.
_STEP_COST = 1000


class AbstractTriangularSolve(eqx.Module):
    """Describes how systems with a triangular factor L are solved."""

    @abc.abstractmethod
    def plan(self, lower: Matrix) -> "AbstractTriangularPlan":
        """What the positions of L's entries decide, for any values of theirs.

        `lower` is a SciPy CSR matrix with sorted indices and a full diagonal. Host
        only.
        """

    def build(self, lower: Matrix, dtype: Any) -> "AbstractTriangularFactor":
        """L, a SciPy CSR matrix with sorted indices and a full diagonal, on the device.

        Host only.
        """
        return self.plan(lower).factor(jnp.asarray(lower.data, dtype))


class AbstractTriangularPlan(eqx.Module):
    """Makes a factor from values, which may be traced."""

    @abc.abstractmethod
    def factor(
        self, values: Inexact[Array, " num_entries"]
    ) -> "AbstractTriangularFactor":
        """L with these entries, in the order of the planned CSR matrix."""


class AbstractTriangularFactor(eqx.Module):
    """L⁻¹ and its adjoint, or approximations of them that are each other's adjoints."""

    @abc.abstractmethod
    def solve(self, vector: Vector) -> Vector:
        """L⁻¹ r."""

    @abc.abstractmethod
    def adjoint_solve(self, vector: Vector) -> Vector:
        """L⁻ᴴ r."""


@register
class JacobiSweeps(AbstractTriangularSolve):
    """A few sweeps x ← D⁻¹(r − N x) with L = D + N, from x = D⁻¹ r.

        L⁻¹ ≈ p(L) = Σ_{m=0}^{num_sweeps} (−D⁻¹N)ᵐ D⁻¹

    Each costs one product with a sparse matrix, all of whose rows are done at once: the
    way to apply a triangular factor on an accelerator. p(L)ᴴ p(L) is positive definite
    for every number of sweeps, as D is invertible.

    **Arguments:**

    - `num_sweeps`: default 3, which left the number of CG steps of an incomplete
        Cholesky factor within 4 % of the exact solves'. Factors with strong couplings,
        such as those of over-relaxation, need more.

    Source: Anzt, Chow & Dongarra, in *Euro-Par 2015*, LNCS 9233, p. 650.
    """

    num_sweeps: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        if self.num_sweeps < 0:
            raise ValueError(
                f"num_sweeps: expected an integer ≥ 0, got {self.num_sweeps}."
            )

    def plan(self, lower: Matrix) -> "_SweptPlan":
        """The diagonal and two sparse operators, without their values."""
        import scipy.sparse as sp

        numbers = sp.csr_matrix(
            (np.arange(1, lower.nnz + 1), lower.indices, lower.indptr), lower.shape
        )
        strict = sp.tril(numbers, -1, format="csr")
        return _SweptPlan(
            jnp.asarray(numbers.diagonal() - 1, jnp.int32),
            _numbered(strict),
            _numbered(strict.T.tocsr()),
            self.num_sweeps,
        )


class _Numbered(eqx.Module):
    """An operator that holds, in place of each value, its number; 0 for padding."""

    numbers: lx.AbstractLinearOperator
    rest: lx.AbstractLinearOperator

    def filled(self, values: Vector) -> lx.AbstractLinearOperator:
        """The operator with value k − 1 where number k is."""
        padded = jnp.append(jnp.zeros_like(values[:1]), values)
        leaves = jax.tree_util.tree_map(lambda index: padded[index], self.numbers)
        return eqx.combine(leaves, self.rest)


def _numbered(matrix: Matrix) -> _Numbered:
    # Operators hold floating-point numbers, and single precision may be all there is:
    # two halves are exact.
    parts = []
    for half in np.divmod(matrix.data, 4096):
        copy = matrix.astype(np.float32)
        copy.data = half.astype(np.float32)
        parts.append(from_scipy(copy, dtype=np.float32))
    high, rest = eqx.partition(parts[0], eqx.is_inexact_array)
    low, _ = eqx.partition(parts[1], eqx.is_inexact_array)
    join = lambda h, l: 4096 * h.astype(jnp.int32) + l.astype(jnp.int32)
    return _Numbered(jax.tree_util.tree_map(join, high, low), rest)


class _SweptPlan(AbstractTriangularPlan):
    diagonal: Int32[Array, " n"]
    strict: _Numbered
    adjoint: _Numbered
    num_sweeps: int = eqx.field(static=True)

    def factor(self, values):
        return _SweptFactor(
            1.0 / values[self.diagonal],
            self.strict.filled(values),
            self.adjoint.filled(jnp.conj(values)),
            self.num_sweeps,
        )


class _SweptFactor(AbstractTriangularFactor):
    inverse: Vector
    strict: lx.AbstractLinearOperator
    adjoint: lx.AbstractLinearOperator
    num_sweeps: int = eqx.field(static=True)

    def solve(self, vector):
        return self._sweep(self.strict, self.inverse, vector)

    def adjoint_solve(self, vector):
        return self._sweep(self.adjoint, jnp.conj(self.inverse), vector)

    def _sweep(self, strict, inverse, vector):
        # (A loop, as products written out one after the other fuse: then each
        # recomputes those before it.)
        sweep = lambda _, x: inverse * (vector - strict.mv(x))
        return jax.lax.fori_loop(0, self.num_sweeps, sweep, inverse * vector)


@register
class LevelSchedule(AbstractTriangularSolve):
    """The exact solve, row after row; rows that do not depend on each other at once.

    A row belongs to the level after the last one of the rows that it reads: the
    anti-diagonals of a grid in its natural order. Each level is a step of a compiled
    loop, 2 n − 1 of them on n × n nodes. Near the speed of compiled sequential code on
    a CPU; on an accelerator, whose steps cost a launch each, prefer `JacobiSweeps`.

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §11.6.3.
    """

    def plan(self, lower: Matrix) -> "_ScheduledPlan":
        """The steps of both loops, without their values."""
        import scipy.sparse as sp

        size = lower.shape[0]
        numbers = sp.csr_matrix(
            (np.arange(lower.nnz), lower.indices, lower.indptr), lower.shape
        )
        # Reversing rows and columns makes the adjoint lower triangular again.
        adjoint = numbers.T.tocsr()[::-1][:, ::-1].tocsr()
        adjoint.sort_indices()
        natural = np.arange(size)
        return _ScheduledPlan(
            _schedule(numbers, natural), _schedule(adjoint, natural[::-1])
        )


class _Schedule(eqx.Module):
    """The steps of a lower triangular solve; unknowns are numbered by level.

    `entries` and `diagonal` say which of L's values stand where; those beyond the last
    are padding, and zero.
    """

    entries: Int32[Array, "steps width lanes"]
    diagonal: Int32[Array, "steps lanes"]
    columns: Int32[Array, "steps width lanes"]
    rows: Int32[Array, "steps lanes"]
    starts: Int32[Array, " steps"]
    positions: Int32[Array, " n"]

    def loop(self, values: Vector) -> "_Loop":
        """The loop for L with these values."""
        take = lambda index, fill: values.at[index].get(mode="fill", fill_value=fill)
        live = self.diagonal < values.size
        return _Loop(
            take(self.entries, 0),
            self.columns,
            jnp.where(live, 1.0 / take(self.diagonal, 1), 0.0),
            self.rows,
            self.starts,
            self.positions,
        )


class _ScheduledPlan(AbstractTriangularPlan):
    forward: _Schedule
    backward: _Schedule

    def factor(self, values):
        return _ScheduledFactor(
            self.forward.loop(values), self.backward.loop(jnp.conj(values))
        )


class _Loop(eqx.Module):
    """The steps of a lower triangular solve; unknowns are numbered by level."""

    values: Inexact[Array, "steps width lanes"]
    columns: Int32[Array, "steps width lanes"]
    inverse: Inexact[Array, "steps lanes"]
    rows: Int32[Array, "steps lanes"]
    starts: Int32[Array, " steps"]
    positions: Int32[Array, " n"]

    def __call__(self, vector):
        padded = jnp.append(vector, jnp.zeros_like(vector[:1]))
        rhs = padded[self.rows]
        lanes = self.rows.shape[1]

        def step(x, inputs):
            values, columns, inverse, rhs, start = inputs
            for j in range(len(values)):
                rhs = rhs - values[j] * x.at[columns[j]].get(mode="promise_in_bounds")
            # Lanes beyond the level's last row write zeros where later levels follow.
            return jax.lax.dynamic_update_slice(x, inverse * rhs, (start,)), None

        x = jnp.zeros(vector.size + lanes, vector.dtype)
        x, _ = jax.lax.scan(
            step, x, (self.values, self.columns, self.inverse, rhs, self.starts)
        )
        return x[self.positions]


class _ScheduledFactor(AbstractTriangularFactor):
    forward: _Loop
    backward: _Loop

    def solve(self, vector):
        return self.forward(vector)

    def adjoint_solve(self, vector):
        return self.backward(vector)


def _schedule(lower: Matrix, numbers: np.ndarray) -> _Schedule:
    """The steps for a lower triangular matrix whose row i is component numbers[i].

    The data of `lower` are the numbers of its entries.
    """
    size = lower.shape[0]
    lengths = np.diff(lower.indptr) - 1
    level = _levels(lower)
    order = np.argsort(level, kind="stable")
    place = np.empty(size, np.int64)
    place[order] = np.arange(size)
    sizes = np.bincount(level)
    width, lanes = int(lengths.max(initial=0)), _lanes(sizes, int(lengths.max()))
    # First row, in the new order, and number of rows of each step.
    first, count = [], []
    begin = 0
    for rows in sizes.tolist():
        for offset in range(0, rows, lanes):
            first.append(begin + offset)
            count.append(min(lanes, rows - offset))
        begin += rows
    first, count = np.asarray(first), np.asarray(count)
    step = np.repeat(np.arange(len(first)), count)
    lane = np.arange(size) - first[step]

    shape = (len(first), width, lanes)
    entries = np.full(shape, lower.nnz, np.int32)
    columns = np.zeros(shape, np.int32)
    diagonal = np.full((len(first), lanes), lower.nnz, np.int32)
    rows = np.full((len(first), lanes), size, np.int32)
    last = lower.indptr[1:] - 1
    diagonal[step, lane] = lower.data[last[order]]
    rows[step, lane] = numbers[order]
    # Entries of the strict part: which row of the new order, and which slot of it.
    strict = np.delete(np.arange(lower.nnz), last)
    row = np.repeat(np.arange(size), lengths)
    slot = np.arange(len(strict)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    where = step[place[row]], slot, lane[place[row]]
    entries[where] = lower.data[strict]
    columns[where] = place[lower.indices[strict]]

    positions = np.empty(size, np.int32)
    positions[numbers] = place
    return _Schedule(
        jnp.asarray(entries),
        jnp.asarray(diagonal),
        jnp.asarray(columns),
        jnp.asarray(rows),
        jnp.asarray(first, jnp.int32),
        jnp.asarray(positions),
    )


def _levels(lower: Matrix) -> np.ndarray:
    """Per row the length of the longest chain of rows that have to be done before."""
    pointers, columns = lower.indptr.tolist(), lower.indices.tolist()
    level = [0] * lower.shape[0]
    for row in range(len(level)):
        deepest = -1
        for k in range(pointers[row], pointers[row + 1] - 1):
            deepest = max(deepest, level[columns[k]])
        level[row] = deepest + 1
    return np.asarray(level)


def _lanes(sizes: np.ndarray, width: int) -> int:
    """How many rows a step takes: few steps, but little padding."""
    candidates = np.unique(2 ** np.arange(int(sizes.max()).bit_length() + 1))
    candidates = np.append(candidates[candidates < sizes.max()], sizes.max())
    costs = [
        np.sum(-(-sizes // lanes)) * (_STEP_COST + lanes * (width + 2))
        for lanes in candidates
    ]
    return int(candidates[np.argmin(costs)])
