"""Task losses with the price of the solve added, for `sciml.training.fit`."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..data import Dataset
from ._neural_ode import ODEClassifier
from ._penalties import AbstractPenalty
from ._running_costs import steer_end_time


class RegularisedLoss(eqx.Module):
    """task + λ(step) · Σ prices, as a loss of `sciml.training.fit`.

    **Arguments:**

    - `task`: `task(model, batch, **solve) -> (value, aux, solution, prices)`, such as
        `cross_entropy`; it hands `solve` (`penalty`, `key`, perhaps `t1`) to the
        model's solve and returns what that returned.
    - `penalty`: a penalty or a pytree of them. Default none: the vanilla model.
    - `coefficient`: λ, a number, or a schedule of the step as optax has them, such as
        `optax.exponential_decay(100.0, num_steps, 0.1)`. Default 0.1.
    - `steer`: half the width of the interval around t₁ from which each step draws its
        end (`steer_end_time`), relative to t₁ − t₀; None (default) ends at t₁.

    Besides, `aux` has `task`, `price` and `num_steps`, accepted and rejected ones (of a
    model that is vmapped in the task, their mean).

    !!! example

        ```python
        from sciml.neural_odes import ErrorEstimate, RegularisedLoss, cross_entropy

        loss = RegularisedLoss(cross_entropy, ErrorEstimate(), 0.1)
        # sciml.training.fit(classifier, train, loss=loss, …)
        ```
    """

    task: Callable
    penalty: PyTree[AbstractPenalty] = ()
    coefficient: Any = 0.1
    steer: float | None = None
    step: Any = 0

    def at_step(self, step: Any) -> "RegularisedLoss":
        """The loss of one step of training: `fit` asks for it."""
        return eqx.tree_at(lambda loss: loss.step, self, step)

    def __call__(
        self, model: Any, batch: Dataset, key: PRNGKeyArray
    ) -> tuple[Array, dict[str, Array]]:
        """The loss, and its parts."""
        solve_key, end_key = jr.split(key)
        solve: dict[str, Any] = {"penalty": self.penalty, "key": solve_key}
        if self.steer is not None:
            ode = getattr(model, "ode", model)
            width = self.steer * (ode.t1 - ode.t0)
            solve["t1"] = steer_end_time(ode.t1, width, key=end_key)
        value, aux, solution, prices = self.task(model, batch, **solve)
        leaves = [jnp.mean(price) for price in jax.tree.leaves(prices)]
        price = sum(leaves[1:], leaves[0]) if leaves else jnp.zeros_like(value)
        weight = self.coefficient
        weight = weight(self.step) if callable(weight) else weight
        total = value + jnp.asarray(weight, value.dtype) * price.astype(value.dtype)
        steps = jnp.mean(jnp.asarray(solution.stats["num_steps"]).astype(value.dtype))
        return total, {"task": value, "price": price, "num_steps": steps, **aux}


def cross_entropy(
    model: ODEClassifier, batch: Dataset, **solve: Any
) -> tuple[Array, dict[str, Array], dfx.Solution, Any]:
    """Mean cross-entropy of a batch that is solved as one state; a task.

    `batch.inputs` has shape (samples, in_size), `batch.targets` (samples,): the number
    of the class. `aux` has the `accuracy`.
    """
    logits, solution, prices = model.classify(jnp.asarray(batch.inputs), **solve)
    labels = jnp.asarray(batch.targets).astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.argmax(logits, axis=1).astype(jnp.int32) == labels
    accuracy = jnp.mean(right.astype(logits.dtype))
    return jnp.mean(losses), {"accuracy": accuracy}, solution, prices
