"""A neural SDE that learns the moments of a spiral, with and without a price.

Run it with `python examples/neural_sde.py`. Mean and variance over trajectories are all
that the model sees of the noisy spiral. Prints how far it is from them on Brownian
paths that it was not trained on, and how often it evaluates its drift.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.neural_odes import (
    ErrorEstimate,
    LinearField,
    NeuralSDE,
    RegularisedLoss,
    heuristics_of,
)

# Fine enough that steps are shorter than the gaps between the 30 times of the data, at
# each of which a step ends: 29 steps of 3 evaluations are the least that is possible.
RTOL = 2e-3
NUM_TRAJECTORIES = 100


def main(smoke: bool = False) -> dict[str, float]:
    """Train two models; `smoke` takes small ones, for a few steps.

    **Returns:** losses and evaluations by name.
    """
    sde = problems.SpiralSDE()
    num_trajectories, num_steps = (20, 30) if smoke else (NUM_TRAJECTORIES, 500)
    ts = sde.ts[::4] if smoke else sde.ts
    mean, variance = sde.moments(500 if smoke else 4000, key=jr.key(0))
    if smoke:
        mean, variance = mean[::4], variance[::4]
    task = Moments(ts, mean, variance)
    # As many samples as trajectories, all of which start at the same place.
    starts = np.broadcast_to(np.asarray(sde.y0), (num_trajectories, 2))
    train = sciml.data.Dataset(starts, None)
    numbers = {}
    # What a finite number of trajectories leaves of the loss, whoever the model is.
    own = NeuralSDE(OfSpiral(sde), OfSpiral(sde, noise=True), rtol=RTOL, atol=RTOL)
    numbers |= judge("spiral", own, task, starts)
    for name, penalty, coefficient in (
        ("vanilla", (), 0.0),
        ("error_estimate", ErrorEstimate(), 10.0),
    ):
        drift_key, diffusion_key, fit_key = jr.split(jr.key(1), 3)
        drift = OfCubes(8 if smoke else 50, key=drift_key)
        diffusion = LinearField(2, key=diffusion_key)
        model, history = sciml.training.fit(
            NeuralSDE(drift, diffusion, rtol=RTOL, atol=RTOL),
            train,
            loss=RegularisedLoss(task, penalty, coefficient),
            optimiser=optax.adabelief(settling(2e-2, num_steps)),
            num_steps=num_steps,
            batch_size=len(train),
            progress=False,
            key=fit_key,
        )
        numbers |= judge(name, model, task, starts)
        print(f"  trained in {history.training_time:.1f} s")
    return numbers


def settling(rate: float, num_steps: int) -> optax.Schedule:
    """The last third of the steps get smaller: every one of them is noisy."""
    last = num_steps // 3
    parts = optax.constant_schedule(rate), optax.cosine_decay_schedule(rate, last)
    return optax.join_schedules(parts, [num_steps - last])


class OfCubes(eqx.Module):
    """A drift that sees the cubes of the state, as the published one does."""

    network: eqx.nn.MLP

    def __init__(self, width, *, key):
        self.network = eqx.nn.MLP(2, 2, width, 1, activation=jnp.tanh, key=key)

    def __call__(self, t, y, args):
        return self.network(y**3)


class OfSpiral(eqx.Module):
    """Drift or noise of the spiral, in Stratonovich's sense, which is the solver's."""

    sde: problems.SpiralSDE
    noise: bool = False

    def __call__(self, t, y, args):
        gamma = self.sde.args[2]
        if self.noise:
            return gamma * y
        return self.sde.drift(t, y, args) - gamma**2 / 2 * y


class Moments(eqx.Module):
    """The task: mean and variance over trajectories that are solved as one state."""

    ts: jax.Array
    mean: jax.Array
    variance: jax.Array

    def __call__(self, model, batch, **solve):
        starts = jnp.asarray(batch.inputs)
        solution, prices = model.jointly().solve(starts, ts=self.ts, **solve)
        of_means = solution.ys.mean(axis=1) - self.mean
        of_variances = solution.ys.var(axis=1, ddof=1) - self.variance
        return jnp.sum(of_means**2 + of_variances**2), {}, solution, prices


@eqx.filter_jit
def losses(model, task, starts, key):
    """Loss and evaluations of the drift, on new paths."""
    value, _, solution, _ = task(model, sciml.data.Dataset(starts, None), key=key)
    return value, heuristics_of(solution).nfe


def judge(name, model, task, starts, num_draws: int = 10) -> dict[str, float]:
    """The same, on average over a few draws of all paths."""
    draws = [losses(model, task, starts, jr.key(100 + k)) for k in range(num_draws)]
    values, evaluations = np.asarray(draws, float).T
    error = np.std(values, ddof=1) / np.sqrt(num_draws)
    print(f"{name}: loss {values.mean():.2f} ± {error:.2f}", end="")
    print(f", {evaluations.mean():.0f} evaluations")
    return {
        f"{name}_loss": float(values.mean()),
        f"{name}_evaluations": float(evaluations.mean()),
    }


if __name__ == "__main__":
    main()
