"""How far a run of training is, on the standard error stream."""

import abc
import sys
import time


class AbstractProgress(abc.ABC):
    """Receives the number of steps done and the latest loss that was read back."""

    @abc.abstractmethod
    def update(self, step: int, loss: float) -> None:
        """Report; called a few times a second at most."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave the terminal in order."""


def progress_to(num_steps: int, start: int, show: bool) -> AbstractProgress:
    """A bar on a terminal if rich is installed, else lines; nothing without `show`."""
    if not show:
        return _Silent()
    if sys.stderr.isatty():
        try:
            return _Bar(num_steps, start)
        except ImportError:
            return _Lines(num_steps, start, seconds=2.0)
    # Log files: a line per tenth of the way is enough.
    return _Lines(num_steps, start, seconds=float("inf"))


class _Silent(AbstractProgress):
    def update(self, step: int, loss: float) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines(AbstractProgress):
    def __init__(self, num_steps: int, start: int, seconds: float):
        self.num_steps, self.seconds = num_steps, seconds
        self.tenth = 10 * start // num_steps
        self.start, self.started = start, time.perf_counter()
        self.latest = self.started

    def update(self, step: int, loss: float) -> None:
        now, tenth = time.perf_counter(), 10 * step // self.num_steps
        if tenth == self.tenth and now - self.latest < self.seconds:
            return
        self.tenth, self.latest = tenth, now
        rate = (step - self.start) / max(now - self.started, 1e-9)
        sys.stderr.write(
            f"step {step}/{self.num_steps}  loss {loss:.4g}  {rate:.3g} steps/s\n"
        )
        sys.stderr.flush()

    def close(self) -> None:
        pass


class _Bar(AbstractProgress):
    def __init__(self, num_steps: int, start: int):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bar = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("", total=num_steps, completed=start, loss="–")
        self.bar.start()

    def update(self, step: int, loss: float) -> None:
        self.bar.update(self.task, completed=step, loss=f"{loss:.4g}")

    def close(self) -> None:
        self.bar.stop()
