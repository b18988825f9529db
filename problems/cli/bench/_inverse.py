"""`sciml bench inverse`."""

import dataclasses
import pathlib

from .._common import BadData, ExitCode, Usage, say
from .._weights import trained
from ._report import Reported


@dataclasses.dataclass
class Inverse:
    """Invert media with known truth: errors, calibration, times, adjoint solves."""

    report: Reported
    model: str = "dgno-two-phase"
    """A file that `sciml train dgno darcy-two-phase` wrote, or what comes with the
    library."""
    observations: tuple[int, ...] = (100, 25, 400)
    """Numbers of observations, at 25 decibels."""
    snrs: tuple[float, ...] = (15.0, 40.0)
    """Further ratios of signal to noise in decibels, with the first of the numbers."""
    cases: int = 100
    """Media for Laplace's method."""
    nuts_cases: int = 5
    """Media for the sampler."""
    variation_cases: int = 20
    """Media for adjoint solves."""
    plot: str | None = None
    """Draw the first case of each number of observations into this folder."""

    def __call__(self) -> ExitCode:
        """Invert, judge, print, record."""
        tell = self.report.begin()
        if not self.observations:
            raise Usage("observations: expected at least one number.")
        for name in ("cases", "nuts_cases", "variation_cases"):
            if getattr(self, name) < 0:
                raise Usage(f"{name}: expected at least 0.")
        import numpy as np

        from sciml.inverse import TrainedDGNO

        from ..._inverse_cases import problem_of
        from ..._two_phase_darcy import TwoPhaseDarcy
        from ...bench import bench_inverse

        if not np.isfinite(self.snrs).all():
            raise Usage(f"snrs: expected finite numbers, got {self.snrs}.")
        model = trained(self.model)
        problem = problem_of(model) if isinstance(model, TrainedDGNO) else None
        if not isinstance(problem, TwoPhaseDarcy):
            raise BadData(f"{self.model}: expected a DGNO of darcy-two-phase.")
        inside = int(np.prod([n - 2 for n in problem.grid.num_points]))
        if not all(1 <= n <= inside for n in self.observations):
            raise Usage(f"observations: expected from 1 to {inside}, the nodes inside.")
        settings = [(number, 25.0) for number in self.observations]
        settings += [(self.observations[0], snr) for snr in self.snrs]
        rows = bench_inverse(
            model,
            settings=settings,
            cases=self.cases,
            nuts_cases=self.nuts_cases,
            variation_cases=self.variation_cases,
            seed=self.report.seed,
            on_row=tell,
        )
        if self.plot is not None:
            self._draw(model, problem)
        self.report.end("inverse", self, rows, provenance=_told(model))
        return ExitCode.DONE

    def _draw(self, model, problem) -> None:
        import jax.random as jr

        from sciml.evaluation import png
        from sciml.inverse import posterior

        from ..._posterior_picture import draw_posterior
        from ...bench import inverse_cases

        folder = pathlib.Path(str(self.plot))
        folder.mkdir(parents=True, exist_ok=True)
        for number in self.observations:
            seed = self.report.seed
            (case,) = inverse_cases(problem, 1, number, 25.0, seed)
            found = posterior(model, case.observations, throw=False, key=jr.key(seed))
            file = folder / f"inverse-{number}.png"
            file.write_bytes(png(draw_posterior(found, case.observations, case)))
            say(f"drawn: {file}")


def _told(model) -> dict | None:
    own = model.provenance
    return None if own is None else dataclasses.asdict(own)
