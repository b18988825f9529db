"""`sciml bench constraint-training`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class ConstraintTraining:
    """Train penalties, one hard constraint and experts on an equation alone."""

    report: Reported
    formulations: tuple[str, ...] = ()
    """Of "integrated", "differences" (diffusion–sorption), "vorticity"
    (Navier–Stokes); default all."""
    methods: tuple[str, ...] = ()
    """Of "soft", "hard", "hard, Uncoupled", "hard, C0", "hard, C1", and with other
    weights "hard, C1(10, 1)", "hard, C1(1, 0.1)", "hard, C1(100, 100)"; default these.
    "hard, Schwarz": of "integrated" and "differences"."""
    until: float | None = None
    """Training sees the equation up to this time, of 500 or (vorticity) 1, 5."""
    num_steps: int | None = None
    """Updates of each model; default 150, with --paper 4000 (vorticity: 20000)."""
    seeds: int = 5
    """Trainings of each."""
    paper: bool = False
    """Grid, network, samples and updates of the publication; for a GPU."""
    plot: str | None = None
    """Write predictions, errors and residuals to this folder, as PNG."""

    def __call__(self) -> ExitCode:
        """Solve, train, judge, record."""
        tell = self.report.begin()
        from ...bench import (
            CONSTRAINT_FORMULATIONS,
            CONSTRAINT_METHODS,
            bench_constraint_training,
            check_constraint_training,
            constraint_sizes,
        )

        formulations = self.formulations or CONSTRAINT_FORMULATIONS
        methods = self.methods or CONSTRAINT_METHODS
        if self.seeds < 1 or (self.num_steps is not None and self.num_steps < 1):
            raise Usage("seeds, num_steps: expected at least 1.")
        sizes = constraint_sizes(paper=self.paper, num_steps=self.num_steps)
        try:
            check_constraint_training(formulations, methods, self.until, sizes)
        except ValueError as error:
            raise Usage(f"constraint-training: {error}") from error
        rows = bench_constraint_training(
            formulations=formulations,
            methods=methods,
            until=self.until,
            sizes=sizes,
            seeds=self.seeds,
            seed=self.report.seed,
            plot=self.plot,
            progress=not self.report.json,
            on_row=tell,
        )
        self.report.end("constraint-training", self, rows)
        return ExitCode.DONE
