"""What a run of training leaves behind, and how it says that it broke down."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ValidationCurve:
    """What the evaluations on held-out data found, in order.

    **Attributes:**

    - `step`: the numbers of the steps after which the model was judged.
    - `value`: the metric's mean over the held-out data.
    - `aux`: means of its further scalars by name, arrays as long as `value`.
    """

    step: np.ndarray
    value: np.ndarray
    aux: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """The course of a run of training, over all the sessions that it took.

    **Attributes:**

    - `step`: 1, 2, …, one entry per step.
    - `loss`: the loss of each step's batch, before that step's update.
    - `aux`: further scalars of the loss by name, arrays as long as `loss`.
    - `compile_time`: seconds spent on compiling the step (not part of training).
    - `training_time`: seconds spent on the steps, up to the last one's completion,
        checkpoints and evaluations on held-out data included.
    - `validation`: a `ValidationCurve`; None without a `Validation`.
    - `best_model`: the model at the best of these evaluations; None without one, and
        before the first.
    - `best_step`: the number of the step after which that was.
    - `stopped_early`: whether the patience of the `Validation` came to its end.
    """

    loss: np.ndarray
    aux: dict[str, np.ndarray]
    compile_time: float
    training_time: float
    validation: Any = None
    best_model: Any = None
    best_step: int | None = None
    stopped_early: bool = False

    @property
    def step(self) -> np.ndarray:
        """The number of each entry's step, from 1."""
        return np.arange(1, len(self.loss) + 1)


class NonFiniteLossError(RuntimeError):
    """A loss, or the parameters after an update, became NaN or infinite.

    **Attributes:**

    - `model`: the model before the step that failed; its parameters are finite.
    - `history`: up to and including that step.
    - `step`: the number of that step.
    """

    def __init__(self, step: int, model: Any, history: History):
        self.step, self.model, self.history = step, model, history
        loss = history.loss[-1]
        cause = "the loss" if not np.isfinite(loss) else "an updated parameter"
        before = history.loss[-6:-1]
        super().__init__(
            f"Training stopped at step {step}: {cause} is NaN or infinite (loss "
            f"{loss}; before it {', '.join(f'{v:.3g}' for v in before) or 'none'}). "
            "The finite model from before that step is this error's `.model`, the "
            "course its `.history`, and checkpoints are untouched. Try a smaller "
            "learning rate or clipped gradients; if it happens at the first step, look "
            "for zero targets (relative losses divide by their norm) or for a "
            "singular derivative in the model."
        )
