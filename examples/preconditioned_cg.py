"""Which preconditioner? Nine of them on two systems, one of them written here.

Run it with `python examples/preconditioned_cg.py`. It solves −∇·(a∇u) = 1 with a
smooth coefficient and with one that jumps, prints steps and times, and shows a
preconditioner that breaks down and the one in reserve that takes over, on record.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx

import problems
import sciml
from sciml.grids import LogNormalField, SquaredExponentialField
from sciml.preconditioners import (
    FSAI,
    SSOR,
    AlgebraicMultigrid,
    ChebyshevPolynomial,
    Fallback,
    FastPoisson,
    IncompleteCholesky,
    Jacobi,
    Multigrid,
)


class TwoColours(sciml.linear.AbstractPreconditioner):
    """A preconditioner of one's own: symmetric Gauss–Seidel in two colours.

    On a checkerboard of nodes the five-point stencil couples black to red only. With
    D the diagonal and N the rest, restricted to red or black:

        red ← D⁻¹ r,  black ← D⁻¹ (r − N red),  red ← D⁻¹ (r − N black)

    is linear in r, symmetric and positive definite, and every step is done at once.
    """

    def build(self, operator):
        """The three half sweeps, as a lineax operator."""
        structure = operator.in_structure()
        index = jnp.indices(structure.shape).sum(0) % 2
        red = (index == 0).astype(structure.dtype)
        sweeps = _Sweeps(operator, red, lx.diagonal(operator).reshape(structure.shape))
        tag = lx.positive_semidefinite_tag
        return sciml.linear.SymmetricOperator(sweeps, structure, tag)


class _Sweeps(eqx.Module):
    operator: lx.AbstractLinearOperator
    red: jax.Array
    diagonal: jax.Array

    def __call__(self, r):
        rest = lambda u: self.operator.mv(u) - self.diagonal * u
        first = self.red * r / self.diagonal
        black = (1 - self.red) * (r - rest(first)) / self.diagonal
        return black + self.red * (r - rest(black)) / self.diagonal


def main(smoke: bool = False) -> dict[str, float]:
    """Both systems and the fallback; `smoke` takes small grids and few methods.

    **Returns:** steps per system and method.
    """
    jax.config.update("jax_enable_x64", True)
    points = 31 if smoke else 255
    smooth = LogNormalField(SquaredExponentialField(variance=1.1))
    builders = {
        "two_colours": TwoColours(),
        "incomplete_cholesky": IncompleteCholesky(),
        "multigrid": Multigrid(),
    }
    if not smoke:
        builders |= {
            "none": None,
            "fast_poisson": FastPoisson(),
            "jacobi": Jacobi(),
            "chebyshev": ChebyshevPolynomial(8),
            "fsai": FSAI(),
            "ssor": SSOR(),
            "algebraic_multigrid": AlgebraicMultigrid(),
        }
    numbers = {}
    for title, coefficient in (("smooth", smooth), ("jumps", "two_phase")):
        problem = problems.Diffusion((points, points), coefficient, contrast=1e4)
        A, b = problem.linear_system(key=jr.key(0))
        print(f"{title} coefficient on {points} × {points} nodes")
        for name, builder in builders.items():
            numbers[f"{title}_{name}"] = steps_and_time(A, b, name, builder)
    return numbers | taken_over(A, b)


@eqx.filter_jit
def solve(A, b, M):
    """One compiled program for every system of a size and kind of M."""
    solver = sciml.CG(rtol=1e-8, max_steps=5000)
    return sciml.linear_solve(A, b, solver, preconditioner=M, throw=False)


def steps_and_time(A, b, name, builder) -> int:
    """Set up, solve, and print what it took once everything is compiled."""
    for _ in range(2):  # the first time compiles
        start = time.perf_counter()
        M = None if builder is None else builder.build(A)
        jax.block_until_ready(eqx.filter(M, eqx.is_array))
        ready = time.perf_counter()
        solution = jax.block_until_ready(solve(A, b, M))
        end = time.perf_counter()
    steps = int(solution.stats["num_steps"])
    ended = "" if solution.result == sciml.RESULTS.successful else "  did not converge"
    print(
        f"  {name:<20} {steps:>5} steps, set-up {1e3 * (ready - start):6.1f} ms, "
        f"solve {1e3 * (end - ready):7.1f} ms{ended}"
    )
    return steps


def taken_over(A, b) -> dict[str, float]:
    """A preconditioner with the wrong sign, and what happens with a reserve."""
    wrong = lx.TaggedLinearOperator(-A, lx.positive_semidefinite_tag)
    alone = sciml.linear_solve(A, b, preconditioner=wrong, throw=False)
    assert alone.result == sciml.RESULTS.indefinite_preconditioner
    solution = sciml.linear_solve(A, b, preconditioner=Fallback(wrong, Multigrid()))
    after, steps = (int(solution.stats[k]) for k in ("fallback_step", "num_steps"))
    print(f"−A as preconditioner: multigrid took over after {after}, {steps} in all")
    return {"fallback_step": after, "fallback_steps": steps}


if __name__ == "__main__":
    main()
