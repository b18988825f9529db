"""Derivatives through a linear solve: find a coefficient from what it does.

Run it with `python examples/differentiate_a_solve.py`. The field a of −∇·(a∇u) = f is
recovered from noisy values of u for three sources f, by gradients through
`sciml.linear_solve`. Shows the adjoint solve behind a gradient, compares the gradient
with finite differences, and prints the error of the recovered a.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.optimize import minimize

import sciml
from sciml.grids import Grid, Neumann, interpolate
from sciml.linear import adjoint_solve, diffusion_operator
from sciml.preconditioners import FastDiagonalisation

# A derivative is another solve with the same solver; if that fails, it raises.
SOLVER = sciml.CG(rtol=1e-10, max_steps=200, history_length=1)


class Experiment(eqx.Module):
    """Sources, and what was observed of the solutions that belong to them."""

    grid: Grid
    sources: jax.Array
    observed: jax.Array
    preconditioner: eqx.Module

    def coefficient(self, parameters):
        """a > 0 for all parameters, which are the values of log a on a coarse grid."""
        coarse = Grid(parameters.shape, boundary=Neumann())
        return jnp.exp(interpolate(parameters, coarse, self.grid))

    def solve(self, a, f) -> sciml.Solution:
        """u for one source."""
        A = diffusion_operator(a, self.grid)
        return sciml.linear_solve(A, f, SOLVER, preconditioner=self.preconditioner)

    def misfit(self, u):
        """½ mean |u − observed|², over the variance of what was observed."""
        return jnp.mean((u - self.observed) ** 2) / jnp.var(self.observed) / 2


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` takes a small grid.

    **Returns:** steps, residuals and errors by name.
    """
    jax.config.update("jax_enable_x64", True)
    grid = Grid((15, 15) if smoke else (63, 63))
    x, y = grid.mesh()
    truth = 1 + x + 2 * np.exp(-8 * ((x - 0.3) ** 2 + (y - 0.6) ** 2))
    sources = np.stack([np.ones_like(x), 10 * x * y, 10 * np.sin(6 * x + 9 * y)])
    experiment = observe(grid, jnp.asarray(sources), jnp.asarray(truth), jr.key(0))
    print(f"{x.shape[0]} × {x.shape[1]} nodes, three sources, noise of 0.1 %")
    # 6 × 6 parameters: fewer than data, and no need to regularise.
    numbers = gradient(experiment, 0.5 * jr.normal(jr.key(1), (6, 6)))
    return numbers | recovery(experiment, np.zeros((6, 6)), truth)


@eqx.filter_jit
def observe(grid: Grid, sources, a, key) -> Experiment:
    """An experiment with the solutions for all sources, plus noise."""
    # u does not depend on the preconditioner, so the exact inverse for a = 1 will do.
    M = FastDiagonalisation(grid).build(diffusion_operator(1.0, grid))
    experiment = Experiment(grid, sources, sources, M)
    u = jax.vmap(lambda f: experiment.solve(a, f).value)(sources)
    noisy = u + 1e-3 * jnp.std(u) * jr.normal(key, u.shape)
    return eqx.tree_at(lambda e: e.observed, experiment, noisy)


def objective(parameters, experiment: Experiment):
    """The misfit of these parameters, and their coefficient."""
    a = experiment.coefficient(parameters)
    u = jax.vmap(lambda f: experiment.solve(a, f).value)(experiment.sources)
    return experiment.misfit(u), a


value_and_slope = eqx.filter_jit(eqx.filter_value_and_grad(objective, has_aux=True))


@eqx.filter_jit
def by_hand(parameters, experiment: Experiment):
    """The same gradient, and the statistics of the solves behind it.

    J(u(a)) has the derivative −λᵀ (∂A/∂a) u with Aᵀ λ = ∂J/∂u.
    """
    a = experiment.coefficient(parameters)
    A = diffusion_operator(a, experiment.grid)
    forward = jax.vmap(lambda f: experiment.solve(a, f))(experiment.sources)
    sensitivity = jax.grad(experiment.misfit)(forward.value)
    M = experiment.preconditioner
    adjoint = jax.vmap(lambda g: adjoint_solve(A, g, SOLVER, preconditioner=M))
    adjoint = adjoint(sensitivity)

    def pairing(parameters):
        A = diffusion_operator(experiment.coefficient(parameters), experiment.grid)
        return -jnp.vdot(adjoint.value, jax.vmap(A.mv)(forward.value))

    return jax.grad(pairing)(parameters), forward.stats, adjoint.stats


def gradient(experiment: Experiment, parameters) -> dict[str, float]:
    """A gradient by reverse mode, by hand and by finite differences."""
    _, slope = value_and_slope(parameters, experiment)
    other, forward, adjoint = by_hand(parameters, experiment)
    defect = float(np.linalg.norm(other - slope) / np.linalg.norm(slope))
    for name, stats in (("forward", forward), ("adjoint", adjoint)):
        steps = ", ".join(map(str, stats["num_steps"].tolist()))
        worst = float(stats["relative_residual"].max())
        print(f"  {name} solves: {steps} steps, largest residual {worst:.0e}")
    step = 1e-5 * np.asarray(jr.normal(jr.key(2), parameters.shape))
    ahead, behind = (value_and_slope(parameters + s, experiment) for s in (step, -step))
    difference = float(ahead[0][0] - behind[0][0]) / 2
    error = abs(difference / float(np.vdot(slope, step)) - 1)
    print(f"  the gradient and the one made of λ differ by {defect:.0e}, relative;")
    print(f"  along one direction it and central differences by {error:.0e}\n")
    return {
        "forward_steps": int(forward["num_steps"].max()),
        "adjoint_steps": int(adjoint["num_steps"].max()),
        "adjoint_residual": float(adjoint["relative_residual"].max()),
        "gradient_by_hand_error": defect,
        "gradient_difference_error": error,
    }


def recovery(experiment: Experiment, start, truth) -> dict[str, float]:
    """A quasi-Newton method of SciPy on the misfit and its gradient."""

    def function(parameters):
        parameters = jnp.asarray(parameters.reshape(start.shape))
        (size, _), slope = value_and_slope(parameters, experiment)
        return float(size), np.asarray(slope).ravel()

    found = minimize(function, start.ravel(), jac=True, method="L-BFGS-B")
    numbers = {"minimiser_steps": int(found.nit)}
    print(f"  {'':<10}{'misfit':>10}{'error of a':>12}")
    for name, parameters in (("before", start), ("after", found.x)):
        parameters = jnp.asarray(parameters.reshape(start.shape))
        (size, a), _ = value_and_slope(parameters, experiment)
        error = float(np.linalg.norm(a - truth) / np.linalg.norm(truth))
        print(f"  {name:<10}{float(size):>10.1e}{error:>12.1%}")
        numbers |= {f"misfit_{name}": float(size), f"error_{name}": error}
    print(f"  {numbers['minimiser_steps']} steps of L-BFGS")
    return numbers


if __name__ == "__main__":
    main()
