"""A latent ODE that fills in irregular time series, with and without a price.

Run it with `python examples/latent_ode_irregular_series.py`. Where SCIML_DATA names the
folder of data sets the series are spoken vowels, of which every second frame is hidden;
otherwise they are oscillations that the script makes up. Prints how well each model
predicts what was hidden from it, and how often it evaluates its field.
"""

import os

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
    LatentODE,
    NeuralODE,
    RegularisedLoss,
    TimeMLP,
    heuristics_of,
    negative_elbo,
)

RTOL = 1e-7
LATENT_DIM = 8


def main(smoke: bool = False) -> dict[str, float]:
    """Train two models; `smoke` takes small ones and made-up series, for a few steps.

    **Returns:** errors of hidden values and evaluations by name.
    """
    # Tolerances of 1e-7 are below what float32 can reach.
    jax.config.update("jax_enable_x64", True)
    if not smoke and "SCIML_DATA" in os.environ:
        print("spoken vowels (JapaneseVowels), half of their frames hidden")
        series, coefficient = vowels(), 0.1
    else:
        print("made-up oscillations, half of their values hidden")
        # A price slows the latent path down, and these do oscillate: even a small one
        # costs accuracy here.
        series, coefficient = oscillations(40 if smoke else 300), 0.02
    (values, seen, _), test, ts = series
    train = sciml.data.Dataset(values, seen)
    # Values are scaled to a variance of 1: that is the error of predicting the mean.
    numbers = {"interpolation_error": interpolation_error(*test, ts)}
    print(f"  error of linear interpolation: {numbers['interpolation_error']:.4f}")

    width, num_steps = (12, 150) if smoke else (40, 400)
    for name, penalty in (("vanilla", ()), ("error_estimate", ErrorEstimate())):
        field_key, model_key, fit_key = jr.split(jr.key(1), 3)
        field = TimeMLP(
            LATENT_DIM, width, final_activation=jax.nn.identity, key=field_key
        )
        ode = NeuralODE(field, rtol=RTOL, atol=RTOL)
        channels = values.shape[-1]
        model, history = sciml.training.fit(
            # A frame is predicted to half of its deviation at best.
            LatentODE(ode, channels, LATENT_DIM, width, noise_std=0.5, key=model_key),
            train,
            loss=RegularisedLoss(Bound(jnp.asarray(ts)), penalty, coefficient),
            optimiser=optax.adam(1e-2),
            num_steps=num_steps,
            batch_size=len(train),
            progress=False,
            key=fit_key,
        )
        error, evaluations = judge(model, *test, ts)
        numbers[f"{name}_error"], numbers[f"{name}_evaluations"] = error, evaluations
        print(f"{name}: error {error:.4f}, {evaluations} evaluations", end="")
        print(f" (trained in {history.training_time:.1f} s)")
    return numbers


class Bound(eqx.Module):
    """The task: a batch of series at common times, solved as one state."""

    ts: jax.Array

    def __call__(self, model, batch, **solve):
        value, solution, prices = negative_elbo(
            model.jointly(), batch.inputs, batch.targets, self.ts, **solve
        )
        return value, {}, solution, prices


@eqx.filter_jit
def predict(model, values, seen, ts):
    """All series from what was seen of them, and evaluations of the field."""
    mean, _ = model.jointly().encode(values, seen, ts)
    decoded, solution, _ = model.jointly().decode(mean, ts)
    return decoded, heuristics_of(solution).nfe


def judge(model, values, seen, hidden, ts) -> tuple[float, int]:
    """Mean squared error of what was hidden, and evaluations of the field."""
    decoded, evaluations = predict(model, *map(jnp.asarray, (values, seen, ts)))
    squares = (np.asarray(decoded) - values)[hidden] ** 2
    return float(np.mean(squares)), int(evaluations)


def interpolation_error(values, seen, hidden, ts) -> float:
    """The same error, of straight lines between what was seen."""
    lines = np.zeros_like(values)
    for line, row, known in zip(lines, values, seen, strict=True):
        for c in range(values.shape[-1]):
            line[:, c] = np.interp(ts, ts[known], row[known, c])
    return float(np.mean((lines - values)[hidden] ** 2))


def vowels():
    """Training set, test set (values, seen, hidden) and times from 0 to 1."""
    found = problems.load_japanese_vowels()
    known = found[0].values[found[0].mask]
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    parts = []
    for part, key in zip(found, jr.split(jr.key(0)), strict=True):
        seen = problems.drop_observations(part, 0.5, key=key).mask
        values = np.where(part.mask[..., None], (part.values - mean) / deviation, 0)
        parts.append((values, seen, part.mask & ~seen))
    return (*parts, found[0].times / found[0].times[-1])


def oscillations(num_samples: int):
    """The same, of waves with a random phase and frequency that die away."""
    time_key, *part_keys = jr.split(jr.key(0), 3)
    inner = jnp.sort(jr.uniform(time_key, (23,), minval=0.02, maxval=0.98))
    ts = np.concatenate([[0.0], inner, [1.0]])
    parts = []
    for key in part_keys:
        keys = jr.split(key, 3)
        shape = (num_samples, 1, 1)
        frequency = np.asarray(jr.uniform(keys[0], shape, minval=4.0, maxval=8.0))
        phase = np.asarray(jr.uniform(keys[1], shape, maxval=2 * np.pi))
        t, lag = ts[:, None], np.array([0.0, 1.0, 2.0])
        values = 1.8 * np.exp(-0.5 * t) * np.sin(frequency * t + phase + lag)
        seen = np.array(jr.bernoulli(keys[2], 0.5, (num_samples, len(ts))))
        seen[:, 0] = True
        parts.append((values, seen, ~seen))
    return (*parts, ts)


if __name__ == "__main__":
    main()
