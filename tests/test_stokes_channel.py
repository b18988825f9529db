"""Flow around a cylinder: conditions and balances that hold for any weights, the law,
the certificate, finite elements, and a model."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from problems._stokes_elements import Geometry, stokes_response
from sciml.grids import Dirichlet, Grid
from sciml.inverse import Laplace, LatentPrior, Observations, posterior
from sciml.neural_operators import DGNO, DenseEncoder, VirtualObservables
from sciml.weak_forms import PrescribedValues, StokesChannel
from sciml.weak_forms._stokes import _point_stress

GRID = Grid((17,), boundary=Dirichlet(stored=True))
FORM = StokesChannel(GRID, PrescribedValues(2.5))
# With a cylinder that is not small: cosines suffice.
WIDE = StokesChannel(
    GRID,
    FORM.coefficient,
    length=1.5,
    centre=(0.7, 0.5),
    radius=0.2,
    num_points=(25, 17),
)
CENTRE, RADIUS, MU = jnp.array(FORM.centre), FORM.radius, FORM.viscosity
ANGLES = jnp.linspace(0, 2 * math.pi, 400, endpoint=False)
RAYS = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], 1)


def unused(points):
    raise AssertionError("the equation has no coefficient")


def waves(weights, form=FORM) -> Any:
    """Fields that a network might give: cosines with these weights.

    They do not fit the sides, so that any smooth function is near to a sum of them.
    (No one asks for their gradients.)
    """

    def features(places, weights):
        numbers = jnp.arange(float(len(weights)))
        return jnp.cos(2.2 * numbers[None] * (places[:, None] + 0.2))

    def fields(name, points):
        given = weights[name]
        if name == "numbers":
            return jnp.broadcast_to(given[:, None], (5, len(points))), None
        if name == "coefficient":
            return (features(points[:, 0], given) @ given)[None], None
        along = features(points[:, 0] / form.length, given)
        across = features(points[:, 1], given.T)
        return jnp.sum((along @ given) * across, 1)[None], None

    return fields


def random_weights(key):
    shapes = {
        "coefficient": (7,),
        "stream": (7, 6),
        "stress": (7, 6),
        "numbers": (5,),
    }
    keys = jr.split(key, 4)
    return {n: jr.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


@pytest.fixture(scope="module")
def weights():
    return random_weights(jr.key(3))


@pytest.fixture(scope="module")
def flow():
    """(u, v, p) and gradients."""
    return eqx.filter_jit(lambda w, points: FORM.solution(waves(w), points))


@pytest.fixture(scope="module")
def stress():
    """σ_xx, σ_yy, σ_xy."""
    return eqx.filter_jit(lambda w, points: FORM.stress(waves(w), points))


def test_conditions_hold_for_any_weights(weights, flow, stress):
    x, y = jnp.linspace(0, 2, 9), jnp.linspace(0, 1, 9)
    pair = lambda a, b: jnp.stack(jnp.broadcast_arrays(a, b), 1)
    solid = [pair(x, 0.0), pair(x, 1.0), CENTRE[None] + RADIUS * RAYS[::40]]
    for points in solid:
        np.testing.assert_allclose(flow(weights, points)[0][:2], 0, atol=1e-11)
    # On the surface, whichever side rounding is on, slopes are those of the fluid.
    surface = jnp.concatenate(
        [CENTRE[None] + RADIUS * RAYS[::20], jnp.array([[0.6, 0.6]])]
    )
    away = CENTRE[None] + (1 + 1e-9) * (surface - CENTRE[None])
    slopes, beside = flow(weights, surface)[1], flow(weights, away)[1]
    np.testing.assert_allclose(slopes, beside, rtol=1e-5, atol=1e-5)
    assert float(jnp.max(jnp.abs(slopes[:2]))) > 10
    (u, v, _), _ = flow(weights, pair(jnp.zeros(1), y))
    entering = FORM.raw_coefficient(waves(weights), y[:, None])
    np.testing.assert_allclose(u, entering, rtol=0, atol=1e-11)
    np.testing.assert_allclose(v, 0, atol=1e-11)
    assert float(jnp.max(jnp.abs(u))) > 1
    leaving = pair(2.0 * jnp.ones(1), y)
    (u, v, p), _ = flow(weights, leaving)
    np.testing.assert_allclose(v, 0, atol=1e-11)
    np.testing.assert_allclose(p[1:-1], 0, atol=1e-10)
    np.testing.assert_allclose(stress(weights, leaving)[0], 0, atol=1e-10)
    assert float(jnp.max(jnp.abs(u))) > 1
    inside, _ = flow(weights, CENTRE[None] + 0.5 * RADIUS * RAYS[:3])
    np.testing.assert_array_equal(inside, 0)
    inner = CENTRE[None] + jnp.array([[0.0, 0.0], [0.05, 0.0], [0.11, 0.0]])
    np.testing.assert_array_equal(FORM.covers(inner), [False, False, True])


def test_balances_hold_for_any_weights(weights, flow, stress):
    points = jnp.array([[0.3, 0.2], [0.65, 0.7], [1.5, 0.9]])
    _, slopes = flow(weights, points)
    np.testing.assert_allclose(slopes[0, :, 0] + slopes[1, :, 1], 0, atol=1e-10)
    of_place = lambda p: stress(weights, p[None])[:, 0]
    xx, yy, xy = jnp.moveaxis(jax.lax.map(jax.jacfwd(of_place), points), 1, 0)
    size = float(jnp.max(jnp.abs(xx)))
    np.testing.assert_allclose(xx[:, 0] + xy[:, 1], 0, atol=1e-11 * size)
    np.testing.assert_allclose(xy[:, 0] + yy[:, 1], 0, atol=1e-11 * size)
    # What acts on the cylinder, integrated around it.
    radius = 0.15
    xx, yy, xy = stress(weights, CENTRE[None] + radius * RAYS)
    n, m = RAYS.T
    pull = jnp.stack([xx * n + xy * m, xy * n + yy * m])
    step = 2 * math.pi * radius / len(ANGLES)
    force, torque = FORM.force(waves(weights), xx.dtype)
    np.testing.assert_allclose(step * jnp.sum(pull, 1), force, rtol=1e-8)
    turn = radius * (n * pull[1] - m * pull[0])
    # (The mirror images of force and torque turn nothing here.)
    np.testing.assert_allclose(step * jnp.sum(turn), torque, rtol=1e-7, atol=1e-12)


def test_stress_of_a_point_force():
    """2μ ε(u) less its trace, u from the textbook, by automatic differentiation."""
    force, torque, mu = jnp.array([0.7, -0.4]), jnp.asarray(0.3), 0.8

    def velocity(d):
        square = jnp.sum(d**2)
        line = (d * (force @ d) / square - force * jnp.log(square) / 2) / (4 * math.pi)
        turn = torque * jnp.array([-d[1], d[0]]) / (4 * math.pi * square)
        return -(line + turn) / mu

    points = jr.normal(jr.key(0), (5, 2)) + jnp.array([[3.0, 0.0]])
    slopes = jax.vmap(jax.jacfwd(velocity))(points)
    xx, yy, xy = _point_stress(points, (0.0, 0.0), force, torque)
    strain = (slopes + slopes.swapaxes(1, 2)) / 2
    np.testing.assert_allclose((xx - yy) / 2, 2 * mu * strain[:, 0, 0], rtol=1e-10)
    np.testing.assert_allclose(xy, 2 * mu * strain[:, 0, 1], rtol=1e-10)


def test_law_and_mean_over_the_fluid(weights, flow, stress):
    """Residuals are dev σ − 2μ ε(u), by other derivatives; weights make a mean."""
    points, roots = FORM.draw(key=jr.key(5))
    assert points.shape == (300, 2) and roots.shape == (300,)
    found = FORM.residuals(waves(weights), unused, (points, roots))["law"]
    fluid = np.asarray(FORM.covers(points))
    assert 0 < (~fluid).sum() < 30 and np.all(np.asarray(roots)[~fluid] == 0)
    _, slopes = flow(weights, points)
    xx, yy, xy = stress(weights, points)
    law = jnp.stack(
        [
            (xx - yy) / 2 - 2 * MU * slopes[0, :, 0],
            xy - MU * (slopes[0, :, 1] + slopes[1, :, 0]),
        ]
    )
    expected = roots[None] * law / (MU * 2.5)
    np.testing.assert_allclose(found.reshape(2, -1)[:, fluid], expected[:, fluid])
    many = StokesChannel(GRID, FORM.coefficient, num_samples=20_000)
    points, roots = many.draw(key=jr.key(6))
    nodes, areas = FORM.channel.quadrature()
    np.testing.assert_allclose(np.sum(areas), 2 - math.pi / 100, rtol=1e-12)
    # ∫ x² over the box, less that over the disc.
    disc = math.pi / 100 * (0.25 + 0.01 / 4)
    np.testing.assert_allclose(areas @ nodes[:, 0] ** 2, 8 / 3 - disc, rtol=1e-10)
    for function in (lambda p: p[:, 0] ** 2, lambda p: np.exp(-9 * p[:, 1])):
        mean = np.mean(np.asarray(roots) ** 2 * function(np.asarray(points)))
        exact = areas @ function(nodes) / np.sum(areas)
        np.testing.assert_allclose(mean, exact, rtol=0.03)


@pytest.fixture(scope="module")
def best():
    """The weights of least residual for one flow that enters: a Galerkin method."""
    given = {"coefficient": 0.2 * jr.normal(jr.key(8), (5,))}
    nodes, areas = WIDE.channel.quadrature()
    where = (jnp.asarray(nodes), jnp.sqrt(jnp.asarray(areas)))
    free = {
        "stream": jnp.zeros((18, 12)),
        "stress": jnp.zeros((18, 12)),
        # All but the flux, which is given.
        "numbers": jnp.zeros(4),
    }
    flat, unflatten = jax.flatten_util.ravel_pytree(free)

    def whole(flat):
        found = unflatten(flat)
        numbers = jnp.concatenate([jnp.array([0.5]), found["numbers"]])
        return given | found | {"numbers": numbers}

    @jax.jit
    def rows(flat):
        return WIDE.residuals(waves(whole(flat), WIDE), unused, where)["law"]

    matrix = jax.jit(jax.jacfwd(rows))(flat)
    solved, *_ = np.linalg.lstsq(matrix, -rows(flat), rcond=1e-10)
    return whole(jnp.asarray(solved)), where


def test_certificate(best):
    """The bound is what it says, by other derivatives; u and p are those of finite
    elements to what it allows for.
    """
    pytest.importorskip("skfem")
    weights, _ = best
    fields = waves(weights, WIDE)
    bound = float(WIDE.error_bound(fields, unused))
    assert 0.05 < bound < 0.25
    response = stokes_response(Geometry.of(WIDE), 4)
    a = WIDE.raw_coefficient(fields, jnp.asarray(GRID.coordinates(0))[:, None])
    exact = (response @ np.asarray(a)).reshape(3, -1)
    axes = np.broadcast_arrays(*WIDE.domain.mesh())
    points = jnp.stack([jnp.asarray(m.ravel()) for m in axes], 1)
    found = np.asarray(WIDE.solution(fields, points)[0])
    off = np.linalg.norm((found - exact)[:2]) / np.linalg.norm(exact[:2])
    assert off < bound
    assert np.linalg.norm((found - exact)[2]) < 0.1 * np.linalg.norm(exact[2])
    nodes, areas = map(jnp.asarray, WIDE.channel.quadrature())
    (_, _, p), slopes = WIDE.solution(fields, nodes)
    slopes = jnp.moveaxis(slopes[:2], 1, 0)
    strain = (slopes + slopes.swapaxes(1, 2)) / 2
    xx, yy, xy = WIDE.stress(fields, nodes)
    stress = jnp.stack([jnp.stack([xx + p, xy], -1), jnp.stack([xy, yy + p], -1)], -1)
    total = lambda tensor: float(areas @ jnp.sum(tensor**2, (1, 2)))
    off = total(stress - 2 * MU * strain) / (2 * MU)
    energy = 2 * MU * total(strain)
    np.testing.assert_allclose(bound, math.sqrt(off / (energy - off)), rtol=1e-8)
    # As far off as nothing can be known.
    wrong = weights | {"numbers": 100 * weights["numbers"].at[0].set(0.01)}
    assert jnp.isinf(WIDE.error_bound(waves(wrong, WIDE), unused))


def test_errors_are_orthogonal(best):
    """Prager and Synge: two admissible pairs, the same flow entering.

    ∫ |s_1 − 2με_2|²/(2μ) − ∫ |s_2 − 2με_2|²/(2μ) and the like add up.
    """
    weights, (points, roots) = best
    other = weights | {
        "stream": weights["stream"] + 0.1 * jr.normal(jr.key(1), (18, 12))
    }
    stressed = weights | {
        "stress": weights["stress"] + 0.1 * jr.normal(jr.key(2), (18, 12)),
        "numbers": weights["numbers"].at[2:].add(0.2),
    }
    law = lambda w: WIDE.residuals(waves(w, WIDE), unused, (points, roots))["law"]
    base, kinematic, static = law(weights), law(other), law(stressed)
    along, across = kinematic - base, static - base
    cosine = along @ across / (jnp.linalg.norm(along) * jnp.linalg.norm(across))
    assert abs(float(cosine)) < 1e-5


def test_finite_elements():
    pytest.importorskip("skfem")
    problem = problems.StokesCylinder(33, refinement=3)
    a = problem.sample_coefficient(key=jr.key(0))
    u, v, p = problem.reference(a)
    domain = problem.weak_form().domain
    assert u.shape == domain.shape == (65, 33)
    # As much passes each section as enters.
    across = jnp.trapezoid(u, dx=1 / 32, axis=1)
    np.testing.assert_allclose(across[0], jnp.trapezoid(a, dx=1 / 32), rtol=1e-5)
    np.testing.assert_allclose(across[30:], across[0], rtol=2e-3)
    # (Its nodes are every third of those of the elements, and every second of these.)
    np.testing.assert_allclose(u[0, ::2], a[::2], atol=1e-9)
    assert float(jnp.max(jnp.abs(v[-1]))) < 1e-9
    # Far behind the cylinder the profile is a parabola, and p falls with its curvature.
    y = jnp.linspace(0, 1, 33)
    flux = float(across[0])
    np.testing.assert_allclose(u[-1], 6 * flux * y * (1 - y), atol=0.01 * flux)
    drop = (p[60, 16] - p[64, 16]) * 8
    np.testing.assert_allclose(drop, 12 * 0.01 * flux, rtol=0.02)
    finer = problems.StokesCylinder(33, refinement=5).reference(a)
    coarser = problems.StokesCylinder(33, refinement=2).reference(a)
    size = lambda field: float(jnp.linalg.norm(field))
    for k, found in enumerate((u, v, p)):
        off = size(found - finer[k]) / size(finer[k])
        assert off < 1e-3 and off < 0.6 * size(coarser[k] - finer[k]) / size(finer[k])
    doubled = problem.reference(2 * a)
    np.testing.assert_allclose(doubled[0], 2 * u, atol=1e-10)


def test_profiles(getkey):
    problem = problems.StokesCylinder(33)
    key = getkey()
    drawn = problem.coefficients(300, key=key)
    assert drawn.inputs.shape == (300, 1, 33) and drawn.targets is None
    np.testing.assert_allclose(drawn.inputs[:, 0, [0, -1]], 0, atol=1e-14)
    few = problem.coefficients(2, key=key)
    np.testing.assert_allclose(few.inputs, drawn.inputs[:2], rtol=1e-12, atol=1e-14)
    assert abs(np.sqrt(np.mean(drawn.inputs**2)) - 2.65) < 0.2
    # Half-way up: 2 (1 + sin(β_1/2) + cos(β_2/2)), β_i even from 0 to 2π.
    assert abs(drawn.inputs[:, 0, 16].mean() - 2 * (1 + 2 / math.pi)) < 0.3
    with pytest.raises(ValueError, match="num_samples"):
        problem.coefficients(0, key=key)
    with pytest.raises(ValueError, match=r"a: expected shape \(33,\), got \(3,\)"):
        problem.reference(jnp.ones(3))
    open_walls = StokesChannel(Grid((17,)), FORM.coefficient)
    with pytest.raises(ValueError, match="nodes on both walls"):
        Geometry.of(open_walls)
    with pytest.raises(ValueError, match="refinement"):
        problems.StokesCylinder(refinement=1)


def test_a_model_of_three_fields(getkey, tmp_path):
    """Output, loss, file, and a posterior of what enters from two components."""
    form = StokesChannel(GRID, FORM.coefficient, num_points=(9, 5), num_samples=6)
    model = DGNO(form, 3, 5, 3, 2, encoder=DenseEncoder((17,), (7,)), key=getkey())
    scales = lambda m: tuple(m.decoders[name].scales for name in sorted(m.decoders))
    ones = tuple(jnp.ones_like(s) / 10 for s in scales(model))
    model = eqx.tree_at(scales, model, ones)
    profiles = jr.normal(getkey(), (4, 1, 17))
    u = eqx.filter_jit(model)(profiles[0])
    assert u.shape == (3, 9, 5)
    data = sciml.data.Dataset(np.asarray(profiles), None, GRID)
    loss, aux = eqx.filter_jit(VirtualObservables())(model, data, getkey())
    assert jnp.isfinite(loss) and aux["residual"] > 0
    sciml.save(tmp_path / "stokes.safetensors", model)
    again = sciml.load(tmp_path / "stokes.safetensors")
    np.testing.assert_array_equal(eqx.filter_jit(again)(profiles[0]), u)
    prior = LatentPrior.fit(model, data)
    # Two nodes of the domain, the second one twice.
    points = jnp.array([[0.25, 0.5], [1.0, 0.25], [1.0, 0.25]])
    channels = jnp.array([0, 0, 1])
    at = lambda u: u[channels, jnp.array([1, 4, 4]), jnp.array([2, 1, 1])]
    seen = Observations(points, at(u), std=1e-4, channels=channels)
    method = Laplace(num_starts=1, num_draws=4)
    found = posterior(model, seen, method=method, prior=prior, key=getkey())
    assert found.mean.shape == found.std.shape == (3, 9, 5)
    np.testing.assert_allclose(at(found.mean), at(u), atol=1e-3)
    with pytest.raises(ValueError, match="channels: u has 3"):
        posterior(model, Observations(points, at(u), std=1, channels=3), key=getkey())
    inside = Observations(CENTRE[None], at(u)[:1], std=1.0)
    with pytest.raises(ValueError, match="no solution"):
        posterior(model, inside, prior=prior, key=getkey())


def test_refuses_what_does_not_fit():
    wrong: tuple[dict[str, Any], ...] = (
        {"viscosity": 0.0},
        {"length": -1.0},
        {"centre": (0.5,)},
        {"centre": (0.5, 0.95)},
        {"centre": (0.5, math.nan)},
        {"centre": (math.nan, 0.5)},
        {"radius": 0.5},
        {"num_points": (3,)},
        {"num_samples": 0},
    )
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            StokesChannel(GRID, FORM.coefficient, **given)
    with pytest.raises(ValueError, match="one axis"):
        StokesChannel(Grid((5, 5)), FORM.coefficient)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda s: Observations(CENTRE[None], jnp.ones(1), std=s).std)(1.0)
    for channels in (0.5, jnp.zeros(2, int)):
        with pytest.raises(ValueError, match="channels"):
            Observations(CENTRE[None], jnp.ones(1), std=1.0, channels=channels)
