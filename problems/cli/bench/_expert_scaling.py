"""`sciml bench expert-scaling`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class ExpertScaling:
    """Solve for experts in several orders, on virtual devices, and for more of them."""

    report: Reported
    experts: int = 16
    """Uncoupled experts, a multiple of 8."""
    nodes: int = 1000
    """Nodes of the box of each."""
    totals: tuple[int, ...] = (2000, 8000, 32000, 128000)
    """Total nodes of four coupled experts."""
    counts: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of coupled experts."""
    repeats: int = 5
    """Rounds of timing."""

    def __call__(self) -> ExitCode:
        """Solve, time, print, record."""
        tell = self.report.begin()
        if self.experts < 8 or self.experts % 8:
            raise Usage(f"experts: expected a multiple of 8, got {self.experts}.")
        for name, least in (("nodes", 32), ("repeats", 1)):
            if getattr(self, name) < least:
                raise Usage(f"{name}: expected at least {least}.")
        if any(total < 64 for total in self.totals):
            raise Usage("totals: expected at least 64.")
        if any(not 1 <= count <= 1000 for count in self.counts):
            raise Usage("counts: expected 1 to 1000.")
        from ...bench import bench_expert_scaling

        rows = bench_expert_scaling(
            experts=self.experts,
            nodes=self.nodes,
            totals=self.totals,
            counts=self.counts,
            repeats=self.repeats,
            seed=self.report.seed,
            on_row=tell,
        )
        self.report.end("expert-scaling", self, rows)
        return ExitCode.DONE
