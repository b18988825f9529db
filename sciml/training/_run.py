"""A run of training: what is on the device, what is on the host, and in between."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ._history import History, ValidationCurve
from ._placement import Placement, as_numbers, is_key
from ._series import Series, under_prefix, with_prefix
from ._validation import Validator


class Run:
    """State on the device, losses on the host, and losses still on their way.

    **Arguments:**

    - `state`: (parameters, optimiser state, order of the samples, steps done).
    - `given`: arrays of the model that are not trained.
    - `rest`: what else a model consists of.
    - `record`: shapes and types of what a step returns, by name.
    - `validator`: of the held-out data, or None.
    - `placement`: where arrays live.
    """

    def __init__(
        self,
        state: tuple,
        given: Any,
        rest: Any,
        record: dict[str, Any],
        validator: Validator | None,
        placement: Placement,
    ):
        self.state, self.given, self.rest = state, given, rest
        self.validator, self.placement = validator, placement
        self.series = Series({name: entry.dtype for name, entry in record.items()})
        self.pending: list = []
        self.compile_time = self.training_time = 0.0

    @property
    def done(self) -> int:
        """Steps that were issued."""
        return len(self.series) + len(self.pending)

    @property
    def stopped_early(self) -> bool:
        """Whether the patience of the validation came to its end."""
        return self.validator is not None and self.validator.stopped

    def model(self) -> Any:
        """With the parameters as they are."""
        return self._model(self.state[0])

    def _model(self, parameters: Any) -> Any:
        parameters, given = self.placement.locally((parameters, self.given))
        return eqx.combine(parameters, given, self.rest)

    def history(self) -> History:
        """Of the losses that were read back."""
        columns, validator = self.series.columns(), self.validator
        facts: dict[str, Any] = {}
        if validator is not None:
            curve = validator.curve.columns()
            facts["validation"] = ValidationCurve(
                curve["step"], curve["value"], under_prefix("aux.", curve)
            )
            facts["stopped_early"] = validator.stopped
            if validator.best is not None:
                facts["best_step"] = validator.best[0]
                facts["best_model"] = self._model(validator.best_parameters)
        return History(
            columns["loss"],
            under_prefix("aux.", columns),
            self.compile_time,
            self.training_time,
            **facts,
        )

    def read_back(self) -> tuple[list[dict[str, Any]], bool]:
        """Fetch outstanding records, up to the first failure; whether there is none."""
        pending, self.pending = jax.device_get(self.pending), []
        records, finite = [], True
        for record, finite in pending:
            records.append(record)
            if not finite:
                break
        self.series.extend(records)
        return records, bool(finite)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs; the order of samples follows from the key."""
        named = _named_leaves("leaf", (*self.state[:2], self.state[3]))
        named |= _named_leaves("given", self.given)
        if self.validator is not None:
            named |= self.validator.arrays()
        named = {name: as_numbers(leaf) for name, leaf in named.items()}
        return jax.device_get(named) | with_prefix("history.", self.series.columns())

    def restore(
        self,
        arrays: dict[str, np.ndarray],
        numbers: dict[str, Any],
        order_at: Callable[[int], Any],
    ) -> None:
        """Take over a checkpoint.

        **Arguments:**

        - `arrays`, `numbers`: of the checkpoint.
        - `order_at`: the order of the samples after a number of steps.
        """
        place = self.placement.everywhere
        kept = (*self.state[:2], self.state[3])
        kept, self.given = place(
            (_filled("leaf", kept, arrays), _filled("given", self.given, arrays))
        )
        self.series.replace(under_prefix("history.", arrays))
        self.state = (*kept[:2], place(order_at(self.done)), kept[2])
        self.compile_time = numbers["compile_time"]
        self.training_time = numbers["training_time"]
        if self.validator is not None:
            self.validator.restore(arrays, kept[0], self.given, place)

    def numbers(self) -> dict[str, float]:
        """What a checkpoint needs besides arrays."""
        return {
            "compile_time": self.compile_time,
            "training_time": self.training_time,
        }


def _named_leaves(prefix: str, tree: Any) -> dict[str, Any]:
    """The leaves, numbered: names of files."""
    leaves = jax.tree.leaves(tree)
    width = math.ceil(math.log10(len(leaves) + 1))
    return {f"{prefix}{k:0{width}}": leaf for k, leaf in enumerate(leaves)}


def _filled(prefix: str, tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with the saved leaves, all of them on this process's device."""
    leaves = []
    for name, leaf in _named_leaves(prefix, tree).items():
        value = jnp.asarray(arrays[name])
        if is_key(leaf):
            value = jr.wrap_key_data(value, impl=jr.key_impl(leaf))
        leaves.append(value)
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
