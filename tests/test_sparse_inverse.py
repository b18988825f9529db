"""The learned sparse inverse: its definition, positivity, losses, training."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.sparse as sp
from learned_cases import (
    check_positive,
    in_type,
    lognormal,
    mesh_matrix,
    operators,
    steps,
    weights,
)
from linear_cases import PSD

import sciml
from sciml import preconditioners as pc
from sciml.data import Dataset
from sciml.grids import Grid, LogNormalField, SquaredExponentialField
from sciml.linear import from_scipy, to_scipy
from sciml.preconditioners._matrix_graph import matrix_graph

NAMES = list(operators())
MODEL = pc.SparseApproximateInverse(width=4, num_rounds=2, key=jr.key(0))
# (Compiled as a whole: operations one by one would be a program each.)
evaluate: Any = eqx.filter_jit(lambda loss, *inputs: loss(*inputs))


class Family(sciml.AbstractLinearProblem):
    grid: Grid = Grid((12, 12))

    def sample_coefficient(self, *, key):
        field = LogNormalField(SquaredExponentialField(variance=1.1))
        return field.sample(self.grid, key=key)

    def assemble(self, coefficient):
        operator = sciml.linear.diffusion_operator(coefficient, self.grid)
        return operator, jnp.ones(self.grid.shape, coefficient.dtype)


def coefficients(num, seed=0):
    keys = jr.split(jr.key(seed), num)
    draw = lambda key: Family().sample_coefficient(key=key)
    return Dataset(jax.vmap(draw)(keys)[:, None], None, Family().grid)


@pytest.mark.parametrize("name", NAMES)
def test_start(name):
    """Untrained: ε D⁻¹ + G D⁻¹ Gᵀ with G = I − 4/(3ρ) D⁻¹A, written densely."""
    A = operators()[name]
    dense = to_scipy(A).toarray()
    D = np.diag(dense)
    rho = (abs(dense).sum(1) / D).max()
    G = np.eye(len(D)) - 4 / (3 * rho) * dense / D[:, None]
    expected = 1.001e-2 * np.diag(1 / D) + G @ np.diag(1 / D) @ G.T
    got = MODEL.build(A).as_matrix()
    assert np.allclose(got, expected, rtol=1e-10, atol=1e-3 * abs(got).min())


@pytest.mark.parametrize("name", NAMES)
def test_learned_form(name):
    """Any weights: G has A's pattern, and M is what the factor says."""
    A, model = operators()[name], weights(MODEL, "random")
    dense = to_scipy(A).toarray()
    M: Any = model.build(A)
    graph = matrix_graph(model, A)
    slots = np.asarray(eqx.filter_jit(lambda m, g: m.factor(g))(model, graph))
    columns = np.asarray(graph.columns)
    factor = np.zeros_like(dense)
    rows = np.broadcast_to(np.arange(len(dense)), columns.shape)
    np.add.at(factor, (rows, columns), slots)
    # (Beyond rounding it is not symmetric.)
    assert abs(factor - factor.T).max() > 1e-7
    assert ((factor != 0) == (dense != 0)).all()
    root = np.diag(1 / np.sqrt(np.diag(dense)))
    middle = float(model.epsilon()) * np.eye(len(dense)) + factor @ factor.T
    expected = root @ middle @ root
    assert np.allclose(M.as_matrix(), expected, atol=1e-12 * abs(expected).max())
    assert M.facts["nonzeros"] == 2 * (dense != 0).sum() + len(dense)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_positive(name, dtype):
    A = operators(dtype)[name]
    for kind in ("first", "random", "large"):
        model = weights(in_type(MODEL, jnp.float32), kind)
        check_positive(model.build(A))


def test_scale_and_representation():
    """M(cA) = M(A)/c; a stencil and its matrix have one M; so has a jitted set-up."""
    A, model = lognormal(9), weights(MODEL, "random")
    r = jr.normal(jr.key(2), (9, 9))
    z = model.build(A).mv(r)
    flat = from_scipy(to_scipy(A), PSD)
    scaled = from_scipy(3.0 * to_scipy(A), PSD)
    assert np.allclose(model.build(flat).mv(r.ravel()), z.ravel(), rtol=1e-10)
    assert np.allclose(3 * model.build(scaled).mv(r.ravel()), z.ravel(), rtol=1e-10)
    built = eqx.filter_jit(lambda m, A, r: m.build(A).mv(r))(model, A, r)
    assert np.allclose(built, z, rtol=1e-10)


def test_batch():
    """Set-up and solves of many coefficients at once."""
    data = coefficients(3)
    b = jr.normal(jr.key(0), (3, 12, 12))

    def one(coefficient, b):
        A, _ = Family().assemble(coefficient)
        solver = sciml.CG(rtol=1e-8, max_steps=200)
        return sciml.linear_solve(A, b, solver, preconditioner=MODEL, throw=False)

    together = jax.jit(jax.vmap(one))(data.inputs[:, 0], b)
    for k in range(3):
        alone = one(data.inputs[k, 0], b[k])
        assert alone.result == sciml.RESULTS.successful
        assert np.allclose(together.value[k], alone.value, rtol=1e-6, atol=1e-9)


def test_fewer_steps_than_fsai_untrained():
    """At the start already, on a grid whose Jacobi matrix has its radius near 1."""
    A = lognormal(48)
    ours, fsai = steps(A, MODEL), steps(A, pc.FSAI())
    assert ours <= 0.72 * fsai
    assert ours <= 1.02 * steps(A, pc.ChebyshevPolynomial(3, 12.0))


LOSSES = [
    pc.UnrolledCG(Family(), 12),
    pc.InverseResidual(Family()),
    pc.InverseResidual(Family(), 3),
]


def test_unrolled_cg_is_cg():
    """Its residuals are those of our CG's history."""
    data, key = coefficients(2), jr.key(4)
    value, aux = evaluate(pc.UnrolledCG(Family(), 12), MODEL, data, key)
    logs = []
    for sample, k in zip(data.inputs, jr.split(key, 2), strict=True):
        A, _ = Family().assemble(sample[0])
        b = jr.normal(k, (144,)).reshape(12, 12)
        solver = sciml.CG(rtol=1e-12, max_steps=12)
        solution = sciml.linear_solve(A, b, solver, preconditioner=MODEL, throw=False)
        logs.append(np.log10(solution.stats["residual_history"][1:]))
    assert np.isclose(value, np.mean(np.stack(logs)[:, 6:]), rtol=1e-6)
    assert np.isclose(aux["residual"], 10 ** np.mean(np.stack(logs)[:, -1]), rtol=1e-6)


def test_inverse_residual_by_hand():
    data, key = coefficients(1), jr.key(4)
    A, _ = Family().assemble(data.inputs[0, 0])
    w = jr.normal(jr.split(key, 1)[0], (144,))
    image = A.mv(MODEL.build(A).mv(w.reshape(12, 12))).ravel()
    c = jnp.vdot(image, w) / jnp.vdot(image, image)
    expected = jnp.sum((w - c * image) ** 2) / jnp.sum(w**2)
    value, _ = evaluate(pc.InverseResidual(Family()), MODEL, data, key)
    assert np.isclose(value, expected)


@pytest.mark.parametrize("loss", LOSSES[:2], ids=["unrolled", "residual"])
def test_gradient(loss):
    """Against a central difference along a random direction."""
    data, key = coefficients(2), jr.key(4)
    model = weights(in_type(MODEL, jnp.float64), "random")
    both: Any = eqx.filter_jit(
        eqx.filter_value_and_grad(lambda m: loss(m, data, key)[0])
    )
    _, gradient = both(model)
    direction = weights(model, "random")
    h = 1e-6
    move = lambda s: jax.tree.map(
        lambda x, d: x + s * h * d if eqx.is_array(x) else x, model, direction
    )
    difference = (both(move(1))[0] - both(move(-1))[0]) / (2 * h)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    along = sum(jnp.vdot(g, d) for g, d in pairs)
    assert np.isclose(along, difference, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_training(tmp_path):
    """The loss falls on unseen systems; the file gives the same M; M stays positive."""
    model = in_type(MODEL, jnp.float32)
    data = coefficients(16)
    train = Dataset(data.inputs.astype(jnp.float32), None, data.grid)
    loss = pc.UnrolledCG(Family(), 16)
    trained, _ = sciml.training.fit(
        model,
        train,
        loss=loss,
        optimiser=optax.adam(1e-2),
        num_steps=40,
        batch_size=4,
        progress=False,
        key=jr.key(0),
    )
    unseen = coefficients(8, seed=9)
    before, after = (
        float(evaluate(loss, m, unseen, jr.key(1))[0]) for m in (model, trained)
    )
    assert after < before - 0.1
    A = lognormal(9)
    sciml.save(tmp_path / "m.safetensors", trained)
    loaded = sciml.load(tmp_path / "m.safetensors")
    r = jr.normal(jr.key(0), (9, 9))
    assert (loaded.build(A).mv(r) == trained.build(A).mv(r)).all()
    for name in NAMES:
        check_positive(trained.build(operators()[name]))


def test_fallback():
    """Weights that are not finite: the second one takes over."""
    broken = jax.tree.map(lambda x: x * jnp.nan if eqx.is_array(x) else x, MODEL)
    A = lognormal(15)
    reserve = pc.IncompleteCholesky()
    for first, expected in ((broken, 0), (MODEL, -1)):
        solution = sciml.linear_solve(
            A,
            jnp.ones((15, 15)),
            sciml.CG(rtol=1e-8),
            preconditioner=pc.Fallback(first, reserve),
            throw=False,
        )
        assert solution.result == sciml.RESULTS.successful
        assert solution.stats["fallback_step"] == expected


def test_mistakes():
    A = from_scipy(mesh_matrix(), PSD)
    with pytest.raises(TypeError, match="SparseApproximateInverse.*outside of jit"):
        eqx.filter_jit(lambda A: MODEL.build(A).mv(jnp.ones(40)))(A)
    lopsided = sp.csr_matrix(np.array([[2.0, 1.0], [0.0, 2.0]]))
    grid = lognormal(3)
    negative = eqx.tree_at(lambda A: A.stencil.diagonal, grid, -jnp.ones((3, 3)))
    for build, message in [
        (lambda: pc.SparseApproximateInverse(0, key=jr.key(0)), "width"),
        (lambda: pc.SparseApproximateInverse(4, 0, key=jr.key(0)), "num_rounds"),
        (lambda: MODEL.build(from_scipy(lopsided)), "symmetric matrix"),
        (lambda: MODEL.build(from_scipy(mesh_matrix() * 1j)), "real|diagonal"),
        (lambda: MODEL.build(from_scipy(-mesh_matrix())), "positive diagonal"),
        (lambda: MODEL.build(negative), "finite diagonal"),
        (lambda: pc.UnrolledCG(Family(), 1), "num_steps"),
        (lambda: pc.InverseResidual(Family(), -1), "num_steps"),
    ]:
        with pytest.raises(ValueError, match=message):
            build()
