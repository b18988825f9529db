"""Relaxation that is tuned while a sequence of systems is solved.

Run it with `python examples/tune_relaxation.py`. It marches the heat equation with a
conductivity that changes in time, one SSOR-CG solve per step, and lets methods choose
ω: a fixed one, Young's closed form, a published bandit, a model of the number of steps.
The whole march of each method is one compiled program.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr

import problems
import sciml
from sciml.preconditioners import (
    AbstractRelaxation,
    AroundYoung,
    ChebCB,
    FixedOmega,
    RelaxationPlan,
    ResponseSurface,
    Young,
)


def main(smoke: bool = False) -> dict[str, float]:
    """March with each method; `smoke` takes a coarse grid and fewer steps.

    **Returns:** steps of CG, added up over all systems, by method.
    """
    jax.config.update("jax_enable_x64", True)
    problem = problems.HeatSequence(10 if smoke else 50)
    num_systems = 750 if smoke else 5000
    # κ lies in [0, 10]: what is known of a system before it is solved.
    interval = (0.0, 10.0)
    methods: dict[str, AbstractRelaxation] = {
        "fixed": FixedOmega(1.5),
        "young": Young(),
        "cheb_cb": ChebCB(interval),
        "response_surface": ResponseSurface(interval),
        "around_young": ResponseSurface(
            interval, num_features=6, context_length=0.5, omegas=AroundYoung()
        ),
    }
    numbers = {}
    for name, method in methods.items():
        total, seconds = march(problem, method, num_systems)
        print(f"{name:<18}{total:>8} steps of CG in {seconds:5.1f} s")
        numbers[name] = total
    return numbers | by_hand(methods["response_surface"])


def march(problem, method, num_systems: int) -> tuple[int, float]:
    """All systems, one after the other; the count of steps and the time."""
    first, _ = problem.system(0, problem.initial())
    # The pattern of the matrices decides how sweeps are done; the rest may be traced.
    plan = RelaxationPlan(first)
    solver = sciml.CG(rtol=1e-8, history_length=1)

    def advance(carry, inputs):
        u, state = carry
        step, key = inputs
        A, b = problem.system(step, u)
        omega, state = method.choose(state, problem.context(step), A, key=key)
        solution = sciml.linear_solve(
            A, b, solver, preconditioner=plan.ssor(A, omega), x0=u
        )
        num_steps = solution.stats["num_steps"]
        return (solution.value, method.update(state, num_steps)), num_steps

    @jax.jit
    def run(state):
        steps = jnp.arange(num_systems), jr.split(jr.key(0), num_systems)
        return jax.lax.scan(advance, (problem.initial(), state), steps)[1]

    state = method.init(first)
    program = run.lower(state).compile()
    start = time.perf_counter()
    total = int(program(state).sum())
    return total, time.perf_counter() - start


def by_hand(method) -> dict[str, float]:
    """Solve by solve, as a time stepper that is not in JAX would do it."""
    state = method.init()
    for k, key in enumerate(jr.split(jr.key(1), 20)):
        omega, state = method.choose(state, 0.5 * k, key=key)
        num_steps = round(10 + 40 * abs(float(omega) - 1.2 - 0.02 * k))
        state = method.update(state, num_steps)
    # The state is a module of arrays: sciml.save(path, state) keeps what was learned.
    omega, _ = method.choose(state, 5.0, key=jr.key(2))
    print(f"after twenty made-up solves: ω = {float(omega):.2f} at κ = 5")
    return {"omega_by_hand": float(omega)}


if __name__ == "__main__":
    main()
