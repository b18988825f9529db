"""`sciml bench products` and `sciml bench many`."""

import dataclasses

from .._common import ExitCode
from ._report import Reported


@dataclasses.dataclass
class Products:
    """Time products with A."""

    report: Reported
    repeats: int = 5
    """Rounds after the first."""

    def __call__(self) -> ExitCode:
        """Measure, print, record."""
        tell = self.report.begin()
        from ...bench import bench_products

        rows = bench_products(repeats=self.repeats, seed=self.report.seed, on_row=tell)
        self.report.end("products", self, rows)
        return ExitCode.DONE


@dataclasses.dataclass
class Many:
    """Time products and solves with 64 right-hand sides."""

    report: Reported
    repeats: int = 5
    """Rounds after the first."""

    def __call__(self) -> ExitCode:
        """Measure, print, record."""
        tell = self.report.begin()
        from ...bench import bench_many

        rows = bench_many(repeats=self.repeats, seed=self.report.seed, on_row=tell)
        self.report.end("many", self, rows)
        return ExitCode.DONE
