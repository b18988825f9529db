"""The methods of the linear benchmark: ours, PyAMG's, SciPy's."""

import time
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np

import sciml
from sciml.linear import to_scipy
from sciml.preconditioners import (
    FSAI,
    SSOR,
    AlgebraicMultigrid,
    ByStrength,
    ChebyshevPolynomial,
    DirectFactorisation,
    FastPoisson,
    IncompleteCholesky,
    Jacobi,
    Multigrid,
    SmoothedAggregation,
)

from ._systems import System

Run = dict[str, Any]


@runtime_checkable
class Method(Protocol):
    """What the benchmark times: a set-up for one system, then solves."""

    def set_up(self) -> Any:
        """Everything that depends on A only."""
        ...

    def solve(self, state: Any, rtol: float) -> Run:
        """`value` (flat), `iterations` or None, `status`, `history` or None."""
        ...


class Ours:
    """Our solver as a user calls it; on grids the set-up includes the assembly of A."""

    def __init__(
        self, system: System, builder: Any, max_steps: int, solver: Any = sciml.CG
    ):
        self.system, self.builder, self.max_steps = system, builder, max_steps
        self.solver = solver
        # Programs of its own, so that its first run is cold whatever ran before.

        @eqx.filter_jit
        def assemble(inputs, builder):
            A, b = system.assemble(inputs)  # pyright: ignore[reportOptionalCall]
            return A, b, None if builder is None else builder.build(A)

        @eqx.filter_jit
        def solve(A, b, M, solver):
            return sciml.linear_solve(A, b, solver, preconditioner=M, throw=False)

        self._assemble: Any = assemble
        self._solve: Any = solve

    def set_up(self) -> Any:
        """A, b and M on the device."""
        system, builder = self.system, self.builder
        on_host = builder is not None and builder.on_host
        if system.assemble is None or on_host:
            A, b = system.operator, system.vector
            state = A, b, None if builder is None else builder.build(A)
        else:
            state = self._assemble(system.inputs, builder)
        jax.block_until_ready(eqx.filter(state, eqx.is_array))
        return state

    def solve(self, state: Any, rtol: float) -> Run:
        """CG to a relative residual of `rtol`."""
        solver = self.solver(rtol=rtol, max_steps=self.max_steps)
        solution = self._solve(*state, solver)
        jax.block_until_ready(solution.value)
        steps = int(solution.stats["num_steps"])
        return {
            "value": np.asarray(solution.value).ravel(),
            "iterations": steps,
            "status": result_name(solution.result),
            "history": np.asarray(solution.stats["residual_history"])[: steps + 1],
        }


class PyAMG:
    """PyAMG's own CG on one of its hierarchies, on the CPU."""

    def __init__(self, system: System, build: Callable[[Any], Any]):
        self.matrix = to_scipy(system.operator)
        self.vector = np.asarray(system.vector).ravel()
        self.build = build

    def set_up(self) -> Any:
        """The hierarchy."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.build(self.matrix)

    def solve(self, state: Any, rtol: float) -> Run:
        """CG, which measures the residual in the 2-norm relative to ‖b‖, as ours."""
        history: list[float] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, info = state.solve(
                self.vector,
                tol=rtol,
                accel="cg",
                maxiter=500,
                residuals=history,
                return_info=True,
            )
        return {
            "value": value,
            "iterations": len(history) - 1,
            "status": "successful" if info == 0 else "max_steps_reached",
            "history": np.asarray(history) / np.linalg.norm(self.vector),
        }


class ScipyCG:
    """`scipy.sparse.linalg.cg` with Jacobi: compiled products, a loop in Python."""

    def __init__(self, system: System, max_steps: int):
        self.matrix = to_scipy(system.operator)
        self.vector = np.asarray(system.vector).ravel()
        self.max_steps = max_steps

    def set_up(self) -> Any:
        """D⁻¹."""
        import scipy.sparse as sp

        return sp.diags_array(1.0 / self.matrix.diagonal()).tocsr()

    def solve(self, state: Any, rtol: float) -> Run:
        """CG to `rtol`; SciPy counts steps by a callback."""
        import scipy.sparse.linalg as spla

        count = 0

        def step(_):
            nonlocal count
            count += 1

        value, info = spla.cg(
            self.matrix,
            self.vector,
            rtol=rtol,
            atol=0.0,
            maxiter=self.max_steps,
            M=state,
            callback=step,
        )
        status = "successful" if info == 0 else "max_steps_reached"
        return {"value": value, "iterations": count, "status": status, "history": None}


class SuperLU:
    """SciPy's sparse direct solver."""

    def __init__(self, system: System):
        self.matrix = to_scipy(system.operator).tocsc()
        self.vector = np.asarray(system.vector).ravel()

    def set_up(self) -> Any:
        """The factorisation, with a symmetric ordering."""
        return symmetric_lu(self.matrix)

    def solve(self, state: Any, rtol: float) -> Run:
        """Both triangular solves."""
        del rtol
        value = state.solve(self.vector)
        return {
            "value": value,
            "iterations": None,
            "status": "successful",
            "history": None,
        }


class ScipyFFT:
    """SciPy's sine transforms on all cores: constant coefficients on a box only."""

    def __init__(self, system: System, workers: int):
        self.vector = np.asarray(system.vector)
        self.grid: Any = system.grid
        self.workers = workers
        operator: Any = system.operator
        diagonal = np.asarray(operator.stencil.diagonal)
        unit = sum(2.0 / h**2 for h in self.grid.spacing)
        self.coefficient = float(diagonal.flat[0]) / unit

    def set_up(self) -> Any:
        """The eigenvalues."""
        values = np.zeros((1,) * self.grid.ndim)
        for axis, (n, h) in enumerate(
            zip(self.grid.num_points, self.grid.spacing, strict=True)
        ):
            line = 4 * np.sin(np.pi * np.arange(1, n + 1) / (2 * (n + 1))) ** 2 / h**2
            shape = tuple(n if k == axis else 1 for k in range(self.grid.ndim))
            values = values + line.reshape(shape)
        return self.coefficient * values

    def solve(self, state: Any, rtol: float) -> Run:
        """There and back."""
        import scipy.fft

        del rtol
        there: Any = scipy.fft.dstn(self.vector, 1, workers=self.workers)
        value: Any = scipy.fft.idstn(there / state, 1, workers=self.workers)
        return {
            "value": value.ravel(),
            "iterations": None,
            "status": "successful",
            "history": None,
        }


def _learned(system: System, ours: Callable[..., Ours]) -> dict[str, Method]:
    """The weights that come with the library, and the rule that their cycle uses."""
    found: dict[str, Method] = {}
    if system.grid is not None:
        by_strength = Multigrid(coarsening=ByStrength())
        found["sciml CG + Multigrid, by strength"] = ours(by_strength)
        if system.grid.ndim == 2:
            learned = sciml.pretrained("two-phase-2d")
            found["sciml CG + two-phase-2d"] = ours(learned)
        if system.grid.ndim == 3 and system.is_constant:
            learned = sciml.pretrained("poisson-3d")
            found["sciml FlexibleCG + poisson-3d"] = Ours(
                system, learned, 500, sciml.linear.FlexibleCG
            )
    if system.grid is None or system.grid.ndim == 2:
        found["sciml CG + lognormal-2d"] = ours(sciml.pretrained("lognormal-2d"))
    return found


def methods_for(
    system: System, *, cap: int, every: bool, workers: int
) -> dict[str, Method]:
    """The methods that suit a system; the first is what we recommend for it.

    **Arguments:**

    - `system`: A and b.
    - `cap`: maximal number of steps of those that need hundreds.
    - `every`: also the preconditioners that are not meant to win here.
    - `workers`: threads of SciPy's transforms.
    """

    def ours(builder, steps=500):
        return Ours(system, builder, steps)

    found: dict[str, Method] = {}
    if system.is_constant:
        found["sciml CG + FastPoisson"] = ours(FastPoisson())
    if system.grid is not None:
        found["sciml CG + Multigrid"] = ours(Multigrid())
        found["sciml CG + Multigrid, float64 cycle"] = ours(Multigrid(cycle_dtype=None))
    if every or system.grid is None:
        found["sciml CG + AlgebraicMultigrid"] = ours(AlgebraicMultigrid())
        found["sciml CG + AlgebraicMultigrid, aggregation"] = ours(
            AlgebraicMultigrid(SmoothedAggregation())
        )
        found["sciml CG + IncompleteCholesky"] = ours(IncompleteCholesky(), cap)
        found["sciml CG + FSAI"] = ours(FSAI(), cap)
    if every:
        found |= _learned(system, ours)
        found["sciml CG + SSOR"] = ours(SSOR(), cap)
        found["sciml CG + ChebyshevPolynomial(8)"] = ours(ChebyshevPolynomial(8), cap)
        if system.suits_direct:
            found["sciml CG + DirectFactorisation"] = ours(DirectFactorisation())
    found["sciml CG + Jacobi"] = ours(Jacobi(), cap)
    found["sciml CG"] = ours(None, cap)
    if every:
        found["SciPy CG + Jacobi"] = ScipyCG(system, cap)
    if system.is_constant:
        found["SciPy FFT"] = ScipyFFT(system, workers)
    if system.suits_direct:
        found["SciPy SuperLU"] = SuperLU(system)
    try:
        import pyamg
    except ImportError:
        return found
    found["PyAMG Ruge–Stüben + CG"] = PyAMG(system, pyamg.ruge_stuben_solver)
    found["PyAMG smoothed aggregation + CG"] = PyAMG(
        system, pyamg.smoothed_aggregation_solver
    )
    return found


def symmetric_lu(matrix: Any) -> Any:
    """SuperLU as suits a symmetric positive definite CSC matrix.

    With a symmetric ordering, and with pivots left on the diagonal: where partial
    pivoting leaves that order, fill and time can grow a hundredfold.
    """
    import scipy.sparse.linalg as spla

    return spla.splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returned, and how many seconds it took."""
    start = time.perf_counter()
    out = call()
    return out, time.perf_counter() - start


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
