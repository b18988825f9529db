"""`sciml bench rollouts`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Rollouts:
    """Train models that march in time, and march 10 and 50 times as far."""

    report: Reported
    problem: str = "kuramoto-sivashinsky"
    """Or navier-stokes."""
    models: tuple[str, ...] = ()
    """Of "FNO", "x + FNO", "BoundedStep(FNO)", "StableFNO"; default all."""
    interval: float = 1.0
    """Time of a step."""
    num_steps: int = 1000
    """Updates of each model."""
    seeds: int = 3
    """Trainings of each."""

    def __call__(self) -> ExitCode:
        """Solve, train, march, record."""
        tell = self.report.begin()
        from ...bench import ROLLOUT_MODELS, bench_rollouts, check_rollouts

        try:
            check_rollouts(self.problem, self.models)
        except ValueError as error:
            raise Usage(f"rollouts: {error}") from error
        for name in ("interval", "num_steps", "seeds"):
            if not getattr(self, name) > 0:
                raise Usage(f"{name}: expected a positive number.")
        rows = bench_rollouts(
            problem=self.problem,
            models=self.models or ROLLOUT_MODELS,
            interval=self.interval,
            num_steps=self.num_steps,
            seeds=self.seeds,
            seed=self.report.seed,
            progress=not self.report.json,
            on_row=tell,
        )
        self.report.end("rollouts", self, rows)
        return ExitCode.DONE
