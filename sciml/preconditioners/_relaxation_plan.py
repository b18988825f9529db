"""SOR and SSOR for a sequence of matrices of one pattern, in one compiled program."""

import equinox as eqx
import jax.flatten_util as jfu
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Inexact, Int32

from ..linear import SymmetricOperator, to_scipy
from ..linear._protocol import dense_from_products, register_operator
from ..linear._tree import Vector
from ._host import Matrix, flat_operator, known_matrix
from ._triangular import (
    AbstractTriangularFactor,
    AbstractTriangularPlan,
    AbstractTriangularSolve,
    LevelSchedule,
)


class RelaxationPlan(eqx.Module):
    """What the positions of A's entries decide about relaxation, for all their values.

        plan = RelaxationPlan(A)              # on the host, once
        M = plan.ssor(A_k, omega)             # anywhere: jit, scan, vmap
        M = plan.sor(A_k, omega)

    A_k has the structure of A, and its zeros where A has some; its values and ω may be
    traced. `SSOR` does the same in one go for one matrix.

    **Arguments:**

    - `operator`: A, whose entries are known, and are numbers that it stores (each of
        them once).
    - `solve`: how D + ωL is inverted. Default `LevelSchedule()`, exactly.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ValueError` where they are not finite, or the diagonal is not positive.

    !!! example

        ```python
        import jax
        import jax.numpy as jnp
        import problems
        import sciml

        problem = problems.HeatSequence(25)
        u = problem.initial()
        plan = sciml.preconditioners.RelaxationPlan(problem.system(0, u)[0])

        @jax.jit
        def advance(step, omega, u):
            A, b = problem.system(step, u)
            M = plan.ssor(A, omega)
            return sciml.linear_solve(
                A, b, sciml.CG(rtol=1e-4), preconditioner=M, x0=u
            ).value

        u = advance(0, 1.2, u)
        u = advance(1, 1.4, u)  # the same program
        ```
    """

    triangle: AbstractTriangularPlan
    # Which of A's numbers, flattened and joined, an entry of its lower triangle is.
    sources: Int32[Array, " num_entries"]
    strict: Bool[Array, " num_entries"]
    diagonal: Int32[Array, " n"]
    shapes: tuple = eqx.field(static=True)

    def __init__(
        self,
        operator: lx.AbstractLinearOperator,
        solve: AbstractTriangularSolve | None = None,
    ):
        advice = "Make the plan outside of jit (vmap, grad); apply it inside."
        matrix = known_matrix("RelaxationPlan", operator, advice)
        sources, lower = _sources(operator, matrix)
        rows = np.repeat(np.arange(lower.shape[0]), np.diff(lower.indptr))
        self.triangle = (LevelSchedule() if solve is None else solve).plan(lower)
        self.sources = jnp.asarray(sources, jnp.int32)
        strict = lower.indices < rows
        self.strict = jnp.asarray(strict)
        self.diagonal = jnp.asarray(np.flatnonzero(~strict), jnp.int32)
        self.shapes = _shapes(operator)

    def ssor(
        self, operator: lx.AbstractLinearOperator, omega: ArrayLike
    ) -> SymmetricOperator:
        """M = ω (2 − ω) (D + ω Lᴴ)⁻¹ D (D + ω L)⁻¹, for CG.

        **Arguments:**

        - `operator`: A = L + D + Lᴴ.
        - `omega`: a number, cast to A's type. For 0 < ω < 2 M is positive definite if D
            is; CG reports others.
        """
        factor, diagonal, omega = self._factor(operator, omega)
        weights = (omega * (2 - omega)).astype(diagonal.dtype) * diagonal
        return flat_operator(_Sweeps(factor, weights), operator, {"omega": omega})

    def sor(
        self, operator: lx.AbstractLinearOperator, omega: ArrayLike
    ) -> "ForwardSweep":
        """M = (D/ω + L)⁻¹: x + M r is a sweep of SOR, for `sciml.linear.Stationary`.

        **Arguments:**

        - `operator`: A = L + D + Lᴴ.
        - `omega`: a number, cast to A's type.
        """
        factor, diagonal, omega = self._factor(operator, omega)
        return ForwardSweep(
            factor, omega.astype(diagonal.dtype), operator.in_structure()
        )

    def _factor(
        self, operator: lx.AbstractLinearOperator, omega: ArrayLike
    ) -> tuple[AbstractTriangularFactor, Inexact[Array, " n"], Float[Array, ""]]:
        """D + ωL, D, and ω in A's real type."""
        if (got := _shapes(operator)) != self.shapes:
            raise ValueError(
                "operator: expected the structure of the one that was planned for, "
                f"arrays of {self.shapes}, got {got}; make another RelaxationPlan."
            )
        omega = jnp.asarray(omega)
        if omega.ndim:
            raise ValueError(
                f"omega: expected one number, got shape {omega.shape}; map a batch "
                "with jax.vmap."
            )
        leaves = [leaf.ravel() for leaf in _numbers(operator)]
        values = jnp.concatenate(leaves)[self.sources]
        omega = omega.astype(jnp.finfo(values.dtype).dtype)
        scaled = omega.astype(values.dtype) * values
        lower = jnp.where(self.strict, scaled, values)
        return self.triangle.factor(lower), values[self.diagonal], omega


class _Sweeps(eqx.Module):
    factor: AbstractTriangularFactor
    weights: Inexact[Array, " n"]

    def __call__(self, vector):
        return self.factor.adjoint_solve(self.weights * self.factor.solve(vector))


@register_operator
class ForwardSweep(lx.AbstractLinearOperator):
    """r ↦ ω (D + ω L)⁻¹ r, what `RelaxationPlan.sor` gives; its adjoint sweeps back.

    **Arguments:**

    - `factor`: D + ωL.
    - `omega`: in (0, 2).
    - `structure`: of the vectors.
    - `backward`: whether this is the transpose, ω (D + ωL)⁻ᵀ. Default no.
    """

    factor: AbstractTriangularFactor
    omega: Inexact[Array, ""]
    _structure: tuple = eqx.field(static=True)
    backward: bool = eqx.field(static=True)
    tags: frozenset[object] = eqx.field(static=True)

    def __init__(
        self,
        factor: AbstractTriangularFactor,
        omega: Inexact[Array, ""],
        structure: Vector,
        backward: bool = False,
    ):
        self.factor, self.omega, self.backward = factor, omega, backward
        # Static fields are hashed, and a structure may hold lists or dictionaries.
        leaves, shape = jtu.tree_flatten(structure)
        self._structure = (tuple(leaves), shape)
        self.tags = frozenset()

    def mv(self, vector: Vector) -> Vector:
        """The sweep."""
        flat, unravel = jfu.ravel_pytree(vector)
        if self.backward:
            # (Aᵀ is the conjugate of Aᴴ.)
            return unravel(
                self.omega * jnp.conj(self.factor.adjoint_solve(jnp.conj(flat)))
            )
        return unravel(self.omega * self.factor.solve(flat))

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """The dense matrix, one product per column."""
        return dense_from_products(self)

    def transpose(self) -> "ForwardSweep":
        """The sweep in the other direction."""
        return ForwardSweep(
            self.factor, self.omega, self.in_structure(), not self.backward
        )

    def in_structure(self) -> Vector:
        """Structure of the vectors that it takes."""
        leaves, shape = self._structure
        return jtu.tree_unflatten(shape, leaves)

    def out_structure(self) -> Vector:
        """Structure of the vectors that it gives, the same."""
        return self.in_structure()


def _numbers(operator: lx.AbstractLinearOperator) -> list[Array]:
    return [x for x in jtu.tree_leaves(operator) if eqx.is_inexact_array(x)]


def _shapes(operator: lx.AbstractLinearOperator) -> tuple:
    return tuple((x.dtype.name, x.shape) for x in _numbers(operator))


def _sources(
    operator: lx.AbstractLinearOperator, matrix: Matrix
) -> tuple[np.ndarray, Matrix]:
    """Where the lower triangle's entries are stored, and that triangle, as CSR."""
    import scipy.sparse as sp

    leaves, shape = jtu.tree_flatten(operator)
    held = [np.asarray(leaf) for leaf in leaves if eqx.is_inexact_array(leaf)]
    values = np.concatenate([leaf.ravel() for leaf in held])

    def entries_of(numbers: np.ndarray, zeros: bool) -> Matrix:
        """The matrix of an operator that holds other numbers where it holds any.

        With `zeros` also where it holds a zero: some formats keep those as entries.
        """
        parts = iter(np.split(numbers, np.cumsum([leaf.size for leaf in held])[:-1]))
        filled = []
        for leaf in leaves:
            if eqx.is_inexact_array(leaf):
                part = next(parts).reshape(leaf.shape)
                part = np.where((leaf != 0) | zeros, part, 0)
                leaf = jnp.asarray(part, jnp.float32)
            filled.append(leaf)
        return to_scipy(jtu.tree_unflatten(shape, filled))

    # Each number's place, in two halves that single precision holds; from 1 on, as
    # zeros are dropped.
    high, low = np.divmod(np.arange(len(values)), 4096)
    for zeros in (False, True):
        numbers, rest = entries_of(high + 1, zeros), entries_of(low + 1, zeros)
        index = 4096 * (np.rint(numbers.data).astype(np.int64) - 1)
        index = index + np.rint(rest.data).astype(np.int64) - 1
        if (
            np.array_equal(numbers.indptr, matrix.indptr)
            and np.array_equal(numbers.indices, matrix.indices)
            and np.all((index >= 0) & (index < len(values)))
            and np.array_equal(values[index], matrix.data)
        ):
            break
    else:
        raise TypeError(
            f"operator: RelaxationPlan cannot tell where this {type(operator).__name__}"
            " stores its entries, as with entries that are added up. Pass "
            "sciml.linear.from_scipy(sciml.linear.to_scipy(operator), operator.tags)."
        )
    # (From 1 on: zeros would be dropped.)
    numbers.data = index + 1
    triangle: Matrix = sp.tril(numbers, format="csr")
    triangle.sort_indices()
    sources = triangle.data - 1
    lower = triangle.astype(values.dtype)
    lower.data = values[sources]
    return sources, lower
