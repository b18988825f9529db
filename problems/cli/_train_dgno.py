"""`sciml train dgno`."""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro

from ._common import ExitCode, Usage, print_json, say


@dataclasses.dataclass
class TrainDGNO:
    """Train a DGNO on coefficients alone, and save it with their prior."""

    problem: Annotated[
        Literal[
            "darcy-two-phase",
            "darcy-continuous",
            "burgers-dirichlet",
            "stokes-cylinder",
        ],
        tyro.conf.Positional,
    ] = "darcy-two-phase"
    """Name of the problem."""
    num_train: int = 1000
    """Coefficients; no solutions are needed."""
    num_test: int = 50
    """Unseen coefficients, which are solved to judge the model."""
    num_steps: int = 1500
    """Updates."""
    batch_size: int | None = None
    """Coefficients per update; default 100 of media, 50 of others."""
    latent: Literal["box", "gaussian"] = "box"
    """A point in a box, as in the published code, or a normal distribution."""
    learning_rate: float = 1e-2
    """Muon's highest; of what it is not for, half as much."""
    seed: int = 7
    """Of coefficients, weights, batches and points."""
    output: str = "runs/dgno.safetensors"
    """Where to save the model."""
    checkpoint_dir: str | None = None
    """Checkpoints go here, also on Ctrl-C; the same command goes on from them."""
    checkpoint_every: int = 500
    """Updates between checkpoints."""
    metrics: str | None = None
    """A file that gets losses and times as JSON lines, one for each update."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Draw, train, judge, save."""
        self._check()
        path = pathlib.Path(self.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        import sciml
        from sciml.inverse import TrainedDGNO
        from sciml.neural_operators import BoxLatent, D4Averaged, GaussianLatent

        from .._dgno_recipe import (
            DGNO_PROBLEMS,
            dgno_coefficients,
            dgno_error,
            dgno_recipe,
            exact_solutions,
            split_keys,
        )
        from .._surrogate import in_float32, num_parameters

        data_key, model_key, fit_key, test_key = split_keys(self.seed)
        problem = DGNO_PROBLEMS[self.problem]()
        latent = BoxLatent() if self.latent == "box" else GaussianLatent()
        recipe = dgno_recipe(problem.weak_form(), latent, key=model_key)
        batch_size = self.batch_size or min(recipe.batch_size, self.num_train)
        coefficients = dgno_coefficients(problem, self.num_train, data_key)
        try:
            model, history = sciml.training.fit(
                in_float32(recipe.model),
                coefficients,
                loss=recipe.loss,
                optimiser=sciml.training.muon_optimiser(
                    self.num_steps, self.learning_rate, self.learning_rate / 2
                ),
                num_steps=self.num_steps,
                batch_size=batch_size,
                checkpoint_dir=self.checkpoint_dir,
                checkpoint_every=self.checkpoint_every,
                metrics_path=self.metrics,
                progress=not self.json,
                key=fit_key,
            )
        except KeyboardInterrupt:
            if self.checkpoint_dir is not None:
                say("saved; the same command goes on from here")
            raise
        test = dgno_coefficients(problem, self.num_test, test_key)
        exact = exact_solutions(problem, test.inputs)
        errors = dgno_error(model, test.inputs, exact)
        error = sum(errors) / len(errors)
        averaged = {}
        if test.grid.ndim == 2:
            (mean,) = dgno_error(D4Averaged(model), test.inputs, exact)
            averaged = {"relative_l2_averaged": mean}
        command = (
            f"sciml train dgno {self.problem} --num-train {self.num_train} "
            f"--num-steps {self.num_steps} --batch-size {batch_size} "
            f"--latent {self.latent} --learning-rate {self.learning_rate:g} "
            f"--seed {self.seed}"
        )
        provenance = self._provenance(command, history.training_time, error)
        trained = TrainedDGNO.of(model, coefficients, provenance)
        sciml.save(path, trained)
        facts: dict[str, Any] = {
            "problem": self.problem,
            "parameters": num_parameters(model),
            "relative_l2": error,
            **averaged,
            **({} if len(errors) == 1 else _by_channel(errors)),
            "loss": float(history.loss[-1]),
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
            seen = "" if self.problem == "darcy-two-phase" else "OBSERVATIONS "
            say(f"use it: sciml invert {seen}--model {path}")
        return ExitCode.DONE

    def _provenance(self, command: str, seconds: float, error: float) -> Any:
        import platform

        from sciml.preconditioners import Provenance

        return Provenance(
            command,
            self.seed,
            _constructor(self.problem),
            f"{seconds:.0f} s on {platform.machine()}, {self.num_steps} updates",
            ("mean relative L2 error on unseen coefficients", f"{error:.4f}"),
        )

    def _check(self) -> None:
        """Before minutes are spent."""
        for name in ("num_test", "num_steps", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.num_train < 2:
            raise Usage(f"num_train: expected at least 2, got {self.num_train}.")
        size = self.batch_size
        if size is not None and not 1 <= size <= self.num_train:
            raise Usage(
                f"batch_size: expected from 1 to num_train ({self.num_train}), got "
                f"{size}."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise Usage(
                f"learning_rate: expected a positive number, got {self.learning_rate}."
            )


def _constructor(name: str) -> str:
    """What makes a problem of this name."""
    if name == "stokes-cylinder":
        return "problems.StokesCylinder()"
    kind = "get_problem" if "darcy" in name else "get_evolution"
    return f"problems.{kind}({name!r})"


def _by_channel(errors: list[float]) -> dict[str, float]:
    return {f"relative_l2_{k}": error for k, error in enumerate(errors)}
