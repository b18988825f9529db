"""Linear systems: our multigrid-CG beside CG, Jacobi, PyAMG and a direct solve."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import scipy.sparse.linalg as spla

import sciml
from sciml.linear import StencilOperator, to_scipy
from sciml.preconditioners import Jacobi, Multigrid

from .._diffusion import Diffusion

Row = dict[str, Any]


def bench_linear(
    points: int = 511,
    contrasts: Sequence[float] = (10.0, 1000.0),
    *,
    rtol: float = 1e-8,
    repeats: int = 5,
    cap: int = 500,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Set-up and solve times of −∇·(a∇u) = 1 with a two-phase a on points² nodes.

    Every method gets the same matrix and right-hand side in float64 and has to reach
    ‖b − A x‖ ≤ rtol ‖b‖, recomputed here with SciPy's CSR product. One round runs all
    methods in turn; times are medians over rounds.

    **Arguments:**

    - `points`: interior nodes per axis.
    - `contrasts`: of the two phases.
    - `rtol`: relative tolerance.
    - `repeats`: rounds after the first (cold) one.
    - `cap`: maximal number of steps of the methods that need hundreds or thousands.
    - `seed`: of the coefficient.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `contrast`, `method`, `iterations`, `status`,
    `relative_residual`, `setup_time`, `solve_time`, `total_time` (warm medians),
    `cold_time` (the first set-up and solve, compilation included), `ratio` (total over
    our multigrid's, medians of the same rounds) and `history`.
    """
    rows = []
    for contrast in contrasts:
        problem = Diffusion((points, points), "two_phase", contrast)
        coefficient = problem.sample_coefficient(key=jr.key(seed))
        A, b = problem.linear_system(coefficient)
        assert isinstance(A, StencilOperator)
        methods = {
            "sciml CG + Multigrid": _Ours(problem, coefficient, Multigrid(), rtol, 500),
            "sciml CG + Multigrid, float64 cycle": _Ours(
                problem, coefficient, Multigrid(cycle_dtype=None), rtol, 500
            ),
            "sciml CG + Jacobi": _Ours(problem, coefficient, Jacobi(), rtol, cap),
            "sciml CG": _Ours(problem, coefficient, None, rtol, cap),
            **_rivals(A, b, rtol),
        }
        matrix, vector = to_scipy(A), np.asarray(b).ravel()
        runs: dict[str, list[Row]] = {name: [] for name in methods}
        for _ in range(repeats + 1):
            for name, method in methods.items():
                runs[name].append(method())
        ours = np.array([_total(run) for run in runs["sciml CG + Multigrid"][1:]])
        for name, of_method in runs.items():
            warm = of_method[1:]
            totals = np.array([_total(run) for run in warm])
            last = of_method[-1]
            residual = vector - matrix @ last["value"].ravel()
            row = {
                "contrast": contrast,
                "method": name,
                "iterations": last["iterations"],
                "status": last["status"],
                "relative_residual": float(
                    np.linalg.norm(residual) / np.linalg.norm(vector)
                ),
                "setup_time": float(np.median([r["setup"] for r in warm])),
                "solve_time": float(np.median([r["solve"] for r in warm])),
                "total_time": float(np.median(totals)),
                "cold_time": _total(of_method[0]),
                "ratio": float(np.median(totals / ours)),
                "history": last["history"],
            }
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


class _Ours:
    """Our solver as a user calls it: assembly of A and M, then the solve."""

    def __init__(self, problem, coefficient, builder, rtol, max_steps):
        self.problem, self.coefficient = problem, coefficient
        self.builder = builder
        self.solver = sciml.CG(rtol=rtol, max_steps=max_steps)
        # Programs of its own, so that its first run is cold whatever ran before.

        @eqx.filter_jit
        def set_up(problem, coefficient, builder):
            A, b = problem.assemble(coefficient)
            return A, b, None if builder is None else builder.build(A)

        @eqx.filter_jit
        def solve(A, b, M, solver):
            return sciml.linear_solve(A, b, solver, preconditioner=M, throw=False)

        self.set_up, self.solve = set_up, solve

    def __call__(self) -> Row:
        start = time.perf_counter()
        A, b, M = jax.block_until_ready(
            self.set_up(self.problem, self.coefficient, self.builder)
        )
        ready = time.perf_counter()
        solution = jax.block_until_ready(self.solve(A, b, M, self.solver))
        end = time.perf_counter()
        steps = int(solution.stats["num_steps"])
        return {
            "setup": ready - start,
            "solve": end - ready,
            "iterations": steps,
            "status": result_name(solution.result),
            "value": np.asarray(solution.value),
            "history": np.asarray(solution.stats["residual_history"])[: steps + 1],
        }


def _rivals(A: StencilOperator, b, rtol: float) -> dict[str, Callable[[], Row]]:
    matrix = to_scipy(A)
    vector = np.asarray(b).ravel()

    def direct():
        start = time.perf_counter()
        factor = spla.splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A")
        ready = time.perf_counter()
        value = factor.solve(vector)
        end = time.perf_counter()
        return {
            "setup": ready - start,
            "solve": end - ready,
            "iterations": None,
            "status": "successful",
            "value": value,
            "history": None,
        }

    rivals: dict[str, Callable[[], Row]] = {"SciPy SuperLU": direct}
    try:
        import pyamg
    except ImportError:
        return rivals

    def amg(build) -> Row:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hierarchy = build(matrix)
            ready = time.perf_counter()
            history: list[float] = []
            # PyAMG's own CG measures the residual in the 2-norm relative to ‖b‖.
            value, info = hierarchy.solve(
                vector,
                tol=rtol,
                accel="cg",
                maxiter=500,
                residuals=history,
                return_info=True,
            )
        end = time.perf_counter()
        scale = np.linalg.norm(vector)
        return {
            "setup": ready - start,
            "solve": end - ready,
            "iterations": len(history) - 1,
            "status": "successful" if info == 0 else "max_steps_reached",
            "value": value,
            "history": np.asarray(history) / scale,
        }

    rivals["PyAMG Ruge–Stüben + CG"] = lambda: amg(pyamg.ruge_stuben_solver)
    rivals["PyAMG smoothed aggregation + CG"] = lambda: amg(
        pyamg.smoothed_aggregation_solver
    )
    return rivals


RESULT_NAMES = (
    "successful",
    "max_steps_reached",
    "indefinite_operator",
    "indefinite_preconditioner",
    "nonfinite",
    "stagnated",
    "diverged",
    "infeasible",
)


def result_name(result) -> str:
    """The name of a `sciml.RESULTS` item, for tables and JSON."""
    for name in RESULT_NAMES:
        if bool(result == getattr(sciml.RESULTS, name)):
            return name
    return str(result)


def _total(run: Row) -> float:
    return run["setup"] + run["solve"]
