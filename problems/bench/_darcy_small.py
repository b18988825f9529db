"""MgNO and FNO on the small real Darcy set, beside the finite-volume solve."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sciml
from sciml.data import Dataset, read_darcy_small
from sciml.data._npz import read_array
from sciml.grids import Dirichlet, Grid, source_vector
from sciml.linear import diffusion_operator
from sciml.neural_operators import FNO, D4Averaged, MgNO, normalised

from .._surrogate import (
    as_float32,
    in_float32,
    num_parameters,
    short_run_optimiser,
)

Row = dict[str, Any]


def bench_darcy_small(
    folder: str | pathlib.Path,
    *,
    models: Sequence[str] | None = None,
    num_steps: int = 3000,
    batch_size: int = 20,
    seeds: int = 3,
    seed: int = 7,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Relative L2 error on the 50 test samples at 16 × 16 nodes.

    Published beside it: FNO with 192k parameters, 60 epochs: 9.3 %; MgNO's released
    code 8.6 %.

    "D4" are the models trained on the data in all eight positions of the square
    (`sciml.training.D4Augmented`) and averaged over them (`D4Averaged`). The nodes
    of the file are not symmetric: the last side is missing, of which the solution is
    known and the coefficient is not. So these see 17 × 17 nodes and a second channel
    that says where the coefficient is known.

    **Arguments:**

    - `folder`: holds `train_16.npz` and `test_16.npz`; if it has `test_32.npz`, the
        same samples at 32 × 32 nodes (the Python package neuraloperator 0.3 ships
        them), the models without D4 are also tested there: MgNO by `transfer(2)`, FNO
        as it is.
    - `models`: of "MgNO", "FNO", "MgNO, D4", "FNO, D4"; default all.
    - `num_steps`, `batch_size`: of the training of each model.
    - `seeds`: trainings of each: initial weights and the order of the samples.
    - `seed`: the first of the seeds.
    - `progress`: show bars.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `method`, `parameters`, `relative_l2` (mean over the seeds),
    `relative_l2_sd`, `each` (of the seeds), `training_time`, and with the finer samples
    `fine_l2`.

    **Raises:** `ValueError` for a model that there is not.
    """
    chosen = check_darcy_small(models)
    train, test = map(as_float32, read_darcy_small(folder))
    fine = _fine(pathlib.Path(folder), test)
    rows: list[Row] = []

    def report(row: Row):
        rows.append(row)
        if on_row is not None:
            on_row(row)

    mean = jnp.broadcast_to(np.mean(train.targets, 0), test.targets.shape)
    report({"method": "mean field", "relative_l2": _error(mean, test)})
    volumes = finite_volumes(test)
    row = {
        "method": "finite volumes, no training",
        "relative_l2": _error(volumes, test),
    }
    report(row)
    for name in chosen:
        errors, fine_errors, times, size = [], [], [], 0
        for k in range(seed, seed + seeds):
            model, time = _trained(name, train, num_steps, batch_size, k, progress)
            errors.append(_test(name, model, test))
            if fine is not None and "D4" not in name:
                finer = model.transfer(2) if name == "MgNO" else model
                fine_errors.append(_error(jax.jit(jax.vmap(finer))(fine.inputs), fine))
            times.append(time)
            size = num_parameters(model)
        row = {
            "method": name,
            "relative_l2": float(np.mean(errors)),
            "relative_l2_sd": float(np.std(errors, ddof=min(1, seeds - 1))),
            "parameters": size,
            "training_time": float(np.mean(times)),
            "each": errors,
        }
        if fine_errors:
            row["fine_l2"] = float(np.mean(fine_errors))
        report(row)
    return rows


def check_darcy_small(models: Sequence[str] | None) -> list[str]:
    """The names of the models to train; `ValueError` if there is no such one."""
    chosen = list(_MODELS) if models is None else list(models)
    for name in chosen:
        if name not in _MODELS:
            raise ValueError(f"models: no {name!r}; known are {', '.join(_MODELS)}.")
    return chosen


_MODELS: dict[str, Callable[..., Any]] = {
    "MgNO": lambda channels, boundary, key: MgNO(
        2, channels, 1, width=24, depth=4, num_levels=4, boundary=boundary, key=key
    ),
    "FNO": lambda channels, boundary, key: FNO(
        2, channels, 1, width=24, depth=4, num_modes=6, boundary=boundary, key=key
    ),
}
_MODELS |= {f"{name}, D4": make for name, make in _MODELS.items()}


def _trained(
    name: str, train: Dataset, num_steps: int, batch_size: int, seed: int, progress
) -> tuple[Any, float]:
    """The model and the time that its training took."""
    augmented = "D4" in name
    data = whole_square(train) if augmented else train
    loss = sciml.training.RelativeH1()
    key = jr.key(seed)
    channels = data.inputs.shape[1]
    model = in_float32(_MODELS[name](channels, data.grid.boundary, key))
    model, history = sciml.training.fit(
        normalised(model, data.inputs, data.targets),
        data,
        loss=sciml.training.D4Augmented(loss) if augmented else loss,
        optimiser=short_run_optimiser(num_steps, weight_decay=1e-3),
        num_steps=num_steps,
        batch_size=batch_size,
        progress=progress,
        key=key,
    )
    return model, history.training_time


def _test(name: str, model: Any, test: Dataset) -> float:
    if "D4" not in name:
        return _error(jax.jit(jax.vmap(model))(test.inputs), test)
    # All of the channels are scalars, the mask among them.
    square = whole_square(test)
    outputs = jax.jit(jax.vmap(D4Averaged(model)))(square.inputs)
    return _error(outputs[..., :-1, :-1], test)


def whole_square(data: Dataset) -> Dataset:
    """The samples with the missing sides: u = 0 there, and a unknown.

    Inputs are −1 and 1 for the two phases, 0 where unknown, and where it is known (1).
    """
    count, _, n, m = data.inputs.shape
    inputs = np.zeros((count, 2, n + 1, m + 1), np.float32)
    targets = np.zeros((count, 1, n + 1, m + 1), np.float32)
    # The two values are 0.02 and 0.36.
    inputs[:, 0, :-1, :-1] = np.where(data.inputs[:, 0] > 0.1, 1.0, -1.0)
    inputs[:, 1, :-1, :-1] = 1.0
    targets[..., :-1, :-1] = data.targets
    grid = Grid((n + 1, m + 1), boundary=Dirichlet(stored=True))
    return Dataset(inputs, targets, grid)


def _fine(folder: pathlib.Path, test: Dataset) -> Dataset | None:
    """The test samples at twice the resolution, if they are there."""
    path = folder / "test_32.npz"
    if not path.is_file():
        return None
    grid = Grid((32, 32), boundary=test.grid.boundary)
    x, y = read_array(path, "x"), read_array(path, "y").astype(np.float32)
    y[:, 0, :] = 0
    y[:, :, 0] = 0
    a = np.where(x, 0.36, 0.02).astype(np.float32)
    return Dataset(a[:, None], y[:, None], grid)


def finite_volumes(data: Dataset):
    """The solution of the five-point scheme at the data's own resolution."""

    def solve(coefficient):
        A = diffusion_operator(coefficient, data.grid)
        b = source_vector(1.0, coefficient, data.grid)
        preconditioner = sciml.preconditioners.Multigrid()
        return sciml.linear_solve(A, b, preconditioner=preconditioner).value

    return jax.jit(jax.vmap(solve))(data.inputs[:, 0])[:, None]


def _error(outputs: Any, test: Dataset) -> float:
    """Mean of ‖û − u‖/‖u‖."""
    error = np.asarray(outputs, float) - np.asarray(test.targets, float)
    axes = tuple(range(1, error.ndim))
    size = np.sqrt((np.asarray(test.targets, float) ** 2).sum(axes))
    return float(np.mean(np.sqrt((error**2).sum(axes)) / size))
