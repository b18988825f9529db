"""`sciml bench neural-odes`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class NeuralODEs:
    """Train neural ODEs with and without a price on the solve."""

    report: Reported
    problems: tuple[str, ...] = ()
    """digits, spiral, vowels, spiral-sde; default all whose data are there."""
    methods: tuple[str, ...] = ()
    """Which penalties, the first to compare with; default all."""
    rtol: float | None = None
    """Tolerance of the solves in training, and of a part of the tests; default the
    problem's own."""
    num_steps: int | None = None
    """Updates of each model; default the problem's own."""
    strength: float = 1.0
    """What the coefficients of all penalties are multiplied by."""
    seeds: int = 5
    """Trainings."""
    plot: str | None = None
    """Write learned paths and step sizes to this folder, as PNG."""

    def __call__(self) -> ExitCode:
        """Train, measure, print, record."""
        tell = self.report.begin()
        from ...bench import bench_neural_odes, choose_neural_odes

        problems, methods = self.problems or None, self.methods or None
        try:
            choose_neural_odes(problems, methods)
        except (ValueError, FileNotFoundError) as error:
            raise Usage(f"neural-odes: {error}") from error
        if self.strength < 0:
            raise Usage(
                f"neural-odes: strength: expected at least 0, got {self.strength}."
            )
        if self.seeds < 1 or not (self.rtol is None or 0 < self.rtol < 1):
            raise Usage("neural-odes: needs a seed and a tolerance between 0 and 1.")
        rows = bench_neural_odes(
            problems,
            methods=methods,
            rtol=self.rtol,
            seeds=self.seeds,
            num_steps=self.num_steps,
            strength=self.strength,
            seed=self.report.seed,
            plot=self.plot,
            on_run=tell,
        )
        self.report.end("neural-odes", self, rows)
        return ExitCode.DONE
