"""The certified surrogate: whatever the model says, the answer is solved or flagged."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_cases import outcome

import problems
import sciml
from sciml.grids import Dirichlet, Neumann
from sciml.preconditioners import Jacobi

SHAPE = (9, 8)
PROBLEM = problems.Diffusion(
    SHAPE, boundary=[(Dirichlet(2.0, stored=True), Neumann(0.5)), Dirichlet()]
)
RTOL = 1e-9


class Constant(eqx.Module):
    """A model that says the same whatever it sees."""

    output: jax.Array

    def __call__(self, x):
        return self.output.astype(x.dtype) + 0 * x


@functools.cache
def case():
    """A coefficient, the dense matrix, the right-hand side and the exact solution."""
    a = PROBLEM.sample_coefficient(key=jr.key(0))
    A, b = PROBLEM.linear_system(a)
    matrix, b = np.asarray(A.as_matrix()), np.ravel(b)
    return a, matrix, b, np.linalg.solve(matrix, b).reshape(SHAPE)


def predict(output, **options):
    model = Constant(jnp.asarray(output)[None])
    options = {"rtol": RTOL, "preconditioner": Jacobi()} | options
    return sciml.predict(model, PROBLEM, case()[0], **options)


OUTPUTS = {
    "zero": lambda u: 0 * u,
    "close": lambda u: u + 1e-3 * np.cos(np.arange(u.size)).reshape(u.shape),
    "exact": lambda u: u,
    "far": lambda u: 1e6 * np.sin(np.arange(u.size)).reshape(u.shape),
    "nan": lambda u: np.where(u > np.median(u), np.nan, u),
    "inf": lambda u: u + np.inf,
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_model_ends_at_the_solution(kind):
    _, matrix, b, exact = case()
    output = OUTPUTS[kind](exact)
    out = predict(output)
    assert outcome(out.result) == "successful"
    np.testing.assert_allclose(out.value, exact, rtol=0, atol=1e-7)
    residual = np.linalg.norm(b - matrix @ np.ravel(out.value)) / np.linalg.norm(b)
    # From a guess of 10⁶ the solution keeps the rounding errors of that size.
    assert residual <= RTOL * 1.01
    # What is said of the prediction is recomputed here, boundary values made exact.
    guess = np.array(output)
    guess[0] = 2.0
    reported = float(out.stats["surrogate_relative_residual"])
    if kind in ("nan", "inf"):
        assert not np.isfinite(reported)
        return
    np.testing.assert_allclose(out.stats["surrogate"], guess)
    truth = np.linalg.norm(b - matrix @ guess.ravel()) / np.linalg.norm(b)
    np.testing.assert_allclose(reported, truth, rtol=1e-6, atol=1e-12)
    error = np.linalg.norm(guess - exact) / np.linalg.norm(exact)
    reported = float(out.stats["surrogate_relative_error"])
    np.testing.assert_allclose(reported, error, rtol=1e-5, atol=1e-8)


def test_what_a_prediction_was_worth():
    """The error in the energy norm, and steps saved against a solve from zero."""
    _, matrix, _, exact = case()
    zero = predict(np.where(np.arange(9)[:, None] == 0, 2.0, 0.0) + 0 * exact)
    for kind, saves in (("close", True), ("far", False)):
        guess = OUTPUTS[kind](exact)
        out = predict(guess, compare=True)
        guess = np.array(guess)
        guess[0] = 2.0
        error = np.ravel(guess - exact)
        norm = lambda v: np.sqrt(v @ matrix @ v)
        expected = norm(error) / norm(np.ravel(exact))
        reported = float(out.stats["surrogate_energy_error"])
        np.testing.assert_allclose(reported, expected, rtol=1e-5)
        assert (reported < 1) == saves
        saved = int(zero.stats["num_steps"]) - int(out.stats["num_steps"])
        assert int(out.stats["steps_saved"]) == saved
        assert (saved > 0) == saves
    assert "steps_saved" not in zero.stats


def test_a_better_model_saves_steps():
    exact = case()[-1]
    steps = {
        kind: int(predict(OUTPUTS[kind](exact)).stats["num_steps"])
        for kind in ("exact", "close", "zero", "nan")
    }
    assert steps["exact"] == 0 < steps["close"] < steps["zero"]
    # Useless output counts as none.
    assert steps["nan"] == steps["zero"]


def test_failures_are_told():
    _, _, _, exact = case()
    out = predict(0 * exact, max_steps=2, throw=False)
    assert outcome(out.result) == "max_steps_reached"
    assert float(out.stats["relative_residual"]) > RTOL
    with pytest.raises(eqx.EquinoxRuntimeError, match="maximum number of"):
        predict(0 * exact, max_steps=2)


@pytest.mark.parametrize("size, quality", [(0.0, 0.0), (1.0, np.inf)])
def test_nothing_to_predict(size, quality):
    """Of a state that is zero: right is right, and not 0/0."""
    step = problems.HeatStep(SHAPE)
    model = Constant(jnp.full((1, *SHAPE), size))
    out = sciml.predict(model, step, jnp.zeros(SHAPE), RTOL, throw=False)
    assert out.result == sciml.RESULTS.successful and not out.value.any()
    for name in ("relative_residual", "relative_error", "energy_error"):
        assert out.stats[f"surrogate_{name}"] == quality


def test_mistakes():
    a = case()[0]
    model = Constant(jnp.zeros((1, *SHAPE)))
    with pytest.raises(ValueError, match=r"model: expected .* \(1, 9, 8\).*\(9, 8\)"):
        sciml.predict(lambda x: x[0], PROBLEM, a)
    with pytest.raises(ValueError, match=r"model: expected an output .* got \(2, 9, 8"):
        sciml.predict(lambda x: jnp.concatenate([x, x]), PROBLEM, a)
    with pytest.raises(ValueError, match=r"coefficient: expected .* got shape \(3,\)"):
        sciml.predict(model, PROBLEM, np.ones(3))
    bad = np.ones(SHAPE)
    bad[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"coefficient: .* at index \(1, 1\)"):
        sciml.predict(model, PROBLEM, bad)


def test_default_preconditioner_and_other_dtypes():
    """A float32 network under a float64 problem, integer coefficients."""
    linear = eqx.nn.Conv2d(1, 1, 3, padding=1, key=jr.key(0), dtype=jnp.float32)
    a = np.asarray(case()[0])
    out = sciml.predict(linear, PROBLEM, a.astype(int))
    assert out.value.dtype == jnp.float64
    assert outcome(out.result) == "successful"
    np.testing.assert_allclose(out.value, case()[-1], atol=1e-4)
    assert int(out.stats["num_steps"]) < 15


def test_derivative_with_respect_to_the_coefficient():
    """That of the exact solution, whatever the model is; nothing reaches the model."""
    a, *_ = case()
    model = Constant(jnp.asarray(OUTPUTS["close"](case()[-1]))[None])
    d = jnp.cos(jnp.arange(72.0)).reshape(SHAPE)

    def objective(model, a):
        out = sciml.predict(model, PROBLEM, a, 1e-12, preconditioner=Jacobi())
        return jnp.sum(out.value**2)

    value = eqx.filter_jit(objective)
    in_model, in_a = eqx.filter_jit(
        lambda model, a: eqx.filter_grad(lambda pair: objective(*pair))((model, a))
    )(model, a)
    h = 1e-5
    difference = (value(model, a + h * d) - value(model, a - h * d)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(in_a * d), difference, rtol=1e-6)
    assert jnp.all(in_model.output == 0)


def test_jit_and_vmap():
    keys = jr.split(jr.key(1), 3)
    fields = jnp.stack([PROBLEM.sample_coefficient(key=k) for k in keys])
    model = Constant(jnp.ones((1, *SHAPE)))

    @jax.jit
    @jax.vmap
    def many(a):
        out = sciml.predict(model, PROBLEM, a, RTOL, preconditioner=Jacobi())
        return out.value

    for a, value in zip(fields, many(fields), strict=True):
        A, b = PROBLEM.linear_system(a)
        exact = np.linalg.solve(A.as_matrix(), np.ravel(b)).reshape(SHAPE)
        np.testing.assert_allclose(value, exact, atol=1e-7)
