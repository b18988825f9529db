"""Projections: exact on inputs never seen, the nearest point, derivatives, refusals."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
from jax.test_util import check_grads
from linear_cases import outcome

import sciml
from sciml.constraints import LinearEquality
from sciml.grids import Grid, Neumann

DTYPES = [np.float32, np.float64]


def same_gradients(f, *args):
    """Both modes against finite differences, twice differentiated too."""
    check_grads(f, args, order=2, modes=("fwd", "rev"), rtol=1e-5, atol=1e-7)


# --- linear equations -----------------------------------------------------------------


def equations(dtype, scale=1.0, seed=0):
    """Rows of lengths from 1e-3 to 1e3, and weights from 0.1 to 10."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(4, 30)) * np.logspace(-3, 3, 4)[:, None]
    w = 10 ** rng.uniform(-1, 1, 30)
    return (jnp.asarray(v, dtype) for v in (A, scale * (A @ rng.normal(size=30)), w))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_equations_hold_to_rounding(dtype, scale, getkey):
    A, b, w = equations(dtype, scale)
    layer = LinearEquality(A, b, w)
    points = scale * jr.normal(getkey(), (50, 30), dtype)
    solutions = jax.vmap(lambda u: layer.project(u, throw=False))(points)
    assert solutions.value.dtype == dtype
    A, b, x = (np.asarray(v, np.float64) for v in (A, b, solutions.value))
    size = np.abs(x) @ np.abs(A).T + np.abs(b)
    worst = np.max(np.abs(x @ A.T - b) / size)
    # Each equation by itself, small ones too; before, it was off by as much as it has.
    assert worst <= 8 * np.finfo(dtype).eps
    assert np.max(np.abs(np.asarray(points, np.float64) @ A.T - b) / size) > 0.1
    assert np.all(jax.vmap(outcome_code)(solutions.result))
    assert np.all(solutions.stats["rank"] == 4)


def outcome_code(result):
    return result == sciml.RESULTS.successful


def test_it_is_the_nearest_point(getkey):
    A, b, w = equations(np.float64)
    u = jr.normal(getkey(), (30,))
    solution = LinearEquality(A, b, w).project(u)
    # The optimality conditions as one system, solved by another code.
    A, b, w = (np.asarray(v) for v in (A, b, w))
    K = np.block([[np.diag(w), A.T], [A, np.zeros((4, 4))]])
    exact = np.linalg.solve(K, np.concatenate([w * np.asarray(u), b]))
    np.testing.assert_allclose(solution.value, exact[:30], rtol=1e-9)
    np.testing.assert_allclose(solution.stats["multiplier"], exact[30:], rtol=1e-9)
    distance = np.sqrt(np.sum(w * (exact[:30] - u) ** 2))
    np.testing.assert_allclose(solution.stats["distance"], distance, rtol=1e-9)
    again = LinearEquality(A, b, w)(solution.value)
    np.testing.assert_allclose(again, solution.value, rtol=1e-13)


def test_derivatives_of_the_nearest_point(getkey):
    keys = [getkey() for _ in range(4)]
    A, b = jr.normal(keys[0], (3, 6)), jr.normal(keys[1], (3,))
    w, u = jr.uniform(keys[2], (6,), minval=0.5, maxval=2.0), jr.normal(keys[3], (6,))
    same_gradients(lambda A, b, w, u: LinearEquality(A, b, w)(u), A, b, w, u)
    # Under jit and vmap as well, and as a layer whose leaves are differentiated.
    total = lambda layer, u: jnp.sum(jax.vmap(layer)(u) ** 3)
    points = jnp.stack([u, 2 * u])
    layer = LinearEquality(A, b, w)
    got = eqx.filter_jit(eqx.filter_grad(total))(layer, points)
    step = 1e-6 * jnp.ones(3)
    ahead, behind = (total(LinearEquality(A, b + s * step, w), points) for s in (1, -1))
    np.testing.assert_allclose(jnp.sum(got.vector), (ahead - behind) / 2e-6, rtol=1e-6)


def test_equations_of_fields(getkey):
    """Mean and first moment of two fields, through an operator on a pytree."""
    grid = Grid((9, 8), boundary=Neumann())
    weights = jnp.asarray(grid.cell_weights())
    x = jnp.asarray(grid.mesh()[0])

    def moments(state):
        u, v = state["u"], state["v"]
        return {"u": jnp.sum(weights * u), "uv": jnp.sum(weights * x * (u - v))}

    shape = jax.ShapeDtypeStruct(grid.shape, np.float64)
    A = lx.FunctionLinearOperator(moments, {"u": shape, "v": shape})
    targets = {"u": jnp.asarray(2.0), "uv": jnp.asarray(-1.0)}
    layer = LinearEquality(A, targets, {"u": weights, "v": weights})
    state = {name: jr.normal(getkey(), grid.shape) for name in ("u", "v")}
    value = eqx.filter_jit(layer)(state)
    got = moments(value)
    np.testing.assert_allclose([got["u"], got["uv"]], [2.0, -1.0], rtol=1e-13)
    # Nothing but the two moments' own profiles was added: a constant and x.
    change = (value["v"] - state["v"]) / x.at[0].set(1.0)
    np.testing.assert_allclose(change[1:], change[1, 0], rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dependent_equations(dtype):
    A = jnp.array([[1.0, 1, 0], [2, 2, 0], [0, 0, 1]], dtype)
    u = jnp.array([3.0, 1, 5], dtype)
    good = LinearEquality(A, jnp.array([2.0, 4, 1], dtype))
    solution = good.project(u)
    assert solution.stats["rank"] == 2
    np.testing.assert_allclose(solution.value, [2.0, 0.0, 1.0], atol=1e-6)
    # The point is unique, and so is its derivative in u; in A there is none.
    jacobian = jax.jacrev(good)(u)
    expected = [[0.5, -0.5, 0], [-0.5, 0.5, 0], [0, 0, 0]]
    np.testing.assert_allclose(jacobian, expected, atol=1e-6)
    total = lambda A, throw: jnp.sum(
        LinearEquality(A, good.vector).project(u, throw=throw).value
    )
    assert np.isnan(jax.grad(total)(A, False)).all()
    with pytest.raises(eqx.EquinoxRuntimeError, match="drop the redundant rows"):
        jax.grad(total)(A, True)

    bad = LinearEquality(A, jnp.array([2.0, 5, 1], dtype))
    solution = bad.project(u, throw=False)
    assert outcome(solution.result) == "infeasible"
    assert solution.stats["relative_residual"] > 0.01
    with pytest.raises(eqx.EquinoxRuntimeError, match="constraints contradict"):
        bad(u)
    slope = jax.grad(lambda u: jnp.sum(bad.project(u, throw=False).value))(u)
    assert np.isnan(slope).all()
    # A row of zeros asks for nothing, or for the impossible.
    row = jnp.zeros((1, 3), dtype)
    for b, expected in ((0.0, "successful"), (1.0, "infeasible")):
        layer = LinearEquality(row, jnp.array([b], dtype))
        assert outcome(layer.project(u, throw=False).result) == expected


def test_more_equations_than_unknowns(getkey):
    A = jr.normal(getkey(), (5, 3))
    exact = jnp.array([1.0, -2, 3])
    value = LinearEquality(A, A @ exact)(jnp.zeros(3))
    np.testing.assert_allclose(value, exact, rtol=1e-12)
    layer = LinearEquality(A, jnp.ones(5))
    assert outcome(layer.project(exact, throw=False).result) == "infeasible"


@pytest.mark.parametrize("place", ["operator", "vector", "point"])
def test_nan_in_equations(place):
    parts = {"operator": jnp.eye(2, 3), "vector": jnp.ones(2), "point": jnp.ones(3)}
    parts[place] = parts[place] * jnp.nan
    layer = LinearEquality(parts["operator"], parts["vector"])
    solution = layer.project(parts["point"], throw=False)
    assert outcome(solution.result) == "nonfinite"
    with pytest.raises(eqx.EquinoxRuntimeError):
        layer(parts["point"])


def test_refused_equations():
    A, b = jnp.eye(2, 3), jnp.ones(2)
    for arguments, message in [
        ((jnp.ones(3), b), r"operator: expected a matrix .* got shape \(3,\)"),
        ((jnp.eye(2, 3, dtype=int), b), "operator: expected real .* got int"),
        ((A, jnp.ones(3)), r"vector: expected shape \(2,\).* got \(3,\)"),
        ((A, jnp.ones(2, np.float32)), "vector: expected dtype float64"),
        ((A, b, jnp.ones(2)), "weights: expected a number or arrays"),
        ((A, b, -1.0), "weights: expected finite values above 0"),
        ((A, b, jnp.array([1.0, 0, 1])), "weights: expected finite values above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            LinearEquality(*arguments)
    with pytest.raises(ValueError, match=r"point: expected shape \(3,\)"):
        LinearEquality(A, b)(jnp.ones(4))
