"""How far a run of training is: reports, and who listens to them."""

import abc
import dataclasses
import sys
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known each time that losses are read back, a few times a second at most.

    **Attributes:**

    - `step`, `num_steps`: steps done, and to be done.
    - `records`: losses and further scalars of the steps since the last report.
    - `validation`: of the last of these steps, if it was judged on held-out data.
    - `best`: step and value of the best of these judgements so far, if there is one.
    - `training_time`: seconds on all steps.
    - `steps_per_second`: since this session began, all that it does counted.
    """

    step: int
    num_steps: int
    records: list[dict[str, Any]]
    validation: dict[str, Any] | None
    best: tuple[int, float] | None
    training_time: float
    steps_per_second: float

    @property
    def eta(self) -> float:
        """Seconds until the last step, at this rate."""
        return (self.num_steps - self.step) / self.steps_per_second


class AbstractListener(abc.ABC):
    """Receives reports."""

    @abc.abstractmethod
    def update(self, report: Report) -> None:
        """Take notice."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave everything in order."""


def progress_to(num_steps: int, start: int, show: bool) -> list[AbstractListener]:
    """A bar on a terminal if rich is installed, else lines; nothing without `show`."""
    if not show:
        return []
    if sys.stderr.isatty():
        try:
            return [_Bar(num_steps, start)]
        except ImportError:
            return [_Lines(num_steps, start, seconds=2.0)]
    # Log files: a line per tenth of the way is enough.
    return [_Lines(num_steps, start, seconds=float("inf"))]


class _Lines(AbstractListener):
    def __init__(self, num_steps: int, start: int, seconds: float):
        self.seconds = seconds
        self.tenth = 10 * start // num_steps
        self.latest = time.perf_counter()
        self.judged = ""

    def update(self, report: Report) -> None:
        self.judged = _judged(report) or self.judged
        now, tenth = time.perf_counter(), 10 * report.step // report.num_steps
        if tenth == self.tenth and now - self.latest < self.seconds:
            return
        self.tenth, self.latest = tenth, now
        sys.stderr.write(
            f"step {report.step}/{report.num_steps}  loss {_loss(report)}"
            f"{self.judged}  {report.steps_per_second:.3g} steps/s  "
            f"{_duration(report.eta)} left\n"
        )
        sys.stderr.flush()

    def close(self) -> None:
        pass


class _Bar(AbstractListener):
    def __init__(self, num_steps: int, start: int):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
        )

        self.bar = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("loss {task.fields[loss]}{task.fields[judged]}"),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(
            "", total=num_steps, completed=start, loss="–", rate="", judged=""
        )
        self.bar.start()

    def update(self, report: Report) -> None:
        rate = f"{report.steps_per_second:.3g} steps/s, {_duration(report.eta)} left"
        fields: dict[str, Any] = {"loss": _loss(report), "rate": rate}
        if judged := _judged(report):
            fields["judged"] = judged
        self.bar.update(self.task, completed=report.step, **fields)

    def close(self) -> None:
        self.bar.stop()


def _loss(report: Report) -> str:
    return f"{float(report.records[-1]['loss']):.4g}"


def _judged(report: Report) -> str:
    if report.validation is None:
        return ""
    text = f"  validation {float(report.validation['value']):.4g}"
    if report.best is None:
        return text
    return f"{text} (best {report.best[1]:.4g} at {report.best[0]})"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds: 7, 1:02, 3:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
