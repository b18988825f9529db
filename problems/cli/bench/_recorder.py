"""`sciml bench recorder`."""

import dataclasses

from .._common import ExitCode, Usage, say
from ._report import Reported


@dataclasses.dataclass
class Recorder:
    """Time solves as they are, recorded, and with a price."""

    report: Reported
    fields: tuple[str, ...] = ("2-50-2", "64-100-64")
    """Networks, as SIZE-WIDTH-SIZE."""
    batches: tuple[int, ...] = (1, 128)
    """Samples that are solved as one state."""
    repeats: int = 31
    """Rounds after the first two."""
    torch: str | None = None
    """The Python of an environment with torch, torchdiffeq and torchode, which then
    solve the same."""

    def __call__(self) -> ExitCode:
        """Measure, print, record."""
        tell = self.report.begin()
        from ...bench import bench_recorder, check_recorder, torch_versions

        try:
            check_recorder(self.fields, self.batches, self.repeats)
            versions = {} if self.torch is None else torch_versions(self.torch)
        except ValueError as error:
            raise Usage(str(error)) from error
        rows = bench_recorder(
            self.fields,
            self.batches,
            repeats=self.repeats,
            torch=self.torch,
            seed=self.report.seed,
            on_row=tell,
        )
        details = {"torch_versions": versions} if versions else {}
        self.report.end("recorder", self, rows, **details)
        wrong = [row for row in rows if not row.get("agrees", True)]
        for row in wrong:
            say(f"{row['field']}, batch {row['batch']}: torch has another solution")
        return ExitCode.FAILED if wrong else ExitCode.DONE
