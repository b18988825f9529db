"""Spoken vowels: a latent ODE that fills in what is missing of time series."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from sciml.data import Dataset
from sciml.neural_odes import (
    Biased,
    ErrorEstimate,
    ErrorEstimateSquared,
    KineticEnergy,
    LatentODE,
    Local,
    NeuralODE,
    NumSteps,
    Stiffness,
    TayNODE,
    TimeMLP,
    Unbiased,
    negative_elbo,
)

from .._japanese_vowels import drop_observations, load_japanese_vowels
from ._neural_ode_task import Method, Task, evaluations_of_each, solved

_LATENT_DIM, _WIDTH = 8, 40
# Between two of the 29 frames, in units of the whole time.
_HALF_GAP = 0.5 / 28


class VowelsTask(Task):
    """JapaneseVowels with half of each utterance's frames hidden from the model."""

    name = "vowels"
    metric = "mean squared error of hidden values"
    tolerance = 1e-7
    learning_rate = 1e-2
    num_steps = 400
    # Coefficients of the papers for STEER, TayNODE and (about) Stiffness, of the
    # example for ErrorEstimate, of the digits for Local; the others were chosen among
    # two or three each, on the first seed with a third of the series and half of the
    # steps.
    methods = {
        "vanilla": Method(),
        "STEER": Method(steer=_HALF_GAP),
        "KineticEnergy": Method(KineticEnergy(), 0.1),
        "TayNODE": Method(TayNODE(2), 1e-2),
        "ErrorEstimate": Method(ErrorEstimate(), 0.1),
        "ErrorEstimateSquared": Method(ErrorEstimateSquared(), 0.03),
        "NumSteps": Method(NumSteps(), 0.01),
        "Stiffness": Method(Stiffness(), 0.3),
        "Local": Method(Local(), 0.25),
        "Local, biased": Method(Local(Biased()), 2.5),
        "Local, unbiased": Method(Local(Unbiased()), 2.5),
    }

    @classmethod
    def missing(cls):
        try:
            load_japanese_vowels()
        except FileNotFoundError as error:
            return error
        return None

    def load(self, *, key):
        found = load_japanese_vowels()
        known = found[0].values[found[0].mask]
        mean, deviation = known.mean(axis=0), known.std(axis=0)
        parts = []
        for part, part_key in zip(found, jr.split(key), strict=True):
            seen = drop_observations(part, 0.5, key=part_key).mask
            # To a variance of 1: that is the error of predicting the mean.
            values = np.where(part.mask[..., None], (part.values - mean) / deviation, 0)
            parts.append((values, seen, part.mask & ~seen))
        self.train, self.test = parts
        # All of them are one state, as published.
        self.batch_size = len(found[0])
        self.ts = jnp.asarray(found[0].times / found[0].times[-1])

    def data(self):
        values, seen, _ = self.train
        return Dataset(values, seen)

    def model(self, *, key):
        field_key, model_key = jr.split(key)
        field = TimeMLP(
            _LATENT_DIM, _WIDTH, final_activation=jax.nn.identity, key=field_key
        )
        ode = NeuralODE(field, rtol=self.rtol, atol=self.rtol)
        channels = self.train[0].shape[-1]
        # A frame is predicted to half of its deviation at best.
        return LatentODE(
            ode, channels, _LATENT_DIM, _WIDTH, noise_std=0.5, key=model_key
        )

    def task(self, model, batch, **solve):
        ts, end = self.ts, solve.pop("t1", None)
        if end is not None:
            # As published for series, STEER moves all times by up to half of a gap, as
            # if the frames had been spoken then. The last one is drawn already.
            noise = jr.uniform(
                jr.fold_in(solve["key"], 0), ts.shape, ts.dtype, -_HALF_GAP, _HALF_GAP
            )
            ts = (ts + noise).at[0].set(ts[0]).at[-1].set(end.astype(ts.dtype))
        values, seen = jnp.asarray(batch.inputs), jnp.asarray(batch.targets)
        value, solution, prices = negative_elbo(
            model.jointly(), values, seen, ts, **solve
        )
        return value, {}, solution, prices

    def predictions(self, model: Any, values: np.ndarray, seen: np.ndarray) -> Any:
        """All frames from those that were seen."""
        return _predict(model, jnp.asarray(values), jnp.asarray(seen), self.ts)

    def score(self, model):
        def error(values, seen, hidden):
            squares = (np.asarray(self.predictions(model, values, seen)) - values) ** 2
            return float(np.mean(squares[hidden]))

        return {"test": error(*self.test), "train": error(*self.train)}

    def solution(self, model, solver, rtol, *, draw=0, saveat=None):
        del draw
        ode = model.ode.with_tolerances(rtol, solver=solver).jointly()
        return solved(ode, self.starts(model), saveat)

    def one_by_one(self, model):
        return np.asarray(evaluations_of_each(model.ode, self.starts(model)))

    def starts(self, model: Any) -> jax.Array:
        """The means of the initial states of the test series."""
        values, seen, _ = self.test
        return _encode(model, jnp.asarray(values), jnp.asarray(seen), self.ts)


@eqx.filter_jit
def _encode(model, values, seen, ts):
    mean, _ = model.jointly().encode(values, seen, ts)
    return mean


@eqx.filter_jit
def _predict(model, values, seen, ts):
    return model.jointly()(values, seen, ts)
