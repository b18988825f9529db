"""MgNO: linear cycles, classical multigrid inside of them, boundaries, transforms."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml._serialisation import load, save
from sciml.grids import Dirichlet, Grid, Neumann, Periodic
from sciml.neural_operators import (
    FieldRestriction,
    MgNO,
    MultigridOperator,
    ResidualRestriction,
)

RESTRICTIONS = [FieldRestriction(), ResidualRestriction()]


def small_operator(key, ndim=2, **given):
    arguments: dict[str, Any] = dict(num_levels=3) | given
    return MultigridOperator(ndim, 2, 3, **arguments, key=key)


def small_model(key, ndim=2, **given):
    arguments: dict[str, Any] = dict(width=3, depth=2, num_levels=3) | given
    return MgNO(ndim, 1, 1, **arguments, key=key)


# --- the linear operator --------------------------------------------------------------


@pytest.mark.parametrize("restriction", RESTRICTIONS)
@pytest.mark.parametrize(
    "boundary", [Dirichlet(), [Periodic(), (Neumann(), Dirichlet())]]
)
def test_linear(restriction, boundary, getkey):
    operator = eqx.filter_jit(
        small_operator(
            getkey(),
            boundary=boundary,
            restriction=restriction,
            num_iterations=[(1, 1), (2, 0), (1, 0)],
        )
    )
    f, g = jr.normal(getkey(), (2, 2, 12, 13))
    together = operator(0.3 * f - 7 * g)
    apart = 0.3 * operator(f) - 7 * operator(g)
    error = jnp.max(jnp.abs(together - apart)) / jnp.max(jnp.abs(apart))
    assert error < 1e-12
    assert jnp.all(operator(jnp.zeros_like(f)) == 0)


def test_periodic_shifts(getkey):
    operator = eqx.filter_jit(small_operator(getkey(), boundary=Periodic()))
    model = eqx.filter_jit(small_model(getkey(), depth=2, boundary=Periodic()))
    f = jr.normal(getkey(), (2, 16, 20))
    for shift in ((4, 0), (-8, 12)):
        moved = jnp.roll(f, shift, (1, 2))
        expected = jnp.roll(operator(f), shift, (1, 2))
        np.testing.assert_allclose(operator(moved), expected, atol=1e-13)
        expected = jnp.roll(model(f[:1]), shift, (1, 2))
        np.testing.assert_allclose(model(moved[:1]), expected, atol=1e-13)
    # By less than the coarsest spacing it is another function: the test can fail.
    moved = jnp.roll(f, 2, 1)
    assert jnp.max(jnp.abs(operator(moved) - jnp.roll(operator(f), 2, 1))) > 1e-3


# --- classical multigrid as a special case --------------------------------------------

OMEGA = 0.8
STEPS = 2


def poisson(n):
    """The matrix of −Δ on n × n interior nodes of the unit square."""
    line = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) * (n + 1) ** 2
    return np.kron(line, np.eye(n)) + np.kron(np.eye(n), line)


def bilinear(n):
    """Interpolation from (n − 1)/2 to n interior nodes per axis."""
    line = np.zeros((n, n // 2))
    for j in range(n // 2):
        line[2 * j : 2 * j + 3, j] = 0.5, 1, 0.5
    return np.kron(line, line)


def classical_cycle(f, n):
    """A textbook V(2, 2)-cycle with damped Jacobi, from dense matrices."""
    a = poisson(n)
    u = np.zeros_like(f)
    if n == 1:
        for _ in range(2 * STEPS):
            u = u + OMEGA / a[0, 0] * (f - a @ u)
        return u
    for _ in range(STEPS):
        u = u + OMEGA / a[0, 0] * (f - a @ u)
    p = bilinear(n)
    u = u + p @ classical_cycle(p.T @ (f - a @ u) / 4, n // 2)
    for _ in range(STEPS):
        u = u + OMEGA / a[0, 0] * (f - a @ u)
    return u


def classical_operator(n, key):
    """The same cycle as kernels of a `MultigridOperator`."""
    num_levels = int(np.log2(n + 1))
    operator = MultigridOperator(
        2,
        1,
        1,
        num_levels,
        num_iterations=[(STEPS, STEPS)] * num_levels,
        restriction=ResidualRestriction(),
        key=key,
    )
    star = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    centre = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    hat = np.array([0.5, 1, 0.5, 0])

    def put(module, kernel):
        kernel = jnp.asarray(kernel, float)[None, None]
        assert kernel.shape == module.weight.shape
        return eqx.tree_at(lambda m: m.weight, module, kernel)

    def put_steps(steps, h):
        return tuple(
            eqx.tree_at(
                lambda s: (s.operator, s.smoother),
                step,
                (
                    step.operator and put(step.operator, star / h**2),
                    put(step.smoother, OMEGA * h**2 / 4 * centre),
                ),
                is_leaf=lambda leaf: leaf is None,
            )
            for step in steps
        )

    levels = []
    for l, level in enumerate(operator.levels):
        h = 2**l / (n + 1)
        restriction: Any = level.restriction
        levels.append(
            eqx.tree_at(
                lambda m: (m.pre, m.post, m.restriction, m.prolongation),
                level,
                (
                    put_steps(level.pre, h),
                    put_steps(level.post, h),
                    eqx.tree_at(
                        lambda r: (r.operator, r.restrict_f),
                        restriction,
                        (
                            put(restriction.operator, star / h**2),
                            put(
                                restriction.restrict_f,
                                np.outer(hat[:3], hat[:3]) / 4,
                            ),
                        ),
                    ),
                    put(level.prolongation, np.outer(hat, hat)),
                ),
            )
        )
    coarsest = put_steps(operator.coarsest, 2 ** (num_levels - 1) / (n + 1))
    return eqx.tree_at(
        lambda m: (m.levels, m.coarsest), operator, (tuple(levels), coarsest)
    )


def test_classical_kernels_give_the_classical_cycle(getkey):
    n = 31
    operator = eqx.filter_jit(classical_operator(n, getkey()))
    a = poisson(n)
    f = np.asarray(jr.normal(getkey(), (n, n)))
    expected = classical_cycle(f.ravel(), n).reshape(n, n)
    actual = operator(jnp.asarray(f)[None])[0]
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, atol=1e-12 * scale, rtol=0)

    # And it converges as multigrid does: the error of u ← u + W(f − A u) per cycle.
    error, factors = f.ravel(), []
    for _ in range(12):
        residual = jnp.asarray((a @ error).reshape(1, n, n))
        smaller = error - np.asarray(operator(residual)).ravel()
        factors.append(np.linalg.norm(smaller) / np.linalg.norm(error))
        error = smaller
    assert max(factors[-3:]) < 0.2


# --- sizes and parameters -------------------------------------------------------------


def test_published_number_of_parameters(getkey):
    model = eqx.filter_eval_shape(
        lambda key: MgNO(
            2, in_channels=1, out_channels=1, width=24, depth=4, num_levels=6, key=key
        ),
        getkey(),
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(model)) == 572_661


@pytest.mark.parametrize("restriction", RESTRICTIONS)
def test_every_parameter_is_used(restriction, getkey):
    model = small_model(
        getkey(),
        depth=1,
        num_levels=2,
        restriction=restriction,
        num_iterations=[(1, 1), (1, 1)],
    )
    x = jr.normal(getkey(), (1, 9, 12))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m(x) ** 2)))(model)
    assert all(jnp.all(g != 0) for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    "boundary",
    [Dirichlet(), Dirichlet(stored=True), Neumann(), Periodic()],
    ids=["dirichlet", "stored", "neumann", "periodic"],
)
def test_any_size(boundary, getkey):
    model = small_model(getkey(), depth=1, num_levels=6, boundary=boundary)
    for space in ((33, 33), (48, 64), (101, 101), (64, 64)):
        x = jax.ShapeDtypeStruct((1, *space), jnp.float32)
        out = eqx.filter_eval_shape(model, x)
        assert out.shape == x.shape and out.dtype == x.dtype


@pytest.mark.parametrize("ndim, space", [(1, (21,)), (3, (5, 6, 8))])
def test_other_dimensions(ndim, space, getkey):
    model = small_model(getkey(), ndim, depth=1, num_levels=2)
    out = eqx.filter_jit(jax.vmap(model))(jr.normal(getkey(), (2, 1, *space)))
    assert out.shape == (2, 1, *space)


def test_transforms(getkey):
    model = small_model(getkey(), depth=1, num_levels=2)
    x = jr.normal(getkey(), (2, 1, 9, 12))
    batch = eqx.filter_jit(jax.vmap(model))(x)
    np.testing.assert_allclose(batch[0], eqx.filter_jit(model)(x[0]), atol=1e-13)

    parameters, static = eqx.partition(model, eqx.is_array)

    def loss(parameters):
        return jnp.mean(jax.vmap(eqx.combine(parameters, static))(x) ** 2)

    direction = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size)), parameters)
    direction = jax.tree.map(lambda p, d: d.reshape(p.shape), parameters, direction)

    @jax.jit
    def slopes(parameters):
        value, forward = jax.jvp(loss, (parameters,), (direction,))
        _, backward = jax.vjp(loss, parameters)
        products = jax.tree.map(jnp.vdot, backward(jnp.ones_like(value))[0], direction)
        return value, forward, sum(jax.tree.leaves(products))

    def value(step):
        return slopes(jax.tree.map(lambda p, d: p + step * d, parameters, direction))[0]

    _, forward, backward = slopes(parameters)
    difference = (value(1e-5) - value(-1e-5)) / 2e-5
    np.testing.assert_allclose(forward, backward, rtol=1e-12)
    np.testing.assert_allclose(forward, difference, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_output_follows_the_dtype_of_the_input(dtype, getkey):
    model = eqx.filter_jit(small_model(getkey(), depth=1, num_levels=2))
    x = jr.normal(getkey(), (1, 8, 9), dtype)
    assert model(x).dtype == dtype
    np.testing.assert_allclose(model(x), model(x.astype(float)), atol=1e-5)
    phases = np.asarray(x) > 0
    np.testing.assert_array_equal(model(phases), model(phases.astype(float)))


# --- boundary -------------------------------------------------------------------------


def test_dirichlet_values_are_exact(getkey):
    boundary = [
        (Dirichlet(value=1.5, stored=True), Neumann()),
        (Dirichlet(), Dirichlet(value=-2, stored=True)),
    ]
    model = small_model(getkey(), boundary=boundary)
    out = eqx.filter_jit(model)(jr.normal(getkey(), (1, 12, 9)))
    assert jnp.all(out[:, 0, :-1] == 1.5)
    assert jnp.all(out[..., -1] == -2)
    assert jnp.all(out[:, 1:, :-1] != 0)


def test_boundary_of_a_grid(getkey):
    """Data of a grid's functions become arrays without axes; those are numbers, too."""
    grid = Grid(
        (8, 8),
        boundary=[
            (Dirichlet(value=jnp.array(2.0)), Neumann(flux=np.float64(1))),
            Periodic(),
        ],
    )
    model = small_model(getkey(), boundary=grid.boundary)
    low, high = model.boundary[0]
    assert type(low.value) is float and low.value == 2  # pyright: ignore[reportAttributeAccessIssue]
    assert type(high.flux) is float and high.flux == 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("restriction", RESTRICTIONS)
def test_saving_and_loading(restriction, tmp_path, getkey):
    model = small_model(
        getkey(),
        boundary=[(Dirichlet(value=1.0, stored=True), Neumann()), Periodic()],
        restriction=restriction,
        num_iterations=[[1, 1], [1, 0], [3, 0]],
    )
    save(tmp_path / "model.safetensors", model)
    loaded = load(tmp_path / "model.safetensors")
    assert bool(eqx.tree_equal(model, loaded))


# --- mistakes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(ndim=0), "ndim"),
        (dict(width=0), "width"),
        (dict(depth=0), "depth"),
        (dict(num_levels=0), "num_levels"),
        (dict(num_iterations=[(1, 0)]), "num_iterations: expected one pair"),
        (dict(num_iterations=[(0, 1)] * 3), "num_iterations: expected one pair"),
        (dict(boundary=Dirichlet(value=np.ones(8))), "boundary: .* needs one number"),
        (dict(boundary=Dirichlet(value=lambda x, y: x)), "got a function"),
    ],
)
def test_wrong_arguments(arguments, message, getkey):
    with pytest.raises(ValueError, match=message):
        small_model(getkey(), **arguments)


def test_wrong_inputs(getkey):
    model = small_model(getkey(), num_levels=5)
    with pytest.raises(ValueError, match=r"axis 1 with 14 .* num_levels=4"):
        model(jnp.ones((1, 31, 14)))
    with pytest.raises(ValueError, match="expected 1 channels .* in_channels=2"):
        model(jnp.ones((2, 32, 32)))
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        model(jnp.ones((5, 1, 32, 32)))
    with pytest.raises(ValueError, match="real"):
        model(jnp.ones((1, 32, 32), complex))
    operator = small_operator(getkey())
    with pytest.raises(ValueError, match="expected 2 channels"):
        operator(jnp.ones((1, 32, 32)))
    with pytest.raises(ValueError, match="num_levels"):
        operator(jnp.ones((2, 32, 2)))
