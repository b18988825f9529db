"""The pushforward loss: one step from where the model itself has got to."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..data import Dataset
from ..neural_operators._trajectory import advance, state_channels
from ._losses import RelativeL2

_DEFAULT_LOSS = RelativeL2()


class Pushforward(eqx.Module):
    """The loss of one application, after N on the model's own outputs without gradient.

        v^0 = u^s,   v^{n+1} = model(v^n) as a constant,   n = 0 … N − 1
        value = loss(model(v^N), u^{s+N+1})

    The input of the step that is trained is then distributed as in a rollout, and the
    model learns to take errors of its own kind back: what noise on the input imitates.
    The gradient is that of the last application only, as if v^N were data, in contrast
    to a loss of the whole rollout.

    In each step of training N is drawn from 0 … N_max for the batch, and for each
    sample the start s from all at which s + N + 1 is in the trajectory. The warm-up
    lets N_max grow from 0 (plain one-step training) by one every `steps_per_unroll`
    steps, up to `max_unrolls`. Only the N applications that are drawn are computed.

    `batch.inputs` are first states and parameters, shape (samples, channels +
    num_parameters, *space); `batch.targets` the states that follow, time first, such as
    `problems`' `dataset(num_saves=T)` makes. A model may see several states and give
    several (`TemporalBundle`); it starts at any state. `aux` has that of `loss`, and
    `num_unrolls`, N.

    **Arguments:**

    - `max_unrolls`: the largest N. Default 1, the paper's.
    - `steps_per_unroll`: default 500; 0 for no warm-up. In the paper an epoch.
    - `loss`: of fields, as for `fit`. Default `RelativeL2()`.
    - `num_channels`: channels of one state. Default 1.
    - `num_parameters`: how many of the last input channels are parameters, which stay
        as they are in time. Default 0.

    As `fit`'s loss it is at the step that is in progress; outside of `fit` take
    `at_step`.

    **Raises:** `ValueError` for arguments out of range, channels that are no states,
    and trajectories too short for `max_unrolls`.

    !!! example

        ```python
        data = problems.Burgers(64).dataset(100, num_saves=10, key=jr.key(0))
        loss = sciml.training.Pushforward(max_unrolls=2, steps_per_unroll=200)
        # sciml.training.fit(model, data, loss=loss, num_steps=1000, …)
        ```

    Source: Brandstetter, Worrall & Welling, *Message Passing Neural PDE Solvers*,
    ICLR 2022, section 3.1.
    """

    max_unrolls: int = eqx.field(static=True, default=1)
    steps_per_unroll: int = eqx.field(static=True, default=500)
    loss: Callable = _DEFAULT_LOSS
    num_channels: int = eqx.field(static=True, default=1)
    num_parameters: int = eqx.field(static=True, default=0)
    step: Any = 0

    def __check_init__(self):
        for name, least in (
            ("max_unrolls", 0),
            ("steps_per_unroll", 0),
            ("num_channels", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: expected at least {least}, got {getattr(self, name)}."
                )

    def at_step(self, step: Any) -> "Pushforward":
        """The loss of one step of training: `fit` asks for it."""
        return eqx.tree_at(lambda loss: loss.step, self, step)

    def __call__(
        self, model: Any, batch: Dataset, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The loss; `key` draws N and the starts."""
        if batch.targets is None:
            raise ValueError("batch: trajectories to compare with are its targets.")
        batch = batch.as_floating()
        inputs, targets = jnp.asarray(batch.inputs), jnp.asarray(batch.targets)
        seen = state_channels(inputs.shape[1], self.num_parameters)
        given = jax.eval_shape(lambda x: model(x), inputs[0]).shape[0]
        self._check(seen, given, targets.shape[1])
        step, count = given // self.num_channels, targets.shape[1] // self.num_channels
        number_key, start_key, loss_key = jr.split(key, 3)
        allowed = jnp.asarray(self.max_unrolls, jnp.int32)
        if self.steps_per_unroll:
            done = jnp.asarray(self.step, jnp.int32) // self.steps_per_unroll
            allowed = jnp.minimum(done, allowed)
        number = jr.randint(number_key, (), 0, allowed + 1, jnp.int32)
        latest = count - step * (number + 1)
        starts = jr.randint(start_key, (len(inputs),), 0, latest + 1, jnp.int32)

        def part(path, start, size):
            first = start * self.num_channels
            return jax.lax.dynamic_slice_in_dim(path, first, size)

        states = jnp.concatenate([inputs[:, :seen], targets], 1)
        x = jax.vmap(lambda path, start: part(path, start, seen))(states, starts)
        x = jnp.concatenate([x, inputs[:, seen:]], 1)
        following = starts + seen // self.num_channels + step * number
        expected = jax.vmap(lambda path, start: part(path, start, given))(
            states, following
        )
        frozen = jax.tree.map(
            lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
            model,
        )

        def push(_, x):
            ahead = lambda x: advance(x, frozen(x).astype(x.dtype), self.num_parameters)
            return jax.vmap(ahead)(x)

        x = jax.lax.stop_gradient(jax.lax.fori_loop(0, number, push, x))
        at_step = getattr(self.loss, "at_step", None)
        loss = self.loss if at_step is None else at_step(self.step)
        value, aux = loss(model, batch._with(x, expected), loss_key)
        return value, {**(aux or {}), "num_unrolls": number}

    def _check(self, seen: int, given: int, following: int) -> None:
        sizes = {"the input's states": seen, "the output": given, "targets": following}
        for name, channels in sizes.items():
            if channels % self.num_channels:
                raise ValueError(
                    f"num_channels: expected a divisor of the channels of {name} "
                    f"({channels}), got {self.num_channels}."
                )
        if following < given * (self.max_unrolls + 1):
            raise ValueError(
                f"batch: {self.max_unrolls} applications before the one that is "
                f"trained, each with {given} channels, need targets with at least "
                f"{given * (self.max_unrolls + 1)} channels, got {following}. Make "
                "longer trajectories, or lower max_unrolls."
            )
