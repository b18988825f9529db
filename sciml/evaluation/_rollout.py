"""How the error of a model that marches in time grows."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..data import Dataset


class RolloutErrors(NamedTuple):
    """What `rollout_errors` found, per step.

    - `relative_l2`: mean over the samples of ‖û − u‖/‖u‖ after each step; infinite
        from where one is not finite.
    - `worst`: the largest of them.
    - `correlation`: mean over the samples of the correlation of û and u, 0 where û is
        not finite.
    - `rms`: the largest root mean square of û among the samples; infinite where one
        is not finite.
    - `num_accurate`: how many steps from the first on have a mean correlation of at
        least 0.8, the usual end of a useful forecast.
    """

    relative_l2: Float[np.ndarray, " steps"]
    worst: Float[np.ndarray, " steps"]
    correlation: Float[np.ndarray, " steps"]
    rms: Float[np.ndarray, " steps"]
    num_accurate: int


def rollout_errors(model: Any, dataset: Dataset, batch_size: int = 64) -> RolloutErrors:
    """Feed a model its own output, and compare with a trajectory at each step.

        û_0 = u(0),  û_{n+1} = model(û_n),  n = 0, 1, …

    **Arguments:**

    - `model`: maps one state `(channels, *space)` to the one a saving interval later.
    - `dataset`: inputs `(samples, channels, *space)` are u(0), targets
        `(samples, saves · channels, *space)` the states after it, time first, as
        `problems`' evolution problems make them with `dataset`.
    - `batch_size`: trajectories at a time.

    **Returns:** a `RolloutErrors`.

    **Raises:** `ValueError` if the channels of the targets are no multiple of those of
    the inputs, or the model's output is no state.

    !!! example

        ```python
        trajectories = problems.Burgers(64).dataset(8, num_saves=20, key=key)
        sciml.evaluation.rollout_errors(model, trajectories).num_accurate
        ```
    """
    if dataset.targets is None:
        raise ValueError("dataset: expected targets, the states of the trajectories.")
    channels, total = dataset.inputs.shape[1], dataset.targets.shape[1]
    if total % channels:
        raise ValueError(
            f"dataset: expected a multiple of the state's {channels} channels in the "
            f"targets, one state after the other, got {total}."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size!r}.")
    parts = []
    for start in range(0, len(dataset), batch_size):
        batch = dataset[start : start + batch_size].as_floating()
        states = np.asarray(batch.targets)
        states = states.reshape(
            len(batch), total // channels, channels, *states.shape[2:]
        )
        found = _rolled_out(model, jnp.asarray(batch.inputs), jnp.asarray(states))
        parts.append(jax.device_get(found))
    error, correlation, rms = (
        np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True)
    )
    bad = ~np.isfinite(error)
    error = np.where(bad, np.inf, error)
    mean = np.where(bad, 0.0, correlation).mean(0)
    inaccurate = np.flatnonzero(~(mean >= 0.8))
    return RolloutErrors(
        error.mean(0),
        error.max(0),
        mean,
        np.where(np.isfinite(rms), rms, np.inf).max(0),
        int(inaccurate[0]) if inaccurate.size else mean.size,
    )


@eqx.filter_jit
def _rolled_out(model: Any, initial: jax.Array, states: jax.Array):
    """Relative error, correlation and root mean square; each (samples, steps)."""

    def one(u0, true):
        def advance(u, target):
            v = model(u)
            if jnp.shape(v) != u.shape:
                raise ValueError(
                    f"model: expected a state of shape {u.shape} like the one it was "
                    f"given, got {jnp.shape(v)}."
                )
            v = v.astype(u.dtype)
            norm = lambda field: jnp.sqrt(jnp.sum(field**2))
            a, b = v - jnp.mean(v), target - jnp.mean(target)
            return v, (
                norm(v - target) / norm(target),
                jnp.sum(a * b) / (norm(a) * norm(b)),
                jnp.sqrt(jnp.mean(v**2)),
            )

        return jax.lax.scan(advance, u0, true.astype(u0.dtype))[1]

    return jax.vmap(one)(initial, states)
