"""`sciml train`."""

import dataclasses
import json
import os
import pathlib
from typing import Annotated, Any, Literal

import tyro

from ._common import ExitCode, Usage, print_json, progress_bar, say
from ._train_task import TrainingTask

# What a run was started with, beside its checkpoints; and what may change on the way.
_ARGUMENTS = "arguments.json"
_FREE = {
    "checkpoint_dir",
    "checkpoint_every",
    "json",
    "metrics",
    "output",
    "patience",
    "resume",
}


@dataclasses.dataclass
class Train:
    """Train a surrogate on a problem's solutions and save it."""

    problem: Annotated[str, tyro.conf.Positional] = "darcy"
    """Name of the problem, see `sciml list`."""
    model: Literal["mgno", "fno", "unet", "multionet"] = "mgno"
    """Architecture; for problems in time it maps a state to the next one."""
    points: int | None = None
    """Nodes per axis; default the problem's own."""
    contrast: float | None = None
    """Largest over smallest coefficient, where the problem has one."""
    num_train: int = 1000
    """Training pairs."""
    num_test: int = 100
    """Test pairs."""
    num_validation: Annotated[int, tyro.conf.arg(aliases=["--validation"])] = 0
    """Further pairs that the model is judged on while it trains; the best is saved."""
    validate_every: int | None = None
    """Updates between judgements; default a fiftieth of all."""
    patience: int | None = None
    """Judgements without improvement after which to stop; default never."""
    width: int = 16
    """Channels."""
    depth: int = 4
    """Layers, of a U-Net levels."""
    num_steps: int = 1000
    """Updates."""
    batch_size: int = 10
    """Samples per update."""
    optimiser: Literal["muon", "adamw"] = "muon"
    """Muon has half the error in equal time; AdamW compiles faster."""
    seed: int = 7
    """Of the data, the weights and the order of samples."""
    output: str = "runs/model.safetensors"
    """Where to save the model."""
    checkpoint_dir: str | None = None
    """Checkpoints go here, also on Ctrl-C; --resume goes on from them."""
    checkpoint_every: int = 500
    """Updates between checkpoints."""
    resume: bool = False
    """Go on with the run in --checkpoint-dir; start it where there is none yet."""
    metrics: str | None = None
    """A file that gets losses and times as JSON lines, one for each update."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Generate, train, evaluate, save."""
        import jax.random as jr

        import sciml

        from .._surrogate import num_parameters, short_run_optimiser

        self._check()
        task = TrainingTask(self.problem, self.points, self.contrast)
        try:
            model = task.model(self.model, self.width, self.depth, self.seed)
        except ValueError as error:
            raise Usage(str(error)) from error
        self._write_arguments()
        counts = (self.num_train, self.num_validation, self.num_test)
        with progress_bar("solving", sum(counts), not self.json) as bar:
            train, held_out, test = task.datasets(counts, self.seed, bar)
        validation = None
        if held_out is not None:
            validation = sciml.training.Validation(
                held_out, every=self._validate_every(), patience=self.patience
            )
        model = sciml.neural_operators.normalised(model, train.inputs, train.targets)
        optimiser = sciml.training.muon_optimiser
        if self.optimiser == "adamw":
            optimiser = short_run_optimiser
        try:
            model, history = sciml.training.fit(
                model,
                train,
                optimiser=optimiser(self.num_steps),
                num_steps=self.num_steps,
                batch_size=self.batch_size,
                validation=validation,
                checkpoint_dir=self.checkpoint_dir,
                checkpoint_every=self.checkpoint_every,
                metrics_path=self.metrics,
                progress=not self.json,
                key=jr.key(self.seed),
            )
        except KeyboardInterrupt:
            if self.checkpoint_dir is not None:
                say("saved; the same command with --resume goes on from here")
            raise
        stopped: dict[str, Any] = {}
        if validation is not None:
            stopped = {
                "steps": len(history.loss),
                "best_step": history.best_step,
                "stopped_early": history.stopped_early,
            }
            if history.best_model is not None:
                model = history.best_model
        metrics = sciml.evaluation.evaluate(model, test)
        path = pathlib.Path(self.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        sciml.save(path, model)
        facts: dict[str, Any] = {
            "problem": self.problem,
            "model": self.model,
            "parameters": num_parameters(model),
            **metrics,
            **stopped,
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
            if task.certified:
                say(f"use it: sciml predict {path} --problem {self.problem}")
        return ExitCode.DONE

    def _validate_every(self) -> int:
        return self.validate_every or max(self.num_steps // 50, 1)

    def _check(self) -> None:
        """Before minutes are spent on data."""
        least = dict.fromkeys(
            ("num_train", "num_test", "num_steps", "batch_size", "checkpoint_every"), 1
        )
        least |= {"num_validation": 0, "validate_every": 1, "patience": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise Usage(f"{name}: expected at least {smallest}, got {value}.")
        if self.batch_size > self.num_train:
            raise Usage(
                f"batch_size: expected at most num_train ({self.num_train}), got "
                f"{self.batch_size}."
            )
        if not self.num_validation:
            for name in ("patience", "validate_every"):
                if getattr(self, name) is not None:
                    raise Usage(f"{name}: needs pairs to judge by, --num-validation.")
        elif self._validate_every() > self.num_steps:
            raise Usage(f"validate_every: expected at most {self.num_steps} (updates).")
        self._check_folder()

    def _check_folder(self) -> None:
        """A run is gone on with where that is asked for, and not by accident."""
        if self.checkpoint_dir is None:
            if self.resume:
                raise Usage("resume: from where? Give --checkpoint-dir.")
            return
        try:
            names = os.listdir(self.checkpoint_dir)
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise Usage(f"checkpoint_dir: cannot be used ({error}).") from error
        steps = [int(name) for name in names if name.isdigit()]
        if steps and not self.resume:
            raise Usage(
                f"checkpoint_dir: {self.checkpoint_dir} holds a run at step "
                f"{max(steps)}. Add --resume to go on with it, or name another folder."
            )
        if self.resume and not steps:
            say(f"no checkpoint in {self.checkpoint_dir} yet: from the beginning")
        if steps:
            self._check_same()

    def _check_same(self) -> None:
        """What a checkpoint cannot tell by itself, such as the schedule's length."""
        try:
            text = (pathlib.Path(str(self.checkpoint_dir)) / _ARGUMENTS).read_text()
            saved = json.loads(text)
        except (OSError, ValueError):
            return
        for name, value in self._arguments().items():
            if name in saved and saved[name] != value:
                raise Usage(
                    f"{name}: {self.checkpoint_dir} holds a run with {saved[name]!r}, "
                    f"which cannot go on with {value!r}."
                )

    def _write_arguments(self) -> None:
        if self.checkpoint_dir is not None:
            folder = pathlib.Path(self.checkpoint_dir)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _ARGUMENTS).write_text(json.dumps(self._arguments(), indent=1))

    def _arguments(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        fields["validate_every"] = self._validate_every()
        return {k: v for k, v in fields.items() if k not in _FREE}
