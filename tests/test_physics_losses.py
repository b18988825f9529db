"""Losses that need no solutions, sums of losses, metrics by band and by time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest

import problems
from sciml.data import Dataset
from sciml.evaluation import band_errors, rollout_errors
from sciml.grids import Dirichlet, Grid, Neumann, Periodic
from sciml.linear import AbstractPreconditioner
from sciml.preconditioners import Jacobi
from sciml.training import (
    AbsoluteH1,
    PhysicsResidual,
    RelativeH1,
    RelativeL2,
    WeightedSum,
)

PROBLEM = problems.Diffusion(
    (5, 6), boundary=[(Neumann(), Dirichlet(2.0)), Dirichlet()]
)


class Constant(eqx.Module):
    """The same field for every sample."""

    output: jax.Array

    def __call__(self, x):
        return self.output.astype(x.dtype) + 0 * x


class Times(eqx.Module):
    """A multiple of the input."""

    factor: jax.Array

    def __call__(self, x):
        return self.factor.astype(x.dtype) * x


def system(getkey):
    a = PROBLEM.sample_coefficient(key=getkey())
    A, b = PROBLEM.assemble(a)
    return a, np.asarray(A.as_matrix()), np.asarray(b).ravel()


def value_of(loss, model, data):
    return float(loss(model, data)[0])


# --- physics --------------------------------------------------------------------------


def test_residual_by_hand(getkey):
    a, matrix, b = system(getkey)
    u = jr.normal(getkey(), (1, 5, 6))
    data = Dataset(a[None, None], None, PROBLEM.grid)
    residual = b - matrix @ np.ravel(u)
    expected = np.linalg.norm(residual) / np.linalg.norm(b)
    np.testing.assert_allclose(
        value_of(PhysicsResidual(PROBLEM), Constant(u), data), expected, rtol=1e-10
    )
    jacobi = value_of(PhysicsResidual(PROBLEM, Jacobi()), Constant(u), data)
    d = np.diag(matrix)
    np.testing.assert_allclose(
        jacobi, np.sqrt((residual**2 / d).sum() / (b**2 / d).sum()), rtol=1e-10
    )
    exact = np.linalg.solve(matrix, b).reshape(1, 5, 6)
    assert (
        value_of(PhysicsResidual(PROBLEM), Constant(jnp.asarray(exact)), data) < 1e-12
    )


def test_with_the_inverse_it_is_the_energy_norm(getkey):
    a, matrix, b = system(getkey)

    class Inverse(AbstractPreconditioner):
        def build(self, operator):
            solve = lambda r: jnp.linalg.solve(matrix, r.ravel()).reshape(r.shape)
            return lx.FunctionLinearOperator(solve, operator.out_structure())

    u, exact = np.asarray(jr.normal(getkey(), (30,))), np.linalg.solve(matrix, b)
    norm = lambda v: np.sqrt(v @ matrix @ v)
    data = Dataset(a[None, None], None, PROBLEM.grid)
    model = Constant(jnp.asarray(u.reshape(1, 5, 6)))
    np.testing.assert_allclose(
        value_of(PhysicsResidual(PROBLEM, Inverse()), model, data),
        norm(u - exact) / norm(exact),
        rtol=1e-9,
    )


@pytest.mark.parametrize("preconditioner", [None, Jacobi()])
def test_gradient_against_finite_differences(preconditioner, getkey):
    fields = [PROBLEM.sample_coefficient(key=getkey())[None] for _ in range(2)]
    data = Dataset(jnp.stack(fields), None, PROBLEM.grid)
    loss = jax.jit(
        lambda u: PhysicsResidual(PROBLEM, preconditioner)(Constant(u), data)[0]
    )
    u, direction = jr.normal(getkey(), (2, 1, 5, 6))
    slope = jnp.vdot(jax.grad(loss)(u), direction)
    h = 1e-5
    quotient = (loss(u + h * direction) - loss(u - h * direction)) / (2 * h)
    np.testing.assert_allclose(slope, quotient, rtol=1e-7)


def test_residual_of_another_grid(getkey):
    data = Dataset(jnp.ones((1, 1, 4, 4)), None, Grid((4, 4)))
    with pytest.raises(ValueError, match=r"model: expected outputs of shape \(1, 1, 5"):
        PhysicsResidual(PROBLEM)(Constant(jnp.ones((1, 4, 4))), data)


# --- sums and the absolute norm -------------------------------------------------------


def pairs(getkey, grid):
    x, y = jr.normal(getkey(), (2, 3, 1, *grid.shape))
    return Dataset(x, y, grid)


def test_weighted_sum(getkey):
    data = pairs(getkey, Grid((4, 5)))
    model = Times(jnp.asarray(0.7))
    l2, h1 = RelativeL2(), RelativeH1()
    total, aux = WeightedSum(((2.0, l2), (0.5, h1)))(model, data, getkey())
    expected = 2 * value_of(l2, model, data) + 0.5 * value_of(h1, model, data)
    np.testing.assert_allclose(total, expected, rtol=1e-12)
    assert set(aux) == {"RelativeL2", "RelativeH1", "relative_l2"}

    def ramp(model, batch, key):
        return jnp.asarray(1.0), None

    class Scheduled(eqx.Module):
        weight: jax.Array = eqx.field(default_factory=lambda: jnp.asarray(0.0))

        def at_step(self, step):
            return Scheduled(jnp.asarray(step, float))

        def __call__(self, model, batch, key):
            return self.weight, {}

    later = WeightedSum(((1.0, ramp), (3.0, Scheduled()))).at_step(4)
    assert float(later(model, data)[0]) == 13
    for terms in ((), ((1.0, l2), (2.0, l2))):
        with pytest.raises(ValueError, match="terms"):
            WeightedSum(terms)


def test_absolute_norm():
    """On functions whose norms are known: e = c sin(πx), periodic in nothing."""
    grid = Grid(2047)
    x = grid.coordinates(0)
    error = 0.3 * np.sin(np.pi * x)[None, None]
    data = Dataset(np.zeros_like(error), -error, grid)
    value = value_of(AbsoluteH1(10.0), Times(jnp.asarray(1.0)), data)
    expected = 0.3 * np.sqrt((10 + np.pi**2) / 2)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="l2_weight"):
        AbsoluteH1(-1.0)


# --- metrics --------------------------------------------------------------------------


def test_bands():
    """A wave in each band, each with an error of its own."""
    grid = Grid((32, 40), boundary=Periodic())
    x, y = grid.mesh()
    wave = lambda k, l: np.cos(2 * np.pi * (k * x + l * y))
    shapes = [wave(1, 2), wave(-3, 4), wave(12, 9)]
    sizes, ratios = np.array([5.0, 1.0, 0.1]), np.array([0.01, 0.2, 0.9])
    target = np.tensordot(sizes, shapes, 1)
    error = np.tensordot(sizes * ratios, shapes, 1)
    data = Dataset((target + error)[None, None], target[None, None], grid)
    found = band_errors(Times(jnp.asarray(1.0)), data)
    assert list(found) == ["0-4", "4-12", "12-"]
    np.testing.assert_allclose(list(found.values()), [0.01, 0.2, 0.9], rtol=1e-9)
    # The number of samples at a time changes nothing; an empty band is no number.
    twice = Dataset(
        np.concatenate([data.inputs] * 3), np.concatenate([data.targets] * 3), grid
    )
    again = band_errors(Times(jnp.asarray(1.0)), twice, bands=(4, 12, 19), batch_size=2)
    np.testing.assert_allclose(list(again.values())[:3], [0.01, 0.2, 0.9], rtol=1e-9)
    assert np.isnan(again["19-"])
    for bands in ((), (3, 2), (0.0, 1)):
        with pytest.raises(ValueError, match="bands"):
            band_errors(Times(jnp.asarray(1.0)), data, bands=bands)


def test_rollouts():
    """Multiplied by 2 in truth and by 2.2 in the model: an error of 1.1ⁿ − 1."""
    grid = Grid(16, boundary=Periodic())
    u0 = (
        np.sin(2 * np.pi * grid.coordinates(0))[None, None]
        * np.array([1.0, -3.0])[:, None, None]
    )
    states = np.concatenate([u0 * 2.0 ** (n + 1) for n in range(6)], axis=1)
    data = Dataset(u0, states, grid)
    found = rollout_errors(Times(jnp.asarray(2.2)), data)
    np.testing.assert_allclose(found.relative_l2, 1.1 ** np.arange(1, 7) - 1, rtol=1e-9)
    np.testing.assert_allclose(found.worst, found.relative_l2)
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-12)
    np.testing.assert_allclose(found.rms, 3 / np.sqrt(2) * 2.2 ** np.arange(1, 7))
    assert found.num_accurate == 6


def test_rollouts_that_blow_up():
    class Explodes(eqx.Module):
        def __call__(self, u):
            return jnp.where(jnp.max(jnp.abs(u)) > 3, jnp.inf, 2 * u)

    grid = Grid(8, boundary=Periodic())
    u0 = np.cos(2 * np.pi * grid.coordinates(0))[None, None]
    states = np.concatenate([u0 * 2.0 ** (n + 1) for n in range(4)], axis=1)
    found = rollout_errors(Explodes(), Dataset(u0, states, grid), batch_size=1)
    np.testing.assert_allclose(found.relative_l2[:2], 0, atol=1e-12)
    assert np.all(np.isinf(found.relative_l2[2:])) and np.all(np.isinf(found.rms[2:]))
    assert found.num_accurate == 2 and found.correlation[2] == 0
    with pytest.raises(ValueError, match="multiple of the state's 2 channels"):
        rollout_errors(
            Explodes(), Dataset(np.ones((1, 2, 8)), np.ones((1, 3, 8)), grid)
        )
    with pytest.raises(ValueError, match="model: expected a state"):
        rollout_errors(lambda u: u[:, :4], Dataset(u0, states, grid))
