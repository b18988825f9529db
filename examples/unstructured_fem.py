"""Finite elements on an L-shape: from scikit-fem to a verified solve, and many of them.

Run it with `python examples/unstructured_fem.py`; it needs the extras `fem` and `amg`.
It assembles −∇·(a∇u) = 1 with scikit-fem, solves it with algebraic multigrid, solves
for many loads at once, and differentiates through the solve.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import skfem
from skfem.helpers import dot, grad

import sciml
from sciml.preconditioners import AlgebraicMultigrid, IncompleteCholesky, Jacobi


@skfem.BilinearForm
def stiffness(u, v, w):
    """∫ a ∇u·∇v with a coefficient that varies over the domain."""
    return (1.0 + 9.0 * (w.x[0] * w.x[1] < 0)) * dot(grad(u), grad(v))


@skfem.LinearForm
def load(v, w):
    """∫ v."""
    return 1.0 * v


def main(smoke: bool = False) -> dict[str, float]:
    """Assemble, solve, repeat, differentiate; `smoke` takes a coarse mesh."""
    jax.config.update("jax_enable_x64", True)
    mesh = skfem.MeshTri.init_lshaped().refined(3 if smoke else 7)
    basis = skfem.Basis(mesh, skfem.ElementTriP1())
    K, f = stiffness.assemble(basis), load.assemble(basis)
    # In place of skfem.solve(*skfem.condense(K, f, D=...)).
    A, b, expand = sciml.linear.from_skfem(K, f, D=basis.get_dofs())
    print(f"{A.in_size()} unknowns, {K.nnz} entries")
    solver = sciml.CG(rtol=1e-10, max_steps=5000)
    numbers: dict[str, float] = {"unknowns": A.in_size()}
    solutions = {}
    for name, builder in {
        "jacobi": Jacobi(),
        "incomplete_cholesky": IncompleteCholesky(),
        "algebraic_multigrid": AlgebraicMultigrid(),
    }.items():
        M = builder.build(A)  # on the host, once
        solution = sciml.linear_solve(A, b, solver, preconditioner=M)
        start = time.perf_counter()
        solution = sciml.linear_solve(A, b, solver, preconditioner=M)
        jax.block_until_ready(solution.value)
        seconds = time.perf_counter() - start
        steps = int(solution.stats["num_steps"])
        print(f"  {name:<20} {steps:>4} steps, {1e3 * seconds:6.1f} ms")
        numbers[f"{name}_steps"] = steps
        solutions[name] = solution.value
    u = expand(solutions["algebraic_multigrid"])
    direct = skfem.solve(*skfem.condense(K, f, D=basis.get_dofs()))
    numbers["difference_to_direct"] = float(np.abs(u - direct).max() / direct.max())
    print(f"  differs from SuperLU's by {numbers['difference_to_direct']:.0e}")
    return numbers | many_loads(A, M, solver) | sensitivity(A, b, M, solver, u)


def many_loads(A, M, solver) -> dict[str, float]:
    """Sixteen right-hand sides, each of which stands still once it has converged."""
    loads = jr.normal(jr.key(0), (16, A.in_size()))
    solution = sciml.linear.linear_solve_many(A, loads, solver, preconditioner=M)
    steps = solution.stats["num_steps"]
    print(f"16 loads: {int(steps.min())} to {int(steps.max())} steps")
    return {"most_steps_of_many": int(steps.max())}


def sensitivity(A, b, M, solver, u) -> dict[str, float]:
    """What the compliance bᵀu changes by when every entry of A grows alike."""

    @jax.jit
    @jax.grad
    def compliance(scale):
        scaled = jax.tree_util.tree_map(
            lambda x: scale * x if jnp.issubdtype(x.dtype, jnp.floating) else x, A
        )
        return b @ sciml.linear_solve(scaled, b, solver, preconditioner=M).value

    slope = float(compliance(1.0))
    # bᵀ(sA)⁻¹b = bᵀA⁻¹b / s.
    expected = -float(b @ sciml.linear_solve(A, b, solver, preconditioner=M).value)
    print(f"d compliance / d scale: {slope:.10f}, expected {expected:.10f}")
    return {"slope_error": abs(slope / expected - 1), "largest": float(np.max(u))}


if __name__ == "__main__":
    main()
