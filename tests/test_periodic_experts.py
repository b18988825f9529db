"""Experts on a ring and on a torus: the last box is matched with the first."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml.constraints import (
    C1,
    GridPartition,
    HardConstraint,
    LinearLeastSquares,
    MixtureOfExperts,
    Schwarz,
    TimeMarching,
)
from sciml.constraints._coupled_least_squares import CoupledLeastSquares, chain
from sciml.constraints._links import seams

MATCHED = lambda basis: basis["u"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("parts", "periodic", "blocks"),
    [
        ((6,), (0,), 3),
        ((5,), (0,), 1),
        ((2,), (0,), 1),
        ((4, 2), (0, 1), 2),
        ((3, 2), (0, 1), 1),
        ((4, 3), (0,), 3),
        ((4, 3), (), 4),
        ((2, 4), (1,), 2),
    ],
)
def test_normal_equations_of_rings(parts, periodic, blocks):
    shape = tuple(3 * n + 1 for n in parts)
    boxes = GridPartition(parts, periodic=periodic).boxes(shape)
    leaf = jr.normal(jr.key(0), (2, *shape))
    links = [seams([leaf], boxes, axis, (1.0, 0.5)) for axis in range(len(shape))]
    links = [link for link in links if link is not None]
    for axis, link in enumerate(links):
        ring = axis in periodic
        assert len(link.lefts) == boxes.count // parts[axis] * (parts[axis] - 1 + ring)
    order = chain(boxes)
    assert order.length == blocks
    ridge = jnp.broadcast_to(2.0 * jnp.eye(2)[None], (boxes.count, 2, 2))
    alive = jnp.ones((boxes.count,), bool)
    problem = CoupledLeastSquares((), tuple(links), ridge, alive, order)
    start = order.blocks(jr.normal(jr.key(1), (boxes.count, 2)))

    # An independent account of the same sum of squares.
    def cost(flat):
        weights = order.experts(flat.reshape(start.shape))
        total = 2 * jnp.sum(weights**2)
        for axis, (n, count) in enumerate(zip(shape, parts, strict=True)):
            field = np.moveaxis(np.asarray(leaf), axis + 1, 1)
            cut = [round(k * n / count) for k in range(count + 1)]
            for one, place in enumerate(boxes.places):
                after = place[axis] + 1
                if after == count and axis not in periodic:
                    continue
                other = (*place[:axis], after % count, *place[axis + 1 :])
                beside = cut[after] - 1, cut[after] % n
                own = []
                for along, k in enumerate(place):
                    if along != axis:
                        low = round(k * shape[along] / parts[along])
                        own.append(slice(low, low + shape[along] // parts[along]))
                last, first = (field[(slice(None), b, *own)] for b in beside)
                two = boxes.places.index(other)
                jump = weights[one] - weights[two]
                value = jnp.tensordot(jump, (last + first) / 2, 1)
                slope = jnp.tensordot(jump, (first - last) * n / count, 1)
                total += (jnp.sum(value**2) + 0.25 * jnp.sum(slope**2)) / value.size
        return total / 2

    found, flat = problem.normal(start), start.ravel()
    np.testing.assert_allclose(found.cost, cost(flat), rtol=1e-12)
    slope = jax.grad(cost)(flat)
    np.testing.assert_allclose(found.gradient.ravel(), slope, rtol=1e-9, atol=1e-9)
    shift = jnp.zeros(())
    solved = found.matrix.factorise(shift).solve(found.gradient)
    expected = jnp.linalg.solve(jax.hessian(cost)(flat), slope)
    np.testing.assert_allclose(solved.ravel(), expected, rtol=1e-7, atol=1e-9)


def test_an_equation_on_a_ring():
    # −u″ + u = f with u = exp(sin 2πx), by random periodic features.
    x = jnp.arange(240) / 240
    wave, slope = jnp.sin(2 * jnp.pi * x), 2 * jnp.pi * jnp.cos(2 * jnp.pi * x)
    exact = jnp.exp(wave)
    source = exact - exact * (slope**2 - 4 * jnp.pi**2 * wave)
    keys = jr.split(jr.key(0), 2)
    a, shift = 3.0 * jr.normal(keys[0], (16,)), jr.uniform(keys[1], (16,))
    feature = lambda a, b, x: jnp.tanh(a * jnp.sin(2 * jnp.pi * (x - b)))
    on_nodes = lambda f: jax.vmap(lambda a, b: jax.vmap(lambda x: f(a, b, x))(x))(
        a, shift
    )
    second = jax.grad(jax.grad(feature, 2), 2)
    basis = {"u": on_nodes(feature), "u_xx": on_nodes(second)}
    layer = HardConstraint(
        lambda t, f: t["u"] - t["u_xx"] - f, LinearLeastSquares(), terms=lambda b: b
    )

    def error(partition):
        experts = MixtureOfExperts(layer, partition, C1(), matched=MATCHED)
        out = experts(basis, source)
        return jnp.linalg.norm(out.value["u"] - exact) / jnp.linalg.norm(exact), out

    good, out = error(GridPartition(6, periodic=0))
    assert good < 1e-4 and out.stats["seam_jump"] < 1e-4
    assert bool(jnp.all(out.result == sciml.RESULTS.successful))
    # Without the seam between the ends nothing says what u is there.
    assert error(GridPartition(6))[0] > 1e-2


def test_what_rings_are_refused():
    with pytest.raises(ValueError, match="periodic"):
        GridPartition(2, periodic=(-1,))
    with pytest.raises(ValueError, match="periodic"):
        GridPartition(2, periodic=True)  # (Which axis?)
    with pytest.raises(ValueError, match=r"axes \(1,\) are periodic"):
        GridPartition(2, periodic=(1,)).boxes((8,))
    layer = HardConstraint(lambda u, p: u - 1.0, LinearLeastSquares())
    basis = jnp.ones((1, 8, 8))
    refused = (
        (GridPartition(2, overlap=1, periodic=0), Schwarz(), "Schwarz passes no"),
        (GridPartition(time=2, periodic=1), TimeMarching(), "time, the last axis"),
    )
    for partition, coupling, message in refused:
        with pytest.raises(ValueError, match=message):
            MixtureOfExperts(layer, partition, coupling)(basis)
    march = GridPartition(2, time=2, periodic=0)
    out = MixtureOfExperts(layer, march, TimeMarching())(basis)
    np.testing.assert_allclose(out.value, 1.0, rtol=1e-6)
