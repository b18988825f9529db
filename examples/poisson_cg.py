"""Preconditioned conjugate gradients: results, statistics, reuse, gradients.

Run it with `python examples/poisson_cg.py`. It solves −Δu = f, whose solution is known,
then −∇·(a∇u) = 1 where a jumps between 1 and 1000, and shows what each call returns.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx

import problems
import sciml
from sciml.preconditioners import Jacobi, Multigrid


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` takes small grids.

    **Returns:** steps, errors and residuals by name.
    """
    # A relative residual of 1e-8 is below what float32 can reach. The library never
    # touches this switch; a program may.
    jax.config.update("jax_enable_x64", True)
    points = 31 if smoke else 127
    numbers = known_solution(points)

    # A harder system: a is 1 or 1000, by the sign of a random field.
    problem = problems.Diffusion((points, points), "two_phase", contrast=1e3)
    coefficient = problem.sample_coefficient(key=jr.key(0))
    # A is a lineax operator on fields: b and the solution have the grid's shape.
    A, b = problem.linear_system(coefficient)
    # Set up once, apply many times: M depends on A and not on b. It is itself a lineax
    # operator, tagged positive semidefinite.
    M = Multigrid().build(A)
    return (
        numbers
        | three_preconditioners(A, b, M)
        | many_right_hand_sides(A, M)
        | lineax_slot(A, b, M)
        | gradient(problem, coefficient, M)
    )


def known_solution(points: int) -> dict[str, float]:
    """A small residual is not a small error; here the error can be seen as well."""
    problem = problems.Poisson(num_points=(points, points))
    A, b = problem.linear_system(problem.constant_coefficient())
    # A builder in place of an operator: M is then made for this one solve.
    solution = sciml.linear_solve(A, b, preconditioner=Multigrid())
    error = jnp.abs(solution.value - problem.exact_solution()).max()
    spacing = problem.grid.spacing[0]
    print(f"Poisson on {points} × {points} nodes")
    print(f"  relative residual  {solution.stats['relative_residual']:.1e}")
    print(f"  largest error      {error:.1e} = {error / spacing**2:.2f} h²\n")
    return {
        "poisson_steps": int(solution.stats["num_steps"]),
        # The same on every grid: the discretisation is of second order.
        "poisson_error_over_h2": float(error / spacing**2),
    }


def three_preconditioners(A, b, M) -> dict[str, float]:
    """The same system three times, and how to read what comes back."""
    solver = sciml.CG(rtol=1e-8, max_steps=300)
    choices = {"none": None, "jacobi": Jacobi(), "multigrid": M}
    numbers = {}
    print("two phases, contrast 1000")
    for name, preconditioner in choices.items():
        # throw=True, the default, would raise where the tolerance is missed.
        solution = sciml.linear_solve(
            A, b, solver, preconditioner=preconditioner, throw=False
        )
        steps = int(solution.stats["num_steps"])
        # Recomputed from A at the end; not what the recurrence believes.
        residual = float(solution.stats["relative_residual"])
        # ‖r_k‖/‖b‖ for k = 0 … num_steps, NaN beyond: what one plots. CG need not fall
        # from step to step; the energy norm of the error does.
        peak = float(solution.stats["residual_history"][: steps + 1].max())
        if solution.result == sciml.RESULTS.successful:
            met, message = 1.0, "successful"
        else:
            # What happened, and what to try.
            met, message = 0.0, sciml.RESULTS[solution.result]
        print(f"  {name:<10} {steps:>4} steps, residual {residual:.1e}", end="")
        print(f" ({peak:.1e} on the way): {message}")
        numbers |= {
            f"{name}_steps": steps,
            f"{name}_residual": residual,
            f"{name}_successful": met,
        }
    print()
    return numbers


def many_right_hand_sides(A, M) -> dict[str, float]:
    """Three systems side by side; they share A and M."""

    def solve(b):
        return sciml.linear_solve(A, b, sciml.CG(rtol=1e-8), preconditioner=M)

    sources = jr.normal(jr.key(1), (3, *A.out_structure().shape))
    steps = jax.vmap(solve)(sources).stats["num_steps"]
    print(f"one M, three right-hand sides: {', '.join(map(str, steps.tolist()))} steps")
    return {"most_steps_of_three": int(steps.max())}


def lineax_slot(A, b, M) -> dict[str, float]:
    """The same solver where lineax expects one."""
    options = {"preconditioner": M}
    solution = lx.linear_solve(A, b, sciml.CG(rtol=1e-8, atol=0.0), options=options)
    steps = int(solution.stats["num_steps"])
    print(f"in lineax's slot: {steps} steps\n")
    return {
        "lineax_slot_steps": steps,
        # lineax has fewer results than we have; the exact one is among the statistics.
        "lineax_slot_successful": float(
            solution.stats["status"] == sciml.RESULTS.successful
        ),
    }


def gradient(problem, coefficient, M) -> dict[str, float]:
    """dJ/da of the work of the source, J(a) = bᵀu(a), through the solve."""

    @jax.jit
    @jax.value_and_grad
    def work(a):
        A, b = problem.linear_system(a)
        # The solution does not depend on M, so one that was built for an a nearby will
        # do. The derivative is a second solve, with Aᵀ; if that fails, it raises.
        solution = sciml.linear_solve(A, b, sciml.CG(rtol=1e-10), preconditioner=M)
        return jnp.sum(b * solution.value)

    value, slope = work(coefficient)
    # J(s a) = J(a)/s, therefore Σ a dJ/da = −J.
    defect = float(jnp.abs(jnp.sum(coefficient * slope) + value) / value)
    print(f"gradient: J = {value:.4f}; Σ a dJ/da = −J holds to {defect:.0e}")
    return {"work": float(value), "gradient_defect": defect}


if __name__ == "__main__":
    main()
