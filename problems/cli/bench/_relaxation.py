"""`sciml bench relaxation`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Relaxation:
    """Choose relaxation parameters while solving sequences of systems."""

    report: Reported
    intervals: tuple[int, ...] = (25, 50)
    """1/h of each heat sequence."""
    steps: int = 5000
    """Systems of each sequence."""
    seeds: int = 2
    """Runs of each method that draws."""

    def __call__(self) -> ExitCode:
        """Solve, count, print, record."""
        tell = self.report.begin()
        for name in ("steps", "seeds"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1.")
        if any(n < 2 for n in self.intervals):
            raise Usage("intervals: expected at least 2.")
        from ...bench import bench_relaxation

        rows = bench_relaxation(
            intervals=self.intervals,
            steps=self.steps,
            seeds=self.seeds,
            seed=self.report.seed,
            on_row=tell,
        )
        self.report.end("relaxation", self, rows)
        return ExitCode.DONE
