"""Losses that judge a preconditioner by what it does to A, without solutions."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array

from .._problem import AbstractLinearProblem
from ..data import Dataset
from ..linear import AbstractPreconditioner, _tree as tree
from ..linear._builder import frozen

Systems = AbstractLinearProblem | Callable[[Array], lx.AbstractLinearOperator]


class UnrolledCG(eqx.Module):
    """mean over samples of log₁₀ ‖r_k‖/‖b‖, averaged over the later steps of CG.

    What a preconditioner is for: M is built for each A, `num_steps` steps of CG are
    taken from zero with b of independent standard normals, and the loss averages over
    k from `num_steps`/2 on, as residuals oscillate. It does not depend on the scale of
    M. Derivatives go through all steps. No solution is needed.

    Any builder of a symmetric positive definite M that can be traced is trained so.

    **Arguments:**

    - `systems`: a `sciml.AbstractLinearProblem` whose coefficients are the first
        channel of the inputs, or a function from an input of the data set to a lineax
        operator, such as the `PackedSystems` of `pack_systems`.
    - `num_steps`: default 40. Enough for the smallest eigenvalues to matter; so many
        that residuals reach rounding (1e-6 in single precision) teach nothing.

    `aux` has `residual`, the geometric mean of ‖r‖/‖b‖ after the last step.

    **Raises:** `ValueError` for fewer than 2 steps.

    !!! example

        ```python
        loss = sciml.preconditioners.UnrolledCG(problem)
        model, history = sciml.training.fit(model, coefficients, loss=loss, …)
        ```
    """

    systems: Systems
    num_steps: int = eqx.field(static=True, default=40)

    def __check_init__(self):
        if self.num_steps < 2:
            raise ValueError(f"num_steps: expected at least 2, got {self.num_steps}.")

    def __call__(self, model: AbstractPreconditioner, batch: Dataset, key: Any):
        """The loss, and `residual`; `key` draws b."""

        def one(sample, key):
            A = operator_of(self.systems, sample)
            b = _normal(A, key)
            return _log_residuals(A, model.build(A), b, self.num_steps)

        inputs = jnp.asarray(batch.as_floating().inputs)
        logs = jax.vmap(one)(inputs, jr.split(key, len(batch)))
        later = logs[:, self.num_steps // 2 :]
        return jnp.mean(later), {"residual": 10 ** jnp.mean(logs[:, -1])}


class InverseResidual(eqx.Module):
    """mean over samples of ‖w − c A M w‖² / ‖w‖² with the best number c.

    For w of independent standard normals and c = 1 the expectation is ‖I − A M‖²_F/n,
    which weighs all eigenvalues alike, most of which are of rough vectors. So w may be
    what CG with M leaves: b − A x after `num_steps` steps, which holds what M is bad
    at. No derivative flows into w. c = (A M w · w)/‖A M w‖² makes the loss independent
    of the scale of M. No solution is needed.

    **Arguments:**

    - `systems`: as of `UnrolledCG`.
    - `num_steps`: of CG before, default 0.

    **Raises:** `ValueError` for a negative `num_steps`.

    !!! example

        ```python
        loss = sciml.preconditioners.InverseResidual(problem)
        value, _ = loss(model, coefficients[:4], jax.random.key(0))
        ```

    Source: the loss of Yang et al., arXiv 2510.27517, but for c.
    """

    systems: Systems
    num_steps: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if self.num_steps < 0:
            raise ValueError(f"num_steps: expected at least 0, got {self.num_steps}.")

    def __call__(self, model: AbstractPreconditioner, batch: Dataset, key: Any):
        """The loss and no further scalars; `key` draws w."""

        def one(sample, key):
            A = operator_of(self.systems, sample)
            M = model.build(A)
            w = _residual(A, frozen(M), _normal(A, key), self.num_steps)
            image = A.mv(M.mv(w))
            square = lambda v: tree.inner(v, v)
            share = tree.inner(image, w) ** 2 / (square(image) * square(w))
            return 1.0 - share

        inputs = jnp.asarray(batch.as_floating().inputs)
        return jnp.mean(jax.vmap(one)(inputs, jr.split(key, len(batch)))), {}


def operator_of(systems: Systems, sample: Array) -> lx.AbstractLinearOperator:
    """A of one input of a data set."""
    if isinstance(systems, AbstractLinearProblem):
        return systems.assemble(sample[0])[0]
    return systems(sample)


def _normal(operator: lx.AbstractLinearOperator, key: Any) -> Any:
    flat, unravel = jfu.ravel_pytree(tree.zeros_like(operator.in_structure()))
    return unravel(jr.normal(key, flat.shape, flat.dtype))


def _steps(A: lx.AbstractLinearOperator, M: lx.AbstractLinearOperator, b: Any):
    """The state of CG from zero, and one step of it.

    Residuals are kept at unit length, and the logarithm of what that took: squares of
    the derivatives' denominators would leave the range of single precision.
    """
    tiny = jnp.finfo(tree.real_dtype(b)).tiny

    def unit(r):
        size = jnp.sqrt(tree.inner(r, r) + tiny)
        return tree.scale(1 / size, r), size

    def step(state, _):
        r, p, rz, log = state
        q = A.mv(p)
        new, size = unit(tree.axpy(-rz / tree.inner(p, q), q, r))
        z = M.mv(new)
        new_rz = tree.inner(new, z)
        p = tree.axpy(size * new_rz / rz, p, z)
        log = log + jnp.log10(size)
        return (new, p, new_rz, log), log

    r, _ = unit(b)
    z = M.mv(r)
    rz = tree.inner(r, z)
    return (r, z, rz, jnp.zeros_like(rz)), step


def _log_residuals(A, M, b, num_steps: int) -> Array:
    state, step = _steps(A, M, b)
    # (The steps are cheap to repeat, and their vectors many to keep.)
    _, logs = jax.lax.scan(jax.checkpoint(step), state, None, length=num_steps)
    return logs


def _residual(A, M, b, num_steps: int) -> Any:
    state, step = _steps(A, M, b)
    (r, _, _, _), _ = jax.lax.scan(step, state, None, length=num_steps)
    return jax.lax.stop_gradient(r)
