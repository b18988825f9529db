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
    problem: str = "darcy"
    """Name of the problem, see `sciml list`."""
    points: int | None = None
    """Nodes per axis; default the problem's own."""
    contrast: float | None = None
    """Largest over smallest coefficient, where the problem has one."""
    coefficient: str | None = None
    """A .npy or .npz file (key "coefficient"); default: a random one."""
    rtol: float = 1e-8
    """Relative tolerance of the residual's 2-norm."""
    seed: int = 8
    """Of the random coefficient."""
    output: str | None = None
    """Write coefficient, prediction and solution to this .npz file."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Load, predict, finish, report; beside it the same from zero."""
        import jax.numpy as jnp
        import jax.random as jr

        import sciml

        from .. import get_problem
        from ..bench._methods import result_name

        try:
            problem = get_problem(
                self.problem, points=self.points, contrast=self.contrast
            )
            sciml.CG(rtol=self.rtol)
        except ValueError as error:
            raise Usage(str(error)) from error
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
            out = sciml.predict(model, problem, field, self.rtol, throw=False)
        except ValueError as error:
            raise BadData(str(error)) from error
        zero = problem.solve(field, rtol=self.rtol, throw=False)
        facts = {
            "result": result_name(out.result),
            "surrogate_relative_residual": float(
                out.stats["surrogate_relative_residual"]
            ),
            "surrogate_relative_error": float(out.stats["surrogate_relative_error"]),
            "num_steps": int(out.stats["num_steps"]),
            "num_steps_from_zero": int(zero.stats["num_steps"]),
            "relative_residual": float(out.stats["relative_residual"]),
        }
        if self.output is not None:
            facts["output"] = write_npz(
                self.output,
                coefficient=field,
                prediction=out.stats["surrogate"],
                solution=out.value,
            )
        if self.json:
            print_json(facts)
        else:
            for name, value in facts.items():
                text = f"{value:.3e}" if isinstance(value, float) else value
                print(f"{name.replace('_', ' '):<28} {text}")
        converged = facts["result"] == "successful"
        return ExitCode.DONE if converged else ExitCode.NOT_CONVERGED


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
