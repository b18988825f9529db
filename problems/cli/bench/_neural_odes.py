"""`sciml bench neural-odes`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class NeuralODEs:
    """Train neural ODEs with and without a price on the solve."""

    report: Reported
    problems: tuple[str, ...] = ()
    """digits, spiral; default both."""
    methods: tuple[str, ...] = ()
    """Which penalties, the first to compare with; default all."""
    rtol: float = 1e-7
    """Tolerance of the solves in training; tests also take 1/100 of it."""
    num_steps: int | None = None
    """Updates of each model; default the problem's own."""
    seeds: int = 5
    """Trainings."""

    def __call__(self) -> ExitCode:
        """Train, measure, print, record."""
        tell = self.report.begin()
        from ...bench import bench_neural_odes, neural_ode_methods

        known_methods = neural_ode_methods()
        problems = self.problems or tuple(known_methods)
        for problem in problems:
            known = known_methods.get(problem)
            if known is None:
                listed = ", ".join(known_methods)
                raise Usage(f"neural-odes: no problem {problem!r}; known are {listed}.")
            for method in self.methods:
                if method not in known:
                    raise Usage(
                        f"neural-odes: no method {method!r}; known are "
                        f"{', '.join(known)}."
                    )
        if self.seeds < 1 or not 0 < self.rtol < 1:
            raise Usage("neural-odes: needs a seed and a tolerance between 0 and 1.")
        rows = bench_neural_odes(
            problems,
            methods=self.methods or None,
            rtol=self.rtol,
            seeds=self.seeds,
            num_steps=self.num_steps,
            seed=self.report.seed,
            on_row=tell,
        )
        self.report.end("neural-odes", self, rows)
        return ExitCode.DONE
