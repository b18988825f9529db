"""Deep conjugate directions: networks, loss and training vectors, against formulas."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportCallIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from learned_cases import in_type, weights

import sciml
from sciml import preconditioners as pc
from sciml.data import Dataset
from sciml.grids import Grid
from sciml.linear import FlexibleCG, diffusion_operator, with_obstacle

NETWORKS = {
    "two levels": lambda ndim: pc.TwoLevelDirections(ndim, 4, 1, 1, 1, key=jr.key(0)),
    "sees obstacles": lambda ndim: pc.TwoLevelDirections(
        ndim, 4, 0, 1, 1, in_channels=2, key=jr.key(0)
    ),
    "shared levels": lambda ndim: pc.SharedLevelDirections(ndim, 4, key=jr.key(0)),
}


def builder(name, ndim, dtype=jnp.float64):
    """With weights of all kinds: the shared levels start with many zeros."""
    model = pc.DeepConjugateDirections(NETWORKS[name](ndim))
    scaled = jax.tree.map(lambda x: 0.2 * x, weights(model, "random"))
    return in_type(scaled, dtype)


def laplacian(shape, dtype=jnp.float64):
    A = diffusion_operator(1.0, Grid(shape))
    return jax.tree.map(lambda x: x.astype(dtype), A)


def box(shape):
    obstacle = np.zeros(shape, bool)
    obstacle[tuple(slice(n // 3, n // 3 + 3) for n in shape)] = True
    return obstacle


def apply(model, A, r):
    return eqx.filter_jit(lambda model, A, r: model.build(A).mv(r))(model, A, r)


def test_the_published_sizes():
    """97,457 and 152,881 numbers, as in the authors' program."""
    for counts, expected in (((), 97_457), ((16, 2, 5, 3), 152_881)):
        network = pc.TwoLevelDirections(3, *counts, key=jr.key(0))
        assert sum(x.size for x in jax.tree.leaves(network)) == expected


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(17,), (18, 13), (9, 10, 11)])
def test_homogeneous_descending_zero_in_obstacles(name, shape):
    model = builder(name, len(shape))
    obstacle = box(shape)
    A = with_obstacle(laplacian(shape), obstacle)
    r = jr.normal(jr.key(1), shape)
    z = apply(model, A, r)
    assert z.shape == shape and z.dtype == r.dtype
    scale = float(jnp.abs(z).max())
    for factor in (-2.0, 1e-150, 1e150):
        scaled = apply(model, A, jnp.abs(factor) * r) / abs(factor)
        np.testing.assert_allclose(scaled, z, atol=1e-10 * scale)
    # In an obstacle it is Jacobi's, and no part of the rest.
    diagonal = np.asarray(A.stencil.diagonal)
    expected = (r / diagonal)[obstacle]
    np.testing.assert_allclose(np.asarray(z)[obstacle], expected, rtol=1e-14)
    free = jnp.where(obstacle, 0.0, r)
    held = np.asarray(apply(model, A, free))
    assert (held[obstacle] == 0).all() and np.abs(held).max() > 0
    np.testing.assert_allclose(held[~obstacle], np.asarray(z)[~obstacle])
    assert float(jnp.sum(free * held)) > 0
    np.testing.assert_array_equal(apply(model, A, 0 * r), 0)


class Orthogonal(pc.AbstractDirections):
    """A network of no use: f is orthogonal to r."""

    factor: jax.Array
    ndim: int = 1

    def on(self, grid, fluid):
        return lambda f: (
            self.factor
            * (jnp.flip(f) * jnp.sign(jnp.arange(f.size, dtype=f.dtype) - 4.5))
        )

    def num_products(self, shape):
        return 0


def test_descends_by_construction():
    """An antisymmetric f: the step has the least cosine, and the solve converges."""
    A, r = laplacian((10,)), jr.normal(jr.key(0), (10,))
    model = pc.DeepConjugateDirections(Orthogonal(jnp.asarray(5.0)))
    M = model.build(A)
    z = np.asarray(M.mv(r))
    cosine = z @ r / np.linalg.norm(z) / np.linalg.norm(r)
    np.testing.assert_allclose(cosine, 0.01, rtol=1e-3)
    solution = sciml.linear_solve(A, r, FlexibleCG(10, rtol=1e-8), preconditioner=M)
    assert solution.result == sciml.RESULTS.successful


@pytest.mark.parametrize("name", NETWORKS)
def test_types_jit_vmap_file(name, tmp_path):
    shape = (10, 11)
    single = builder(name, 2, jnp.float32)
    r = jr.normal(jr.key(1), (3, *shape))
    double = eqx.filter_jit(lambda m, r: jax.vmap(m.build(laplacian(shape)).mv)(r))
    found = double(builder(name, 2), r)
    for dtype in (jnp.float32, jnp.float64):
        A = laplacian(shape, dtype)
        images = [apply(single, A, one) for one in r.astype(dtype)]
        assert {z.dtype for z in images} == {jnp.dtype(dtype)}
        scale = float(jnp.abs(found).max())
        np.testing.assert_allclose(images, found, atol=1e-4 * scale)
    path = tmp_path / "model.safetensors"
    sciml.save(path, single)
    assert eqx.tree_equal(sciml.load(path), single)


def test_untrained_shared_levels_are_multigrid():
    """With two levels of Jacobi, against matrices written out."""
    n, m, omega = 16, 8, 4 / 5
    model = pc.SharedLevelDirections(2, key=jr.key(0))
    line = lambda n: 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    plane = lambda n: (np.kron(line(n), np.eye(n)) + np.kron(np.eye(n), line(n))) / 4
    x, X = np.arange(1, n + 1) / (n + 1), np.arange(1, m + 1) / (m + 1)
    P = np.maximum(1 - abs(x[:, None] - X) * (m + 1), 0)
    np.testing.assert_allclose(P @ (X * 2), np.interp(x, [0, *X, 1], [0, *X * 2, 0]))
    P, A, coarse = np.kron(P, P), plane(n), plane(m)
    f = np.asarray(jr.normal(jr.key(2), (n * n,)))
    u = omega * f
    u = u + P @ np.linalg.solve(coarse, P.T @ (f - A @ u))
    u = u + omega * (f - A @ u)
    function = model.on(Grid((n, n)), jnp.ones((n, n)))
    model_dtype = model.before.kernel.dtype
    found = function(jnp.asarray(f, model_dtype).reshape(n, n))
    np.testing.assert_allclose(np.ravel(found), u, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(33, 20), (18, 17, 20)])
def test_untrained_shared_levels_solve(shape):
    """In single precision, to 1e-8 in double, with an obstacle, on several levels."""
    model = pc.DeepConjugateDirections(
        pc.SharedLevelDirections(len(shape), key=jr.key(0))
    )
    model = in_type(model, jnp.float32)
    obstacle = box(shape)
    A = with_obstacle(laplacian(shape), obstacle)
    b = jnp.where(obstacle, 0.0, jr.normal(jr.key(3), shape))
    found = sciml.linear_solve(A, b, FlexibleCG(rtol=1e-8), preconditioner=model)
    plain = sciml.linear_solve(A, b, sciml.CG(rtol=1e-8))
    np.testing.assert_allclose(found.value, plain.value, atol=1e-9)
    assert (np.asarray(found.value)[obstacle] == 0).all()
    assert int(found.stats["num_steps"]) < int(plain.stats["num_steps"]) / 2


def test_loss_is_the_formula():
    shape, obstacle = (9, 10), box((9, 10))
    model = builder("shared levels", 2)
    A = laplacian(shape)
    cut = with_obstacle(A, obstacle)
    b = np.asarray(jr.normal(jr.key(1), (3, *shape))) * ~obstacle
    inputs = np.stack([b, np.broadcast_to(~obstacle, b.shape)], 1)

    def one(operator, vector):
        matrix = np.asarray(operator.as_matrix())
        q = np.ravel(apply(model, operator, jnp.asarray(vector)))
        v = vector.ravel()
        left = v - matrix @ q * (q @ v) / (q @ matrix @ q)
        return left.reshape(shape), (left @ left) / (v @ v)

    loss = pc.DirectionResidual(A)
    for operator, given in ((A, inputs[:, :1]), (cut, inputs)):
        value, aux = loss(model, Dataset(given, None, A.grid), jr.key(0))
        expected = np.mean([one(operator, v)[1] for v in b])
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        assert aux == {} and 0 < float(value) < 1
    # After two steps it is the loss of what they leave.
    later = [one(A, one(A, one(A, v)[0])[0])[1] for v in b]
    value, _ = pc.DirectionResidual(A, 2)(
        model, Dataset(inputs[:, :1], None, A.grid), jr.key(0)
    )
    np.testing.assert_allclose(value, np.mean(later), rtol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_the_loss(name):
    """Along a random direction of the weights, against central differences."""
    shape = (12, 9)
    model, A = builder(name, 2), laplacian(shape)
    data = pc.sine_vectors(A.grid, 2, key=jr.key(3))
    batch = Dataset(np.asarray(data.inputs, float), None, A.grid)
    value = eqx.filter_jit(lambda m: pc.DirectionResidual(A)(m, batch, None)[0])
    tangent = weights(model, "random")
    gradient = eqx.filter_grad(value)(model)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(tangent), strict=True)
    slope = sum(float(jnp.sum(g * t)) for g, t in pairs)
    moved = lambda h: float(value(jax.tree.map(lambda x, t: x + h * t, model, tangent)))
    h = 1e-6
    assert abs(slope) > 1e-5
    np.testing.assert_allclose((moved(h) - moved(-h)) / (2 * h), slope, rtol=1e-4)


def test_obstacles():
    """The matrix without rows and columns of the obstacle."""
    shape = (6, 7)
    grid = Grid(shape)
    A = diffusion_operator(jnp.exp(jr.normal(jr.key(0), shape)), grid)
    obstacle = box(shape)
    cut = with_obstacle(A, obstacle)
    free = ~obstacle.ravel()
    full, held = np.asarray(A.as_matrix()), np.asarray(cut.as_matrix())
    np.testing.assert_array_equal(held[free][:, free], full[free][:, free])
    np.testing.assert_array_equal(held[~free][:, free], 0)
    np.testing.assert_array_equal(held, held.T)
    np.testing.assert_array_equal(np.diag(held), np.diag(full))
    with pytest.raises(ValueError, match=r"obstacle: expected shape \(6, 7\)"):
        with_obstacle(A, obstacle[1:])
    with pytest.raises(TypeError, match="StencilOperator"):
        with_obstacle(sciml.linear.from_scipy(sciml.linear.to_scipy(A)), obstacle)
    around = diffusion_operator(1.0, Grid((6,), boundary=sciml.grids.Periodic()))
    with pytest.raises(ValueError, match="periodic"):
        with_obstacle(around, np.zeros(6, bool))


def test_sine_vectors_have_the_spectrum():
    """Variances of the sine coefficients: arcsine density, 81 times as much below."""
    n, count = 15, 4000
    data = pc.sine_vectors(Grid((n,)), count, key=jr.key(0))
    assert data.inputs.shape == (count, 1, n) and data.inputs.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(data.inputs[:, 0], axis=1), 1, rtol=1e-6)
    j = np.arange(1, n + 1)
    modes = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(j, j) / (n + 1))
    energies = ((data.inputs[:, 0] @ modes) ** 2).mean(0)
    low = np.arange(1, n + 1) < 9
    # In one dimension eigenvalues have nearly that density: all modes are alike.
    inner = slice(1, -1)
    for part in (low, ~low):
        chosen = energies[inner][part[inner]]
        np.testing.assert_allclose(chosen, chosen.mean(), rtol=0.2)
    ratio = energies[inner][low[inner]].mean() / energies[inner][~low[inner]].mean()
    assert 60 < ratio < 110


def test_ritz_vectors_are_eigenvectors():
    """With as many steps as eigenvalues, against NumPy's; nothing in the obstacle."""
    shape, obstacle = (5, 6), box((5, 6))
    A = with_obstacle(laplacian(shape), obstacle)
    data = pc.ritz_vectors(A, 3000, 30, key=jr.key(0))
    assert data.inputs.shape == (3000, 2, *shape)
    np.testing.assert_array_equal(
        data.inputs[:, 1] == 0, obstacle[None].repeat(3000, 0)
    )
    assert (data.inputs[:, 0][:, obstacle] == 0).all()
    free = ~obstacle.ravel()
    values, vectors = np.linalg.eigh(np.asarray(A.as_matrix())[free][:, free])
    energies = ((data.inputs[:, 0].reshape(3000, -1)[:, free] @ vectors) ** 2).mean(0)
    ends = [energies[: len(values) // 3].mean(), energies[-len(values) // 3 :].mean()]
    assert 60 < ends[0] / ends[1] < 110
    # Without obstacles there is one channel; all of 1-D is found.
    line = pc.ritz_vectors(laplacian((7,)), 5, 50, key=jr.key(1))
    assert line.inputs.shape == (5, 1, 7) and np.isfinite(line.inputs).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("two levels", marks=pytest.mark.slow), "shared levels"]
)
def test_training(name):
    """Seconds of it, on vectors of 16²: fewer steps than before, and than CG's."""
    A = laplacian((16, 16))
    make = {
        "two levels": lambda key: pc.TwoLevelDirections(2, 8, key=key),
        "shared levels": lambda key: pc.SharedLevelDirections(2, 8, key=key),
    }[name]
    first = in_type(pc.DeepConjugateDirections(make(jr.key(0))), jnp.float32)
    model, history = sciml.training.fit(
        first,
        pc.sine_vectors(A.grid, 256, key=jr.key(1)),
        loss=pc.DirectionResidual(A, 2 if name == "shared levels" else 0),
        optimiser=optax.adam(optax.cosine_decay_schedule(3e-3, 400)),
        num_steps=400 if name == "two levels" else 100,
        batch_size=8,
        progress=False,
        key=jr.key(2),
    )
    assert np.mean(history.loss[-10:]) < np.mean(history.loss[:10])
    b = jr.normal(jr.key(5), (16, 16))
    steps = []
    for M in (model, first, None):
        method = sciml.CG if M is None else FlexibleCG
        solver = method(rtol=1e-8, max_steps=200)
        solution = sciml.linear_solve(A, b, solver, preconditioner=M, throw=False)
        steps.append(int(solution.stats["num_steps"]))
        if M is not first:
            left = np.linalg.norm(b - A.mv(solution.value))
            assert left <= 1e-8 * np.linalg.norm(b)
    assert steps[0] < steps[1] and steps[0] < steps[2]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_faults(name):
    """What goes wrong is said; `Fallback` goes on with Jacobi's method."""
    shape = (10, 9)
    A, b = laplacian(shape), jr.normal(jr.key(0), shape)
    model = builder(name, 2)
    solve = lambda A, b, M: sciml.linear_solve(
        A, b, FlexibleCG(rtol=1e-8, max_steps=400), preconditioner=M, throw=False
    )
    broken = jax.tree.map(lambda x: x * jnp.nan, model)
    huge = weights(model, "large")
    for case, M in {
        "b": (b.at[1, 1].set(jnp.nan), model),
        "weights": (b, broken),
    }.values():
        assert solve(A, case, M).result == sciml.RESULTS.nonfinite
    for M in (broken, huge, model):
        found = solve(A, b, pc.Fallback(M, pc.Jacobi()))
        left = np.linalg.norm(b - A.mv(found.value)) / np.linalg.norm(b)
        np.testing.assert_allclose(found.stats["relative_residual"], left, rtol=1e-3)
        # Weights of no use are slow, but no breakdown, and they do not diverge.
        solved = found.result == sciml.RESULTS.successful
        assert solved or found.result == sciml.RESULTS.max_steps_reached
        assert left <= (1e-8 if solved else 1.0)
        assert solved or M is not broken
    with pytest.raises(ValueError, match="CG needs a positive definite one"):
        sciml.linear_solve(A, b, sciml.CG(), preconditioner=model)


def test_wrong_arguments():
    key = jr.key(0)
    for make, message in (
        (lambda: pc.TwoLevelDirections(4, key=key), "ndim: expected 1, 2 or 3, got 4"),
        (lambda: pc.TwoLevelDirections(2, 0, key=key), "width"),
        (lambda: pc.TwoLevelDirections(2, num_after=-1, key=key), "num_after"),
        (lambda: pc.TwoLevelDirections(2, in_channels=3, key=key), "in_channels"),
        (lambda: pc.SharedLevelDirections(0, key=key), "ndim"),
        (lambda: pc.SharedLevelDirections(2, 0, key=key), "width"),
        (lambda: pc.DirectionResidual(laplacian((4,)), -1), "num_steps"),
        (lambda: pc.sine_vectors(Grid((4,)), 0, key=key), "count"),
        (lambda: pc.sine_vectors(Grid((4,)), 1, low_weight=0.0, key=key), "low_weight"),
        (lambda: pc.ritz_vectors(laplacian((4,)), 1, 0, key=key), "num_steps"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    model = pc.DeepConjugateDirections(pc.SharedLevelDirections(2, key=key))
    with pytest.raises(ValueError, match="with 2 axes, this one has 1"):
        model.build(laplacian((9,)))
    with pytest.raises(TypeError, match="StencilOperator, got DiagonalsOperator"):
        model.build(sciml.linear.from_scipy(sciml.linear.to_scipy(laplacian((4, 4)))))
    free = Grid((9, 9), boundary=sciml.grids.Neumann())
    with pytest.raises(ValueError, match="Dirichlet sides"):
        model.build(diffusion_operator(1.0, free))
    with pytest.raises(ValueError, match="Dirichlet sides"):
        pc.sine_vectors(free, 1, key=key)
    with pytest.raises(TypeError, match="StencilOperator"):
        pc.ritz_vectors(np.eye(3), 1, key=key)
    loss = pc.DirectionResidual(laplacian((9, 9)))
    wrong = Dataset(np.ones((2, 1, 9, 8)), None, Grid((9, 8)))
    with pytest.raises(ValueError, match=r"operator's grid \(9, 9\)"):
        loss(model, wrong, key)
