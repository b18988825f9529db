"""Derivatives of `linear_solve`: Taylor remainders, adjoints, finite differences."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from linear_cases import PSD, matrix_operator, outcome, spd_matrix

import sciml
from sciml.grids import Dirichlet, Grid, Neumann, Periodic, source_vector
from sciml.linear import adjoint_solve, diffusion_operator, linear_solve
from sciml.preconditioners import Jacobi, Multigrid

SHAPE = (12, 11)
TIGHT = sciml.CG(rtol=1e-13, max_steps=300)


def rng(seed=0):
    return np.random.default_rng(seed)


def inputs(seed=0):
    """Every differentiable argument of a diffusion problem."""
    r = rng(seed)
    return {
        "coefficient": jnp.asarray(10.0 ** r.uniform(size=SHAPE)),
        "source": jnp.asarray(r.normal(size=SHAPE)),
        "value": jnp.asarray(r.normal(size=SHAPE[1])),
        "stored": jnp.asarray(r.normal(size=SHAPE[0])),
        "flux": jnp.asarray(r.normal(size=SHAPE[1])),
        "reaction": jnp.asarray(r.uniform(1, 5, size=SHAPE)),
    }


def grid_of(p):
    return Grid(
        SHAPE,
        boundary=[
            (Dirichlet(p["value"]), Neumann(p["flux"])),
            (Neumann(), Dirichlet(p["stored"], stored=True)),
        ],
    )


def solve(p, solver=TIGHT, preconditioner=None, throw=True):
    grid = grid_of(p)
    A = diffusion_operator(p["coefficient"], grid, reaction=p["reaction"])
    b = source_vector(p["source"], p["coefficient"], grid)
    M = Multigrid() if preconditioner is None else preconditioner
    return linear_solve(A, b, solver, preconditioner=M, throw=throw)


def dense(p):
    grid = grid_of(p)
    A = diffusion_operator(p["coefficient"], grid, reaction=p["reaction"])
    b = source_vector(p["source"], p["coefficient"], grid)
    return jnp.linalg.solve(A.as_matrix(), b.ravel()).reshape(SHAPE)


def objective(u):
    return jnp.sum(jnp.sin(u) + u**2)


@eqx.filter_jit
def value_and_slopes(p, direction):
    """J, its gradient, and dJ in a direction in forward mode."""
    J = lambda p: objective(solve(p).value)
    value, gradient = jax.value_and_grad(J)(p)
    _, slope = jax.jvp(J, (p,), (direction,))
    return value, gradient, slope


def only(name, direction, point):
    return {
        k: direction[k] if k == name else jnp.zeros_like(v) for k, v in point.items()
    }


@pytest.mark.parametrize("name", inputs())
def test_taylor_remainders(name):
    """|J(p + h d) − J(p) − h J'(p) d| falls as h², in either mode."""
    p, direction = inputs(), only(name, inputs(1), inputs())
    J0, gradient, forward = value_and_slopes(p, direction)
    backward = jnp.sum(gradient[name] * direction[name])
    np.testing.assert_allclose(forward, backward, rtol=1e-10)
    assert abs(float(forward)) > 1e-6
    steps = 0.004 * 0.5 ** np.arange(5)
    remainders = []
    for h in steps:
        moved = jax.tree.map(lambda a, d, h=h: a + h * d, p, direction)
        J, _, _ = value_and_slopes(moved, direction)
        remainders.append(abs(float(J - J0 - h * forward)))
    orders = np.log2(np.array(remainders[:-1]) / np.array(remainders[1:]))
    assert np.all(np.abs(orders - 2.0) < 0.1), orders


def test_gradient_of_a_dense_solve():
    p = inputs()
    _, gradient, _ = value_and_slopes(p, inputs(1))
    expected = jax.jit(jax.grad(lambda p: objective(dense(p))))(p)
    for name, want in expected.items():
        scale = jnp.abs(want).max()
        np.testing.assert_allclose(gradient[name], want, rtol=0, atol=1e-9 * scale)


def test_adjoint_identity():
    """⟨A⁻¹ b, g⟩ = ⟨b, A⁻ᵀ g⟩, right side in reverse mode and by `adjoint_solve`."""
    grid = Grid((48, 64), boundary=[Neumann(), Dirichlet()])
    b, g = (jnp.asarray(rng(k).normal(size=grid.shape)) for k in (0, 1))
    a = jnp.asarray(10.0 ** rng(2).uniform(size=grid.shape))

    @jax.jit
    def sides(b, g):
        A = diffusion_operator(a, grid)
        forward = lambda b: linear_solve(
            A, b, TIGHT, preconditioner=Multigrid(), throw=False
        )
        value, pullback, solution = jax.vjp(
            lambda b: (forward(b).value, forward(b).result), b, has_aux=True
        )
        adjoint = adjoint_solve(A, g, TIGHT, preconditioner=Multigrid(), throw=False)
        return value, pullback(g)[0], adjoint, solution

    value, pulled, adjoint, result = sides(b, g)
    assert outcome(result) == outcome(adjoint.result) == "successful"
    left = jnp.sum(value * g)
    sizes = jnp.linalg.norm(value) * jnp.linalg.norm(g)
    sizes = jnp.maximum(sizes, jnp.linalg.norm(b) * jnp.linalg.norm(pulled))
    for right in (jnp.sum(b * pulled), jnp.sum(b * adjoint.value)):
        assert abs(left - right) <= 1000 * jnp.finfo(float).eps * sizes


def test_vmap_of_grad_is_a_loop():
    points = [inputs(seed) for seed in range(3)]
    stack = jax.tree.map(lambda *v: jnp.stack(v), *points)
    J = lambda p: objective(solve(p, preconditioner=Jacobi()).value)
    together = jax.jit(jax.vmap(jax.grad(J)))(stack)
    one = jax.jit(jax.grad(J))
    for k, p in enumerate(points):
        for name, want in one(p).items():
            scale = jnp.abs(want).max()
            np.testing.assert_allclose(together[name][k], want, 0, 1e-10 * scale)


def test_jacobian_modes_agree():
    """Forward mode is vmapped over directions, reverse mode over cotangents."""
    A0, b = jnp.asarray(spd_matrix(6)), jnp.arange(1.0, 7.0)

    def f(b):
        return linear_solve(lx.MatrixLinearOperator(A0, PSD), b, TIGHT).value

    inverse = np.linalg.inv(A0)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(f))(b), inverse, atol=1e-11)
    np.testing.assert_allclose(jax.jit(jax.jacrev(f))(b), inverse, atol=1e-11)


def test_second_derivatives():
    n = 6
    base, d1, d2 = (jnp.asarray(spd_matrix(n, seed=k)) for k in range(3))
    b = jnp.arange(1.0, n + 1)

    def J(t, solve):
        A = base + t[0] * d1 + t[1] * d2
        return jnp.sum(solve(A, b * (1 + t[0] ** 2)) ** 3)

    ours = lambda A, b: (
        (
            linear_solve(
                lx.MatrixLinearOperator(A, PSD), b, TIGHT, preconditioner=Jacobi()
            )
        ).value
    )
    t = jnp.array([0.3, 0.2])

    @jax.jit
    def seconds(t):
        f = lambda t: J(t, ours)
        forward_over_reverse = jax.hessian(f)(t)
        product = lambda t: jnp.sum(jax.grad(f)(t) * jnp.array([1.0, -2.0]))
        return jax.grad(f)(t), forward_over_reverse, jax.grad(product)(t)

    gradient, hessian, product = seconds(t)
    expected = jax.hessian(lambda t: J(t, jnp.linalg.solve))(t)
    np.testing.assert_allclose(hessian, expected, rtol=1e-8)
    np.testing.assert_allclose(product, expected @ jnp.array([1, -2.0]), rtol=1e-8)
    h = 1e-5
    for k in range(2):
        step = jnp.zeros(2).at[k].set(h)
        difference = (seconds(t + step)[0] - seconds(t - step)[0]) / (2 * h)
        np.testing.assert_allclose(difference, hessian[k], rtol=1e-6)


def test_hessian_vector_product_in_a_coefficient():
    grid = Grid((7, 6))
    b, v = (jnp.asarray(rng(k).normal(size=grid.shape)) for k in (0, 1))
    a = jnp.asarray(rng(2).uniform(1, 3, size=grid.shape))

    def J(a):
        A = diffusion_operator(a, grid)
        return objective(linear_solve(A, b, TIGHT, preconditioner=Jacobi()).value)

    gradient = jax.jit(jax.grad(J))
    product = jax.jit(lambda a: jax.jvp(jax.grad(J), (a,), (v,))[1])(a)
    difference = (gradient(a + 1e-5 * v) - gradient(a - 1e-5 * v)) / 2e-5
    scale = jnp.abs(difference).max()
    np.testing.assert_allclose(product, difference, rtol=0, atol=1e-6 * scale)


def test_no_derivative_with_respect_to_what_the_solution_does_not_depend_on():
    A = matrix_operator(spd_matrix(8))
    b = jnp.ones(8)

    def J(arguments):
        weights, x0, rtol = arguments
        M = lx.TaggedLinearOperator(lx.DiagonalLinearOperator(weights), PSD)
        solver = sciml.CG(rtol=rtol)
        return jnp.sum(linear_solve(A, b, solver, preconditioner=M, x0=x0).value)

    at = (jnp.linspace(0.1, 1, 8), jnp.ones(8), jnp.array(1e-9))
    for gradient in (jax.grad(J)(at), jax.jit(jax.grad(J))(at)):
        assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(gradient))
    _, slope = jax.jvp(J, (at,), (jax.tree.map(jnp.ones_like, at),))
    assert slope == 0


# --- a derivative solve that fails ----------------------------------------------------


def failing(throw):
    """Starts at the solution: the solve needs no step, its derivatives need many."""
    matrix = spd_matrix(20)
    exact = jnp.asarray(np.linalg.solve(matrix, np.ones(20)))
    solver = sciml.CG(rtol=1e-8, max_steps=2)

    def f(b):
        A = matrix_operator(matrix)
        return linear_solve(A, b, solver, x0=exact, throw=throw)

    return f, jnp.ones(20), jnp.cos(jnp.arange(20.0))


def test_a_derivative_that_fails_is_nan_or_raises():
    f, b, d = failing(throw=False)
    assert outcome(f(b).result) == "successful"
    backward = jax.grad(lambda b: jnp.sum(d * f(b).value))
    forward = lambda b: jax.jvp(lambda b: f(b).value, (b,), (d,))
    for wrap in (lambda f: f, jax.jit):
        assert jnp.isnan(wrap(backward)(b)).all()
        value, slope = wrap(forward)(b)
        assert jnp.isfinite(value).all() and jnp.isnan(slope).all()
    # In a batch only the element that fails: a zero cotangent is solved at once.
    pull = lambda g: jax.vjp(lambda b: f(b).value, b)[1](g)[0]
    pulled = jax.vmap(pull)(jnp.stack([d, 0 * d]))
    assert jnp.isnan(pulled[0]).all() and jnp.all(pulled[1] == 0)

    f, b, d = failing(throw=True)
    assert outcome(f(b).result) == "successful"
    backward = eqx.filter_jit(jax.grad(lambda b: jnp.sum(d * f(b).value)))
    forward = eqx.filter_jit(lambda b: jax.jvp(lambda b: f(b).value, (b,), (d,))[1])
    for derivative in (backward, forward):
        with pytest.raises(eqx.EquinoxRuntimeError, match="for a derivative of"):
            derivative(b)


def test_a_failed_solve_with_throw_false_leaves_a_truthful_derivative():
    """The value is no solution; the derivative is exact or NaN, never another one."""
    matrix = spd_matrix(20)
    solver = sciml.CG(rtol=1e-10, max_steps=3)
    f = lambda b: linear_solve(matrix_operator(matrix), b, solver, throw=False)
    b = jnp.arange(20.0)
    assert outcome(f(b).result) == "max_steps_reached"
    assert jnp.isnan(jax.grad(lambda b: jnp.sum(f(b).value))(b)).all()


def test_derivatives_do_not_flow_into_statistics():
    A, b = matrix_operator(spd_matrix(8)), jnp.ones(8)
    f = lambda b: linear_solve(A, b).stats["relative_residual"]
    assert jnp.all(jax.grad(f)(b) == 0)


# --- singular operators ---------------------------------------------------------------

FREE = {
    "neumann": Neumann(),
    "periodic": Periodic(),
    "both": [Periodic(), Neumann()],
}


@pytest.mark.parametrize("kind", FREE)
def test_null_space(kind):
    grid = Grid((7, 8), boundary=FREE[kind])
    a = jnp.asarray(rng(0).uniform(1, 5, grid.shape))
    b = rng(1).normal(size=grid.shape)
    b = jnp.asarray(b - b.mean())
    A = diffusion_operator(a, grid)
    inverse = np.linalg.pinv(A.as_matrix(), rcond=1e-12)

    @eqx.filter_jit
    def solved(b):
        solver = sciml.CG(rtol=1e-11)
        return linear_solve(A, b, solver, preconditioner=Multigrid(), throw=False)

    solution = solved(b)
    np.testing.assert_allclose(np.ravel(solution.value), inverse @ b.ravel(), 1e-8)
    assert abs(jnp.mean(solution.value)) < 1e-15
    # Of any size: nothing over- or underflows.
    for scale in (2.0**-900, 2.0**900):
        other = solved(scale * b)
        np.testing.assert_array_equal(other.value / scale, solution.value)
        assert float(other.stats["relative_residual"]) < 1e-10
    for shifted in (b + 1.0, jnp.ones(grid.shape)):
        failed = solved(shifted)
        assert outcome(failed.result) == "infeasible"
        assert float(failed.stats["relative_residual"]) > 0.1


def test_null_space_error():
    grid = Grid((4, 4), boundary=Neumann())
    with pytest.raises(eqx.EquinoxRuntimeError, match="subtract the mean"):
        linear_solve(diffusion_operator(1.0, grid), jnp.ones(grid.shape))


@pytest.mark.parametrize("kind", FREE)
def test_null_space_derivatives(kind):
    """Those of the zero-mean solution, projected finite differences."""
    grid = Grid((5, 6), boundary=FREE[kind])
    b, v, g = (rng(k).normal(size=grid.shape) for k in (1, 2, 3))
    b = jnp.asarray(b - b.mean())
    a = jnp.asarray(rng(0).uniform(1, 5, grid.shape))
    solver = sciml.CG(rtol=1e-13, max_steps=200)

    def u(a, b):
        return linear_solve(diffusion_operator(a, grid), b, solver).value

    @jax.jit
    def derivatives(a, b, v, g):
        pull = jax.vjp(u, a, b)[1](g)
        push = jax.jvp(u, (a, b), (v, v))[1]
        return *pull, push

    in_a, in_b, push = derivatives(a, b, v, g)
    h, solved = 1e-5, jax.jit(u)
    flat = v - v.mean()
    difference = (solved(a + h * v, b) - solved(a - h * v, b)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(in_a * v), jnp.sum(difference * g), 1e-6)
    both = difference + (solved(a, b + h * flat) - solved(a, b - h * flat)) / (2 * h)
    np.testing.assert_allclose(push, both, rtol=0, atol=1e-7)
    inverse = np.linalg.pinv(diffusion_operator(a, grid).as_matrix(), rcond=1e-12)
    np.testing.assert_allclose(np.ravel(in_b), inverse @ g.ravel(), atol=1e-11)
    # A constant cotangent, as of the mean, has no part that can be solved for.
    of_mean = derivatives(a, b, v, np.full(grid.shape, 0.3))
    assert max(float(jnp.abs(d).max()) for d in of_mean[:2]) < 1e-14
    # Nor has a constant direction.
    still = jax.jvp(lambda b: u(a, b), (b,), (jnp.full(grid.shape, 0.7),))[1]
    assert float(jnp.abs(still).max()) < 1e-14
