"""Learned triangular factors: definitions, positivity, packed systems, training."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
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

import problems
import sciml
from sciml import preconditioners as pc
from sciml.linear import from_scipy, to_scipy
from sciml.preconditioners._matrix_graph import graph_of_matrix, matrix_graph

NAMES = list(operators())
CORRECTED = pc.CorrectedCholesky(width=4, num_rounds=2, key=jr.key(0))
FACTOR = pc.NeuralFactor(2, width=4, num_rounds=2, key=jr.key(0))
# (Compiled as a whole: operations one by one would be a program each.)
predict: Any = eqx.filter_jit(lambda model, *inputs: model.predict(*inputs))
factor: Any = eqx.filter_jit(lambda model, *inputs: model.factor(*inputs))
unpack: Any = eqx.filter_jit(lambda systems, sample: systems.unpack(sample))
evaluate: Any = eqx.filter_jit(lambda loss, *inputs: loss(*inputs))
DTYPES = pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.float64], ids=lambda d: d.__name__
)


def points_of(A):
    return np.random.default_rng(3).uniform(size=(A.in_size(), 2))


def dense_factor(graph, slots):
    columns, slots = np.asarray(graph.columns), np.asarray(slots)
    out = np.zeros((columns.shape[1],) * 2)
    rows = np.broadcast_to(np.arange(columns.shape[1]), columns.shape)
    np.add.at(out, (rows, columns), slots)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_correction_starts_at_incomplete_cholesky(name):
    A = operators()[name]
    M, plain = (
        b.build(A) for b in (CORRECTED, pc.IncompleteCholesky(pc.LevelSchedule()))
    )
    r = jr.normal(jr.key(0), A.in_structure().shape)
    assert np.allclose(M.mv(r), plain.mv(r), rtol=1e-9, atol=1e-12)


@pytest.mark.sampled(2)
@DTYPES
@pytest.mark.parametrize("name", NAMES)
def test_positive(name, dtype):
    A = operators(dtype)[name]
    for kind in ("first", "random", "large"):
        check_positive(weights(in_type(CORRECTED, jnp.float32), kind).build(A))
        if A.in_structure().ndim == 1:
            located = weights(in_type(FACTOR, jnp.float64), kind).at(points_of(A))
            check_positive(located.build(A))
        else:
            check_positive(weights(in_type(FACTOR, jnp.float64), kind).build(A))


@pytest.mark.parametrize("model", [FACTOR, CORRECTED], ids=["factor", "correction"])
def test_large_weights_in_single_precision(model):
    """Neither the network nor solutions overflow, on chains of many rows either."""
    single = weights(in_type(model, jnp.float32), "large")
    check_positive(single.build(lognormal(32, dtype=jnp.float32)))


def test_neural_factor_form():
    """L_ii = √A_ii, the pattern below, rows capped; M = (L Lᵀ)⁻¹ in that order."""
    A = operators()["mesh"]
    dense, model = to_scipy(A).toarray(), weights(FACTOR, "random")
    points, b = points_of(A), jr.normal(jr.key(1), (40,))
    graph = matrix_graph(model, A)
    slots, guess = predict(model, graph, jnp.asarray(points), b)
    L = dense_factor(graph, slots)
    assert np.allclose(np.diag(L), np.sqrt(np.diag(dense)))
    assert ((np.tril(L, -1) != 0) == (np.tril(dense, -1) != 0)).all()
    gauss = np.tril(dense, -1) / np.sqrt(np.diag(dense))
    bound = np.maximum(abs(gauss).sum(1), np.diag(L))
    assert (abs(np.tril(L, -1)).sum(1) <= bound * (1 + 1e-12)).all()
    M = model.at(points, b).build(A)
    assert np.allclose(M.as_matrix(), np.linalg.inv(L @ L.T), rtol=1e-8)
    assert np.allclose(model.at(points, b).first_guess(A), guess)
    # The same for 4 A but for the factor.
    four = from_scipy((4 * to_scipy(A)).tocsr(), PSD)
    assert np.allclose(4 * model.at(points, b).build(four).as_matrix(), M.as_matrix())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("relaxation", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("name", NAMES)
def test_neural_factor_starts_at_ssor(name, relaxation):
    """L = (D + ω N) D^{-1/2}, N being A below its diagonal; shortened for ω > 1."""
    A = operators()[name]
    dense = to_scipy(A).toarray()
    root = np.sqrt(np.diag(dense))
    N = np.tril(dense, -1) / root
    sums = abs(N).sum(1)
    N *= np.minimum(relaxation, np.maximum(sums, root) / np.maximum(sums, 1e-300))[
        :, None
    ]
    L = np.diag(root) + N
    model = pc.NeuralFactor(2, 4, 2, relaxation=relaxation, key=jr.key(0))
    M = model.at(points_of(A)).build(A)
    assert np.allclose(M.as_matrix(), np.linalg.inv(L @ L.T), rtol=1e-8)
    if relaxation == 1.0:
        r = jr.normal(jr.key(0), A.in_structure().shape)
        plain = pc.SSOR(1.0, pc.LevelSchedule()).build(A).mv(r)
        assert np.allclose(M.mv(r), plain, rtol=1e-9, atol=1e-12)


def test_neural_factor_is_the_published_network():
    """Rounds of MLP([e, x_j, x_i]) and MLP([Σ e, x]), the mean of all entries."""
    A, model = lognormal(4), weights(FACTOR, "random")
    graph = matrix_graph(model, A)
    n, points = 16, np.random.default_rng(0).uniform(size=(16, 2))
    b = jr.normal(jr.key(1), (n,))
    dense = to_scipy(A).toarray()
    root = np.sqrt(np.diag(dense))
    i, j = np.nonzero(dense)

    def mlp(p, *parts):
        W1 = np.concatenate([np.asarray(w) for w in p.first])
        hidden = np.maximum(np.concatenate(parts, -1) @ W1 + np.asarray(p.bias), 0)
        return hidden @ np.asarray(p.second) + np.asarray(p.second_bias)

    def normalise(x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)

    net = model.network
    x = np.concatenate([points, (b / abs(b).mean())[:, None]], -1)
    length = np.linalg.norm(points[i] - points[j], axis=-1)
    e = np.stack([length, dense[i, j] / root[i] / root[j]], -1)
    x, e = normalise(mlp(net.node_encoder, x)), normalise(mlp(net.edge_encoder, e))
    for step in net.rounds:
        e = mlp(step.edge, e, x[j], x[i])
        total = np.zeros((n, e.shape[1]))
        np.add.at(total, i, e)
        x = mlp(step.node, total, x)
    mean = np.broadcast_to(e.mean(0), e.shape)
    l = np.zeros((n, n))
    l[i, j] = mlp(model.head, e, mean)[:, 0]
    lower = np.tril((l + l.T) / 2, -1)
    sums = abs(np.tril(dense, -1) / root / root[:, None]).sum(1)
    lower *= (np.maximum(sums, 1) / np.maximum(abs(lower).sum(1), np.maximum(sums, 1)))[
        :, None
    ]
    slots, guess = predict(model, graph, jnp.asarray(points), b)
    expected = root[:, None] * (np.eye(n) + lower)
    assert np.allclose(dense_factor(graph, slots), expected, rtol=1e-8)
    unit = abs(b).sum() / np.diag(dense).mean()
    assert np.allclose(guess, unit * mlp(model.guess, x)[:, 0], rtol=1e-8)


@functools.cache
def packed(dtype=np.float64):
    """Systems of three sizes, on meshes."""
    found = [problems.DiscHeat(1, k).discretise(key=jr.key(k)) for k in range(3)]
    return found, *pc.pack_systems(
        [f.operator for f in found],
        points=[f.coordinates for f in found],
        vectors=[np.asarray(f.vector) for f in found],
        dtype=dtype,
    )


def test_packed_systems():
    found, data, systems = packed()
    sizes = [f.operator.in_size() for f in found]
    assert len(set(sizes)) > 1 and systems.num_unknowns == max(sizes)
    for f, n, sample in zip(found, sizes, data.inputs, strict=True):
        system = unpack(systems, jnp.asarray(sample))
        A = np.asarray(system.operator.as_matrix())
        assert np.allclose(A[:n, :n], f.operator.as_matrix())
        assert (A[n:, n:] == np.eye(len(A) - n)).all() and not A[:n, n:].any()
        assert np.allclose(A @ system.solution, system.vector)
        assert np.allclose(system.vector[:n], f.vector)
        assert np.allclose(system.points[:n], f.coordinates)
        graph = system.operator.graph
        assert (graph.mirrored(graph.values) == graph.values).all()
        L = dense_factor(graph, system.factor)
        M = pc.IncompleteCholesky(pc.LevelSchedule()).build(f.operator).as_matrix()
        assert np.allclose(np.linalg.inv(L[:n, :n] @ L[:n, :n].T), M)
        if n > min(sizes):
            continue
        # A network sees no more of a system than there is of it: of the one that is
        # filled up most.
        alone = graph_of_matrix("test", to_scipy(f.operator))
        for model in (weights(FACTOR, "random"), weights(CORRECTED, "random")):
            found_factors = []
            for g, m in ((graph, len(A)), (alone, n)):
                if isinstance(model, pc.NeuralFactor):
                    slots, _ = predict(model, g, system.points[:m], system.vector[:m])
                else:
                    width = len(g.values)
                    slots = factor(model, g, system.factor[:width, :m])
                found_factors.append(dense_factor(g, slots)[:n, :n])
            assert np.allclose(*found_factors, rtol=1e-9, atol=1e-12)


def test_loss_by_hand():
    _, data, systems = packed()
    loss = pc.FactorResidual(systems, guess_weight=0.5)
    for model in (weights(FACTOR, "random"), weights(CORRECTED, "random")):
        value, aux = evaluate(loss, model, data)
        residuals, errors = [], []
        for sample in data.inputs:
            system = unpack(systems, jnp.asarray(sample))
            graph, x, b = system.operator.graph, system.solution, system.vector
            if isinstance(model, pc.NeuralFactor):
                slots, guess = predict(model, graph, system.points, b)
                errors.append(jnp.sum((guess - x) ** 2) / jnp.sum(x**2))
            else:
                slots = factor(model, graph, system.factor)
            L = dense_factor(graph, slots)
            residuals.append(np.sum((L @ (L.T @ x) - b) ** 2) / np.sum(b**2))
        assert np.isclose(aux["factor_residual"], np.mean(residuals), rtol=1e-8)
        total = np.mean(residuals) + (0.5 * np.mean(errors) if errors else 0)
        assert np.isclose(value, total, rtol=1e-8)


@pytest.mark.parametrize("model", [FACTOR, CORRECTED], ids=["factor", "correction"])
def test_gradient(model):
    _, data, systems = packed()
    model, loss = weights(model, "random"), pc.FactorResidual(systems)
    both: Any = eqx.filter_jit(eqx.filter_value_and_grad(lambda m: loss(m, data)[0]))
    _, gradient = both(model)
    h = 1e-6
    move = lambda s: jax.tree.map(
        lambda x: x + s * h * jnp.cos(x) if eqx.is_array(x) else x, model
    )
    difference = (both(move(1))[0] - both(move(-1))[0]) / (2 * h)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(model), strict=True)
    along = sum(jnp.vdot(g, jnp.cos(x)) for g, x in pairs)
    assert np.isclose(along, difference, rtol=1e-4)


@pytest.mark.slow
def test_training_the_correction(tmp_path):
    """Fewer steps than IC(0) on a finer grid than the training's, from a file."""
    data, systems = pc.pack_systems([lognormal(12, seed) for seed in range(8)])
    model, _ = sciml.training.fit(
        in_type(CORRECTED, jnp.float32),
        data,
        loss=pc.FactorResidual(systems),
        optimiser=optax.adam(1e-2),
        num_steps=150,
        batch_size=4,
        progress=False,
        key=jr.key(0),
    )
    sciml.save(tmp_path / "m.safetensors", model)
    loaded = sciml.load(tmp_path / "m.safetensors")
    A = lognormal(32, seed=99)
    exact = pc.IncompleteCholesky(pc.LevelSchedule())
    assert steps(A, loaded) <= 0.85 * steps(A, exact)
    check_positive(loaded.build(lognormal(9)))


def test_fallback():
    broken = jax.tree.map(lambda x: x * jnp.nan if eqx.is_array(x) else x, CORRECTED)
    A = lognormal(15)
    builder = pc.Fallback(broken, pc.IncompleteCholesky())
    solution = sciml.linear_solve(
        A, jnp.ones((15, 15)), sciml.CG(rtol=1e-8), preconditioner=builder, throw=False
    )
    assert solution.result == sciml.RESULTS.successful
    assert solution.stats["fallback_step"] == 0


def test_mistakes():
    A = from_scipy(mesh_matrix(), PSD)
    key, points = jr.key(0), np.zeros((40, 2))
    for make, message in [
        (lambda: pc.NeuralFactor(0, key=key), "ndim"),
        (lambda: pc.NeuralFactor(2, relaxation=2.5, key=key), "relaxation"),
        (lambda: pc.CorrectedCholesky(num_rounds=0, key=key), "num_rounds"),
        (lambda: FACTOR.at(np.zeros((40, 3))), "points: expected shape"),
        (lambda: FACTOR.at(points, jnp.zeros(39)), "vector: expected shape"),
        (lambda: FACTOR.at(points[:39]).build(A), "40 unknowns"),
        (lambda: CORRECTED.build(from_scipy(-mesh_matrix())), "positive diagonal"),
        (lambda: pc.pack_systems([]), "at least one"),
        (lambda: pc.pack_systems([A], points=[]), "one per operator"),
        (lambda: pc.PackedSystems(3, 2)(jnp.zeros(5)), "sample: expected shape"),
        (lambda: problems.DiscHeat().discretise(), "key"),
        (lambda: problems.DiscHeat(0), "num_refinements"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="coordinates"):
        FACTOR.build(A)
    with pytest.raises(TypeError, match="outside of jit"):
        eqx.filter_jit(lambda A: CORRECTED.build(A).mv(jnp.ones(40)))(A)
