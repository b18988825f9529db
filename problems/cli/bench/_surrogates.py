"""`sciml bench surrogates`."""

import dataclasses
from typing import Any

from .._common import ExitCode, Usage
from ._report import Reported


@dataclasses.dataclass
class Surrogates:
    """Train surrogates with equal parameters and time, and ask the solver as well."""

    report: Reported
    problems: tuple[str, ...] = ()
    """Of two-phase, smooth, rough, multiscale, helmholtz; default the last three, with
    --paper smooth, rough, multiscale."""
    models: tuple[str, ...] = ()
    """Of MgNO, FNO, UNet; default all. By AdamW instead of Muon: "MgNO, AdamW",
    "FNO, AdamW", "UNet, AdamW"."""
    minutes: float | None = None
    """Training time of each run; default 4."""
    samples: int | None = None
    """Solutions to train on; default 1000, with --paper as published."""
    seeds: int | None = None
    """Trainings of each; default 3."""
    folder: str = "runs/surrogates"
    """Data, checkpoints and results: the same command goes on where it was stopped."""
    paper: bool = False
    """MgNO at full size with the published recipe; for an accelerator."""
    epochs: int | None = None
    """With --paper: the length of the training; default 500, as published."""

    def __call__(self) -> ExitCode:
        """Solve, train, compare, record."""
        tell = self.report.begin()
        from ...bench import bench_surrogates, bench_surrogates_paper

        self._check()
        shared: dict[str, Any] = {
            "seed": self.report.seed,
            "folder": self.folder,
            "progress": not self.report.json,
            "on_row": tell,
        }
        given = ("problems", "models", "minutes", "samples", "seeds", "epochs")
        values = {name: getattr(self, name) for name in given}
        shared |= {
            _NAMES.get(k, k): v for k, v in values.items() if v not in (None, ())
        }
        rows = (bench_surrogates_paper if self.paper else bench_surrogates)(**shared)
        self.report.end("surrogates", self, rows)
        return ExitCode.DONE

    def _check(self) -> None:
        """Before minutes are spent."""
        from ...bench import PAPER_SURROGATES, check_surrogates

        for name in ("models", "minutes", "seeds") if self.paper else ("epochs",):
            if getattr(self, name) not in (None, ()):
                which = "not with" if self.paper else "only with"
                raise Usage(f"{name}: {which} --paper.")
        least = {"minutes": 0, "samples": 7, "seeds": 0, "epochs": 0}
        for name, below in least.items():
            value = getattr(self, name)
            if value is not None and not value > below:
                raise Usage(f"{name}: expected more than {below}, got {value}.")
        try:
            check_surrogates(self.problems, self.models)
        except ValueError as error:
            raise Usage(f"surrogates: {error}") from error
        for name in self.problems:
            if self.paper and name not in PAPER_SURROGATES:
                raise Usage(
                    f"surrogates: no {name!r} with --paper; known are "
                    f"{', '.join(PAPER_SURROGATES)}."
                )


# What has another name in the functions.
_NAMES = {"samples": "num_samples"}
