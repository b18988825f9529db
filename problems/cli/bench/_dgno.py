"""`sciml bench dgno`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class DGNOTraining:
    """Train with and without solutions for equal times; time the published loop."""

    report: Reported
    names: tuple[str, ...] | None = None
    """Problems; default all three of DGNO's."""
    methods: tuple[str, ...] | None = None
    """By name; default all that there are for a problem."""
    minutes: float = 2.0
    """Of each training, compilation apart."""
    num_train: int = 1000
    """Coefficients that are trained on."""
    num_test: int = 50
    """Coefficients that errors are taken over."""
    seeds: int = 3
    """Trainings of each."""
    speed: bool = True
    """Time steps of the published loop, too."""

    def __call__(self) -> ExitCode:
        """Train, time, print, record."""
        tell = self.report.begin()
        for name in ("num_train", "num_test", "seeds"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1.")
        if not 0 < self.minutes < float("inf"):
            raise Usage(f"minutes: expected a positive number, got {self.minutes}.")
        if self.num_train < 100:
            raise Usage("num_train: expected at least 100, the size of a batch.")
        from ...bench import bench_dgno, check_dgno

        try:
            check_dgno(self.names, self.methods)
        except ValueError as error:
            raise Usage(str(error)) from error
        rows = bench_dgno(
            names=self.names,
            methods=self.methods,
            minutes=self.minutes,
            num_train=self.num_train,
            num_test=self.num_test,
            seeds=self.seeds,
            seed=self.report.seed,
            speed=self.speed,
            on_row=tell,
        )
        self.report.end("dgno", self, rows)
        return ExitCode.DONE
