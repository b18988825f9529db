"""DGNO's benchmarks by name, and how it is trained on them within minutes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from sciml.data import Dataset
from sciml.neural_operators import DGNO, FixedPrecision, VirtualObservables
from sciml.neural_operators._latents import AbstractLatent, BoxLatent
from sciml.training import D4Augmented
from sciml.weak_forms import StokesChannel

from ._continuous_darcy import ContinuousDarcy
from ._dirichlet_burgers import DirichletBurgers
from ._stokes_cylinder import StokesCylinder
from ._two_phase_darcy import TwoPhaseDarcy

DGNO_PROBLEMS: dict[str, Any] = {
    "darcy-two-phase": TwoPhaseDarcy,
    "darcy-continuous": ContinuousDarcy,
    "burgers-dirichlet": DirichletBurgers,
    "stokes-cylinder": StokesCylinder,
}


class DGNORecipe(eqx.Module):
    """An untrained model, its loss, and coefficients of a step."""

    model: DGNO
    loss: Any
    batch_size: int


def dgno_recipe(
    form: Any,
    latent: AbstractLatent = BoxLatent(),  # noqa: B008
    *,
    key: PRNGKeyArray,
) -> DGNORecipe:
    """What `sciml train dgno` and the benchmarks take for a weak form.

    On the square coefficients are mirrored and turned (`D4Augmented`).

    **Arguments:**

    - `form`: that of one of the problems, or another one with two or one axes.
    - `latent`: default `BoxLatent()`.
    - `key`: draws the weights.
    """
    if isinstance(form, StokesChannel):
        model = DGNO(form, latent=latent, key=key)
        return DGNORecipe(model, VirtualObservables(FixedPrecision(10.0)), 50)
    if form.grid.ndim == 2:
        model = DGNO(form, latent=latent, key=key)
        loss = D4Augmented(VirtualObservables(FixedPrecision(50.0)))
        return DGNORecipe(model, loss, 100)
    model = DGNO(form, depth=6, num_summed_layers=5, latent=latent, key=key)
    return DGNORecipe(model, VirtualObservables(FixedPrecision(500.0)), 50)


def dgno_coefficients(problem: Any, count: int, key: PRNGKeyArray) -> Dataset:
    """Random ones in single precision, without solutions."""
    drawn = problem.coefficients(count, key=key)
    return Dataset(np.asarray(drawn.inputs, np.float32), None, drawn.grid)


def exact_solutions(problem: Any, inputs: Any) -> np.ndarray:
    """References for (samples, 1, *space), in double precision."""
    with jax.enable_x64(True):
        fields = jnp.asarray(inputs[:, 0], jnp.float64)
        return np.asarray(jax.lax.map(problem.reference, fields))


def dgno_error(model: Any, inputs: Any, exact: np.ndarray) -> list[float]:
    """Mean relative L2 errors of a model's solutions, by channel."""
    outputs = eqx.filter_jit(jax.lax.map)(model, jnp.asarray(inputs))
    outputs = np.asarray(outputs, float)
    exact = exact.reshape(outputs.shape)
    return [mean_error(outputs[:, k], exact[:, k]) for k in range(outputs.shape[1])]


def mean_error(outputs: np.ndarray, exact: np.ndarray) -> float:
    """Mean of ‖û − u‖/‖u‖."""
    norm = lambda field: np.linalg.norm(field.reshape(len(exact), -1), axis=1)
    return float(np.mean(norm(outputs - exact) / norm(exact)))


def split_keys(seed: int) -> tuple[PRNGKeyArray, ...]:
    """Of the training's coefficients, weights, batches, and the test's coefficients."""
    return tuple(jr.split(jr.key(seed), 4))
