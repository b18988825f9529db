"""D4 on fields, data and models: the group, its geometry, what is refused, training."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from sciml._serialisation import load, save
from sciml.data import Dataset
from sciml.evaluation import evaluate
from sciml.grids import Convolution, Dirichlet, Grid, Neumann, Periodic
from sciml.grids._square_symmetry import d4_elements, moved_back, moved_by_d4
from sciml.linear import diffusion_operator
from sciml.neural_operators import D4Averaged, MgNO, NodeCoordinates, UNet
from sciml.training import Curriculum, D4Augmented, Pushforward, RelativeL2, fit

BOUNDARIES = {
    "dirichlet": Dirichlet(),
    "stored": Dirichlet(value=0.5, stored=True),
    "neumann": Neumann(),
    "periodic": Periodic(),
}
# What each element does to a point of the unit box, in the order of d4_elements.
PLACES = [
    lambda x, y: (x, y),
    lambda x, y: (x, 1 - y),
    lambda x, y: (1 - x, y),
    lambda x, y: (1 - x, 1 - y),
    lambda x, y: (y, x),
    lambda x, y: (1 - y, x),
    lambda x, y: (y, 1 - x),
    lambda x, y: (1 - y, 1 - x),
]


def function(x, y):
    """Of period 1 in x and y, without any symmetry."""
    x, y = 2 * np.pi * x, 2 * np.pi * y
    return np.sin(x + 0.3) + 2 * np.cos(x + 2 * y - 1) + 0.5 * np.sin(2 * x - y + 2)


# --- the group ------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("n", [6, 7])
def test_elements_move_functions(boundary, n):
    """Nodes go to nodes: a field of f becomes the field of f after a map of the box."""
    grid = Grid((n, n), boundary=boundary)
    x, y = grid.mesh()
    field = jnp.asarray(function(x, y))
    periodic = grid.periodic[0]
    for element, place in zip(d4_elements(), PLACES, strict=True):
        moved = moved_by_d4(field, jnp.asarray(element), periodic)
        np.testing.assert_allclose(moved, function(*place(x, y)), atol=1e-13)
        back = moved_back(moved, jnp.asarray(element), periodic)
        assert jnp.array_equal(back, field)
    # Leading axes stay where they are.
    stack = jnp.stack([field, 2 * field])
    element = jnp.asarray(d4_elements()[5])
    moved = moved_by_d4(stack, element, periodic)
    assert jnp.array_equal(moved[1], 2 * moved_by_d4(field, element, periodic))


def test_group():
    """Eight different elements, and any two after each other are one of them."""
    field = np.arange(16).reshape(4, 4)
    orbit = {
        np.asarray(moved_by_d4(jnp.asarray(field), jnp.asarray(g), False)).tobytes()
        for g in d4_elements()
    }
    by_numpy = {
        np.ascontiguousarray(np.rot90(f, k)).tobytes()
        for f in (field, field.T)
        for k in range(4)
    }
    assert orbit == by_numpy and len(orbit) == 8


@pytest.mark.parametrize("boundary", BOUNDARIES.values(), ids=BOUNDARIES)
def test_the_equation_has_the_symmetry(boundary, getkey):
    """−∇·(a∇u) of moved a and u is moved."""
    grid = Grid((5, 5), boundary=boundary)
    a = jnp.exp(jr.normal(getkey(), grid.shape))
    u = jr.normal(getkey(), grid.shape)
    if boundary == BOUNDARIES["stored"]:
        u = grid.homogeneous().impose(u)
    apply = jax.jit(lambda a, u: diffusion_operator(a, grid).mv(u))
    for element in jnp.asarray(d4_elements()):
        move = lambda field, g=element: moved_by_d4(field, g, grid.periodic[0])
        np.testing.assert_allclose(apply(move(a), move(u)), move(apply(a, u)))


# --- augmentation ---------------------------------------------------------------------


def pair(x):
    """A map that commutes with the symmetries, and so keeps pairs together."""
    return x**2


def test_inputs_and_targets_move_together(getkey):
    grid = Grid((4, 4))
    inputs = jr.normal(getkey(), (6, 1, 4, 4))
    data = Dataset(inputs, pair(inputs), grid)
    value = jax.jit(lambda key: D4Augmented()(pair, data, key)[0])
    assert all(value(key) == 0 for key in jr.split(getkey(), 5))


def test_every_element_is_drawn_per_sample(getkey):
    """With equal frequency, to four deviations of a binomial distribution."""
    grid, field = Grid((4, 4)), jnp.arange(16.0).reshape(4, 4)
    data = Dataset(jnp.broadcast_to(field, (500, 1, 4, 4)), None, grid)
    seen = []

    def loss(model, batch, key):
        del model, key
        return jnp.zeros(()), {"inputs": batch.inputs}

    draw = jax.jit(lambda key: D4Augmented(loss)(None, data, key)[1]["inputs"])
    for key in jr.split(getkey(), 4):
        seen += [sample.tobytes() for sample in np.asarray(draw(key))]
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == 8
    assert np.all(np.abs(counts - 250) < 4 * np.sqrt(2000 / 8 * 7 / 8))


def test_augmentation_shows_what_the_data_lack(getkey):
    """Fields that vary along one axis teach what happens along the other, too."""
    grid = Grid((8, 8), boundary=Periodic())
    x, y = grid.mesh()
    waves = [np.sin(2 * np.pi * k * x + k) for k in (1, 2, 3)]
    inputs = np.stack(waves)[:, None]

    def blur(f):
        sides = [np.roll(f, s, axis) for s in (-1, 1) for axis in (-2, -1)]
        return 0.5 * f + sum(sides) / 8

    train = Dataset(inputs, blur(inputs), grid)
    turned = inputs.swapaxes(-2, -1)
    test = Dataset(turned, blur(turned), grid)
    errors = []
    for loss in (RelativeL2(), D4Augmented()):
        model, _ = fit(
            Convolution(2, 1, 1, boundary=Periodic(), key=jr.key(3)),
            train,
            loss=loss,
            optimiser=optax.adam(optax.cosine_decay_schedule(5e-2, 150)),
            num_steps=150,
            batch_size=3,
            progress=False,
            key=jr.key(4),
        )
        errors.append(evaluate(model, test)["relative_l2"])
    assert errors[0] > 0.2 and errors[1] < 0.03


def test_schedules_inside(getkey):
    grid = Grid((4, 4), boundary=Periodic())
    states = jr.normal(getkey(), (3, 4, 4, 4))
    data = Dataset(states[:, :1], states[:, 1:], grid)
    outer = D4Augmented(Pushforward(2, 10))
    draw = jax.jit(lambda step: outer.at_step(step)(lambda u: u, data, jr.key(0))[1])
    assert draw(0)["num_unrolls"] == 0
    many = jax.jit(lambda k: outer.at_step(20)(lambda u: u, data, k)[1]["num_unrolls"])
    assert {int(many(key)) for key in jr.split(getkey(), 20)} == {0, 1, 2}
    loss: Any = D4Augmented(Curriculum(10)).at_step(5)
    assert int(loss.loss.num_autoregressive(4)) == 2
    assert D4Augmented().at_step(3).loss == RelativeL2()


# --- the averaged model ---------------------------------------------------------------


@pytest.mark.parametrize("boundary", BOUNDARIES.values(), ids=BOUNDARIES)
@pytest.mark.parametrize("n", [8, 9])
def test_averaged_model_commutes(boundary, n, getkey):
    inner = UNet(2, 1, 1, 2, 2, boundary, coordinates=NodeCoordinates(), key=getkey())
    model = eqx.filter_jit(D4Averaged(inner))
    plain = eqx.filter_jit(inner)
    periodic = Grid((n, n), boundary=boundary).periodic[0]
    x = jr.normal(getkey(), (1, n, n))
    out, differs = model(x), 0.0
    for element in jnp.asarray(d4_elements()):
        move = lambda field, g=element: moved_by_d4(field, g, periodic)
        np.testing.assert_allclose(model(move(x)), move(out), atol=1e-13)
        gap = jnp.max(jnp.abs(plain(move(x)) - move(plain(x))))
        differs = max(differs, float(gap))
    assert differs > 1e-6
    if boundary == BOUNDARIES["stored"]:
        assert jnp.all(out[0, 0] == 0.5) and jnp.all(out[0, :, -1] == 0.5)


def test_average_by_rotations(getkey):
    """Against NumPy's rotations and one reflection, all eight written out."""
    inner = MgNO(2, 1, 1, 2, 1, 2, key=getkey())
    model = eqx.filter_jit(inner)
    x = np.asarray(jr.normal(getkey(), (1, 7, 7)))
    total = np.zeros_like(x)
    for k in range(4):
        turned = np.ascontiguousarray(np.rot90(x, k, (1, 2)))
        total += np.rot90(np.asarray(model(jnp.asarray(turned))), -k, (1, 2))
        mirrored = np.ascontiguousarray(turned[:, ::-1])
        y = np.asarray(model(jnp.asarray(mirrored)))[:, ::-1]
        total += np.rot90(y, -k, (1, 2))
    averaged = eqx.filter_jit(D4Averaged(inner))
    np.testing.assert_allclose(averaged(jnp.asarray(x)), total / 8, atol=1e-13)


def test_gradient_and_dtype(getkey):
    model = D4Averaged(UNet(2, 1, 1, 2, 1, key=getkey()))
    x = jr.normal(getkey(), (2, 1, 5, 5), jnp.float32)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model):
        out = jax.vmap(model)(x)
        assert out.dtype == jnp.float32
        return jnp.mean((out - 1) ** 2)

    leaves = jax.tree.leaves(loss(model)[1])
    assert all(jnp.all(jnp.isfinite(g)) and jnp.any(g != 0) for g in leaves)


def test_saving_and_loading(tmp_path, getkey):
    model = D4Averaged(MgNO(2, 1, 1, 2, 1, 2, Dirichlet(1.0, True), key=getkey()))
    save(tmp_path / "model.safetensors", model)
    assert bool(eqx.tree_equal(model, load(tmp_path / "model.safetensors")))


# --- what is refused ------------------------------------------------------------------

HALF_STORED = ((Dirichlet(stored=True), Dirichlet()),) * 2


@pytest.mark.parametrize(
    "grid, message",
    [
        (Grid(5), "number of axes is another one: 1"),
        (Grid((5, 6)), "numbers of nodes differ"),
        (Grid((5, 5), extent=(1.0, 2.0)), "extents differ"),
        (Grid((5, 5), boundary=(Periodic(), Neumann())), "boundary conditions differ"),
        (
            Grid((5, 5), boundary=HALF_STORED),
            "nodes of some Dirichlet",
        ),
        (
            Grid((5, 5), boundary=(Dirichlet(value=1.0), Dirichlet())),
            "boundary values are not one number",
        ),
        (
            Grid((5, 5), boundary=Neumann(flux=lambda x, y: x + y)),
            "boundary fluxes are not one number",
        ),
    ],
)
def test_grids_without_the_symmetry(grid, message, getkey):
    data = Dataset(np.ones((2, 1, *grid.shape)), None, grid)
    with pytest.raises(ValueError, match=f"D4.*{message}"):
        D4Augmented()(pair, data, getkey())


def test_models_without_the_symmetry(getkey):
    with pytest.raises(ValueError, match="model: expected one that says"):
        D4Averaged(pair)
    with pytest.raises(ValueError, match="nodes of some Dirichlet"):
        D4Averaged(MgNO(2, 1, 1, 2, 1, 2, HALF_STORED, key=getkey()))
    with pytest.raises(ValueError, match="number of axes"):
        D4Averaged(MgNO(1, 1, 1, 2, 1, 2, key=getkey()))
    model = D4Averaged(MgNO(2, 1, 1, 2, 1, 2, key=getkey()))
    with pytest.raises(ValueError, match="numbers of nodes differ"):
        model(jnp.ones((1, 8, 9)))
    no_grid = Dataset(np.ones((2, 3)), None)
    with pytest.raises(ValueError, match="there is no grid"):
        D4Augmented()(pair, no_grid, getkey())
