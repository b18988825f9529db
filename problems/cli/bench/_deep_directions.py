"""`sciml bench deep-directions`."""

import dataclasses
import pathlib

from .._common import BadData, ExitCode, Usage
from .._weights import trained
from ._report import Reported


@dataclasses.dataclass
class DeepDirections:
    """Count steps with directions of networks, beside CG and multigrid."""

    report: Reported
    models: tuple[str, ...] = ()
    """Files of `sciml train preconditioner deep-directions`, or sciml.pretrained."""
    ndim: int = 3
    """Axes."""
    sizes: tuple[int, ...] = (32, 64)
    """Nodes per axis."""
    num_vectors: int = 20
    """Right-hand sides."""
    cap: int = 500
    """Maximal number of steps."""
    obstacles: bool = False
    """Cut a box out of the domain, another one for each right-hand side."""

    def __call__(self) -> ExitCode:
        """Solve, count, print, record."""
        tell = self.report.begin()
        if self.ndim not in (1, 2, 3):
            raise Usage(f"ndim: expected 1, 2 or 3, got {self.ndim}.")
        for name in ("num_vectors", "cap"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if not self.sizes or min(self.sizes) < 1:
            raise Usage(f"sizes: expected numbers from 1, got {self.sizes}.")
        import sciml

        from ...bench import bench_deep_directions

        models = {}
        for path in self.models:
            model = trained(path)
            if not isinstance(model, sciml.preconditioners.DeepConjugateDirections):
                raise BadData(f"{path}: no DeepConjugateDirections.")
            if model.network.ndim != self.ndim:
                raise BadData(f"{path}: for {model.network.ndim} axes.")
            models[pathlib.Path(path).stem] = model
        rows = bench_deep_directions(
            models,
            ndim=self.ndim,
            sizes=self.sizes,
            num_vectors=self.num_vectors,
            cap=self.cap,
            obstacles=self.obstacles,
            seed=self.report.seed,
            on_row=tell,
        )
        self.report.end("deep-directions", self, rows)
        return ExitCode.DONE
