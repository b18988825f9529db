"""`sciml bench surrogate-speed`."""

import dataclasses

from .._common import ExitCode, Usage, say
from ._report import Reported

_AGREES = 1e-4


@dataclasses.dataclass
class SurrogateSpeed:
    """Time MgNO and FNO, forward and gradient, beside torch (--torch)."""

    report: Reported
    points: int = 64
    """Nodes per axis."""
    batch: int = 8
    """Samples."""
    width: int = 24
    """Channels."""
    modes: int = 16
    """Frequencies of the FNO."""
    repeats: int = 11
    """Rounds."""
    torch: str | None = None
    """The Python of an environment with torch and neuraloperator."""

    def __call__(self) -> ExitCode:
        """Measure, print, record; exit code 1 where torch's MgNO is another network."""
        tell = self.report.begin()
        from ...bench import SURROGATES, bench_surrogate_speed, torch_versions

        try:
            versions = (
                {} if self.torch is None else torch_versions(self.torch, SURROGATES)
            )
        except ValueError as error:
            raise Usage(str(error)) from error
        rows = bench_surrogate_speed(
            num_points=self.points,
            batch=self.batch,
            width=self.width,
            num_modes=self.modes,
            repeats=self.repeats,
            torch=self.torch,
            seed=self.report.seed,
            on_row=tell,
        )
        details = {"torch_versions": versions} if versions else {}
        self.report.end("surrogate-speed", self, rows, **details)
        wrong = any(row.get("difference", 0.0) > _AGREES for row in rows)
        if wrong:
            say("the MgNO in torch gives another output")
        return ExitCode.FAILED if wrong else ExitCode.DONE
