"""`sciml bench surrogates`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Surrogates:
    """Train surrogates with equal parameters and time, and ask the solver as well."""

    report: Reported
    problems: tuple[str, ...] = ()
    """Of two-phase, smooth, rough, multiscale, helmholtz; default the last three, with
    --paper smooth, rough, multiscale."""
    models: tuple[str, ...] = ("MgNO", "FNO", "UNet")
    """Of these."""
    minutes: float = 4.0
    """Training time of each run."""
    samples: int | None = None
    """Solutions to train on; default 1000, with --paper as published."""
    seeds: int = 3
    """Trainings of each."""
    folder: str = "runs/surrogates"
    """Data, checkpoints and results: the same command goes on where it was stopped."""
    paper: bool = False
    """MgNO at full size with the published recipe; for an accelerator."""
    epochs: int = 500
    """With --paper: the length of the training."""

    def __call__(self) -> ExitCode:
        """Solve, train, compare, record."""
        tell = self.report.begin()
        from ...bench import bench_surrogates, bench_surrogates_paper

        problems = self._checked()
        shared = {
            "seed": self.report.seed,
            "folder": self.folder,
            "progress": not self.report.json,
            "on_row": tell,
        }
        if self.paper:
            rows = bench_surrogates_paper(
                problems=problems,
                epochs=self.epochs,
                num_samples=self.samples,
                **shared,
            )
        else:
            rows = bench_surrogates(
                problems=problems,
                models=self.models,
                minutes=self.minutes,
                num_samples=self.samples or 1000,
                seeds=self.seeds,
                **shared,
            )
        self.report.end("surrogates", self, rows)
        return ExitCode.DONE

    def _checked(self) -> tuple[str, ...]:
        """The names of the problems; before minutes are spent."""
        from ...bench import PAPER_SURROGATES, check_surrogates

        for name in ("minutes", "samples", "seeds", "epochs"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise Usage(f"{name}: expected a positive number, got {value}.")
        default = PAPER_SURROGATES if self.paper else _PROBLEMS
        problems = self.problems or default
        try:
            check_surrogates(problems, self.models)
        except ValueError as error:
            raise Usage(f"surrogates: {error}") from error
        for name in problems:
            if self.paper and name not in PAPER_SURROGATES:
                raise Usage(
                    f"surrogates: no {name!r} with --paper; known are "
                    f"{', '.join(PAPER_SURROGATES)}."
                )
        return problems


_PROBLEMS = ("rough", "multiscale", "helmholtz")
