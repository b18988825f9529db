"""`sciml bench learned-multigrid`."""

import dataclasses

from .._common import ExitCode, Usage
from .._weights import trained
from ._report import Reported


@dataclasses.dataclass
class LearnedMultigrid:
    """A learned cycle beside cycles that are not, on jumps, channels and anisotropy."""

    report: Reported
    points: tuple[int, ...] = (127, 511)
    """Nodes per axis of each table."""
    count: int = 20
    """Systems."""
    kinds: tuple[str, ...] = ("two-phase", "channels", "aligned", "turned", "mild")
    """Of systems."""
    rounds: int = 5
    """Timed rounds; medians are printed."""
    weights: str | None = None
    """A saved LearnedMultigrid; default the pretrained one."""
    amg: bool = False
    """PyAMG's hierarchies, too."""
    every: bool = True
    """Search the untrained cycle's smoothers."""

    def __call__(self) -> ExitCode:
        """Set up, solve, print, record."""
        tell = self.report.begin()
        for name in ("count", "rounds"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1.")
        if any(n < 3 for n in self.points):
            raise Usage("points: expected at least 3.")
        from ...bench import bench_learned_multigrid

        builder = None if self.weights is None else trained(self.weights)
        rows = []
        for points in self.points:
            try:
                rows += bench_learned_multigrid(
                    points,
                    builder,
                    kinds=self.kinds,
                    count=self.count,
                    repeats=self.rounds,
                    every=self.every,
                    amg=self.amg,
                    seed=self.report.seed,
                    on_row=tell,
                )
            except ValueError as error:
                raise Usage(str(error)) from error
        self.report.end("learned-multigrid", self, rows)
        failed = any(row["converged"] < row["systems"] for row in rows)
        return ExitCode.NOT_CONVERGED if failed else ExitCode.DONE
