"""`sciml train preconditioner`."""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

import tyro

from ._common import BadData, ExitCode, Usage, say
from ._weights import trained
from .bench._report import Reported

_CLASSES = {
    "sparse-inverse": "SparseApproximateInverse",
    "neural-factor": "NeuralFactor",
    "ic-correction": "CorrectedCholesky",
    "multigrid": "LearnedMultigrid",
    "deep-directions": "DeepConjugateDirections",
    "deep-directions-two-level": "DeepConjugateDirections",
}


@dataclasses.dataclass
class TrainPreconditioner:
    """Train a preconditioner on random systems, and count its steps on unseen ones.

    With --weights only the second: `sciml train preconditioner ic-correction lognormal
    --weights FILE --test-size 64 128` compares what was trained with its rivals.
    """

    report: Reported
    method: Annotated[
        Literal[
            "sparse-inverse",
            "neural-factor",
            "ic-correction",
            "multigrid",
            "deep-directions",
            "deep-directions-two-level",
        ],
        tyro.conf.Positional,
    ]
    """What to train."""
    problem: Annotated[str, tyro.conf.Positional] = "lognormal"
    """Family of systems: lognormal, mixture, or a problem of `sciml list`."""
    size: int | None = None
    """Nodes per axis, or refinements; default the problem's own."""
    test_size: tuple[int, ...] = ()
    """The same of the systems that it is tested on; default as in training."""
    num_train: int = 64
    """Systems to train on; vectors for deep-directions."""
    num_test: int = 20
    """Unseen systems of each size."""
    num_steps: int = 300
    """Updates."""
    batch_size: int = 4
    """Systems per update."""
    num_cg_steps: int | None = None
    """Of losses that go through CG; default 40 for sparse-inverse, 5 for multigrid."""
    width: int = 16
    """Channels of the network."""
    relaxation: float = 0.0
    """Of neural-factor: 0, as published, or 1 to start at Gauss–Seidel."""
    learning_rate: float = 3e-3
    """The highest one."""
    weights: str | None = None
    """Train nothing, count the steps of what this command saved, or sciml.pretrained.
    """
    output: str = "runs/preconditioner.safetensors"
    """Where to save what was trained."""

    def __call__(self) -> ExitCode:
        """Generate, train, save, count, record."""
        tell = self.report.begin()
        self._check()
        import jax.random as jr

        from .._preconditioner_task import (
            PreconditionerTask,
            SystemFamily,
            count_steps,
        )

        sizes = self.test_size or (self.size,)
        try:
            task = PreconditionerTask(
                self.method, SystemFamily(self.problem, self.size)
            )
            unseen = [SystemFamily(self.problem, size) for size in sizes]
        except ValueError as error:
            raise Usage(str(error)) from error
        *keys, test_key = jr.split(jr.key(self.report.seed), 4)
        if self.weights is None:
            model, facts = self._train(task, keys)
        else:
            model, facts = self._load(self.weights), {}
        rows = []
        for family in unseen:
            rows += count_steps(task, model, family, self.num_test, test_key, tell)
        self.report.end("preconditioners", self, rows, **facts)
        missed = [
            row
            for row in rows
            if row["preconditioner"] == "learned" and row["converged"] < self.num_test
        ]
        return ExitCode.NOT_CONVERGED if missed else ExitCode.DONE

    def _train(self, task: Any, keys: Any) -> tuple[Any, dict[str, Any]]:
        """The model, saved, and what its training was."""
        import sciml

        from .._surrogate import num_parameters, short_run_optimiser

        data_key, model_key, fit_key = keys
        model = task.model(self.width, model_key, relaxation=self.relaxation)
        data, loss = task.data(self.num_train, self.num_cg_steps, data_key)
        if len(data) < self.batch_size:
            raise Usage(
                f"num_train: of {self.num_train} systems {len(data)} can be trained "
                f"on, fewer than batch_size ({self.batch_size})."
            )
        model, history = sciml.training.fit(
            model,
            data,
            loss=loss,
            optimiser=short_run_optimiser(self.num_steps, self.learning_rate),
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            progress=not self.report.json,
            key=fit_key,
        )
        path = pathlib.Path(self.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        sciml.save(path, model)
        facts = {
            "parameters": num_parameters(model),
            "first_loss": float(history.loss[0]),
            "last_loss": float(history.loss[-1]),
            "compile_time": history.compile_time,
            "training_time": history.training_time,
        }
        for name, value in facts.items():
            say(f"{name.replace('_', ' '):<18} {value:.4g}")
        say(f'saved; to use it: sciml.load("{path}").build(A)')
        return model, facts

    def _load(self, path: str) -> Any:
        model = trained(path)
        if type(model).__name__ != _CLASSES[self.method]:
            raise BadData(
                f"{path}: holds {type(model).__name__}; {self.method} is "
                f"{_CLASSES[self.method]}."
            )
        return model

    def _check(self) -> None:
        for name in ("num_train", "num_test", "num_steps", "batch_size", "width"):
            if getattr(self, name) < 1:
                raise Usage(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.num_cg_steps is not None and self.num_cg_steps < 2:
            raise Usage(f"num_cg_steps: expected at least 2, got {self.num_cg_steps}.")
        if self.batch_size > self.num_train:
            raise Usage(
                f"batch_size: expected at most num_train ({self.num_train}), got "
                f"{self.batch_size}."
            )
        if not 0 <= self.relaxation <= 2:
            raise Usage(
                f"relaxation: expected a number from 0 to 2, got {self.relaxation}."
            )
        if not self.learning_rate > 0:
            raise Usage(
                f"learning_rate: expected a positive number, got {self.learning_rate}."
            )
