"""`sciml bench darcy-small`."""

import dataclasses
import os
import pathlib

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class DarcySmall:
    """Train MgNO and FNO on the small real Darcy set."""

    report: Reported
    models: tuple[str, ...] = ()
    """Of MgNO, FNO and the same with ", D4" (augmented); default all."""
    num_steps: int = 3000
    """Updates of each model."""
    seeds: int = 3
    """Trainings of each."""
    data: str | None = None
    """The folder with train_16.npz and test_16.npz."""

    def __call__(self) -> ExitCode:
        """Train, evaluate, print, record."""
        tell = self.report.begin()
        from ...bench import bench_darcy_small, check_darcy_small

        models = self.models or None
        try:
            check_darcy_small(models)
        except ValueError as error:
            raise Usage(f"darcy-small: {error}") from error
        rows = bench_darcy_small(
            self._folder(),
            models=models,
            num_steps=self.num_steps,
            seeds=self.seeds,
            seed=self.report.seed,
            progress=not self.report.json,
            on_row=tell,
        )
        self.report.end("darcy-small", self, rows)
        return ExitCode.DONE

    def _folder(self) -> str:
        if self.data is not None:
            return self.data
        if os.environ.get("SCIML_DATA"):
            return str(pathlib.Path(os.environ["SCIML_DATA"]) / "darcy_small")
        raise Usage(
            "darcy-small: name the folder with train_16.npz and test_16.npz with "
            "--data, or its parent with the environment variable SCIML_DATA."
        )
