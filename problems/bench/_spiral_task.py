"""A spiral: a neural ODE that learns one trajectory."""

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np

from sciml.data import Dataset
from sciml.neural_odes import (
    Biased,
    ErrorEstimate,
    ErrorEstimateSquared,
    KineticEnergy,
    Local,
    NeuralODE,
    NumSteps,
    Stiffness,
    TayNODE,
    Unbiased,
)

from .._spirals import Spiral
from ._neural_ode_task import Method, Task, evaluations_of_each, solved


class SpiralTask(Task):
    """A spiral's trajectory at thirty times, from its initial value."""

    name = "spiral"
    metric = "mean squared error"
    tolerance = 1e-7
    learning_rate = 1e-2
    num_steps = 2000
    batch_size = 1
    # Coefficients were found on the first seed.
    methods = {
        "vanilla": Method(),
        "STEER": Method(steer=0.1),
        "KineticEnergy": Method(KineticEnergy(), 1e-5),
        "TayNODE": Method(TayNODE(3), 1e-8),
        "ErrorEstimate": Method(ErrorEstimate(), 1e-2),
        "ErrorEstimateSquared": Method(ErrorEstimateSquared(), 1e-4),
        "NumSteps": Method(NumSteps(), 3e-4),
        "Stiffness": Method(Stiffness(), 1e-3),
        "Local": Method(Local(), 1e-2),
        "Local, biased": Method(Local(Biased()), 1e-1),
        "Local, unbiased": Method(Local(Unbiased()), 1e-1),
    }

    def load(self, *, key):
        del key
        spiral = Spiral()
        self.ts = jnp.asarray(spiral.ts)
        self.y0 = jnp.asarray(spiral.y0)
        exact = dfx.diffeqsolve(
            spiral.term(),
            dfx.Dopri8(),
            spiral.t0,
            spiral.t1,
            0.01,
            self.y0,
            spiral.args,
            saveat=dfx.SaveAt(ts=self.ts),
            stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10),
        )
        self.exact = jnp.asarray(exact.ys)
        self.t1 = float(spiral.t1)

    def data(self):
        return Dataset(self.y0[None], self.exact[None])

    def model(self, *, key):
        field = OfCubes(eqx.nn.MLP(2, 2, 50, 1, activation=jnp.tanh, key=key))
        return NeuralODE(field, rtol=self.rtol, atol=self.rtol, t1=self.t1)

    def task(self, model, batch, **solve):
        # (After a random end that comes early there is nothing to compare.)
        end = jnp.asarray(solve.pop("t1", model.t1), self.ts.dtype)
        saveat = dfx.SaveAt(ts=jnp.minimum(self.ts, end), t1=True)
        solution, price = model.solve(self.y0, t1=end, saveat=saveat, **solve)
        ys = solution.ys[:-1]
        errors = jnp.where((self.ts <= end)[:, None], ys - self.exact, 0.0)
        return jnp.mean(errors**2), {}, solution, price

    def score(self, model):
        solution = solved(model, self.y0, dfx.SaveAt(ts=self.ts))
        return {"test": float(jnp.mean((jnp.asarray(solution.ys) - self.exact) ** 2))}

    def solution(self, model, solver, rtol, *, draw=0, saveat=None):
        del draw
        return solved(model.with_tolerances(rtol, solver=solver), self.y0, saveat)

    def one_by_one(self, model):
        return np.asarray(evaluations_of_each(model, self.y0[None]))


class OfCubes(eqx.Module):
    """f(y) = network(y³), as published for the spirals."""

    network: eqx.nn.MLP

    def __call__(self, t, y, args):
        """f(y)."""
        del t, args
        return self.network(y**3)
