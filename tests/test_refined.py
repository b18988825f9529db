"""Refinement in two precisions, and preconditioners with another in reserve."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from linear_cases import PSD, matrix_operator, outcome, spd_matrix

import sciml
from sciml.grids import Grid
from sciml.linear import CG, GMRES, MINRES, Refined, diffusion_operator, linear_solve
from sciml.preconditioners import Fallback, Jacobi, Multigrid

N = 24


@eqx.filter_jit
def solve(A, b, solver, M=None, x0=None):
    return linear_solve(A, b, solver, preconditioner=M, x0=x0, throw=False)


def true_residual(A, x, b):
    A, x, b = (np.asarray(v) for v in (A, x, b))
    return np.linalg.norm(b - A @ x) / np.linalg.norm(b)


# --- Refined --------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [1e2, 1e5])
@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_refinement_reaches_double_precision(condition, scale):
    A = spd_matrix(N, condition)
    b = np.random.default_rng(0).normal(size=N) * scale
    rtol = 1e-13 * condition
    solution = solve(matrix_operator(A), jnp.asarray(b), Refined(rtol=rtol))
    assert outcome(solution.result) == "successful"
    assert true_residual(A, solution.value / scale, b / scale) <= rtol
    rounds = int(solution.stats["num_refinements"])
    history = np.asarray(solution.stats["residual_history"])
    assert 2 <= rounds <= 8
    assert (
        np.isfinite(history[: rounds + 1]).all()
        and np.isnan(history[rounds + 1 :]).all()
    )
    assert history[rounds] == solution.stats["relative_residual"]


def test_the_rounds_run_in_single_precision():
    """Their program has no product with A in double precision but the residual's."""
    A = diffusion_operator(jnp.ones((15, 15)), Grid((15, 15)))
    b = jnp.ones((15, 15))
    text = str(jax.make_jaxpr(lambda b: solve(A, b, Refined(rtol=1e-12)).value)(b))
    inner = text[text.index("while") :]
    assert "f32[15,15]" in inner
    solution = solve(A, b, Refined(rtol=1e-12), Multigrid())
    assert outcome(solution.result) == "successful"
    assert solution.value.dtype == jnp.float64
    plain = solve(A, b, CG(rtol=1e-12), Multigrid())
    np.testing.assert_allclose(solution.value, plain.value, rtol=1e-9)


def test_ill_conditioned_stagnates():
    A = spd_matrix(N, 1e12)
    b = np.random.default_rng(0).normal(size=N)
    solution = solve(matrix_operator(A), jnp.asarray(b), Refined(rtol=1e-12))
    assert outcome(solution.result) != "successful"
    assert true_residual(A, solution.value, b) > 1e-12


def test_refinement_of_other_methods():
    rng = np.random.default_rng(0)
    general = rng.normal(size=(N, N)) + 8 * np.eye(N)
    symmetric = general + general.T - 16 * np.eye(N)
    b = jnp.asarray(rng.normal(size=N))
    for matrix, tags, inner in (
        (general, frozenset(), GMRES(rtol=1e-4)),
        (symmetric, lx.symmetric_tag, MINRES(rtol=1e-4)),
        (general + 1j * rng.normal(size=(N, N)), frozenset(), GMRES(rtol=1e-4)),
    ):
        A = lx.MatrixLinearOperator(jnp.asarray(matrix), tags)
        right = b.astype(matrix.dtype)
        solution = solve(A, right, Refined(inner, rtol=1e-11))
        assert outcome(solution.result) == "successful"
        assert true_residual(matrix, solution.value, right) <= 1e-11


def test_failures_inside_keep_their_name():
    A, b = spd_matrix(N), jnp.ones(N)
    eye = np.eye(N)
    cases = {
        "indefinite_preconditioner": (A, -eye),
        "indefinite_operator": (A - 20 * eye, eye),
        "nonfinite": (A, np.full((N, N), np.nan)),
    }
    for name, (matrix, M) in cases.items():
        solution = solve(matrix_operator(matrix), b, Refined(), matrix_operator(M))
        assert outcome(solution.result) == name
        assert np.isfinite(solution.value).all()
    solution = solve(matrix_operator(A), b, Refined(rtol=1e-12, max_steps=1))
    assert outcome(solution.result) == "max_steps_reached"
    zero = solve(matrix_operator(A), 0 * b, Refined(), None, b)
    assert outcome(zero.result) == "successful" and not zero.value.any()


def test_refinement_has_derivatives():
    A, b = jnp.asarray(spd_matrix(N)), jnp.ones(N)

    def energy(A, solver):
        return jnp.sum(solve(lx.MatrixLinearOperator(A, PSD), b, solver).value ** 2)

    got, expected = (
        jax.grad(energy)(A, solver) for solver in (Refined(rtol=1e-12), CG(rtol=1e-12))
    )
    np.testing.assert_allclose(got, expected, rtol=1e-8)


def test_refinement_refuses_what_it_cannot_round():
    matrix = jnp.asarray(spd_matrix(N))
    closed = lx.FunctionLinearOperator(
        lambda x: matrix @ x, jax.ShapeDtypeStruct((N,), jnp.float64), PSD
    )
    with pytest.raises(TypeError, match="rounding the arrays"):
        linear_solve(closed, jnp.ones(N), Refined())
    with pytest.raises(TypeError, match="another Refined"):
        Refined(Refined())
    with pytest.raises(ValueError, match="dtype"):
        Refined(dtype=jnp.int32)


# --- Fallback -------------------------------------------------------------------------


def bad():
    rng = np.random.default_rng(1)
    turned = np.linalg.qr(rng.normal(size=(N, N)))[0]
    return {
        "minus": -np.eye(N),
        "zero": np.zeros((N, N)),
        "NaN": np.full((N, N), np.nan),
        "indefinite": np.diag(np.where(np.arange(N) % 2, 1.0, -1.0)),
        "rotation": turned,
    }


@pytest.mark.parametrize("name", bad())
def test_the_second_takes_over(name):
    A, b = spd_matrix(N), jnp.asarray(np.random.default_rng(0).normal(size=N))
    M = Fallback(matrix_operator(bad()[name]))
    for solver in (CG(rtol=1e-9), sciml.linear.FlexibleCG(rtol=1e-9)):
        solution = solve(matrix_operator(A), b, solver, M)
        assert outcome(solution.result) == "successful"
        assert true_residual(A, solution.value, b) <= 1e-9
        stats = solution.stats
        steps, taken = int(stats["num_steps"]), int(stats["fallback_step"])
        assert 0 <= taken < steps
        history = np.asarray(stats["residual_history"])
        assert np.isfinite(history[: steps + 1]).all()
        assert np.isnan(history[steps + 1 :]).all()


def test_the_first_stays_where_it_can():
    A, b = spd_matrix(N), jnp.ones(N)
    good = np.linalg.inv(A)
    solution = solve(matrix_operator(A), b, CG(), Fallback(matrix_operator(good)))
    assert solution.stats["fallback_step"] == -1 and solution.stats["num_steps"] <= 2
    # What is not the preconditioner's fault is not retried.
    few = CG(rtol=1e-12, max_steps=2)
    solution = solve(matrix_operator(A), b, few, Fallback(Jacobi()))
    assert outcome(solution.result) == "max_steps_reached"
    assert solution.stats["fallback_step"] == -1
    turned = matrix_operator(A - 20 * np.eye(N))
    solution = solve(turned, b, CG(), Fallback(matrix_operator(np.eye(N))))
    assert outcome(solution.result) == "indefinite_operator"


def test_fallback_in_a_batch_in_lineax_and_in_derivatives():
    A, b = jnp.asarray(spd_matrix(N)), jnp.ones(N)
    Ms = jnp.stack([jnp.asarray(np.linalg.inv(A)), -jnp.eye(N)])

    def one(M):
        return solve(
            lx.MatrixLinearOperator(A, PSD),
            b,
            CG(rtol=1e-9),
            Fallback(lx.MatrixLinearOperator(M, PSD)),
        )

    batch = jax.vmap(one)(Ms)
    np.testing.assert_array_equal(batch.stats["fallback_step"], [-1, 0])
    np.testing.assert_allclose(batch.value[0], batch.value[1], rtol=1e-7)

    M = Fallback(matrix_operator(-np.eye(N)))
    solution = lx.linear_solve(
        lx.MatrixLinearOperator(A, PSD), b, CG(rtol=1e-9), options={"preconditioner": M}
    )
    assert solution.stats["fallback_step"] == 0

    def energy(A, M):
        A = lx.MatrixLinearOperator(A, PSD)
        return jnp.sum(solve(A, b, CG(rtol=1e-10), M).value)

    np.testing.assert_allclose(
        jax.grad(energy)(A, M), jax.grad(energy)(A, None), rtol=1e-6
    )


def test_fallback_of_a_builder_on_the_host():
    A = diffusion_operator(1.0, Grid((15,)))
    M = Fallback(sciml.preconditioners.FSAI(), sciml.preconditioners.Jacobi())
    assert M.on_host and not Fallback(Jacobi()).on_host
    solution = linear_solve(A, jnp.ones(15), CG(), preconditioner=M)
    assert solution.stats["fallback_step"] == -1
    with pytest.raises(ValueError, match="structure of first"):
        sciml.linear.FallbackOperator(A, diffusion_operator(1.0, Grid((14,))))
