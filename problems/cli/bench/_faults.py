"""`sciml bench faults`."""

import dataclasses

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Faults:
    """Break linear solves in every way we know of, and judge what solvers say."""

    report: Reported
    seeds: int = 20
    """Systems of each kind."""

    def __call__(self) -> ExitCode:
        """Solve, judge, print, record."""
        tell = self.report.begin()
        if self.seeds < 2:
            raise Usage("faults: needs at least two seeds, see --seeds.")
        from ...bench import bench_faults, has_failed, nested_cells

        totals, cells = bench_faults(
            num_seeds=self.seeds, seed=self.report.seed, on_row=tell
        )
        outcomes = [total.pop("outcomes") for total in totals]
        nested = nested_cells(cells)
        self.report.end("faults", self, totals, outcomes=outcomes, cells=nested)
        return ExitCode.FAILED if any(map(has_failed, totals)) else ExitCode.DONE
