"""Losses that know the equation, and sums of losses."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._problem import AbstractLinearProblem
from ..data import Dataset
from ..linear import AbstractPreconditioner
from ..linear._builder import frozen


class PhysicsResidual(eqx.Module):
    """mean over samples of ‖b − A û‖ / ‖b‖ for the linear problem A(a) u = b(a).

    No solution is needed: a dataset without targets will do, whose inputs have the
    coefficient a as their first channel.

    The residual weighs a wave of frequency k by about k², so that with the norm above
    roughness is all that counts, and long waves, where the error is, are learned late.
    With a preconditioner M ≈ A⁻¹ the norm is that of M,

        (rᵀ M r / bᵀ M b)^½,  r = b − A û,

    for M = A⁻¹ exactly the relative error in the energy norm.

    **Arguments:**

    - `problem`: a `sciml.AbstractLinearProblem` on the dataset's grid.
    - `preconditioner`: a builder such as `sciml.preconditioners.Multigrid()`; it has to
        be positive definite. Default None: the Euclidean norm.

    **Raises:** `ValueError` where the model's outputs do not fit the problem's grid.

    !!! example

        ```python
        norm = sciml.preconditioners.Multigrid()
        loss = sciml.training.PhysicsResidual(problem, norm)
        model, history = sciml.training.fit(model, data, loss=loss, …)
        ```
    """

    problem: AbstractLinearProblem
    preconditioner: AbstractPreconditioner | None = None

    def __call__(self, model: Any, batch: Dataset, key: Any = None):
        """The loss and no further scalars; `key` is not used."""
        del key
        inputs = jnp.asarray(batch.as_floating().inputs)
        predictions = jax.vmap(model)(inputs)
        expected = (len(batch), 1, *self.problem.grid.num_points)
        if predictions.shape != expected or inputs.shape[2:] != expected[2:]:
            raise ValueError(
                f"model: expected outputs of shape {expected} for the problem's grid, "
                f"got {predictions.shape} from inputs of shape {inputs.shape}."
            )

        def relative(coefficient, u):
            A, b = self.problem.assemble(coefficient)
            r = b - A.mv(u.astype(b.dtype))
            if self.preconditioner is None:
                return _root(jnp.vdot(r, r) / jnp.vdot(b, b))
            # A setting of the norm, which nothing has to be learned about.
            M = frozen(self.preconditioner.build(A))
            return _root(jnp.vdot(r, M.mv(r)) / jnp.vdot(b, M.mv(b)))

        return jnp.mean(jax.vmap(relative)(inputs[:, 0], predictions[:, 0])), {}


class WeightedSum(eqx.Module):
    """Σ_k weight_k · loss_k, each with its own key.

    `aux` has every loss's own value by its class name, and what they report.

    **Arguments:**

    - `terms`: pairs (weight, loss).

    **Raises:** `ValueError` for no terms, and two losses of one class.

    !!! example

        ```python
        loss = sciml.training.WeightedSum(
            ((1.0, sciml.training.RelativeH1()), (0.1, PhysicsResidual(problem)))
        )
        ```
    """

    terms: tuple[tuple[float, Callable], ...]

    def __check_init__(self):
        names = [_name(loss) for _, loss in self.terms]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"terms: expected pairs (weight, loss) of different losses, got "
                f"{names}."
            )

    def at_step(self, step: Any) -> "WeightedSum":
        """With each loss that follows a schedule as it is at a step."""
        now = []
        for weight, loss in self.terms:
            at_step = getattr(loss, "at_step", None)
            now.append((weight, loss if at_step is None else at_step(step)))
        return WeightedSum(tuple(now))

    def __call__(self, model: Any, batch: Dataset, key: Any = None):
        """The sum, and its terms."""
        total, aux = jnp.zeros(()), {}
        for k, (weight, loss) in enumerate(self.terms):
            own = None if key is None else jax.random.fold_in(key, k)
            value, more = loss(model, batch, own)
            total = total.astype(value.dtype) + weight * value
            aux |= {_name(loss): value} | (more or {})
        return total, aux


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def _root(square: Any) -> Any:
    """√ with derivative 0 instead of infinity at 0."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
