"""`sciml solve`."""

import dataclasses
import time
from typing import Annotated, Literal

import tyro

from ._common import ExitCode, Usage, print_json, write_npz


@dataclasses.dataclass
class Solve:
    """Solve one system of a problem and say how it went."""

    problem: Annotated[str, tyro.conf.Positional]
    """Name of the problem, see `sciml list`."""
    points: int | None = None
    """Nodes per axis; default the problem's own."""
    contrast: float | None = None
    """Largest over smallest coefficient, where the problem has one."""
    refinements: int | None = None
    """Of a finite-element mesh, where the problem has one; default its own."""
    preconditioner: Literal["multigrid", "amg", "jacobi", "none"] | None = None
    """How conjugate gradients are preconditioned; default multigrid, amg on meshes."""
    rtol: float = 1e-8
    """Relative tolerance of the residual's 2-norm."""
    max_steps: int = 1000
    """Maximal number of steps."""
    seed: int = 7
    """Of the random coefficient."""
    output: str | None = None
    """Write coefficient, solution and residual history to this .npz file."""
    json: bool = False
    """Print JSON instead of text."""

    def __call__(self) -> ExitCode:
        """Assemble, solve, report."""
        import jax
        import jax.numpy as jnp

        import sciml

        from .. import AbstractFiniteElements, Poisson
        from ..bench._methods import result_name

        try:
            problem = self._problem()
            solver = sciml.CG(rtol=self.rtol, max_steps=self.max_steps)
        except ValueError as error:
            raise Usage(str(error)) from error
        meshed = isinstance(problem, AbstractFiniteElements)
        name = self.preconditioner or ("amg" if meshed else "multigrid")
        if meshed and name == "multigrid":
            raise Usage(f"multigrid needs a grid, {self.problem!r} has none; take amg.")
        builder = {
            "multigrid": sciml.preconditioners.Multigrid(),
            "amg": sciml.preconditioners.AlgebraicMultigrid(),
            "jacobi": sciml.preconditioners.Jacobi(),
            "none": None,
        }[name]
        A, b, about, fields = _assemble(problem, self.seed)

        def timed():
            start = time.perf_counter()
            solution = sciml.linear_solve(
                A, b, solver, preconditioner=builder, throw=False
            )
            jax.block_until_ready(solution.value)
            return solution, time.perf_counter() - start

        _, cold_time = timed()
        solution, run_time = timed()
        steps = int(solution.stats["num_steps"])
        facts = {
            "problem": self.problem,
            **about,
            "unknowns": A.in_size(),
            "preconditioner": name,
            "result": result_name(solution.result),
            "message": sciml.RESULTS[solution.result],
            "num_steps": steps,
            "relative_residual": float(solution.stats["relative_residual"]),
            "cold_time": cold_time,
            "run_time": run_time,
        }
        if isinstance(problem, Poisson):
            error = jnp.abs(solution.value - problem.exact_solution()).max()
            facts["max_error"] = float(error)
        if self.output is not None:
            facts["output"] = write_npz(
                self.output,
                **fields,
                solution=solution.value,
                residual_history=solution.stats["residual_history"][: steps + 1],
            )
        if self.json:
            print_json(facts)
        else:
            for name, value in facts.items():
                text = f"{value:.3e}" if isinstance(value, float) else value
                if text != "":
                    print(f"{name.replace('_', ' '):<18} {text}")
        converged = facts["result"] == "successful"
        return ExitCode.DONE if converged else ExitCode.NOT_CONVERGED

    def _problem(self):
        from .. import get_problem, get_system, system_names

        if self.problem not in system_names():
            if self.refinements is not None:
                raise Usage(
                    f"--refinements: {self.problem!r} has a grid; use --points."
                )
            return get_problem(self.problem, points=self.points, contrast=self.contrast)
        for option in ("points", "contrast"):
            if getattr(self, option) is not None:
                raise Usage(
                    f"--{option}: {self.problem!r} has a mesh, which takes "
                    "--refinements only."
                )
        return get_system(self.problem, refinements=self.refinements)


def _assemble(problem, seed: int):
    """A, b, what is said of the unknowns, and what goes into the file beside u."""
    import jax.random as jr

    from .. import AbstractFiniteElements

    key = jr.key(seed)
    if isinstance(problem, AbstractFiniteElements):
        found = problem.discretise(key=key)
        where = {"coordinates": found.coordinates}
        return found.operator, found.vector, {}, where
    coefficient = problem.sample_coefficient(key=key)
    A, b = problem.assemble(coefficient)
    about = {"num_points": list(problem.grid.num_points)}
    return A, b, about, {"coefficient": coefficient}
