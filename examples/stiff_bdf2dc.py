"""Stiff equations: deferred correction of BDF2 beside a Runge-Kutta method.

Run it with `python examples/stiff_bdf2dc.py`. It solves van der Pol's oscillator with
μ = 30 and Robertson's reaction at several tolerances, with `VariableBDF2DC` and with
diffrax's `Kvaerno5`, and prints what each took for which error.
"""

import math
import time

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from sciml.neural_odes import EvaluationCounter, VariableBDF2DC


def van_der_pol(t, y, mu):
    return jnp.stack([y[1], mu * ((1 - y[0] ** 2) * y[1] - y[0])])


def robertson(t, y, args):
    a, b, c = y
    slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
    return jnp.stack([back - slow, slow - back - fast, fast])


# Field, start, end, parameter, atol as a multiple of rtol (the second species of
# Robertson's reaction is never more than 4e-5), and an error that all solvers reach.
PROBLEMS = {
    "van der Pol": (van_der_pol, [2.0, 0.0], 2.0, 30.0, 1e-2, 1e-6),
    "Robertson": (robertson, [1.0, 0.0, 0.0], 1e4, None, 1e-6, 1e-7),
}


def solvers() -> dict[str, dfx.AbstractSolver]:
    """Ours, and the rival at its best.

    The root finder that Kvaerno5 comes with gives a step up after two iterations of
    Newton's method. With the other one it may take ten.
    """
    chord = dfx.with_stepsize_controller_tols(optx.Chord)()
    return {
        "order 4": VariableBDF2DC(),
        "order 3": VariableBDF2DC(order=3),
        "Kvaerno5": dfx.Kvaerno5(),
        "Kvaerno5 chord": dfx.Kvaerno5(root_finder=chord),
    }


def main(smoke: bool = False) -> dict[str, float]:
    """Solve both problems with each solver.

    `smoke` takes two solvers and two loose tolerances, and measures no times.

    **Returns:** steps, evaluations and errors by problem, solver and tolerance.
    """
    jax.config.update("jax_enable_x64", True)
    numbers, timed = {}, not smoke
    rtols = (1e-4, 1e-6) if smoke else (1e-4, 1e-6, 1e-8)
    for name, (*_, target) in PROBLEMS.items():
        reference, _ = work_of(solve(name, dfx.Kvaerno5(), 1e-10))
        print(f"{name}, t from 0 to {PROBLEMS[name][2]:g}")
        print("  solver            rtol  steps (rejected)  evaluations    error     ms")
        work = {}
        for label, solver in solvers().items():
            if smoke and label not in ("order 4", "Kvaerno5"):
                continue
            rows = measure(name, solver, rtols, reference, timed)
            for rtol, row in zip(rtols, rows, strict=True):
                steps = f"{row['steps']:5.0f} ({row['rejected']:.0f})"
                print(f"  {label:<15}  {rtol:.0e}  {steps:<16}", end="")
                print(f"{row['evaluations']:>13.0f}  {row['error']:.1e}", end="")
                milliseconds = row.pop("milliseconds")
                print(f"{milliseconds:>7.1f}" if timed else "      -")
                numbers |= {f"{name}, {label}, {rtol:.0e}, {k}": row[k] for k in row}
            work[label] = evaluations_for(target, rows)
        if not any(map(math.isnan, work.values())):
            print(f"  evaluations for an error of {target:.0e}:", end=" ")
            print(", ".join(f"{label} {value:.0f}" for label, value in work.items()))
            print(f"  {min(work, key=lambda label: work[label])} wins")
            numbers |= {f"{name}, {label}, work": work[label] for label in work}
        print()
    return numbers


def solve(name: str, solver: dfx.AbstractSolver, rtol, counter=None) -> dfx.Solution:
    """The problem from its start to its end."""
    field, y0, t1, args, share, _ = PROBLEMS[name]
    field = field if counter is None else counter.counted(field)
    return dfx.diffeqsolve(
        dfx.ODETerm(field),
        solver,
        t0=0.0,
        t1=t1,
        dt0=None,
        y0=jnp.array(y0),
        args=args,
        # A PI controller changes the steps more gently, for both.
        stepsize_controller=dfx.PIDController(
            rtol=rtol, atol=share * rtol, pcoeff=0.3, icoeff=0.3
        ),
        max_steps=2**16,
    )


def measure(
    name: str, solver: dfx.AbstractSolver, rtols, reference, timed: bool
) -> list[dict[str, float]]:
    """Steps, evaluations of f, the largest relative error at the end, run time."""
    counter = EvaluationCounter()
    counted = jax.jit(lambda rtol: work_of(solve(name, solver, rtol, counter)))
    plain = jax.jit(lambda rtol: work_of(solve(name, solver, rtol)))
    rows = []
    for rtol in map(jnp.asarray, rtols):
        y, stats = counted(rtol)
        row = {
            "steps": int(stats["num_accepted_steps"]),
            "rejected": int(stats["num_rejected_steps"]),
            # Those of rejected steps as well, and one per column of a Jacobian.
            "evaluations": counter.read(),
            "error": float(jnp.max(jnp.abs(y / reference - 1))),
            "milliseconds": math.nan,
        }
        if timed:
            jax.block_until_ready(plain(rtol))
            durations = []
            for _ in range(5):
                start = time.perf_counter()
                jax.block_until_ready(plain(rtol))
                durations.append(time.perf_counter() - start)
            row["milliseconds"] = 1e3 * min(durations)
        rows.append(row)
    return rows


def work_of(solution: dfx.Solution):
    ys = solution.ys
    assert ys is not None
    return ys[-1], solution.stats


def evaluations_for(target: float, rows: list[dict[str, float]]) -> float:
    """Interpolated between the measurements; NaN outside of them."""
    rows = sorted(rows, key=lambda row: row["error"])
    errors = [math.log(row["error"]) for row in rows]
    work = [math.log(row["evaluations"]) for row in rows]
    value = np.interp(math.log(target), errors, work, left=math.nan, right=math.nan)
    return math.exp(value)


if __name__ == "__main__":
    main()
