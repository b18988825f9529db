"""`sciml invert`."""

import dataclasses
import pathlib
import zipfile
from typing import Annotated, Any, Literal

import tyro

from ._common import BadData, ExitCode, Usage, print_json, say, write_npz
from ._weights import trained


@dataclasses.dataclass
class Invert:
    """Find a coefficient and its solution from a few noisy values of the latter."""

    observations: Annotated[str | None, tyro.conf.Positional] = None
    """A .npz file with `points`, `values`, and `std` or `snr` (and `channels` where
    there are several), or a .csv file with a line "x, y, value" for each; default:
    values of a random case."""
    model: str = "dgno-two-phase"
    """A file that `sciml train dgno` wrote, or a model that comes with the library."""
    std: float | None = None
    """Standard deviation of the values' errors, if the file does not say."""
    snr: float | None = None
    """In its place the ratio of signal to noise in decibels."""
    method: Literal["laplace", "nuts", "total-variation"] = "laplace"
    """Laplace's method or samples in the model's latent space, or adjoint solves with
    total variation, which take no more of the model than its equation."""
    num_observations: int = 100
    """Of a random case, at 25 decibels unless --snr says otherwise."""
    seed: int = 8
    """Of the random case, starting points and samples."""
    output: str | None = None
    """Write means and standard deviations to this .npz file."""
    plot: str | None = None
    """Draw them to this .png file."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Load, invert, report."""
        import jax
        import jax.random as jr

        import sciml
        from sciml.inverse import posterior

        from .._inverse_cases import judged, problem_of
        from ..bench._methods import result_name

        model = self._model()
        form = model.model.weak_form
        if self.plot is not None and not form.grid.ndim == form.domain.ndim == 2:
            raise Usage("plot: only for coefficients and solutions on two axes.")
        target, method = model, self._method(model)
        if self.method == "total-variation":
            target = problem_of(model)
            if target is None:
                raise Usage(
                    "method: total-variation is for models of darcy-two-phase and "
                    "darcy-continuous."
                )
        case, seen = self._observations(model)
        try:
            found = posterior(
                target, seen, method=method, throw=False, key=jr.key(self.seed)
            )
        except ValueError as error:
            raise BadData(str(error)) from error
        jax.block_until_ready(found.mean)
        facts: dict[str, Any] = {"result": result_name(found.result)}
        facts |= {"observations": len(seen)}
        facts |= {name: float(value) for name, value in found.stats.items()}
        flagged = bool(found.stats["out_of_distribution"])
        facts["out_of_distribution"] = flagged
        if case is not None:
            kind = form.coefficient
            numbers = judged(case, found, kind.low, kind.high)
            facts |= {n: x for n, x in numbers.items() if isinstance(x, float)}
        if self.output is not None:
            facts["output"] = self._write(found, seen, case)
        if self.plot is not None:
            facts["plot"] = self._draw(found, seen, case)
        if self.json:
            print_json(facts)
        else:
            for name, value in facts.items():
                text = f"{value:.4g}" if isinstance(value, float) else value
                print(f"{name.replace('_', ' '):<22} {text}")
        if flagged:
            say(
                "the observations are not what the model, its prior and the stated "
                "errors allow: another kind of coefficient, or larger errors"
            )
        if found.result != sciml.RESULTS.successful:
            say(str(sciml.RESULTS[found.result]))
            return ExitCode.NOT_CONVERGED
        return ExitCode.DONE

    def _model(self) -> Any:
        from sciml.inverse import TrainedDGNO

        model = trained(self.model)
        if not isinstance(model, TrainedDGNO):
            raise BadData(
                f"{self.model}: expected what `sciml train dgno` saves, got a "
                f"{type(model).__name__}."
            )
        return model

    def _method(self, model: Any) -> Any:
        from sciml.inverse import NUTS, Laplace, TotalVariation

        if self.method == "laplace":
            return Laplace()
        if self.method == "nuts":
            return NUTS()
        return TotalVariation(model.model.weak_form.coefficient)

    def _observations(self, model: Any) -> tuple[Any, Any]:
        """A random case or None, and what was measured."""
        from sciml.inverse import Observations

        from .._inverse_cases import inverse_case, problem_of
        from .._two_phase_darcy import TwoPhaseDarcy

        if self.std is not None and self.snr is not None:
            raise Usage("std, snr: expected at most one of them.")
        if self.observations is None:
            if self.std is not None:
                raise Usage("std: a random case has --snr.")
            problem = problem_of(model)
            if not isinstance(problem, TwoPhaseDarcy):
                raise Usage(
                    "observations: random cases are of darcy-two-phase only; name a "
                    "file."
                )
            snr = 25.0 if self.snr is None else self.snr
            try:
                case = inverse_case(
                    problem,
                    self.seed,
                    num_observations=self.num_observations,
                    snr=snr,
                )
            except ValueError as error:
                raise Usage(str(error)) from error
            return case, case.observations
        given = read_observations(self.observations)
        channels = model.model.num_channels
        if channels > 1 and "channels" not in given:
            raise BadData(
                f"{self.observations}: the model's solutions have {channels} "
                "components; expected a .npz file whose entry 'channels' says which "
                "one each value is of."
            )
        for name in ("std", "snr"):
            option = getattr(self, name)
            if option is not None:
                given = {k: v for k, v in given.items() if k not in ("std", "snr")}
                given[name] = option
        try:
            return None, Observations(**given)
        except (TypeError, ValueError) as error:
            raise BadData(f"{self.observations}: {error}") from error

    def _write(self, found: Any, seen: Any, case: Any) -> str:
        fields = {
            "mean": found.mean,
            "std": found.std,
            "coefficient_mean": found.coefficient_mean,
            "coefficient_std": found.coefficient_std,
            "points": seen.points,
            "values": seen.values,
            "values_std": seen.std,
            "channels": seen.channels,
        }
        if case is not None:
            fields |= {"coefficient": case.coefficient, "solution": case.solution}
        return write_npz(str(self.output), **fields)

    def _draw(self, found: Any, seen: Any, case: Any) -> str:
        from sciml.evaluation import png

        from .._posterior_picture import draw_posterior

        file = pathlib.Path(str(self.plot))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(draw_posterior(found, seen, case)))
        return str(file)


def read_observations(path: str) -> dict[str, Any]:
    """`points`, `values`, and `std` or `snr` where the file has them.

    **Raises:** `BadData` for what cannot be read.
    """
    import numpy as np

    file = pathlib.Path(path)
    if not file.is_file():
        raise BadData(f"{path}: no such file.")
    if file.suffix == ".csv":
        try:
            table = np.loadtxt(file, delimiter=",", ndmin=2)
        except (ValueError, OSError) as error:
            raise BadData(f"{path}: not a table of numbers ({error}).") from error
        if table.shape[1] < 2:
            raise BadData(
                f"{path}: expected coordinates and a value in each line, got "
                f"{table.shape[1]} column."
            )
        return {"points": table[:, :-1], "values": table[:, -1]}
    try:
        # (NumPy leaves a file open that it cannot read.)
        with file.open("rb") as stream, np.load(stream) as content:
            names = set(content.files)
            if not {"points", "values"} <= names:
                raise BadData(
                    f"{path}: expected entries 'points' and 'values', got "
                    f"{', '.join(sorted(names)) or 'none'}."
                )
            kept = names & {"points", "values", "channels"}
            found = {name: content[name] for name in sorted(kept)}
            if "std" in names:
                found["std"] = content["std"]
            elif "snr" in names:
                found["snr"] = content["snr"].item()
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        text = f"{path}: not a readable .npz file ({error})."
        raise BadData(text) from error
    for name, entry in found.items():
        if np.asarray(entry).dtype.kind not in "biuf":
            kind = np.asarray(entry).dtype
            raise BadData(f"{path}: expected real numbers in {name!r}, got {kind}.")
    return found
