"""The loss of search directions: what one step along them leaves."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..data import Dataset
from ..linear import AbstractPreconditioner, StencilOperator, with_obstacle


class DirectionResidual(eqx.Module):
    """mean over samples of ‖b − α A q‖² / ‖b‖², q = M(b), α = q·b / q·A q.

    What the first step of `FlexibleCG` leaves, in the Euclidean norm; α makes it
    independent of the size and the sign of q. No solution is needed.

    **Arguments:**

    - `operator`: A, a `sciml.linear.StencilOperator` on the grid of the samples. Where
        these have a second channel it says which nodes are fluid (1), and A is
        `with_obstacle` at the others.
    - `num_steps`: of steepest descent with M before, default 0 as published: then b is
        what they leave of the sample, which is what M is bad at. No derivative goes
        through them.

    **Raises:** `ValueError` for a negative `num_steps`, and for samples that do not fit
    the operator.

    !!! example

        ```python
        loss = sciml.preconditioners.DirectionResidual(A)
        model, history = sciml.training.fit(
            model, vectors, loss=loss, num_steps=1000, batch_size=8, key=key
        )
        ```

    Source: Kaneda et al., ICML 2023, §4.
    """

    operator: StencilOperator
    num_steps: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if self.num_steps < 0:
            raise ValueError(f"num_steps: expected at least 0, got {self.num_steps}.")

    def __call__(self, model: AbstractPreconditioner, batch: Dataset, key: Any):
        """The loss and no further scalars; `key` plays no part."""
        del key
        inputs = jnp.asarray(batch.as_floating().inputs)
        A = in_dtype(self.operator, inputs.dtype)
        channels, space = inputs.shape[1], inputs.shape[2:]
        if channels not in (1, 2) or space != A.grid.num_points:
            raise ValueError(
                "batch: expected 1 or 2 channels on the operator's grid "
                f"{A.grid.num_points}, got inputs of shape {inputs.shape}."
            )
        common = model.build(A) if channels == 1 else None

        def one(sample):
            held = A if channels == 1 else with_obstacle(A, 1 - sample[1])
            M = model.build(held) if common is None else common
            left = lambda b: _after_step(held, M, b)
            b = _unit(sample[0])
            if self.num_steps > 0:
                step = lambda _, b: _unit(left(b))
                b = jax.lax.fori_loop(0, self.num_steps, step, b)
                b = jax.lax.stop_gradient(b)
            return jnp.sum(left(b) ** 2)

        return jnp.mean(jax.vmap(one)(inputs)), {}


def in_dtype(operator: StencilOperator, dtype: Any) -> StencilOperator:
    """The same operator with its numbers in another type."""
    convert = lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x
    return jax.tree.map(convert, operator)


def _after_step(A, M, b):
    q = M.mv(b)
    image = A.mv(q)
    energy = jnp.sum(q * image)
    # (A direction of zero leaves b as it is.)
    alpha = jnp.sum(q * b) / jnp.where(energy == 0, 1, energy)
    return b - alpha * image


def _unit(b):
    size = jnp.sum(b * b)
    return b * jax.lax.rsqrt(jnp.where(size == 0, 1, size))
