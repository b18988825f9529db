"""`sciml bench constraints`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Constraints:
    """Solve hard constraints in one piece and in many."""

    report: Reported
    draws: int = 10
    """Random bases that errors are taken over."""
    nodes: tuple[int, ...] = (2000, 8000, 32000)
    """Total nodes of the mixtures that are timed."""
    repeats: int = 5
    """Rounds of timing."""

    def __call__(self) -> ExitCode:
        """Solve, time, print, record."""
        tell = self.report.begin()
        for name in ("draws", "repeats"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1.")
        if any(n < 64 for n in self.nodes):
            raise Usage("nodes: expected at least 64.")
        from ...bench import bench_constraints

        rows = bench_constraints(
            draws=self.draws,
            points=self.nodes,
            repeats=self.repeats,
            seed=self.report.seed,
            on_row=tell,
        )
        self.report.end("constraints", self, rows)
        return ExitCode.DONE
