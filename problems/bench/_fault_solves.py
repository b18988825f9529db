"""One batch of systems through one solver, in one of the modes, or through a rival."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

import sciml
from sciml.linear import GMRES, MINRES, AbstractKrylov, SymmetricOperator, linear_solve
from sciml.preconditioners import Jacobi

from ._fault_cases import SIZE, BentPreconditioner, Systems
from ._methods import RESULT_NAMES

_PSD = lx.positive_semidefinite_tag


class Ends(NamedTuple):
    """How the solves of a batch ended; the gradients only in the mode "grad"."""

    outcome: np.ndarray
    value: np.ndarray
    reported: np.ndarray
    num_steps: np.ndarray
    d_matrix: np.ndarray | None = None
    d_vector: np.ndarray | None = None


def solve_batch(cases: Systems, M: Any, solver: AbstractKrylov, mode: str) -> Ends:
    """Every system of a batch, with its preconditioner, in a mode (see `MODES`).

    Operators and preconditioners get the tags that the solver asks for, true or not.
    """
    ends = Ends(*MODES[mode](*(jnp.asarray(v) for v in cases), M, solver))
    assert (ends.outcome >= 0).all(), "a result that has no name here"
    return ends


def rejects_wrong_shape(cases: Systems, solver: AbstractKrylov, mode: str) -> bool:
    """Whether preconditioners of the wrong size are refused by an error that says so.

    One row and column too many, one too few.
    """
    for size in (SIZE + 1, SIZE - 1):
        M = np.tile(np.eye(size, dtype=cases.A.dtype), (len(cases.A), 1, 1))
        try:
            solve_batch(cases, M, solver, mode)
        except ValueError as error:
            if str(error).startswith("preconditioner: "):
                continue
        return False
    return True


def _one(A, b, M, solver: AbstractKrylov):
    general = isinstance(solver, GMRES)
    tag = lx.symmetric_tag if isinstance(solver, MINRES) else _PSD
    tag, m_tag = (frozenset(), frozenset()) if general else (tag, _PSD)
    if eqx.is_array(M) or isinstance(M, np.ndarray):
        M = lx.MatrixLinearOperator(jnp.asarray(M), m_tag)
    elif isinstance(M, BentPreconditioner):
        M = SymmetricOperator(M, jax.ShapeDtypeStruct(b.shape, b.dtype), m_tag)
    solution = linear_solve(
        lx.MatrixLinearOperator(A, tag), b, solver, preconditioner=M, throw=False
    )
    return solution.result, solution.value, solution.stats


@jax.jit
def _code(result):
    code = jnp.full((), -1, jnp.int32)
    for k, name in enumerate(RESULT_NAMES):
        code = jnp.where(result == getattr(sciml.RESULTS, name), k, code)
    return code


def _ends(result, value, stats):
    steps = stats["num_steps"]
    return _code(result), value, stats["relative_residual"], steps


def _loss(system, g, M, solver):
    A, b = system
    ends = _ends(*_one(A, b, M, solver))
    return jnp.sum(g * ends[1]), ends


@eqx.filter_jit
def _jitted(A, b, M, solver):
    return _ends(*_one(A, b, M, solver))


@eqx.filter_jit
def _vmapped(A, b, M, solver):
    return jax.vmap(lambda A, b, M: _ends(*_one(A, b, M, solver)))(A, b, M)


@eqx.filter_jit
def _gradients(A, b, g, M, solver):
    grad = jax.grad(_loss, has_aux=True)
    (dA, db), ends = grad((A, b), g, M, solver)
    return *ends, dA, db


def _loop(solve: Callable) -> Callable:
    """The systems one after the other, each field of the answers stacked."""

    def run(A, b, g, M, solver):
        answers = []
        for k in range(len(A)):
            take = lambda leaf, k=k: leaf[k]
            answers.append(solve(A[k], b[k], g[k], jax.tree.map(take, M), solver))
        answers = [[np.asarray(v) for v in answer] for answer in answers]
        return [np.stack(field) for field in zip(*answers, strict=True)]

    return run


MODES: dict[str, Callable] = {
    "eager": _loop(lambda A, b, g, M, solver: _ends(*_one(A, b, M, solver))),
    "jit": _loop(lambda A, b, g, M, solver: _jitted(A, b, M, solver)),
    "vmap": lambda A, b, g, M, solver: [
        np.asarray(v) for v in _vmapped(A, b, M, solver)
    ],
    "grad": _loop(_gradients),
}
"""eager: `linear_solve` as called at a prompt, where it compiles itself; jit: within a
caller's `jit`; vmap: all systems in one call; grad: x and the gradient of gᵀx."""


# --- rivals ---------------------------------------------------------------------------


def _rival_operator(M, A):
    if isinstance(M, Jacobi):
        return lx.MatrixLinearOperator(jnp.diag(1 / jnp.diag(A)), _PSD)
    if isinstance(M, BentPreconditioner):
        structure = jax.ShapeDtypeStruct(A.shape[:1], A.dtype)
        return SymmetricOperator(M, structure, _PSD)
    return None if M is None else lx.MatrixLinearOperator(jnp.asarray(M), _PSD)


@eqx.filter_jit
def _lineax(A, b, M, rtol, max_steps):
    preconditioner = _rival_operator(M, A)
    solution = lx.linear_solve(
        lx.MatrixLinearOperator(A, _PSD),
        b,
        lx.CG(rtol=rtol, atol=rtol, max_steps=max_steps),
        options={} if M is None else {"preconditioner": preconditioner},
        throw=False,
    )
    return solution.result == lx.RESULTS.successful, solution.value


@eqx.filter_jit
def _jax(A, b, M, rtol, max_steps):
    preconditioner = _rival_operator(M, A)
    value, _ = jax.scipy.sparse.linalg.cg(
        A,
        b,
        tol=rtol,
        atol=0.0,
        maxiter=max_steps,
        M=None if preconditioner is None else preconditioner.mv,
    )
    return None, value


RIVALS: dict[str, Callable] = {"lineax.CG": _lineax, "jax.scipy cg": _jax}
"""Other codes' CG, by name.

`lineax.CG(rtol, atol=rtol)` is successful where max_i |r_i| / (atol + rtol |b_i|) ≤ 1,
and likewise the last update of x relative to x: with ‖b‖ = √n this means
‖r‖₂ ≤ 2 rtol ‖b‖₂. `jax.scipy.sparse.linalg.cg(tol=rtol, atol=0)` stops where
‖r‖₂ ≤ rtol ‖b‖₂ or after `maxiter` steps, and does not say which. Both mean the r of
their recurrences.
"""


def rival_batch(cases: Systems, M: Any, name: str, rtol: float, max_steps: int):
    """Which systems a rival claims to have solved (None: it claims nothing), values."""
    claims, values = [], []
    for k in range(len(cases.A)):
        take = lambda leaf, k=k: jnp.asarray(leaf[k])
        claim, value = RIVALS[name](
            take(cases.A), take(cases.b), jax.tree.map(take, M), rtol, max_steps
        )
        claims.append(claim)
        values.append(np.asarray(value))
    claimed = None if claims[0] is None else np.array([bool(c) for c in claims])
    return claimed, np.array(values)
