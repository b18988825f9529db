"""`fit`: what a user calls to train a model."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from ..data import Dataset
from ._checkpoint import CheckpointError, open_checkpoints
from ._description import describe, run_id
from ._history import History
from ._loop import Plan, train
from ._losses import RelativeH1
from ._metrics_file import MetricsFile
from ._optimiser import default_optimiser
from ._placement import Placement, is_key
from ._processes import Processes
from ._progress import progress_to
from ._run import Run
from ._step import epoch_order, make_step, split_model
from ._validation import Validation, check_counts, make_validator

_DEFAULT_LOSS = RelativeH1()


def fit(
    model: Any,
    dataset: Dataset,
    *,
    loss: Callable = _DEFAULT_LOSS,
    optimiser: optax.GradientTransformation | None = None,
    num_steps: int,
    batch_size: int,
    validation: Validation | None = None,
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
    metrics_path: str | os.PathLike | None = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
    key: Any,
) -> tuple[Any, History]:
    """Train a model by gradients: θ ← θ − optimiser(∇θ loss(model_θ, batch, key)).

    Everything is a function of the arguments: samples are permuted anew in each epoch
    by a key made from `key` and the epoch's number, losses get one made from `key` and
    the step's. An epoch has `len(dataset) // batch_size` steps; the samples left over
    differ from epoch to epoch. If the batch is the whole data set its order stays.

    All data are moved to the device at the start. The step is compiled once; its state
    is donated, and steps are issued without waiting for their losses.

    **Arguments:**

    - `model`: an `equinox.Module`. Its arrays of floating-point or complex numbers are
        trained, save for boundary conditions and grids in it. It stays as it is.
    - `dataset`: a `sciml.data.Dataset`. Boolean and integer fields reach the loss as
        floating-point numbers.
    - `loss`: `loss(model, batch, key) -> (scalar, aux)`, `batch` being a `Dataset` of
        `batch_size` samples and `aux` a dict of scalars (or None). If it has a method
        `at_step(step)`, the loss of a step is what that returns for its number, counted
        from 0. Default `RelativeH1()`, which sees fluxes as well as values.
    - `optimiser`: from optax. Default `default_optimiser(num_steps)`: AdamW on a cosine
        cycle. Those that search along a line, such as `optax.lbfgs()`, get the value,
        the gradient and the function of the same batch; give them the whole data set
        as batch.
    - `num_steps`: updates in all, including those of a run that is resumed.
    - `batch_size`: samples per step.
    - `validation`: a `Validation`: held-out data, which the model is judged on now and
        then, and a patience. Default None.
    - `checkpoint_dir`: a folder for checkpoints (needs
        `pip install 'sciml-solvers[train]'`), one for each run. If it has some, the run
        goes on from the newest: call `fit` again with the same arguments. On the same
        machine (tested on the CPU) parameters and history are then bitwise those of a
        run that was never interrupted, wherever it was killed. The last two are kept.
        On Ctrl-C and SIGTERM one is written before the process obeys. Optimisers and
        losses are functions, and compared only by the shape of their state and their
        description: repeat them faithfully.
    - `checkpoint_every`: steps between checkpoints, default 500; one more is written
        at the end.
    - `metrics_path`: a file for the course of the run: one JSON object per step and
        line with `run`, `step`, `loss`, `aux`, `training_time`, `steps_per_second` and
        `eta` (seconds), and `validation` where there was one; NaN and infinities are
        null. A run that is resumed, or made again, takes the lines of the steps that it
        is going to make out of it: it has each step once.
    - `mesh`: a `jax.sharding.Mesh` whose devices share the work, such as
        `jax.make_mesh((jax.device_count(),), ("samples",))`. Each has the model, the
        optimiser's state and all data, and takes an equal part of each batch; order and
        keys are those of one device, and so is the result up to rounding. A run may be
        resumed on another mesh. With devices of several processes
        (`jax.distributed.initialize` comes before) all of them call `fit` with the same
        arguments; the first one writes files and shows the progress.
    - `progress`: show it on the standard error stream: a bar on a terminal (if rich is
        installed), ten lines in a log file.
    - `key`: for the order of samples and the losses.

    **Returns:**

    The trained model, as it was after the last step, and a `History` of losses, times
    and, with `validation`, the best model.

    **Raises:** `NonFiniteLossError`, with the last finite model and the history, if a
    loss or a parameter becomes NaN or infinite; `CheckpointError` if the checkpoints
    are of another run, are in use by another process or cannot be written;
    `ValueError` for arguments out of range, and for a metrics file of another run.

    !!! example

        ```python
        model, history = sciml.training.fit(
            model, train, num_steps=5_000, batch_size=16, key=jax.random.key(0)
        )
        ```
    """
    processes = Processes(mesh)
    placement = Placement(mesh)
    _check_arguments(dataset, num_steps, batch_size, checkpoint_every, validation)
    if batch_size % placement.num_devices:
        raise ValueError(
            f"batch_size: expected a multiple of the {placement.num_devices} devices "
            f"of the mesh, got {batch_size}."
        )
    trained, given, rest = split_model(model)
    if not jax.tree.leaves(trained):
        raise ValueError("model: expected arrays to train, got none.")
    schedule_steps = num_steps if optimiser is None else None
    optimiser = default_optimiser(num_steps) if optimiser is None else optimiser
    # Copies, because the state is donated and the caller's arrays are not ours; with
    # their type spelt out, because a weak type would make a second program.
    parameters = jax.tree.map(_owned, trained)
    optimiser_state = jax.tree.map(_owned, optimiser.init(parameters))
    description = describe(
        model, optimiser_state, loss, dataset, batch_size, validation, key
    )
    description["num_steps of the default schedule"] = schedule_steps
    processes.check_same(
        description
        | {
            "num_steps": num_steps,
            "checkpoint_every": checkpoint_every,
            "checkpoint_dir": checkpoint_dir is None,
            "patience": None if validation is None else validation.patience,
        }
    )

    order_key, loss_key = jr.split(key)
    shuffled = batch_size < len(dataset)

    def order_at(done):
        epoch = done // (len(dataset) // batch_size)
        return epoch_order(order_key, epoch, len(dataset)) if shuffled else None

    state = (parameters, optimiser_state, order_at(0), jnp.zeros((), jnp.int32))
    # On a mesh there would be two of each.
    del parameters, optimiser_state
    state, given, *fixed = placement.everywhere(
        (state, given, dataset.inputs, dataset.targets, order_key, loss_key)
    )
    step = make_step(rest, dataset, loss, optimiser, batch_size, placement)
    step = placement.jit(step, donate_argnums=0)
    started = time.perf_counter()
    data = lambda given: (*fixed[:2], given, *fixed[2:])
    _, (record, _) = jax.eval_shape(step, state, data(given))
    validator = None
    if validation is not None:
        # (Different from both of the keys above.)
        validator = make_validator(
            validation,
            loss,
            rest,
            state[0],
            given,
            batch_size,
            placement,
            jr.fold_in(key, 2),
        )
    run = Run(state, given, rest, record, validator, placement)
    del state
    tracing = time.perf_counter() - started

    with contextlib.ExitStack() as stack:
        checkpoints = None
        if checkpoint_dir is not None:
            checkpoints = stack.enter_context(
                open_checkpoints(checkpoint_dir, description, processes)
            )
            _resume(run, checkpoints, order_at)
            if run.done > num_steps:
                raise CheckpointError(
                    f"num_steps: {os.fspath(checkpoint_dir)} holds step {run.done} "
                    f"already, past the {num_steps} that are asked for."
                )
        run.compile_time += tracing
        listeners = []

        def listen():
            if metrics_path is not None:
                curve = None if validator is None else validator.curve
                name = run_id(description)
                listeners.append(MetricsFile(metrics_path, name, run.series, curve))
            listeners.extend(progress_to(num_steps, run.done, progress))
            return b""

        processes.from_first(listen)
        plan = Plan(num_steps, checkpoints, checkpoint_every, listeners, processes)
        train(run, step, lambda: data(run.given), plan)
    return run.model(), run.history()


def _resume(run: Run, checkpoints: Any, order_at: Callable[[int], Any]) -> None:
    found = checkpoints.latest()
    if found is not None:
        arrays, numbers = found
        run.restore(arrays, numbers, order_at)


def _check_arguments(
    dataset: Dataset,
    num_steps: int,
    batch_size: int,
    checkpoint_every: int,
    validation: Validation | None,
) -> None:
    check_counts(
        num_steps=num_steps, batch_size=batch_size, checkpoint_every=checkpoint_every
    )
    if batch_size > len(dataset):
        raise ValueError(
            f"batch_size: expected at most the {len(dataset)} samples of the dataset, "
            f"got {batch_size}."
        )
    if validation is not None and validation.every > num_steps:
        raise ValueError(
            f"validation: every {validation.every} steps is never within the "
            f"{num_steps} of this run; expected `every` to be at most that."
        )


def _owned(leaf: Any) -> Any:
    if not eqx.is_array(leaf):
        return jnp.asarray(leaf)
    return leaf.copy() if is_key(leaf) else jnp.array(leaf, leaf.dtype)
