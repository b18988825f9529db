"""Act two: an MgNO learns the map from a to u, beside what costs no training."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sciml
from sciml.data import Dataset
from sciml.grids import Grid, Neumann, interpolate, source_vector
from sciml.linear import diffusion_operator
from sciml.neural_operators import MgNO, normalised
from sciml.preconditioners import Multigrid
from sciml.training import RelativeH1

from .._diffusion import Darcy
from .._surrogate import (
    as_float32,
    in_float32,
    num_parameters,
    short_run_optimiser,
)
from ._settings import DemoSettings


def train(
    settings: DemoSettings, problem: Darcy, data: Dataset
) -> tuple[Any, Any, dict[str, Any]]:
    """The trained model, its history, and its errors beside the baselines'."""
    learn, test = as_float32(data).split(settings.pairs.num_train)
    key = jr.key(settings.seed)
    network = MgNO(
        2,
        1,
        1,
        width=settings.training.width,
        depth=settings.training.depth,
        num_levels=settings.training.num_levels,
        boundary=problem.grid.boundary,
        key=key,
    )
    model = normalised(in_float32(network), learn.inputs, learn.targets)
    model, history = sciml.training.fit(
        model,
        learn,
        loss=RelativeH1(),
        optimiser=short_run_optimiser(
            settings.training.num_steps, settings.training.learning_rate
        ),
        num_steps=settings.training.num_steps,
        batch_size=settings.training.batch_size,
        key=key,
    )
    exact = data[settings.pairs.num_train :]
    rows = [
        {
            "method": "MgNO",
            **_errors(test, _predictions(model, test)),
            "time_per_sample": _inference_time(model, test),
        }
    ]
    mean = np.broadcast_to(np.mean(learn.targets, 0), test.targets.shape)
    rows.append({"method": "mean field", **_errors(test, mean), "time_per_sample": 0.0})
    rows += _half_resolution(exact)
    rows.append(_full_resolution(problem, exact))
    facts = {
        "parameters": num_parameters(model),
        "num_steps": settings.training.num_steps,
        "batch_size": settings.training.batch_size,
        "compile_time": history.compile_time,
        "training_time": history.training_time,
        "errors": rows,
    }
    return model, history, facts


@eqx.filter_jit
def _apply(model, inputs):
    return jax.vmap(model)(inputs)


def _predictions(model, test: Dataset):
    return np.asarray(_apply(model, jnp.asarray(test.inputs)))


def _inference_time(model, test: Dataset) -> float:
    inputs = jnp.asarray(test.inputs)
    timing = sciml.evaluation.timed(_apply, model, inputs, repeats=3)
    return timing.run_time / len(test)


def _errors(test: Dataset, predictions) -> dict[str, float]:
    """Relative L2 and H1 errors of given fields, as `sciml.evaluation` has them."""
    from sciml.training._losses import relative_h1, relative_l2

    fields = jnp.asarray(predictions, jnp.float32)
    targets = jnp.asarray(test.targets, jnp.float32)
    return {
        "relative_l2": float(jnp.mean(relative_l2(fields, targets, test.grid))),
        "relative_h1": float(jnp.mean(relative_h1(fields, targets, test.grid))),
    }


def _half_resolution(exact: Dataset) -> list[dict[str, Any]]:
    """The finite-volume solution at half the resolution, interpolated back.

    The coarse coefficient is the interpolated one, or the harmonic counterpart (1/a is
    interpolated); both are shown.
    """
    grid = exact.grid
    coarse = grid.coarsen()
    coefficients = jnp.asarray(exact.inputs[:, 0])
    means = {
        "arithmetic": (lambda a: a, lambda a: a),
        "harmonic": (lambda a: 1 / a, lambda a: 1 / a),
    }
    rows = []
    for name, (forth, back) in means.items():

        def solve(coefficient, forth=forth, back=back):
            field = back(_restrict(forth(coefficient), grid, coarse))
            A = diffusion_operator(field, coarse)
            b = source_vector(1.0, field, coarse)
            u = sciml.linear_solve(A, b, preconditioner=Multigrid()).value
            return interpolate(u, coarse, grid)

        run = jax.jit(jax.vmap(solve))
        timing = sciml.evaluation.timed(run, coefficients, repeats=3)
        rows.append(
            {
                "method": f"finite volumes at half the resolution ({name} mean of a)",
                **_errors(exact, np.asarray(timing.value)[:, None]),
                "time_per_sample": timing.run_time / len(exact),
            }
        )
    return rows


def _restrict(field, grid: Grid, coarse: Grid):
    """A coefficient on the coarse nodes: the mean over each coarse cell.

    Of nine points of the interpolant, with the weights 1/4, 1/2, 1/4 per axis.
    """
    # Coefficients know nothing of u's boundary values: continue them evenly.
    closed = jnp.pad(field, grid.margins, mode="edge")
    nodes = Grid(grid.closed_shape, grid.extent, Neumann())
    half = Grid(tuple(2 * n + 1 for n in coarse.num_points), coarse.extent)
    fine = interpolate(
        closed, nodes, Grid([n + 2 for n in half.num_points], half.extent, Neumann())
    )
    for axis in range(grid.ndim):
        count = coarse.num_points[axis]
        take = lambda k, fine=fine, axis=axis, count=count: jax.lax.slice_in_dim(
            fine, k, k + 2 * count - 1, 2, axis
        )
        fine = 0.25 * take(1) + 0.5 * take(2) + 0.25 * take(3)
    return fine


def _full_resolution(problem: Darcy, exact: Dataset) -> dict[str, Any]:
    """The solver that made the data: what the surrogate competes with in time."""
    run = eqx.filter_jit(
        lambda fields: jax.vmap(lambda a: problem.solve(a, rtol=1e-8).value)(fields)
    )
    fields = jnp.asarray(exact.inputs[:, 0])
    timing = sciml.evaluation.timed(run, fields, repeats=3)
    return {
        "method": "multigrid-CG at full resolution, to 1e-8 (reference)",
        "relative_l2": 0.0,
        "relative_h1": 0.0,
        "time_per_sample": timing.run_time / len(exact),
    }
