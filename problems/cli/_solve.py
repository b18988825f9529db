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
    preconditioner: Literal["multigrid", "jacobi", "none"] = "multigrid"
    """How conjugate gradients are preconditioned."""
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
        import jax.random as jr

        import sciml

        from .. import Poisson, get_problem
        from ..bench._methods import result_name

        try:
            problem = get_problem(
                self.problem, points=self.points, contrast=self.contrast
            )
            solver = sciml.CG(rtol=self.rtol, max_steps=self.max_steps)
        except ValueError as error:
            raise Usage(str(error)) from error
        builder = {
            "multigrid": sciml.preconditioners.Multigrid(),
            "jacobi": sciml.preconditioners.Jacobi(),
            "none": None,
        }[self.preconditioner]
        coefficient = problem.sample_coefficient(key=jr.key(self.seed))
        A, b = problem.assemble(coefficient)

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
            "num_points": list(problem.grid.num_points),
            "unknowns": problem.grid.size,
            "preconditioner": self.preconditioner,
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
                coefficient=coefficient,
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
