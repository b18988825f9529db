"""`sciml train`."""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro

from ._common import ExitCode, Usage, print_json, progress_bar, say

MODELS = {"mgno": "MgNO", "fno": "FNO"}


@dataclasses.dataclass
class Train:
    """Train a surrogate on a problem's solutions and save it."""

    problem: Annotated[str, tyro.conf.Positional] = "darcy"
    """Name of the problem, see `sciml list`."""
    model: Literal["mgno", "fno"] = "mgno"
    """Architecture."""
    points: int | None = None
    """Nodes per axis; default the problem's own."""
    contrast: float | None = None
    """Largest over smallest coefficient, where the problem has one."""
    num_train: int = 1000
    """Training pairs."""
    num_test: int = 100
    """Test pairs."""
    width: int = 16
    """Channels."""
    depth: int = 4
    """Layers."""
    num_steps: int = 1000
    """Updates."""
    batch_size: int = 10
    """Samples per update."""
    seed: int = 7
    """Of the data, the weights and the order of samples."""
    output: str = "runs/model.safetensors"
    """Where to save the model."""
    checkpoint_dir: str | None = None
    """Checkpoints go here; a run that was stopped resumes from them."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Generate, train, evaluate, save."""
        import jax.random as jr

        import sciml

        from .. import get_problem
        from .._surrogate import as_float32, num_parameters, short_run_optimiser

        self._check()
        try:
            problem = get_problem(
                self.problem, points=self.points, contrast=self.contrast
            )
            model = make_model(
                self.model, problem.grid, self.width, self.depth, self.seed
            )
        except ValueError as error:
            raise Usage(str(error)) from error
        total = self.num_train + self.num_test
        with progress_bar("solving", total, not self.json) as bar:
            data = problem.dataset(total, key=jr.key(self.seed), progress=bar)
        train, test = as_float32(data).split(self.num_train)
        model = sciml.neural_operators.normalised(model, train.inputs, train.targets)
        model, history = sciml.training.fit(
            model,
            train,
            optimiser=short_run_optimiser(self.num_steps),
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            checkpoint_dir=self.checkpoint_dir,
            progress=not self.json,
            key=jr.key(self.seed),
        )
        metrics = sciml.evaluation.evaluate(model, test)
        path = pathlib.Path(self.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        sciml.save(path, model)
        facts: dict[str, Any] = {
            "problem": self.problem,
            "model": self.model,
            "parameters": num_parameters(model),
            **metrics,
            "compile_time": history.compile_time,
            "training_time": history.training_time,
            "output": str(path),
        }
        if self.json:
            print_json(facts)
        else:
            for name, value in facts.items():
                text = f"{value:.4g}" if isinstance(value, float) else value
                print(f"{name.replace('_', ' '):<18} {text}")
            say(f"use it: sciml predict {path} --problem {self.problem}")
        return ExitCode.DONE

    def _check(self) -> None:
        """Before minutes are spent on data."""
        for name in ("num_train", "num_test", "num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.batch_size > self.num_train:
            raise Usage(
                f"batch_size: expected at most num_train ({self.num_train}), got "
                f"{self.batch_size}."
            )


def make_model(name: str, grid, width: int, depth: int, seed: int):
    """An untrained model for one input and one output field on a grid, in float32."""
    import jax.random as jr

    from sciml.neural_operators import FNO, MgNO

    from .._surrogate import in_float32

    key = jr.key(seed)
    smallest = min(grid.num_points)
    if name == "mgno":
        levels = min(6, max(1, smallest.bit_length() - 1))
        return in_float32(
            MgNO(
                grid.ndim,
                1,
                1,
                width=width,
                depth=depth,
                num_levels=levels,
                boundary=grid.boundary,
                key=key,
            )
        )
    modes = min(16, smallest // 2)
    return in_float32(
        FNO(grid.ndim, 1, 1, width=width, depth=depth, num_modes=modes, key=key)
    )
