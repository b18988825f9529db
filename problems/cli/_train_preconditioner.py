"""`sciml train preconditioner`."""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro

from ._common import ExitCode, Usage, print_json, say


@dataclasses.dataclass
class TrainPreconditioner:
    """Train a preconditioner on random systems, and count its steps on unseen ones."""

    method: Annotated[
        Literal[
            "sparse-inverse",
            "neural-factor",
            "ic-correction",
            "deep-directions",
            "deep-directions-two-level",
        ],
        tyro.conf.Positional,
    ]
    """What to train."""
    problem: Annotated[str, tyro.conf.Positional] = "lognormal"
    """Family of systems: lognormal, or a problem of `sciml list`."""
    size: int | None = None
    """Nodes per axis, or refinements; default the problem's own."""
    test_size: int | None = None
    """The same of the systems that it is tested on; default as in training."""
    num_train: int = 64
    """Systems to train on; vectors for deep-directions."""
    num_test: int = 20
    """Unseen systems."""
    num_steps: int = 300
    """Updates."""
    batch_size: int = 4
    """Systems per update."""
    num_cg_steps: int = 40
    """Of the loss of sparse-inverse, which goes through CG."""
    width: int = 16
    """Channels of the network."""
    learning_rate: float = 3e-3
    """The highest one."""
    seed: int = 7
    """Of systems, weights and right-hand sides."""
    output: str = "runs/preconditioner.safetensors"
    """Where to save it."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Generate, train, save, count."""
        import jax.random as jr

        import sciml

        from .._preconditioner_task import (
            PreconditionerTask,
            SystemFamily,
            count_steps,
        )
        from .._surrogate import num_parameters, short_run_optimiser

        self._check()
        test_size = self.size if self.test_size is None else self.test_size
        try:
            task = PreconditionerTask(
                self.method, SystemFamily(self.problem, self.size)
            )
            unseen = SystemFamily(self.problem, test_size)
        except ValueError as error:
            raise Usage(str(error)) from error
        data_key, model_key, fit_key, test_key = jr.split(jr.key(self.seed), 4)
        model = task.model(self.width, model_key)
        data, loss = task.data(self.num_train, self.num_cg_steps, data_key)
        model, history = sciml.training.fit(
            model,
            data,
            loss=loss,
            optimiser=short_run_optimiser(self.num_steps, self.learning_rate),
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            progress=not self.json,
            key=fit_key,
        )
        path = pathlib.Path(self.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        sciml.save(path, model)
        rows = count_steps(task, model, unseen, self.num_test, test_key)
        facts: dict[str, Any] = {
            "method": self.method,
            "problem": self.problem,
            "parameters": num_parameters(model),
            "first_loss": float(history.loss[0]),
            "last_loss": float(history.loss[-1]),
            "compile_time": history.compile_time,
            "training_time": history.training_time,
            "output": str(path),
            "rows": rows,
        }
        if self.json:
            print_json(facts)
        else:
            for name, value in facts.items():
                if name != "rows":
                    text = f"{value:.4g}" if isinstance(value, float) else value
                    print(f"{name.replace('_', ' '):<18} {text}")
            for row in rows:
                median = row["median"]
                touched = row["nonzeros"]
                print(
                    f"{row['preconditioner']:<18} median "
                    f"{'–' if median is None else f'{median:g}'}, worst "
                    f"{row['worst']}, {row['converged']} of {self.num_test} converged"
                    + ("" if touched is None else f", {touched} nonzeros")
                )
            say(f'use it: sciml.load("{path}").build(A)')
        learned = rows[-1]["converged"]
        return ExitCode.DONE if learned == self.num_test else ExitCode.NOT_CONVERGED

    def _check(self) -> None:
        for name in ("num_train", "num_test", "num_steps", "batch_size", "width"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.num_cg_steps < 2:
            raise Usage(f"num_cg_steps: expected at least 2, got {self.num_cg_steps}.")
        if self.batch_size > self.num_train:
            raise Usage(
                f"batch_size: expected at most num_train ({self.num_train}), got "
                f"{self.batch_size}."
            )
        if not self.learning_rate > 0:
            raise Usage(
                f"learning_rate: expected a positive number, got {self.learning_rate}."
            )
