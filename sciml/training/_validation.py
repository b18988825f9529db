"""Held-out data that a run of training is judged by while it goes on."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..data import Dataset
from ._placement import Placement
from ._series import Series, under_prefix, with_prefix
from ._step import checked_loss


class Validation(eqx.Module):
    """Judges the model on held-out data while `fit` trains it.

    After every `every` steps the metric's mean over all of `dataset` is evaluated (the
    smaller, the better). The best model is kept beside the last one, in
    `history.best_model`. With `patience`, training stops when that many evaluations in
    a row have not improved on the best value by more than `min_delta`.

    Parameters, step and value of the best model and the whole curve are part of a
    checkpoint: a run that is resumed stops where the uninterrupted one does, and
    returns the same. What a call returns depends on the steps that were done, not on
    when they were done, so `patience` may be raised for a run that has stopped: it
    then goes on.

    **Arguments:**

    - `dataset`: a `sciml.data.Dataset` that the model is not trained on.
    - `every`: steps between evaluations, default 100. A last step that is no multiple
        of it is not evaluated.
    - `metric`: of the form of a loss, `metric(model, batch, key) -> (scalar, aux)`,
        and like it a mean over the batch. Default None: the loss of the training. Of a
        loss with a schedule (`at_step`) the value at step 0 is taken, so that values
        can be compared. It gets the same keys at every evaluation.
    - `batch_size`: samples per evaluation of the metric, default that of the training.
        The last batch is smaller and weighs less.
    - `patience`: evaluations without improvement after which to stop. Default None:
        never.
    - `min_delta`: what counts as an improvement must be larger, in the metric's unit.
        Default 0.

    A value that is NaN is no improvement.

    **Raises:** `ValueError` for numbers out of range.

    !!! example

        ```python
        validation = sciml.training.Validation(held_out, every=200, patience=5)
        model, history = sciml.training.fit(
            model, train, validation=validation, num_steps=5_000, batch_size=16, key=key
        )
        history.best_step, history.best_model, history.stopped_early
        ```
    """

    dataset: Dataset
    every: int = eqx.field(default=100, kw_only=True)
    metric: Callable | None = eqx.field(default=None, kw_only=True)
    batch_size: int | None = eqx.field(default=None, kw_only=True)
    patience: int | None = eqx.field(default=None, kw_only=True)
    min_delta: float = eqx.field(default=0.0, kw_only=True)

    def __check_init__(self):
        if not isinstance(self.dataset, Dataset):
            raise ValueError(
                f"dataset: expected a sciml.data.Dataset, got {self.dataset!r}."
            )
        check_counts(every=self.every)
        if self.batch_size is not None:
            check_counts(batch_size=self.batch_size)
        if self.patience is not None:
            check_counts(patience=self.patience)
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(
                f"min_delta: expected a number that is not negative, got "
                f"{self.min_delta!r}."
            )


class Validator:
    """The state of a `Validation` during one run: its curve, and the best parameters.

    **Arguments:**

    - `settings`: the user's.
    - `evaluate`: `evaluate(parameters, data) -> record`, a jitted function.
    - `data`: its second argument.
    - `copy`: a jitted function that copies parameters.
    - `record`: shapes and types of what `evaluate` returns.
    """

    def __init__(
        self,
        settings: Validation,
        evaluate: Any,
        data: tuple,
        copy: Any,
        record: dict[str, Any],
    ):
        self.settings, self.evaluate, self.data = settings, evaluate, data
        self.copy = copy
        types = {name: entry.dtype for name, entry in record.items()}
        self.curve = Series({"step": np.int64} | types)
        self.best_parameters: Any = None
        self.best: tuple[int, float] | None = None
        self.stopped = False

    def compile(self, parameters: Any) -> None:
        """Before the clock of the training starts."""
        self.evaluate = self.evaluate.lower(parameters, self.data).compile()
        self.copy = self.copy.lower(parameters).compile()

    def is_due(self, step: int) -> bool:
        """Whether the parameters after this step are to be judged."""
        return step % self.settings.every == 0

    def judge(self, step: int, parameters: Any) -> dict[str, Any]:
        """Evaluate the parameters after a step, and keep them if they are the best."""
        record = jax.device_get(self.evaluate(parameters, self.data))
        self.curve.extend([{"step": step} | record])
        self._reconsider()
        if self.best is not None and self.best[0] == step:
            self.best_parameters = self.copy(parameters)
        return record

    def _reconsider(self) -> None:
        """Best value and end follow from the curve: nothing else needs to be saved."""
        columns = self.curve.columns()
        least, since, self.best = math.inf, 0, None
        for step, value in zip(columns["step"], columns["value"], strict=True):
            since += 1
            if float(value) < least - self.settings.min_delta:
                least, since, self.best = float(value), 0, (int(step), float(value))
        patience = self.settings.patience
        self.stopped = patience is not None and since >= patience

    def arrays(self) -> dict[str, Any]:
        """What a checkpoint needs, by name; leaves may be on the device."""
        leaves = jax.tree.leaves(self.best_parameters)
        best = {str(k): leaf for k, leaf in enumerate(leaves)}
        return with_prefix("best.", best) | with_prefix("curve.", self.curve.columns())

    def restore(
        self, arrays: dict[str, np.ndarray], like: Any, given: Any, place: Callable
    ) -> None:
        """Take over the arrays of a checkpoint.

        **Arguments:**

        - `arrays`: by name, as `arrays` returned them.
        - `like`: parameters, for their structure.
        - `given`: arrays that are not trained, on the device.
        - `place`: puts host arrays on the device.
        """
        inputs, targets, _, key = self.data
        self.data = (inputs, targets, given, key)
        self.curve.replace(under_prefix("curve.", arrays))
        self._reconsider()
        if self.best is not None:
            saved = under_prefix("best.", arrays)
            leaves = [saved[str(k)] for k in range(len(saved))]
            self.best_parameters = place(
                jax.tree.unflatten(jax.tree.structure(like), leaves)
            )


def make_validator(
    settings: Validation,
    loss: Callable,
    rest: Any,
    parameters: Any,
    given: Any,
    batch_size: int,
    placement: Placement,
    key: Any,
) -> Validator:
    """Compile-ready evaluation of a model that is split as in `make_step`."""
    dataset = settings.dataset
    metric = loss if settings.metric is None else settings.metric
    size = settings.batch_size or batch_size
    evaluate = placement.jit(make_evaluation(rest, dataset, metric, size, placement))
    fields = placement.everywhere((dataset.inputs, dataset.targets))
    data = (*fields, given, placement.everywhere(key))
    record = jax.eval_shape(evaluate, parameters, data)
    copy = placement.jit(copied)
    return Validator(settings, evaluate, data, copy, record)


def make_evaluation(
    rest: Any, dataset: Dataset, metric: Callable, batch_size: int, placement: Placement
) -> Callable:
    """`evaluate(parameters, data) -> {"value": …, "aux.name": …}`, means over all.

    `data` is (inputs, targets, arrays of the model that are not trained, key). Of
    `dataset` only the grid is used.
    """
    num_samples = len(dataset)
    size = min(batch_size, num_samples)
    num_full, left_over = divmod(num_samples, size)

    def evaluate(parameters, data):
        inputs, targets, arrays, key = data
        model = eqx.combine(parameters, arrays, rest)

        def of_batch(number, count):
            cut = lambda a: jax.lax.dynamic_slice_in_dim(a, number * size, count)
            fields = placement.spread(jax.tree.map(cut, (inputs, targets)))
            batch = dataset._with(*fields).as_floating()
            value, aux = checked_loss(metric(model, batch, jr.fold_in(key, number)))
            return {"value": value} | with_prefix("aux.", aux)

        records = jax.lax.map(lambda k: of_batch(k, size), jnp.arange(num_full))
        if not left_over:
            return jax.tree.map(_mean, records)
        last = of_batch(num_full, left_over)

        def weighed(full, last):
            dtype = _mean(full).dtype
            parts = size * jnp.sum(full, dtype=dtype), left_over * last.astype(dtype)
            return (parts[0] + parts[1]) / num_samples

        return jax.tree.map(weighed, records, last)

    return evaluate


def _mean(values: jax.Array) -> jax.Array:
    # (Counts become floating-point numbers.)
    return jnp.mean(values)


def copied(tree: Any) -> Any:
    """Arrays of their own: those of the state are donated to the next step."""
    return jax.tree.map(jnp.copy, tree)


def check_counts(**counts: Any) -> None:
    """`ValueError` that names the first that is no positive integer."""
    for name, value in counts.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
