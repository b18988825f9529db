"""Experts in sweeps, and experts whose parts are learned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml.constraints import (
    GridPartition,
    HardConstraint,
    LinearLeastSquares,
    MixtureOfExperts,
    RoutedExperts,
    Schwarz,
    Side,
)

MATCHED = lambda basis: basis["u"]
VALUE = lambda terms, parameters: terms["u"]


def relative(found, expected):
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))


def test_schwarz_sweeps_converge_to_what_one_problem_has():
    """Sines that vanish at the ends, of which the solution is one."""
    x = jnp.linspace(0.0, 1.0, 65)
    waves = jnp.stack([jnp.sin(k * jnp.pi * x) for k in (1, 2)] + [1 - x, x])
    squares = jnp.array([1.0, 4.0, 0.0, 0.0]) * jnp.pi**2
    basis = {"u": waves, "u_xx": -jnp.diag(squares) @ waves}
    source, exact = 4 * jnp.pi**2 * waves[1], waves[1]
    layer = HardConstraint(
        lambda terms, source: -terms["u_xx"] - source,
        LinearLeastSquares(),
        sides=(Side(VALUE, 0), Side(VALUE, 0, -1)),
    )

    def solved(num_sweeps, overlap, parts=2):
        mixture = MixtureOfExperts(
            layer,
            GridPartition(parts, overlap=overlap),
            Schwarz(num_sweeps),
            matched=MATCHED,
        )
        return mixture(basis, source, throw=False)

    errors = {n: relative(solved(n, 8).value["u"], exact) for n in (4, 8, 40)}
    # Boxes that end at 3/4 and at 1/4: each sweep leaves a third of the error.
    np.testing.assert_allclose(errors[8] / errors[4], 3.0**-4, rtol=0.2)
    assert errors[40] < 1e-6
    assert jnp.all(solved(40, 8).result == sciml.RESULTS.successful)
    assert jnp.all(solved(4, 8).result == sciml.RESULTS.max_steps_reached)
    assert relative(solved(8, 2).value["u"], exact) > 2 * errors[8]
    with pytest.raises(ValueError, match="have to overlap"):
        solved(4, 0)
    assert relative(solved(1, 0, 1).value["u"], exact) < 1e-9
    with pytest.raises(ValueError, match="num_sweeps"):
        Schwarz(0)
    of = lambda scale: jnp.sum(
        MixtureOfExperts(
            layer, GridPartition(2, overlap=8), Schwarz(30), matched=MATCHED
        )(basis, scale * source, throw=False).value["u"]
        ** 2
    )
    np.testing.assert_allclose(jax.grad(of)(1.0), 2 * of(1.0), rtol=1e-5)


class Power(eqx.Module):
    """A residual with an array of its own, as long as there are experts."""

    factors: jax.Array

    def __call__(self, u, target):
        return jnp.sum(self.factors) * u - target["field"] * target["shared"][3]


@pytest.mark.parametrize("num_points", [None, 8])
def test_arrays_that_all_experts_share(num_points):
    """One as long as a box has nodes, one as there are experts: neither is cut."""
    x = jnp.linspace(0.0, 1.0, 64)
    layer = HardConstraint(
        Power(jnp.array([1.0, 2.0, 3.0, 4.0])), num_points=num_points
    )
    mixture = MixtureOfExperts(layer, GridPartition(4))
    parameters = {"field": 1 + x, "shared": jnp.arange(16.0)}
    basis = jnp.stack([jnp.ones(64), x])
    out = mixture(basis, parameters, key=jr.key(0))
    np.testing.assert_allclose(out.value, 3 * (1 + x) / 10, atol=1e-9)
    of = lambda layer: jnp.sum(
        MixtureOfExperts(layer, GridPartition(4))(
            basis, parameters, key=jr.key(0)
        ).value
    )
    slope = eqx.filter_grad(of)(layer).residual.factors
    np.testing.assert_allclose(slope, jnp.full(4, -out.value.sum() / 10), rtol=1e-6)


def test_gates_that_are_routed():
    """|x − ½| is two straight lines: found when the gates are sharp, and trainable."""
    x = jnp.linspace(0.0, 1.0, 64)
    basis, target = jnp.stack([jnp.ones(64), x]), jnp.abs(x - 0.5)
    layer = HardConstraint(lambda u, target: u - target)
    router = lambda sharpness: jnp.stack([sharpness * (x - 0.5), jnp.zeros(64)])
    experts = RoutedExperts(layer, router)
    error = lambda sharpness: relative(
        experts(basis, target, routed=sharpness).value, target
    )
    assert relative(layer(basis, target).value, target) > 0.3
    assert error(500.0) < 1e-3 < error(5.0)
    out = experts(basis, target, routed=20.0)
    np.testing.assert_allclose(out.stats["gates"].sum(0), 1.0)
    products = out.stats["gates"][:, None] * basis[None]
    combined = jnp.einsum("kn,knx->x", out.stats["weights"], products)
    np.testing.assert_allclose(combined, out.value, atol=1e-9)
    loss = jax.jit(
        lambda s: jnp.sum((experts(basis, target, routed=s).value - target) ** 2)
    )
    h = 1e-3
    expected = (loss(5.0 + h) - loss(5.0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(loss)(5.0), expected, rtol=1e-5)
    assert jax.grad(loss)(5.0) < 0
    with pytest.raises(ValueError, match="router"):
        RoutedExperts(layer, lambda _: jnp.ones((2, 3)))(basis, target, routed=None)
