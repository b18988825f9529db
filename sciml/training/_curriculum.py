"""A curriculum from one-step predictions to whole trajectories of a model's own."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..data import Dataset
from ..neural_operators._trajectory import advance, state_channels
from ._losses import RelativeL2

_DEFAULT_LOSS = RelativeL2()


class Curriculum(eqx.Module):
    """Trajectories of T applications of a model, more and more of them on its own.

    A model maps a state u (and parameters) to the next one. With û⁰ = u⁰,

        û^t = model(v^{t−1}),   v^t = û^t for t < t_AR, else u^t        t = 1 … T
        loss = mean over t of loss(û^t, u^t) + c · mean over t of loss(e^t, u^t)

    where e^t is the model's intermediate estimate of the next state (`CAPE`), c
    `intermediate_weight`. With t_AR = 1 every input is data (teacher forcing), with
    t_AR = T all but the first are the model's own outputs. Through those the gradient
    flows back to the start. Over the run it moves from the one to the other:

        e = (step − warmup_steps)/(num_steps − warmup_steps)
        t_AR = min(max(⌊T/2 (1 + tanh((e − 1/2)/width))⌋, 1), T)

    During the first `warmup_steps` the loss is that of e^t alone, without c: only what
    makes the estimate is trained, but for the weight decay of the optimiser.

    `batch.inputs` are first states and parameters, shape (samples, channels +
    num_parameters, *space); `batch.targets` the states that follow, T times as many
    channels as the model gives, time first, such as `problems`' `dataset(num_saves=T)`
    makes. A model may see several states and give several (`TemporalBundle`); t then
    counts its applications.

    Besides, `aux` has `prediction` and (where c or a warm-up is asked for)
    `intermediate`, the two means, and `num_autoregressive`, t_AR.

    **Arguments:**

    - `num_steps`: of the whole run, as `fit` is told.
    - `warmup_steps`: default 0. The paper has 3 of 100 epochs.
    - `intermediate_weight`: c. Default 0. For CAPE the paper has 5.7e-5 in 1-D and
        8.34e-5 in 2-D.
    - `num_parameters`: how many of the last input channels are parameters, which stay
        as they are in time. Default 0.
    - `loss`: of fields, as for `fit`. Default `RelativeL2()`. It is called with the
        identity as model and the predictions as inputs, for each t.
    - `width`: of the transition, relative to the run. Default 0.2, the paper's.

    As `fit`'s loss it is at the step that is in progress; outside of `fit` take
    `at_step`.

    **Raises:** `ValueError` for arguments out of range, targets whose channels are no
    multiple of the model's, and c > 0 or a warm-up with a model that has no
    intermediate estimate.

    !!! example

        ```python
        loss = sciml.training.Curriculum(num_steps=1000)
        loss.at_step(0).num_autoregressive(10)  # 1: each input is data
        loss.at_step(500).num_autoregressive(10)  # 5
        # sciml.training.fit(model, trajectories, loss=loss, num_steps=1000, …)
        ```

    Source: Takamoto, Alesiani & Niepert, *Learning Neural PDE Solvers with
    Parameter-Guided Channel Attention*, ICML 2023, with sums over t there. Its code
    adds c times the running sum of the second term at each t, so that early times weigh
    up to T times as much; here each t has weight c/T.
    """

    num_steps: int = eqx.field(static=True)
    warmup_steps: int = eqx.field(static=True, default=0)
    intermediate_weight: float = eqx.field(static=True, default=0.0)
    num_parameters: int = eqx.field(static=True, default=0)
    loss: Callable = _DEFAULT_LOSS
    width: float = eqx.field(static=True, default=0.2)
    step: Any = 0

    def __check_init__(self):
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ValueError(
                f"warmup_steps: expected 0 to num_steps − 1 = {self.num_steps - 1}, "
                f"got {self.warmup_steps}."
            )
        if self.intermediate_weight < 0:
            raise ValueError(
                "intermediate_weight: expected a number that is not negative, got "
                f"{self.intermediate_weight}."
            )
        if not self.width > 0:
            raise ValueError(f"width: expected a positive number, got {self.width}.")

    def at_step(self, step: Any) -> "Curriculum":
        """The loss of one step of training: `fit` asks for it."""
        return eqx.tree_at(lambda loss: loss.step, self, step)

    def num_autoregressive(self, num_applications: int) -> Int[Array, ""]:
        """t_AR at this step, for T = `num_applications`."""
        dtype = jnp.result_type(float)
        done = jnp.asarray(self.step).astype(dtype) - self.warmup_steps
        share = done / (self.num_steps - self.warmup_steps)
        ramp = (1 + jnp.tanh((share - 0.5) / self.width)) / 2
        count = jnp.floor(num_applications * ramp).astype(jnp.int32)
        return jnp.clip(count, 1, num_applications)

    def __call__(
        self, model: Any, batch: Dataset, key: Any = None
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The loss, and its parts."""
        if batch.targets is None:
            raise ValueError("batch: trajectories to compare with are its targets.")
        batch = batch.as_floating()
        intermediate = self.intermediate_weight > 0 or self.warmup_steps > 0
        if intermediate and not hasattr(model, "with_intermediate"):
            raise ValueError(
                "intermediate_weight, warmup_steps: expected 0 for a model without an "
                f"intermediate estimate, such as {type(model).__name__}; CAPE has one."
            )
        inputs, targets = jnp.asarray(batch.inputs), jnp.asarray(batch.targets)
        num_state = state_channels(inputs.shape[1], self.num_parameters)
        given = jax.eval_shape(lambda x: model(x), inputs[0]).shape[0]
        if targets.shape[1] % given:
            raise ValueError(
                f"batch: expected targets with a multiple of the {given} channels that "
                f"the model gives, got {targets.shape[1]}."
            )
        num_applications = targets.shape[1] // given
        states = jnp.concatenate([inputs[:, :num_state], targets], 1)
        parameters = inputs[:, num_state:]
        places = range(0, targets.shape[1], given)
        after = jnp.stack([targets[:, k : k + given] for k in places])
        following = jnp.stack(
            [states[:, k + given : k + given + num_state] for k in places]
        )
        own = self.num_autoregressive(num_applications)

        at_step = getattr(self.loss, "at_step", None)
        loss = self.loss if at_step is None else at_step(self.step)

        def compare(predictions, expected):
            shown = batch._with(predictions, expected)
            return loss(lambda field: field, shown, key)[0]

        def apply(x, data):
            t, expected, next_state = data
            if intermediate:
                y, estimate = jax.vmap(model.with_intermediate)(x)
                second = compare(estimate, next_state)
            else:
                y = jax.vmap(model)(x)
                second = jnp.zeros((), y.dtype)
            ahead = jax.vmap(lambda x, y: advance(x, y, self.num_parameters))(x, y)
            told = jnp.concatenate([next_state, parameters], 1)
            return jnp.where(t < own, ahead, told), (compare(y, expected), second)

        times = jnp.arange(1, num_applications + 1, dtype=jnp.int32)
        _, parts = jax.lax.scan(apply, inputs, (times, after, following))
        prediction, estimate = map(jnp.mean, parts)
        aux = {"prediction": prediction, "num_autoregressive": own}
        if not intermediate:
            return prediction, aux
        total = prediction + self.intermediate_weight * estimate
        total = jnp.where(jnp.asarray(self.step) < self.warmup_steps, estimate, total)
        return total, aux | {"intermediate": estimate}
