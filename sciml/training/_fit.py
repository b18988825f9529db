"""The one training loop."""

import math
import os
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax

from .._serialisation import fingerprint
from ..data import Dataset
from ._checkpoint import CheckpointError, Checkpoints, sketch
from ._history import History, NonFiniteLossError
from ._interrupt import DeferredSignals
from ._losses import RelativeH1
from ._optimiser import default_optimiser
from ._progress import progress_to
from ._step import epoch_order, make_step, split_model

_DEFAULT_LOSS = RelativeH1()

# How long steps are issued before their losses are read back, which drains the
# device's queue: often enough to stop early after a failure, seldom enough not to
# matter.
_READ_STEPS = 64
_READ_SECONDS = 0.5


def fit(
    model: Any,
    dataset: Dataset,
    *,
    loss: Callable = _DEFAULT_LOSS,
    optimiser: optax.GradientTransformation | None = None,
    num_steps: int,
    batch_size: int,
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
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
    - `checkpoint_dir`: a folder for checkpoints (needs
        `pip install 'sciml-solvers[train]'`). If it has some, the run goes on from the
        newest: call `fit` again with the same arguments. On the same machine (tested
        on the CPU) parameters and history are then bitwise those of a run that was
        never interrupted. The last two are kept. On Ctrl-C and SIGTERM one is written
        before the process obeys. Optimisers and losses are functions, and compared
        only by the shape of their state and their description: repeat them faithfully.
    - `checkpoint_every`: steps between checkpoints, default 500; one more is written
        at the end.
    - `progress`: show it on the standard error stream: a bar on a terminal (if rich is
        installed), ten lines in a log file.
    - `key`: for the order of samples and the losses.

    **Returns:**

    The trained model, and a `History` of losses and times.

    **Raises:** `NonFiniteLossError`, with the last finite model and the history, if a
    loss or a parameter becomes NaN or infinite; `CheckpointError` if the checkpoints
    are of another run or cannot be written; `ValueError` for arguments out of range.

    !!! example

        ```python
        model, history = sciml.training.fit(
            model, train, num_steps=5_000, batch_size=16, key=jax.random.key(0)
        )
        ```
    """
    _check_arguments(dataset, num_steps, batch_size, checkpoint_every)
    trained, arrays, rest = split_model(model)
    if not jax.tree.leaves(trained):
        raise ValueError("model: expected arrays to train, got none.")
    schedule_steps = num_steps if optimiser is None else None
    optimiser = default_optimiser(num_steps) if optimiser is None else optimiser
    order_key, loss_key = jr.split(key)
    shuffled = batch_size < len(dataset)
    # Copies, because the state is donated and the caller's arrays are not ours; with
    # their type spelt out, because a weak type would make a second program.
    parameters = jax.tree.map(_owned, trained)
    state = (
        parameters,
        jax.tree.map(_owned, optimiser.init(parameters)),
        epoch_order(order_key, 0, len(dataset)) if shuffled else None,
        jnp.zeros((), jnp.int32),
    )
    device_data = jax.tree.map(jnp.asarray, (dataset.inputs, dataset.targets, arrays))
    data = (*device_data, order_key, loss_key)
    step = make_step(rest, dataset, loss, optimiser, batch_size)
    step = jax.jit(step, donate_argnums=0)
    started = time.perf_counter()
    _, (_, aux, _) = jax.eval_shape(step, state, data)
    tracing = time.perf_counter() - started
    run = _Run(state, {name: [] for name in aux})
    run.compile_time = tracing

    if checkpoint_dir is None:
        return _train(run, step, data, num_steps, None, 0, progress, rest)
    description = _describe(model, state, loss, dataset, batch_size, key)
    description["num_steps of the default schedule"] = schedule_steps
    with Checkpoints(checkpoint_dir, description) as checkpoints:
        found = checkpoints.latest()
        if found is not None:
            run.restore(*found)
            run.compile_time += tracing
            if run.done > num_steps:
                raise CheckpointError(
                    f"num_steps: {os.fspath(checkpoint_dir)} holds step {run.done} "
                    f"already, past the {num_steps} that are asked for."
                )
            if shuffled:
                epoch = run.done // (len(dataset) // batch_size)
                run.state = (
                    *run.state[:2],
                    epoch_order(order_key, epoch, len(dataset)),
                    run.state[3],
                )
        every = checkpoint_every
        return _train(run, step, data, num_steps, checkpoints, every, progress, rest)


class _Run:
    """State on the device, losses on the host, and losses still on their way."""

    def __init__(self, state: tuple, aux: dict[str, list]):
        self.state = state
        self.losses: list = []
        self.aux = aux
        self.pending: list = []
        self.compile_time = self.training_time = 0.0

    @property
    def done(self) -> int:
        return len(self.losses) + len(self.pending)

    def history(self) -> History:
        aux = {name: np.array(values) for name, values in self.aux.items()}
        return History(
            np.array(self.losses), aux, self.compile_time, self.training_time
        )

    def read_back(self) -> bool:
        """Fetch outstanding losses, up to the first failure; whether there is none."""
        pending, self.pending = jax.device_get(self.pending), []
        for value, aux, finite in pending:
            self.losses.append(value)
            for name, values in self.aux.items():
                values.append(aux[name])
            if not finite:
                return False
        return True

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs; the order of samples follows from the key."""
        named = {name: _data(leaf) for name, leaf in _named_leaves(self.state)}
        history = {"loss": np.array(self.losses)}
        history |= {f"aux.{k}": np.array(v) for k, v in self.aux.items()}
        return jax.device_get(named) | {f"history.{k}": v for k, v in history.items()}

    def restore(self, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
        """Take over the arrays of a checkpoint."""
        leaves = []
        for name, leaf in _named_leaves(self.state):
            value = jnp.asarray(arrays[name])
            if _is_key(leaf):
                value = jr.wrap_key_data(value, impl=jr.key_impl(leaf))
            leaves.append(value)
        structure = jax.tree.structure((*self.state[:2], self.state[3]))
        kept = jax.tree.unflatten(structure, leaves)
        self.state = (*kept[:2], self.state[2], kept[2])
        self.losses = list(arrays["history.loss"])
        self.aux = {name: list(arrays[f"history.aux.{name}"]) for name in self.aux}
        self.compile_time = numbers["compile_time"]
        self.training_time = numbers["training_time"]


def _train(
    run: _Run,
    step: Any,
    data: tuple,
    num_steps: int,
    checkpoints: Checkpoints | None,
    checkpoint_every: int,
    show: bool,
    rest: Any,
) -> tuple[Any, History]:
    """The loop, from wherever `run` is to `num_steps`."""

    def model():
        return eqx.combine(run.state[0], data[2], rest)

    if run.done == num_steps:
        return model(), run.history()
    started = time.perf_counter()
    compiled = step.lower(run.state, data).compile()
    # Issued only now: restored arrays may still be on their way to the device.
    jax.block_until_ready((run.state, data))
    run.compile_time += time.perf_counter() - started
    before, started = run.training_time, time.perf_counter()
    last_read = started
    report = progress_to(num_steps, run.done, show)
    try:
        with DeferredSignals(checkpoints is not None) as signals:
            while run.done < num_steps:
                run.state, record = compiled(run.state, data)
                run.pending.append(record)
                now = time.perf_counter()
                stop = run.done == num_steps or bool(signals.pending)
                due = stop or (checkpoints and run.done % checkpoint_every == 0)
                late = now - last_read > _READ_SECONDS
                if not (due or late or len(run.pending) >= _READ_STEPS):
                    continue
                finite = run.read_back()
                last_read = time.perf_counter()
                if due or not finite:
                    jax.block_until_ready(run.state)
                run.training_time = before + time.perf_counter() - started
                if not finite:
                    raise NonFiniteLossError(run.done, model(), run.history())
                report.update(run.done, float(run.losses[-1]))
                if due and checkpoints is not None:
                    times = {
                        "compile_time": run.compile_time,
                        "training_time": run.training_time,
                    }
                    checkpoints.save(run.done, run.arrays(), times)
                if signals.pending:
                    signals.deliver()
    finally:
        report.close()
    run.training_time = before + time.perf_counter() - started
    return model(), run.history()


def _check_arguments(
    dataset: Dataset, num_steps: int, batch_size: int, checkpoint_every: int
) -> None:
    for name, value in (
        ("num_steps", num_steps),
        ("batch_size", batch_size),
        ("checkpoint_every", checkpoint_every),
    ):
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
    if batch_size > len(dataset):
        raise ValueError(
            f"batch_size: expected at most the {len(dataset)} samples of the dataset, "
            f"got {batch_size}."
        )


def _describe(
    model: Any, state: tuple, loss: Any, dataset: Dataset, batch_size: int, key: Any
) -> dict[str, Any]:
    """What has to be the same for a run to go on, in JSON."""
    trained, arrays, rest = split_model(model)
    parameters, optimiser_state, *_ = state
    if dataset.targets is None:
        fields = {"inputs": dataset.inputs}
    else:
        fields = {"inputs": dataset.inputs, "targets": dataset.targets}
    return {
        "batch_size": batch_size,
        "key": np.asarray(_data(key)).tolist(),
        "loss": repr(loss) if isinstance(loss, eqx.Module) else _name(loss),
        "model": _shapes(parameters) + _shapes(arrays),
        "structure of the model": fingerprint(rest),
        "values of the model at the start": _sketches((trained, arrays)),
        "optimiser": _shapes(optimiser_state),
        "dataset": [[k, str(a.dtype), list(a.shape)] for k, a in fields.items()],
        "grid": fingerprint(dataset.grid),
        "values of the dataset": _sketches(fields),
    }


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _shapes(tree: Any) -> list:
    return [
        [jtu.keystr(path), str(leaf.dtype), list(leaf.shape)]
        for path, leaf in jtu.tree_leaves_with_path(tree)
    ]


def _sketches(tree: Any) -> list[float]:
    return [v for leaf in jax.tree.leaves(tree) for v in sketch(_data(leaf))]


def _named_leaves(state: tuple) -> list[tuple[str, Any]]:
    """Leaves of parameters, optimiser state and step, numbered: names of files."""
    leaves = jax.tree.leaves((*state[:2], state[3]))
    width = math.ceil(math.log10(len(leaves) + 1))
    return [(f"leaf{k:0{width}}", leaf) for k, leaf in enumerate(leaves)]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jr.key_data(leaf) if _is_key(leaf) else leaf


def _owned(leaf: Any) -> Any:
    if not eqx.is_array(leaf):
        return jnp.asarray(leaf)
    return leaf.copy() if _is_key(leaf) else jnp.array(leaf, leaf.dtype)
