"""A stored sparse LU factorisation."""

import itertools
import weakref
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Int32

from ..linear import AbstractPreconditioner, SymmetricOperator
from ._host import flat_operator, host_matrix

_numbers = itertools.count()
_factorisations: weakref.WeakValueDictionary[int, "_Factorisation"] = (
    weakref.WeakValueDictionary()
)


class DirectFactorisation(AbstractPreconditioner):
    """M = A⁻¹ by a sparse LU factorisation that is stored and used again.

    With it CG ends after a step or two, each verified as ever: a direct solve whose
    residual is known, with the derivatives of `sciml.linear_solve`. In two dimensions,
    for many right-hand sides with one matrix of up to some 10⁵ unknowns, little is
    faster on a CPU. In three dimensions fill makes set-up and memory grow out of hand.

    SuperLU factorises *and solves* on the host: unlike all other preconditioners here M
    leaves the device at each application (a callback, under `jit` and `vmap` as well).
    It cannot be saved.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ValueError` for a singular matrix, or one without a positive diagonal.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        M = sciml.preconditioners.DirectFactorisation().build(A)
        solution = sciml.linear_solve(
            A, jnp.ones((31, 31)), sciml.CG(rtol=1e-4), preconditioner=M
        )
        solution.stats["num_steps"]  # 1
        ```

    Source: Demmel, Eisenstat, Gilbert, Li & Liu, SIAM J. Matrix Anal. Appl. 20 (1999)
    720.
    """

    on_host: ClassVar[bool] = True

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """A⁻¹ for this operator, as a lineax operator."""
        import scipy.sparse.linalg as spla

        matrix = host_matrix(self, operator)
        try:
            # A symmetric ordering; pivoting only where the diagonal is small.
            factor = spla.splu(
                matrix.tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.01,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            raise ValueError(
                f"operator: DirectFactorisation failed ({error}). Is A singular, as "
                "that of a pure Neumann or periodic problem?"
            ) from error
        held = _Factorisation(factor)
        return flat_operator(
            _Solve(jnp.asarray(held.number, jnp.int32), _Holder(held)), operator
        )


class _Factorisation:
    """SuperLU's factors under a number, by which compiled programs find them."""

    def __init__(self, factor: Any):
        self.factor = factor
        self.number = next(_numbers)
        _factorisations[self.number] = self


class _Holder:
    """Keeps a factorisation alive; equal to every other, so that none recompiles."""

    def __init__(self, held: _Factorisation):
        self.held = held

    def __eq__(self, other):
        return isinstance(other, _Holder)

    def __hash__(self):
        return hash(_Holder)


class _Solve(eqx.Module):
    number: Int32[Array, ""]
    holder: _Holder = eqx.field(static=True)

    def __call__(self, vector):
        structure = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
        return jax.pure_callback(
            _solve, structure, self.number, vector, vmap_method="expand_dims"
        )


def _solve(number, vector):
    """A⁻¹ r for vectors along the last axis, on the host."""
    number, vector = np.asarray(number), np.asarray(vector)
    # Under vmap each of them may have more axes; those of one that has not are 1.
    batch = np.broadcast_shapes(number.shape, vector.shape[:-1])
    numbers = np.broadcast_to(number, batch).ravel()
    shape = (*batch, vector.shape[-1])
    rows = np.broadcast_to(vector, shape).reshape(-1, vector.shape[-1])
    solved = np.empty_like(rows)
    for one in np.unique(numbers):
        held = _factorisations.get(int(one))
        if held is None:
            raise RuntimeError(
                "DirectFactorisation: the factorisation is gone. Keep the operator "
                "that build returned as long as programs use it; it cannot be saved or "
                "copied to another process."
            )
        own = numbers == one
        solved[own] = held.factor.solve(np.asfortranarray(rows[own].T)).T
    return solved.reshape(shape)
