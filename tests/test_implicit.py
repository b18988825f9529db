"""Implicit steps and Newton's method without matrices, against exact solutions."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportOptionalSubscript=false

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from linear_cases import PSD

import sciml
from sciml.grids import Grid, Neumann, Periodic
from sciml.linear import (
    GMRES,
    MatrixFree,
    Preconditioned,
    diffusion_operator,
    implicit_root_finder,
    newton_krylov,
)
from sciml.preconditioners import FastDiagonalisation, Probed

GRID = Grid((12, 11))
A = diffusion_operator(1.0, GRID)
HEAT = dfx.ODETerm(lambda t, u, a: -a * A.mv(u))
CONTROLLER = dfx.PIDController(rtol=1e-6, atol=1e-8)


def mode():
    """An eigenvector of A, and its eigenvalue."""
    x, y = GRID.mesh()
    u = jnp.asarray(np.sin(np.pi * x) * np.sin(2 * np.pi * y))
    return u, float(jnp.sum(u * A.mv(u)) / jnp.sum(u * u))


@eqx.filter_jit
def integrate(term, solver, y0, args, controller=CONTROLLER, dt0=None, throw=True):
    return dfx.diffeqsolve(
        term,
        solver,
        t0=0.0,
        t1=0.02,
        dt0=dt0,
        y0=y0,
        args=args,
        stepsize_controller=controller,
        throw=throw,
        max_steps=200,
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "solver",
    [
        MatrixFree(dfx.Kvaerno5(), preconditioner=FastDiagonalisation(GRID)),
        MatrixFree(dfx.Kvaerno3(), sciml.CG(max_steps=300), tags=PSD),
        dfx.Kvaerno5(root_finder=implicit_root_finder(preconditioner=Probed(GRID))),
    ],
    ids=["fast diagonalisation", "cg", "probed"],
)
def test_heat_decays(solver):
    u, rate = mode()
    solution = integrate(HEAT, solver, u, 1.0)
    decayed = float(jnp.max(jnp.abs(solution.ys[0] - jnp.exp(-0.02 * rate) * u)))
    assert decayed < 1e-5


@pytest.mark.slow
def test_derivative_with_respect_to_the_diffusivity():
    u, rate = mode()
    solver = MatrixFree(dfx.Kvaerno5(), preconditioner=FastDiagonalisation(GRID))

    @jax.jit
    @jax.grad
    def slope(a):
        return jnp.sum(u * integrate(HEAT, solver, u, a).ys[0])

    exact = -0.02 * rate * jnp.exp(-0.02 * rate) * jnp.sum(u * u)
    assert jnp.isclose(slope(jnp.asarray(1.0)), exact, rtol=1e-4)


def test_a_krylov_solve_that_fails_rejects_the_step():
    u, _ = mode()
    rough = u + jnp.asarray(np.random.default_rng(0).normal(size=u.shape))
    weak = MatrixFree(dfx.Kvaerno5(), GMRES(2, max_steps=2))
    fixed = integrate(
        HEAT,
        MatrixFree(dfx.Kvaerno5(), GMRES(2, max_steps=2), rtol=1e-8, atol=1e-8),
        rough,
        1.0,
        dfx.ConstantStepSize(),
        0.01,
        throw=False,
    )
    assert fixed.result != dfx.RESULTS.successful
    adaptive = integrate(HEAT, weak, rough, 1.0, throw=False)
    if adaptive.result == dfx.RESULTS.successful:
        exact = integrate(HEAT, dfx.Tsit5(), rough, 1.0)
        assert jnp.max(jnp.abs(adaptive.ys[0] - exact.ys[0])) < 1e-4
        assert int(adaptive.stats["num_rejected_steps"]) > 0


def test_newton_krylov():
    """−Δu + u³ = f with f from a known u; quadratic, and differentiable."""
    u, rate = mode()
    f = rate * u + u**3
    residual = lambda v, f: A.mv(v) + v**3 - f
    M = FastDiagonalisation(GRID)
    newton = newton_krylov(1e-10, 1e-8, GMRES(20, rtol=1e-8), preconditioner=M)
    adjoint = optx.ImplicitAdjoint(
        linear_solver=Preconditioned(GMRES(20, rtol=1e-10), M)
    )

    @eqx.filter_jit
    def solve(f):
        return optx.root_find(
            residual, newton, jnp.zeros_like(f), f, adjoint=adjoint, throw=False
        )

    solution = solve(f)
    assert solution.result == optx.RESULTS.successful
    assert jnp.max(jnp.abs(solution.value - u)) < 1e-8
    assert int(solution.stats["num_steps"]) <= 6
    _, got = jax.jvp(lambda f: solve(f).value, (f,), (u,))
    matrix = A.as_matrix() + np.diag(3 * np.ravel(u) ** 2)
    expected = np.linalg.solve(matrix, np.ravel(u)).reshape(u.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
    weak = newton_krylov(1e-10, 1e-8, GMRES(2, rtol=1e-8, max_steps=2))
    failed = optx.root_find(residual, weak, jnp.zeros_like(f), f, throw=False)
    assert failed.result != optx.RESULTS.successful


@pytest.mark.sampled(2)
@pytest.mark.parametrize("boundary", [Periodic(), Neumann(), None])
def test_preconditioners_of_products(boundary):
    """(2 − 0.1 Δ)⁻¹ on two fields; exactly by diagonalisation."""
    grid = Grid((9, 8)) if boundary is None else Grid((9, 8), boundary=boundary)
    weights = jnp.asarray(grid.cell_weights())
    L = diffusion_operator(1.0, grid)
    structure = jax.ShapeDtypeStruct((2, 9, 8), jnp.float64)
    J = lx.FunctionLinearOperator(
        lambda u: 2 * u + 0.1 * jax.vmap(L.mv)(u) / weights[None], structure
    )
    b = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8)))
    exact = FastDiagonalisation(grid, dtype=None)
    for M, most in ((exact, 2), (Probed(grid), 9)):
        solution = sciml.linear_solve(J, b, GMRES(30, rtol=1e-9), preconditioner=M)
        assert int(solution.stats["num_steps"]) <= most


def test_mistakes():
    with pytest.raises(TypeError, match="diagonally implicit"):
        MatrixFree(dfx.Tsit5())
    with pytest.raises(ValueError, match="both or neither"):
        implicit_root_finder(rtol=1e-3)
    with pytest.raises(TypeError, match="solver of sciml.linear"):
        implicit_root_finder(lx.LU())
