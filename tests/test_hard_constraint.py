"""The hard-constraint layer: optima, derivatives, results, and what it refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest

import sciml
from sciml.constraints import (
    GramLevenbergMarquardt,
    HardConstraint,
    LinearLeastSquares,
    Side,
)

X = jnp.linspace(0.0, 1.0, 64)
SOURCE = jnp.pi**2 * jnp.sin(jnp.pi * X) + 2 * jnp.sin(jnp.pi * X) ** 3


def tanh_basis(parameters, x=X):
    """x(1 − x) tanh(a x + b) and its second derivative."""
    slopes, shifts = parameters

    def field(x):
        return x * (1 - x) * jnp.tanh(slopes * x + shifts)

    second = jax.jacfwd(jax.jacfwd(field))
    return {"u": jax.vmap(field)(x).T, "u_xx": jax.vmap(second)(x).T}


def cubic(terms, source):
    """−u″ + 2u³ = f, of which sin πx is the solution."""
    return 2 * terms["u"] ** 3 - terms["u_xx"] - source


def features(count, dtype=jnp.float64, seed=0):
    keys = jr.split(jr.key(seed), 2)
    slopes = 3.0 * jr.normal(keys[0], (count,), dtype)
    return slopes, jr.uniform(keys[1], (count,), dtype, -3.0, 3.0)


SOLVERS = {
    "ours": GramLevenbergMarquardt(),
    "optimistix LM": optx.LevenbergMarquardt(rtol=1e-10, atol=1e-10),
    "optimistix GN": optx.GaussNewton(rtol=1e-12, atol=1e-12),
    "optimistix BFGS": optx.BFGS(rtol=1e-10, atol=1e-12),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_finds_the_same_optimum(name):
    out = HardConstraint(cubic, SOLVERS[name])(
        tanh_basis(features(5)), SOURCE, throw=False
    )
    ours = HardConstraint(cubic)(tanh_basis(features(5)), SOURCE)
    np.testing.assert_allclose(out.value["u"], ours.value["u"], atol=2e-7)
    if name != "optimistix BFGS":
        # (That one stops when its steps are small, and we say what is left.)
        assert out.result == sciml.RESULTS.successful
    assert ours.stats["relative_gradient"] <= 1e-8


def loss_of(layer, parameters):
    """Of the combination between the nodes that the equation was solved at."""
    out = layer(tanh_basis(parameters), SOURCE)
    between = jnp.linspace(0.01, 0.99, 23)
    terms = tanh_basis(parameters, between)
    terms = jax.tree.map(lambda leaf: out.stats["weights"] @ leaf, terms)
    return jnp.sum((terms["u"] - jnp.sin(jnp.pi * between)) ** 2)


@pytest.mark.parametrize("name", ["ours", "optimistix GN"])
def test_implicit_derivatives_are_those_of_finite_differences(name):
    layer = HardConstraint(cubic, SOLVERS[name])
    loss = jax.jit(lambda p: loss_of(layer, p))
    parameters = features(4)
    gradient = jax.grad(loss)(parameters)
    direction = features(4, seed=1)
    along = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    pairs = list(zip(parameters, direction, strict=True))
    at = lambda h: loss(tuple(p + h * d for p, d in pairs))
    h = 1e-4
    expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    np.testing.assert_allclose(along, expected, rtol=1e-5)


def test_implicit_derivatives_are_those_of_the_unrolled_iteration():
    basis = tanh_basis(features(4))
    layer = HardConstraint(cubic)
    implicit = jax.grad(lambda b: jnp.sum(layer(b, SOURCE).value["u"] ** 2))(basis)

    def unrolled(basis):
        # Gauss and Newton's steps on the same sum of squares, in plain JAX.
        first = basis["u_xx"] / 8.0
        W = first @ first.T
        W = W + 1e-12 * jnp.trace(W) * jnp.eye(4)

        def cost(w):
            rows = cubic(jax.tree.map(lambda leaf: w @ leaf, basis), SOURCE) / 8.0
            return 0.5 * jnp.sum(rows**2) + 0.5e-12 * w @ W @ w

        cost_gradient = jax.grad(cost)

        def newton(w, _):
            step = jnp.linalg.solve(jax.jacfwd(cost_gradient)(w), cost_gradient(w))
            return w - step, None

        w, _ = jax.lax.scan(newton, jnp.zeros(4), None, length=25)
        return jnp.sum((w @ basis["u"]) ** 2)

    expected = jax.jit(jax.grad(unrolled))(basis)
    for name, leaf in expected.items():
        error = jnp.linalg.norm(implicit[name] - leaf)
        assert error <= 1e-6 * jnp.linalg.norm(leaf)


def test_a_layer_within_a_model_that_is_trained():
    """Its tolerances are arrays, on which the optimum does not depend."""
    layer = HardConstraint(cubic, GramLevenbergMarquardt(rtol=1e-8))
    basis = tanh_basis(features(3))
    of = lambda layer: jnp.sum(layer(basis, SOURCE).value["u"])
    gradient = eqx.filter_jit(eqx.filter_grad(of))(layer)
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(gradient))


def test_second_derivatives():
    layer = HardConstraint(cubic)
    basis = tanh_basis(features(3))
    energy = jax.jit(lambda f: jnp.sum(layer(basis, f * SOURCE).value["u"] ** 2))
    second = jax.grad(jax.grad(energy))(1.0)
    h = 1e-3
    first = jax.grad(energy)
    expected = (first(1.0 + h) - first(1.0 - h)) / (2 * h)
    np.testing.assert_allclose(second, expected, rtol=1e-5)


@pytest.mark.parametrize("solver", [GramLevenbergMarquardt(), LinearLeastSquares()])
def test_an_exact_solution_in_the_span_is_found(solver):
    fields = jnp.stack([jnp.sin(k * jnp.pi * X) for k in range(1, 8)])
    squares = (jnp.pi * jnp.arange(1.0, 8.0)) ** 2
    basis = {"u": fields, "u_xx": -squares[:, None] * fields}
    source = 3.0 * squares[4] * fields[4] - squares[1] * fields[1]
    layer = HardConstraint(lambda t, f: -t["u_xx"] - f, solver)
    out = layer(basis, source)
    assert out.stats["residual_norm"] <= 1e-10 * jnp.linalg.norm(source)
    np.testing.assert_allclose(out.value["u"], 3 * fields[4] - fields[1], atol=1e-10)


def test_duplicated_and_vanishing_basis_fields_do_no_harm():
    basis = tanh_basis(features(4))
    layer = HardConstraint(cubic)
    double = jax.tree.map(
        lambda x: jnp.concatenate([x, x, jnp.zeros_like(x[:1])]), basis
    )
    plain, out = layer(basis, SOURCE), layer(double, SOURCE)
    np.testing.assert_allclose(out.value["u"], plain.value["u"], atol=1e-8)
    of = lambda b: jnp.sum(layer(b, SOURCE).value["u"] ** 2)
    gradient = jax.grad(of)(double)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    # Half of what moves both copies is what moves the one.
    both = gradient["u_xx"][:4] + gradient["u_xx"][4:8]
    expected = jax.grad(of)(basis)["u_xx"]
    assert jnp.linalg.norm(both - expected) <= 1e-5 * jnp.linalg.norm(expected)


def test_sides_offset_and_sampled_nodes():
    """u_t = u_xx / π² with u(x, 0) = sin πx: decays like exp(−t)."""
    x, t = jnp.linspace(0, 1, 17), jnp.linspace(0, 1, 13)
    shapes = jnp.stack([jnp.sin(jnp.pi * x), jnp.sin(2 * jnp.pi * x), 1 - x, x])
    times = jnp.stack([jnp.ones(13), jnp.exp(-t) - 1, jnp.exp(-4 * t) - 1])
    rates = jnp.stack([jnp.zeros(13), -jnp.exp(-t), -4 * jnp.exp(-4 * t)])
    seconds = jnp.diag(jnp.array([-1.0, -4.0, 0.0, 0.0])) @ shapes
    product = lambda a, b: jnp.einsum("ix,jt->ijxt", a, b).reshape(12, 17, 13)
    basis = {
        "u": product(shapes, times),
        "u_t": product(shapes, rates),
        "u_xx": product(seconds, times),
    }
    start = jnp.outer(jnp.sin(jnp.pi * x), jnp.ones(13))
    value = lambda terms, start: terms["u"]
    layer = HardConstraint(
        lambda terms, start: terms["u_t"] - terms["u_xx"],
        LinearLeastSquares(),
        sides=(
            Side(lambda terms, start: terms["u"] - start, axis=1, weight=10.0),
            Side(value, axis=0),
            Side(value, axis=0, end=-1),
        ),
        num_points=60,
    )
    out = layer(basis, start, key=jr.key(3))
    expected = jnp.outer(jnp.sin(jnp.pi * x), jnp.exp(-t))
    np.testing.assert_allclose(out.value["u"], expected, atol=1e-9)
    again, other = (layer(basis, start, key=jr.key(k)).stats for k in (3, 4))
    assert again["residual_norm"] == out.stats["residual_norm"]
    assert other["residual_norm"] != out.stats["residual_norm"]
    # The same from the initial value as an offset.
    offset = {"u": start, "u_t": jnp.zeros((17, 13)), "u_xx": -start}
    out = layer(basis, start, offset=offset, key=jr.key(3))
    np.testing.assert_allclose(out.value["u"], expected, atol=1e-9)


def test_single_precision_in_and_out_double_precision_within():
    basis = jax.tree.map(lambda x: x.astype(jnp.float32), tanh_basis(features(8)))
    out = HardConstraint(cubic)(basis, SOURCE.astype(jnp.float32))
    assert out.value["u"].dtype == jnp.float32
    assert out.stats["weights"].dtype == jnp.float64
    wide = HardConstraint(cubic)(
        jax.tree.map(lambda x: x.astype(jnp.float64), basis), SOURCE
    )
    np.testing.assert_allclose(out.value["u"], wide.value["u"], atol=1e-6)


def test_without_double_precision_it_says_so_and_meets_its_tolerance():
    with jax.enable_x64(False):
        parameters = features(4, jnp.float32)
        x = jnp.linspace(0.0, 1.0, 64, dtype=jnp.float32)
        source = SOURCE.astype(jnp.float32)
        with pytest.warns(UserWarning, match="double precision"):
            out = HardConstraint(cubic)(tanh_basis(parameters, x), source)
        assert out.stats["weights"].dtype == jnp.float32
        assert out.stats["relative_gradient"] <= 1e-5
        with (
            pytest.warns(UserWarning, match="double precision"),
            pytest.raises(ValueError, match="ridge"),
        ):
            HardConstraint(cubic, ridge=1e-4)(tanh_basis(parameters, x), source)


def test_a_batch_is_what_its_samples_are():
    layer = HardConstraint(cubic)
    basis = tanh_basis(features(4))
    scales = jnp.array([0.5, 1.0, 4.0])
    solve = lambda scale: layer(basis, scale * SOURCE)
    one_by_one = jax.lax.map(solve, scales)
    together = jax.vmap(solve)(scales)
    np.testing.assert_allclose(together.value["u"], one_by_one.value["u"], rtol=1e-9)
    assert jnp.all(together.stats["num_steps"] == one_by_one.stats["num_steps"])


def test_large_residuals_are_no_slow_ones():
    """Gauss and Newton's steps alone take 200 here."""
    layer = HardConstraint(lambda u, target: jnp.exp(u) + u**2 - target)
    basis = jnp.stack([jnp.ones(64), X])
    target = jnp.where(X < 0.4, -3.0, 9.0)
    out = layer(basis, target)
    assert out.stats["residual_norm"] > 1.0
    assert out.stats["num_steps"] < 20
    assert out.stats["relative_gradient"] < 1e-8


def test_too_few_steps_are_named_and_give_no_derivative():
    basis = tanh_basis(features(5))
    layer = HardConstraint(cubic, GramLevenbergMarquardt(max_steps=2))
    out = layer(basis, SOURCE, throw=False)
    assert out.result == sciml.RESULTS.max_steps_reached
    of = lambda f: jnp.sum(layer(basis, f, throw=False).value["u"])
    assert jnp.all(jnp.isnan(jax.grad(of)(SOURCE)))
    with pytest.raises(eqx.EquinoxRuntimeError, match="maximum number of"):
        layer(basis, SOURCE)


def test_other_failures_are_named():
    basis = tanh_basis(features(5))
    nan = HardConstraint(cubic)(basis, SOURCE.at[3].set(jnp.nan), throw=False)
    assert nan.result == sciml.RESULTS.nonfinite
    bent = HardConstraint(cubic, LinearLeastSquares())(basis, SOURCE, throw=False)
    assert bent.result == sciml.RESULTS.stagnated


def test_a_saddle_has_no_derivative():
    """r = ω² − 1 from ω = 0: the gradient vanishes, and so does no residual."""
    basis = jnp.ones((1, 4))
    layer = HardConstraint(lambda u, target: u**2 - target)
    out = layer(basis, jnp.ones(4), throw=False)
    assert out.stats["residual_norm"] == 1.0
    of = lambda target: jnp.sum(layer(basis, target, throw=False).value)
    assert jnp.all(jnp.isnan(jax.grad(of)(jnp.ones(4))))
    with pytest.raises(eqx.EquinoxRuntimeError, match="no derivative"):
        jax.grad(lambda t: jnp.sum(layer(basis, t).value))(jnp.ones(4))
    # From elsewhere there is one: ω = √target.
    start = jnp.array([0.7])
    of = lambda target: jnp.sum(layer(basis, target * jnp.ones(4), start=start).value)
    np.testing.assert_allclose(jax.grad(of)(1.0), 2.0, rtol=1e-6)


def test_what_it_refuses():
    basis = tanh_basis(features(3))
    layer = HardConstraint(cubic)
    with pytest.raises(ValueError, match="basis"):
        layer({"u": basis["u"], "u_xx": basis["u_xx"][:2]}, SOURCE)
    with pytest.raises(ValueError, match="basis"):
        layer(jnp.zeros((0, 4)), SOURCE)
    with pytest.raises(ValueError, match="real"):
        layer(jnp.ones((2, 4), complex), SOURCE)
    with pytest.raises(ValueError, match="offset"):
        layer(basis, SOURCE, offset={"u": SOURCE, "u_xx": SOURCE[:3]})
    with pytest.raises(ValueError, match="start"):
        layer(basis, SOURCE, start=jnp.zeros(4))
    with pytest.raises(ValueError, match="key"):
        HardConstraint(cubic, num_points=8)(basis, SOURCE)
    with pytest.raises(ValueError, match="num_points"):
        HardConstraint(cubic, num_points=65)(basis, SOURCE, key=jr.key(0))
    with pytest.raises(ValueError, match="axis 1"):
        HardConstraint(cubic, sides=(Side(cubic, axis=1),))(basis, SOURCE)
    with pytest.raises(ValueError, match="terms"):
        short = HardConstraint(cubic, terms=lambda u: u[1:], sides=(Side(cubic, 0),))
        short(basis["u"], SOURCE)
    with pytest.raises(ValueError, match="ridge"):
        HardConstraint(cubic, ridge=0.0)
    with pytest.raises(ValueError, match="num_points"):
        HardConstraint(cubic, num_points=0)
    with pytest.raises(TypeError, match="solver"):
        HardConstraint(cubic, sciml.CG())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="ridge"):
        HardConstraint(cubic, ridge=1e-9)(basis, SOURCE)
    with pytest.raises(ValueError, match="end"):
        Side(cubic, axis=0, end=2)
    with pytest.raises(ValueError, match="weight"):
        Side(cubic, axis=0, weight=0.0)
    with pytest.raises(ValueError, match="axis"):
        Side(cubic, axis=-1)
    with pytest.raises(ValueError, match="rtol"):
        GramLevenbergMarquardt(rtol=-1.0)
    with pytest.raises(ValueError, match="max_steps"):
        GramLevenbergMarquardt(max_steps=0)
