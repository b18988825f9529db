"""The heat sequence: its systems, the published protocol, one program for all."""

# Wrong arguments are the point here, and SciPy's annotations know one diagonal.
# pyright: reportArgumentType=false

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import problems
import sciml
from sciml.linear import to_scipy

N, H, DT = 25, 1 / 25, 1e-3
PROBLEM = problems.HeatSequence(N)


@functools.cache
def laplacian():
    line = sp.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(N - 1, N - 1))
    return sp.kronsum(line, line).tocsr() / H**2


def conductivity(time):
    return max(0.1 * np.sin(2 * np.pi * time), -10 * np.sin(2 * np.pi * time))


def bump(x, y, radius):
    nodes = np.arange(1, N) * H
    square = ((nodes[:, None] - x) ** 2 + (nodes - y) ** 2) / radius**2
    with np.errstate(divide="ignore"):
        return np.exp(1 - 1 / (1 - np.minimum(1, square))).ravel()


def by_hand(step, u):
    half = (step + 0.5) * DT
    part = 0.5 * conductivity(half) * DT * laplacian()
    eye = sp.eye((N - 1) ** 2)
    angle = 16 * np.pi * half
    source = bump(0.5 + np.cos(angle) / 4, 0.5 + np.sin(angle) / 4, 0.125)
    return (eye - part).tocsr(), (eye + part) @ u + DT * 32 * source


@pytest.mark.parametrize("step", [0, 700, 3251])
def test_systems_by_hand(step):
    u = np.random.default_rng(0).normal(size=(N - 1) ** 2)
    field = jnp.asarray(u.reshape(N - 1, N - 1))
    A, b = eqx.filter_jit(PROBLEM.system)(jnp.asarray(step), field)
    matrix, vector = by_hand(step, u)
    assert abs(to_scipy(A) - matrix).max() < 1e-13
    np.testing.assert_allclose(np.ravel(b), vector, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(PROBLEM.context(step), conductivity(step * DT))
    jacobi = sp.eye(u.size) - matrix / matrix.diagonal()[0]
    radius = abs(spla.eigsh(jacobi, 1, v0=np.ones(u.size), return_eigenvectors=False))
    np.testing.assert_allclose(PROBLEM.jacobi_radius(step), radius[0], rtol=1e-8)
    np.testing.assert_allclose(np.ravel(PROBLEM.initial()), bump(0.5, 0.5, 0.25))


def conjugate_gradients(A, b, x, M=lambda r: r):
    r = b - A @ x
    z = p = M(r)
    product, steps = r @ z, 0
    while np.linalg.norm(r) > 1e-8 * np.linalg.norm(b):
        q = A @ p
        alpha = product / (p @ q)
        x, r = x + alpha * p, r - alpha * q
        z = M(r)
        p, product = z + (r @ z) / product * p, r @ z
        steps += 1
    return x, steps


def test_the_protocol():
    """Counts of warm-started CG are those of a loop in NumPy; one program runs it."""
    traces = []

    @jax.jit
    def advance(step, u):
        traces.append(step)
        A, b = PROBLEM.system(step, u)
        solution = sciml.linear_solve(A, b, sciml.CG(rtol=1e-8), x0=u)
        return solution.value, solution.stats["num_steps"]

    u = PROBLEM.initial()
    v = np.ravel(u)
    ours, theirs = [], []
    # Where κ grows to its largest value.
    for step in range(690, 720):
        u, steps = advance(step, u)
        v, count = conjugate_gradients(*by_hand(step, v), v)
        ours.append(int(steps))
        theirs.append(count)
    assert len(traces) == 1
    assert abs(sum(ours) - sum(theirs)) <= 2 and min(theirs) > 20
    np.testing.assert_allclose(np.ravel(u), v, atol=1e-6)


def ssor(A, omega):
    """r ↦ X⁻ᵀ D X⁻¹ r with X = D + ωL; its scale plays no part in CG."""
    diagonal = A.diagonal()
    factor = (sp.diags(diagonal) + omega * sp.tril(A, -1)).tocsc()
    triangle = spla.splu(
        factor, "NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return lambda r: triangle.solve(diagonal * triangle.solve(r), "T")


@pytest.mark.slow
@pytest.mark.parametrize(
    "omega, total", [(None, 85422), (1.0, 32793), (1.5, 32318), ("young", 24038)]
)
def test_the_totals_that_the_docstring_gives(omega, total):
    u, sum_of_steps = bump(0.5, 0.5, 0.25), 0
    for step in range(PROBLEM.num_steps):
        A, b = by_hand(step, u)
        arguments = []
        if omega is not None:
            radius = float(PROBLEM.jacobi_radius(step))
            young = 2 / (1 + np.sqrt(1 - radius**2))
            arguments = [ssor(A, young if omega == "young" else omega)]
        u, steps = conjugate_gradients(A, b, u, *arguments)
        sum_of_steps += steps
    # Rounding may shift a step here or there.
    assert abs(sum_of_steps - total) <= 20


def test_mistakes():
    for arguments, message in (
        ({"num_intervals": 1}, "num_intervals: expected at least 2, got 1"),
        ({"num_steps": 0}, "num_steps: expected at least 1, got 0"),
        ({"final_time": 0.0}, "final_time: expected a positive number, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            problems.HeatSequence(**arguments)
