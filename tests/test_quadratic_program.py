"""Quadratic programs: solved, or named; derivatives where there are any."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportCallIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.io
import scipy.optimize
from jax.test_util import check_grads
from linear_cases import outcome

from sciml.constraints import Polyhedron, quadratic_program

# Of Maros & Mészáros, Optim. Methods Softw. 11 (1999) 671; constants are in the data.
OPTIMA = {
    "CVXQP1_S": 1.15907181e4,
    "CVXQP2_S": 8.12094048e3,
    "CVXQP3_S": 1.19434322e4,
    "DUALC1": 6.15525083e3,
    "DUALC5": 4.27232327e2,
    "GENHS28": 9.27173694e-1,
    "HS118": 6.64820450e2,
    "HS21": -9.99600000e1,
    "HS35": 1.11111111e-1,
    "HS51": 8.88178420e-16,
    "HS52": 5.32664756,
    "HS53": 4.09302326,
    "HS76": -4.68181818,
    "PRIMALC1": -6.15525083e3,
    "QAFIRO": -1.59078179,
}


def read(path):
    """P, q, A, b, G, h and the constant, from l ≤ A x ≤ u."""
    data = scipy.io.loadmat(path)
    dense = lambda m: np.asarray(m.toarray() if hasattr(m, "toarray") else m, float)
    vector = lambda name: data[name].ravel().astype(float)
    A, low, high = dense(data["A"]), vector("l"), vector("u")
    equal = low == high
    over, under = (high < 1e19) & ~equal, (low > -1e19) & ~equal
    G = np.concatenate([A[over], -A[under]])
    h = np.concatenate([high[over], -low[under]])
    program = dense(data["P"]), vector("q"), A[equal], low[equal], G, h
    return program, float(data["r"].item())


def optimality(program, x, y, z):
    """The largest relative residual, by NumPy, with no floor under what divides it."""
    P, q, A, b, G, h = program
    largest = lambda *parts: max(np.abs(p).max(initial=0.0) for p in parts)
    positive = lambda v: np.maximum(v, 0.0)
    ratio = lambda residual, size: 0.0 if residual == 0 else residual / size
    works = [x @ P @ x, q @ x, b @ y, h @ z]
    # (HS52: b = 0 = A x, an equation that only has an absolute residual.)
    sides = largest(A @ x, b, G @ x, h) if largest(b, h) else largest(x)
    return max(
        ratio(
            largest(P @ x + q + A.T @ y + G.T @ z), largest(P @ x, q, A.T @ y, G.T @ z)
        ),
        ratio(largest(A @ x - b, positive(G @ x - h)), sides),
        ratio(largest(positive(-z)), largest(z)),
        ratio(largest(z * (h - G @ x)), largest(*works)),
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", OPTIMA)
def test_files(name, data_folder):
    program, constant = read(data_folder / "qp" / f"{name}.mat")
    solution = quadratic_program(*program, throw=False)
    assert outcome(solution.result) == "successful"
    stats = solution.stats
    y, z = stats["equality_multiplier"], stats["inequality_multiplier"]
    error = optimality(program, *(np.asarray(v) for v in (solution.value, y, z)))
    assert error <= 1e-12
    assert stats["kkt_residual"] <= 1e-8 and stats["num_steps"] <= 25
    optimum = float(stats["objective"]) + constant
    np.testing.assert_allclose(optimum, OPTIMA[name], rtol=1e-8, atol=1e-8)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["CVXQP2_S", "HS118", "HS53", "HS76", "QAFIRO"])
def test_files_in_single_precision(name, data_folder):
    program, _ = read(data_folder / "qp" / f"{name}.mat")
    solution = quadratic_program(*(jnp.asarray(p, np.float32) for p in program))
    assert solution.value.dtype == np.float32
    assert solution.stats["kkt_residual"] <= 1e-5


def random_program(key, n=6, m=2, p=5):
    """Strictly convex, with a strictly feasible point."""
    keys = jr.split(key, 6)
    root = jr.normal(keys[0], (n, n))
    A, G = jr.normal(keys[1], (m, n)), jr.normal(keys[2], (p, n))
    inside = jr.normal(keys[3], (n,))
    h = G @ inside + jr.uniform(keys[4], (p,), minval=0.1, maxval=1.0)
    q = 5 * jr.normal(keys[5], (n,))
    return root @ root.T + 0.1 * jnp.eye(n), q, A, A @ inside, G, h


def test_against_another_code(getkey):
    for _ in range(3):
        program = random_program(getkey())
        P, q, A, b, G, h = (np.asarray(v) for v in program)
        reference = scipy.optimize.minimize(
            lambda x, P=P, q=q: 0.5 * x @ P @ x + q @ x,
            np.zeros(6),
            jac=lambda x, P=P, q=q: P @ x + q,
            constraints=[
                {"type": "eq", "fun": lambda x, A=A, b=b: A @ x - b},
                {"type": "ineq", "fun": lambda x, G=G, h=h: h - G @ x},
            ],
            options={"ftol": 1e-14, "maxiter": 300},
        )
        value = quadratic_program(*program).value
        np.testing.assert_allclose(value, reference.x, atol=1e-5)


def test_under_transformations(getkey):
    programs = [random_program(getkey()) for _ in range(4)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *programs)
    together = jax.jit(jax.vmap(lambda *p: quadratic_program(*p, throw=False)))(*batch)
    for k, program in enumerate(programs):
        alone = quadratic_program(*program)
        np.testing.assert_allclose(together.value[k], alone.value, atol=1e-11)
        assert together.stats["num_steps"][k] == alone.stats["num_steps"]


# --- how it ends ----------------------------------------------------------------------

EYE, ONE, BOX = np.eye(3), np.ones(3), np.concatenate([np.eye(3), -np.eye(3)])
ROW = np.ones((1, 3))
ENDS = {
    "a box that is empty": ("infeasible", (EYE, ONE, None, None, BOX, -np.ones(6))),
    "a negative sum of positive numbers": (
        "infeasible",
        (EYE, ONE, ROW, -np.ones(1), -EYE, np.zeros(3)),
    ),
    "equations that contradict each other": (
        "infeasible",
        (EYE, ONE, np.ones((2, 3)), np.array([1.0, 2.0])),
    ),
    "the same, and inequalities": (
        "infeasible",
        (EYE, ONE, np.ones((2, 3)), np.array([1.0, 2.0]), BOX, np.ones(6)),
    ),
    "an equation written twice": (
        "successful",
        (EYE, ONE, np.ones((2, 3)), np.ones(2), -EYE, np.zeros(3)),
    ),
    "linear, without bounds": ("unbounded", (0 * EYE, ONE)),
    "linear, unbounded": (
        "unbounded",
        (0 * EYE, -EYE[0], ROW, np.ones(1), -EYE[:2], np.zeros(2)),
    ),
    "linear": (
        "successful",
        (0 * EYE, ONE + EYE[0], ROW, np.ones(1), -EYE, np.zeros(3)),
    ),
    "linear, with many solutions": (
        "successful",
        (0 * EYE, ONE, ROW, np.ones(1), -EYE, np.zeros(3)),
    ),
    "a saddle": (
        "nonconvex",
        (np.diag([1.0, 1.0, -1.0]), ONE, None, None, BOX, np.ones(6)),
    ),
    "NaN": ("nonfinite", (EYE, ONE * np.nan, None, None, BOX, np.ones(6))),
    "NaN in P": ("nonfinite", (EYE * np.nan, ONE)),
    "no lower bound at all": (
        "nonfinite",
        (EYE, ONE, None, None, EYE, np.array([1.0, 1.0, -np.inf])),
    ),
    "infinite bounds": (
        "successful",
        (EYE, ONE, None, None, BOX, np.array([1.0, np.inf, 1e20, 3, 0.5, 1e30])),
    ),
    "a vertex where all is zero": (
        "successful",
        (EYE, ONE, None, None, -BOX, np.zeros(6)),
    ),
    "more constraints at a vertex than unknowns": (
        "successful",
        (EYE, -ONE, None, None, np.concatenate([EYE, ROW, 2 * ROW]), np.zeros(5)),
    ),
    "zero": ("successful", (EYE, 0 * ONE, None, None, EYE, ONE)),
    "nothing to do": ("successful", (EYE, 0 * ONE)),
    "units": (
        "successful",
        (1e-6 * EYE, 1e3 * ONE, 1e5 * ROW, 1e2 * np.ones(1), BOX, 1e7 * np.ones(6)),
    ),
}


def padded(matrix, side, rows, unbounded):
    """As many rows for every case: one program to compile."""
    matrix = np.zeros((0, 3)) if matrix is None else np.asarray(matrix)
    side = np.zeros(0) if side is None else np.asarray(side)
    more = rows - side.size
    return (
        np.concatenate([matrix, np.zeros((more, 3))]),
        np.concatenate([side, np.full(more, np.inf if unbounded else 0.0)]),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends(dtype):
    value = lambda *p: jnp.sum(quadratic_program(*p, throw=False).value)
    got, expected = {}, {name: end for name, (end, _) in ENDS.items()}
    for name, (_, (P, q, *rest)) in ENDS.items():
        A, b, G, h = (*rest, None, None, None, None)[:4]
        parts = P, q, *padded(A, b, 2, False), *padded(G, h, 6, True)
        parts = [jnp.asarray(p, dtype) for p in parts]
        solution = quadratic_program(*parts, throw=False)
        got[name] = outcome(solution.result)
        met = solution.stats["kkt_residual"] <= solution.stats["tolerance"]
        assert bool(met) == (got[name] == "successful") or got[name] == "nonconvex"
        if got[name] != "successful":
            slope = jax.grad(value)(*parts)
            assert np.isnan(slope).all(), name
    assert got == expected


def test_ends_without_constraints():
    for P, q, expected in [
        (EYE, 0 * ONE, "successful"),
        (0 * EYE, ONE, "unbounded"),
        (-EYE, ONE, "nonconvex"),
        (EYE * np.nan, ONE, "nonfinite"),
    ]:
        assert outcome(quadratic_program(P, q, throw=False).result) == expected
    with pytest.raises(eqx.EquinoxRuntimeError, match="falls without bound"):
        quadratic_program(0 * EYE, ONE)
    P, q, A, b, G, h = (*ENDS["a box that is empty"][1],)
    with pytest.raises(eqx.EquinoxRuntimeError, match="constraints contradict"):
        quadratic_program(P, q, A, b, G, h)


def test_too_few_steps(getkey):
    program = random_program(getkey())
    solution = quadratic_program(*program, max_steps=1, throw=False)
    assert outcome(solution.result) == "max_steps_reached"
    assert solution.stats["kkt_residual"] > 1e-8 and solution.stats["num_steps"] == 1


def test_refused():
    P, q, A, b = np.eye(3), np.ones(3), np.ones((1, 3)), np.ones(1)
    for arguments, message in [
        ((P, np.ones(3, int)), "q: expected .* got int"),
        ((P[:2], q), r"P: expected shape \(3, 3\).* got \(2, 3\)"),
        ((P, q, A), "A, b: expected both or neither"),
        ((P, q, A[:, :2], b), r"A: expected shape \(1, 3\)"),
        ((P, q, None, None, A, np.ones(2)), r"G: expected shape \(2, 3\)"),
        ((P.astype(np.float32), q), "P: expected dtype float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            quadratic_program(*arguments)
    with pytest.raises(ValueError, match="max_steps: expected at least 1"):
        quadratic_program(P, q, max_steps=0)
    with pytest.raises(ValueError, match="expected equations or inequalities"):
        Polyhedron()
    with pytest.raises(ValueError, match="weights: expected finite values above 0"):
        Polyhedron(A, b, weights=-1.0)
    with pytest.raises(ValueError, match=r"weights: .* of shape \(3,\), as point"):
        Polyhedron(A, b, weights=np.ones(2))(q)


# --- derivatives ----------------------------------------------------------------------


@pytest.mark.slow
def test_derivatives_in_all_six(getkey):
    program = random_program(getkey())
    solution = quadratic_program(*program)
    # Some are active, some are not, and none is in between.
    pressed = solution.stats["inequality_multiplier"] > 1e-3
    assert 0 < np.sum(pressed) < 5

    def everything(*program):
        solution = quadratic_program(*program)
        return solution.value, solution.stats["inequality_multiplier"]

    check_grads(
        everything, program, order=1, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5
    )
    loss = lambda q, h: jnp.sum(
        quadratic_program(program[0], q, *program[2:5], h).value ** 3
    )
    check_grads(loss, (program[1], program[5]), order=2, modes=("rev",), rtol=1e-4)


def test_derivatives_of_the_files(data_folder):
    """Along one direction, where the optimum is strict, against differences."""
    compared = 0
    for name in ("HS21", "HS76", "HS118"):
        (P, q, *rest), _ = read(data_folder / "qp" / f"{name}.mat")
        direction = np.random.default_rng(0).normal(size=q.shape)
        value = lambda t, P=P, q=q, rest=rest, d=direction: (
            quadratic_program(P, q + t * d, *rest, throw=False).value
        )
        _, slope = jax.jvp(value, (0.0,), (1.0,))
        if np.isnan(slope).any():
            continue
        step = 1e-4
        difference = (value(step) - value(-step)) / (2 * step)
        np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-7)
        compared += 1
    assert compared == 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [np.float64])
@pytest.mark.parametrize(
    "case", ["touched, not pressed", "x not unique", "a constraint twice"]
)
def test_no_derivative(case, dtype):
    one = lambda *rows: jnp.asarray(rows, dtype)
    P, q, G, h = {
        "touched, not pressed": (one([1.0]), one(-1.0), one([1.0]), one(1.0)),
        "x not unique": (
            jnp.zeros((2, 2), dtype),
            one(1, 1),
            -one([1, 1], [1, 0]),
            one(-1, 0),
        ),
        "a constraint twice": (one([1.0]), one(-2.0), one([1.0], [1.0]), one(1.0, 1.0)),
    }[case]
    assert outcome(quadratic_program(P, q, G=G, h=h).result) == "successful"
    total = lambda q, throw: jnp.sum(
        quadratic_program(P, q, G=G, h=h, throw=throw).value
    )
    assert np.isnan(jax.grad(total)(q, False)).all()
    with pytest.raises(eqx.EquinoxRuntimeError, match="no derivative here"):
        jax.grad(total)(q, True)


# --- polyhedra ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_polyhedron(dtype, getkey):
    A, b, G, h = (jnp.asarray(v, dtype) for v in random_program(getkey(), 8, 2, 12)[2:])
    w = jr.uniform(getkey(), (8,), dtype, minval=0.5, maxval=2.0)
    layer = Polyhedron(A, b, G, h, w)
    points = 3 * jr.normal(getkey(), (20, 8), dtype)
    values = jax.vmap(layer)(points)
    eps = np.finfo(dtype).eps
    size = 1 + np.max(np.abs(values)) * 10
    assert np.max(np.abs(values @ A.T - b[None, :])) <= 20 * eps * size
    assert np.max(values @ G.T - h[None, :]) <= 20 * eps * size
    # Projecting what is inside does nothing.
    np.testing.assert_allclose(jax.vmap(layer)(values), values, atol=50 * eps * size)
    if dtype == np.float64:
        check_grads(layer, (points[0],), order=1, modes=("rev",), rtol=1e-5)
