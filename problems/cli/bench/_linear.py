"""`sciml bench linear`."""

import dataclasses
from typing import Any

from .._common import ExitCode, Usage, say
from ._report import Reported

_SYSTEMS = ("two-phase-10", "two-phase-1000")


@dataclasses.dataclass
class Linear:
    """Set up and solve linear systems with our methods and their rivals."""

    report: Reported
    points: int = 511
    """Nodes per axis."""
    problems: tuple[str, ...] = ()
    """two-phase-CONTRAST, poisson, lognormal, hard-two-phase, checkerboard, channels,
    anisotropic, poisson-3d, two-phase-3d, l-shape, ball, matrix:NAME; default
    two-phase-10 two-phase-1000."""
    every: bool = False
    """Also the preconditioners that are not meant to win."""
    cap: int = 500
    """Most steps of the methods that need hundreds."""
    plot: str | None = None
    """Write convergence curves and times to this folder, as PNG."""
    repeats: int = 5
    """Rounds after the first."""

    def __call__(self) -> ExitCode:
        """Measure, draw, print, record."""
        tell = self.report.begin()
        self._check()
        from ...bench import bench_linear, plot_linear

        rows = bench_linear(
            self.points,
            self.problems or _SYSTEMS,
            repeats=self.repeats,
            cap=self.cap,
            every=self.every,
            seed=self.report.seed,
            on_row=tell,
        )
        if self.plot is not None:
            for file in plot_linear(rows, self.plot):
                say(f"wrote {file}")
        self.report.end("linear", self, rows)
        return ExitCode.NOT_CONVERGED if any(map(_missed, rows)) else ExitCode.DONE

    def _check(self) -> None:
        if self.repeats < 1 or self.cap < 1:
            raise Usage("linear: needs at least one repeat and step.")
        from ...bench import make_system

        try:
            for name in self.problems or _SYSTEMS:
                # (A small one tells as much, and soon.)
                make_system(name, min(self.points, 7), self.report.seed)
        except (ValueError, FileNotFoundError) as error:
            raise Usage(str(error)) from error


def _missed(row: dict[str, Any]) -> bool:
    """Whether our multigrid, which must not fail, did."""
    ours = row["method"] == "sciml CG + Multigrid"
    return ours and row["status"] != "successful"
