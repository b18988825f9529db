"""`sciml bench contraction`."""

import dataclasses

from .._common import ExitCode
from ._report import Reported


@dataclasses.dataclass
class Contraction:
    """Measure how much a V-cycle reduces the error."""

    report: Reported

    def __call__(self) -> ExitCode:
        """Measure, print, record."""
        tell = self.report.begin()
        from ...bench import bench_contraction

        rows = bench_contraction(seed=self.report.seed, on_row=tell)
        self.report.end("contraction", self, rows)
        return ExitCode.DONE
