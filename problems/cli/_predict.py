"""`sciml predict`."""

import dataclasses
import pathlib
import zipfile
from typing import Annotated

import tyro

from ._common import BadData, ExitCode, Usage, print_json, write_npz


@dataclasses.dataclass
class Predict:
    """Solve with a saved model as the first guess, to the tolerance asked for."""

    model: Annotated[str, tyro.conf.Positional]
    """A model file that `sciml train` or `sciml.save` wrote."""
    coefficient: Annotated[str | None, tyro.conf.Positional] = None
    """A .npy or .npz file (key "coefficient") with the coefficient, or the state before
    a time step; default: a random one."""
    problem: str = "darcy"
    """Name of the problem, see `sciml list`."""
    points: int | None = None
    """Nodes per axis; default the problem's own."""
    contrast: float | None = None
    """Largest over smallest coefficient, where the problem has one."""
    steps: int = 1
    """Time steps to march, where the problem is one (heat-step)."""
    rtol: float = 1e-8
    """Relative tolerance of the residual's 2-norm."""
    seed: int = 8
    """Of the random coefficient."""
    output: str | None = None
    """Write coefficient, prediction and solution to this .npz file; of several time
    steps those of the last one."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Load, predict, finish, report; beside it the same without the model."""
        import jax.numpy as jnp
        import jax.random as jr

        import sciml

        from .. import HeatStep, get_problem

        try:
            problem = get_problem(
                self.problem, points=self.points, contrast=self.contrast
            )
            sciml.CG(rtol=self.rtol)
        except ValueError as error:
            raise Usage(str(error)) from error
        if self.steps < 1:
            raise Usage(f"steps: expected at least 1, got {self.steps}.")
        if self.steps > 1 and not isinstance(problem, HeatStep):
            text = f"a solution of {self.problem!r} is not the next state"
            raise Usage(f"steps: {text}; heat-step's is.")
        model = sciml.load(self.model)
        if not callable(model):
            raise BadData(
                f"{self.model}: expected a model, got a {type(model).__name__}."
            )
        if self.coefficient is None:
            field = problem.sample_coefficient(key=jr.key(self.seed))
        else:
            field = jnp.asarray(read_coefficient(self.coefficient), float)
            if field.shape != problem.grid.num_points:
                raise BadData(
                    f"{self.coefficient}: expected a field of shape "
                    f"{problem.grid.num_points}, got {field.shape}."
                )
        try:
            facts, fields = _march(model, problem, field, self.rtol, self.steps)
        except ValueError as error:
            raise BadData(str(error)) from error
        if self.output is not None:
            facts["output"] = write_npz(self.output, **fields)
        if self.json:
            print_json(facts)
        else:
            for name, value in facts.items():
                text = f"{value:.3e}" if isinstance(value, float) else value
                print(f"{name.replace('_', ' '):<28} {text}")
        converged = facts["result"] == "successful"
        return ExitCode.DONE if converged else ExitCode.NOT_CONVERGED


def _march(model, problem, field, rtol: float, steps: int):
    """What is told of one or several steps, and the fields of the last one.

    Of several steps the largest residuals and errors, and all steps of CG together. The
    first that fails is the last one.
    """
    import numpy as np

    import sciml

    from .. import HeatStep
    from ..bench._methods import result_name

    # Where the state is a guess for the next one, it is the rival of the model.
    marches = isinstance(problem, HeatStep)
    outs, zeros, states = [], [], []
    while len(outs) < steps and (not outs or _succeeded(outs[-1])):
        field = outs[-1].value if outs else field
        outs.append(sciml.predict(model, problem, field, rtol, throw=False))
        zeros.append(problem.solve(field, rtol=rtol, throw=False))
        if marches:
            states.append(problem.solve(field, rtol=rtol, x0=field, throw=False))
    last = outs[-1]
    # (NumPy's maximum is NaN where one is.)
    largest = lambda name: float(np.max([out.stats[name] for out in outs]))
    total = lambda solutions: sum(int(s.stats["num_steps"]) for s in solutions)
    facts = {
        "result": result_name(last.result),
        "surrogate_relative_residual": largest("surrogate_relative_residual"),
        "surrogate_relative_error": largest("surrogate_relative_error"),
        "num_steps": total(outs),
        "num_steps_from_zero": total(zeros),
        "relative_residual": largest("relative_residual"),
    }
    if marches:
        facts |= {"num_steps_from_state": total(states), "time_steps": len(outs)}
    if not _succeeded(last):
        facts["message"] = sciml.RESULTS[last.result]
    fields = {"coefficient": field, "prediction": last.stats["surrogate"]}
    return facts, fields | {"solution": last.value}


def _succeeded(out) -> bool:
    import sciml

    return bool(out.result == sciml.RESULTS.successful)


def read_coefficient(path: str):
    """A field from a .npy file, or the entry "coefficient" of a .npz file."""
    import numpy as np

    file = pathlib.Path(path)
    if not file.is_file():
        raise BadData(f"{path}: no such file.")
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return _real(path, content)
        with content:
            if "coefficient" not in content:
                raise BadData(
                    f"{path}: expected an entry 'coefficient', got "
                    f"{', '.join(content.files) or 'none'}."
                )
            return _real(path, content["coefficient"])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadData(f"{path}: not a readable .npy or .npz file ({error}).") from error


def _real(path: str, content):
    if content.dtype.kind not in "biuf":
        raise BadData(f"{path}: expected real numbers, got {content.dtype}.")
    return content
