"""`sciml bench certified`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Certified:
    """Train a surrogate of Darcy flow; finish its predictions in and out of sample."""

    report: Reported
    trained_on: str = "two-phase"
    """Or smaller grains, contrast 1000, log-normal, channels: all are solved for."""
    points: int = 63
    """Nodes per axis."""
    samples: int = 1000
    """Solutions to train on."""
    num_steps: int = 3000
    """Updates of the model."""
    cases: int = 100
    """Predictions for each of five distributions of coefficients."""
    rtol: float = 1e-6
    """Relative residual that each answer has to meet."""

    def __call__(self) -> ExitCode:
        """Train, predict, finish, record; exit code 1 if an answer is not met."""
        tell = self.report.begin()
        from ...bench import CERTIFIED_CASES, bench_certified

        if self.trained_on not in CERTIFIED_CASES:
            known = ", ".join(CERTIFIED_CASES)
            raise Usage(f"trained_on: no {self.trained_on!r}; known are {known}.")
        rows = bench_certified(
            trained_on=self.trained_on,
            num_points=self.points,
            num_samples=self.samples,
            num_steps=self.num_steps,
            num_cases=self.cases,
            rtol=self.rtol,
            seed=self.report.seed,
            progress=not self.report.json,
            on_row=tell,
        )
        self.report.end("certified", self, rows)
        missed = sum(row["cases"] - row["met"] for row in rows)
        return ExitCode.FAILED if missed else ExitCode.DONE
