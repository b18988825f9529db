"""Weak forms of diffusion: exact solutions, refinement, the certified bound."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml.grids import Dirichlet, Grid, Neumann
from sciml.linear import diffusion_operator
from sciml.weak_forms import (
    EquilibratedDiffusion,
    GaussBall,
    MixedDiffusion,
    PlainDiffusion,
    SmoothCoefficient,
    TwoPhaseCoefficient,
)
from sciml.weak_forms._box import bump
from sciml.weak_forms._equilibrated import _gauss

GRID = Grid((9, 9), boundary=Dirichlet(stored=True))
PHASES = TwoPhaseCoefficient(5.0, 10.0)


def torsion(points):
    """The solution of −Δu = 1 on the unit square, by its series, and its gradient."""

    def u(p):
        x, y = p
        total = x * (1 - x) / 2
        for k in range(1, 60, 2):
            w = k * math.pi
            # cosh(w (y − ½)) / cosh(w/2), without overflow.
            decay = jnp.exp(w * (jnp.abs(y - 0.5) - 0.5))
            share = decay * (1 + jnp.exp(-2 * w * jnp.abs(y - 0.5)))
            share = share / (1 + math.exp(-w))
            total = total - 4 / w**3 * jnp.sin(w * x) * share
        return total

    return jax.vmap(jax.value_and_grad(u))(points)


def raw_of(grid, exact):
    """The raw field whose product with the bump is given."""

    def raw(points):
        bumps, slopes = bump(grid, points)
        value, gradient = exact(points)
        quotient = value / bumps
        slope = (gradient - quotient[:, None] * slopes) / bumps[:, None]
        return quotient[None], slope[None]

    return raw


def test_plain_residual_of_the_exact_solution():
    """It vanishes as fast as the quadrature becomes better."""
    sizes = []
    for rule in (GaussBall(3, 6), GaussBall(), GaussBall(8, 12)):
        form = PlainDiffusion(GRID, PHASES, 5.0, 40, 0.2, rule)
        fields = lambda name, points: raw_of(GRID, torsion)(points)
        one = lambda points: jnp.full(len(points), 5.0)
        where = form.draw(key=jr.key(0))
        residual = form.residuals(fields, one, where)["balance"]
        assert residual.shape == (40,)
        sizes.append(float(jnp.max(jnp.abs(residual))))
    assert sizes[0] > 1e-3 and sizes[1] < 2e-5 and sizes[2] < 1e-7


def test_mixed_residuals_of_the_exact_solution():
    form = MixedDiffusion(GRID, PHASES, 5.0, 40, 0.2, GaussBall())

    def fields(name, points):
        if name == "u":
            return raw_of(GRID, torsion)(points)
        return 5 * torsion(points)[1].T, jnp.zeros((2, len(points), 2))

    one = lambda points: jnp.full(len(points), 5.0)
    where = form.draw(key=jr.key(1))
    found = form.residuals(fields, one, where)
    assert found["flux"].shape == (2 * 40 * 48,)
    assert jnp.max(jnp.abs(found["flux"])) < 1e-12
    assert jnp.max(jnp.abs(found["balance"])) < 2e-5
    # And they see that u, and the flux, are others.
    wrong = lambda name, points: jax.tree.map(lambda x: 1.1 * x, fields(name, points))
    assert jnp.sqrt(jnp.mean(form.residuals(wrong, one, where)["balance"] ** 2)) > 1e-2


def two_phase_reference(factor):
    """u and face fluxes of a finite-volume solution, cells cut into factor²."""
    phase = jr.bernoulli(jr.key(5), 0.5, (9, 9))
    coarse = jnp.where(phase, 10.0, 5.0)
    nodes = np.rint(np.arange(8 * factor + 1) / factor).astype(int)
    a = coarse[np.ix_(nodes, nodes)]
    grid = Grid((8 * factor - 1,) * 2)
    A = diffusion_operator(a[1:-1, 1:-1], grid)
    # Faces at the sides see the coefficient next to them, as the operator does.
    b = jnp.full(grid.shape, 10.0)
    inner = sciml.linear_solve(
        A,
        b,
        sciml.CG(rtol=1e-10, atol=0.0, max_steps=500),
        preconditioner=sciml.preconditioners.Multigrid(),
    ).value
    return coarse, a, jnp.pad(inner, 1)


def numerical_fields(factor):
    """Bilinear u and linearly interpolated face fluxes, as raw fields."""
    coarse, a, u = two_phase_reference(factor)
    n = 8 * factor
    mean = lambda p, q: 2 * p * q / (p + q)
    across = mean(a[1:], a[:-1]) * (u[1:] - u[:-1]) * n
    along = mean(a[:, 1:], a[:, :-1]) * (u[:, 1:] - u[:, :-1]) * n
    pick = lambda field, x, y: jax.scipy.ndimage.map_coordinates(
        field, [x, y], 1, mode="nearest"
    )

    def exact(points):
        value = lambda p: pick(u, p[0] * n, p[1] * n)
        return jax.vmap(jax.value_and_grad(value))(points)

    def fields(name, points):
        if name == "u":
            return raw_of(GRID, exact)(points)
        x, y = points.T * n
        flux = jnp.stack([pick(across, x - 0.5, y), pick(along, x, y - 0.5)])
        return flux, jnp.zeros((2, len(points), 2))

    at = lambda points: PHASES.between(coarse, GRID, points)
    return fields, at


def test_mixed_residuals_of_the_two_phase_solution_vanish_under_refinement():
    """Of the grid of the solution, and of the balls' nodes, with both by a factor."""
    sizes = {"flux": [], "balance": []}
    for factor, nodes in ((3, 4), (9, 12), (27, 36)):
        form = MixedDiffusion(GRID, PHASES, 10.0, 40, 0.1, GaussBall(nodes, 2 * nodes))
        fields, at = numerical_fields(factor)
        where = form.draw(key=jr.key(2))
        found = jax.jit(lambda f=form, g=fields, a=at, w=where: f.residuals(g, a, w))()
        for name, residual in found.items():
            sizes[name].append(float(jnp.sqrt(jnp.mean(residual**2))))
    flux, balance = sizes["flux"], sizes["balance"]
    # (The flux is wrong in cells that an interface cuts: a third of the area.)
    assert flux[1] < 0.75 * flux[0] and flux[2] < 0.75 * flux[1]
    assert balance[1] < 0.6 * balance[0] and balance[2] < 0.6 * balance[1]


def some_fields(key):
    """Smooth fields with gradients, nothing special about them."""
    keys = dict(zip(("u", "stream"), jr.split(key), strict=True))

    def fields(name, points):
        weights = jr.normal(keys[name], (4,))

        def f(p):
            x, y = p
            return weights @ jnp.stack(
                [jnp.sin(x + 2 * y), jnp.cos(3 * x * y), x * y, jnp.exp(-x)]
            )

        value, gradient = jax.vmap(jax.value_and_grad(f))(points)
        return value[None], gradient[None]

    return fields


@pytest.mark.parametrize("extent, origin", [(1.0, 0.0), ((2.0, 1.5), (-1.0, 0.5))])
def test_equilibrated_flux_balances(extent, origin, getkey):
    grid = Grid((9, 9), extent, Dirichlet(stored=True), origin)
    form = EquilibratedDiffusion(grid, PHASES, source=3.0, num_points=30)
    fields, points = some_fields(getkey()), form.draw(key=getkey())
    low, high = np.array(grid.origin), np.add(grid.origin, grid.extent)
    inside = np.asarray(points)
    assert np.all((inside >= low) & (inside <= high))
    flux = lambda p: form.flux(fields, p[None])[0]
    slopes = jax.vmap(jax.jacfwd(flux))(points)
    np.testing.assert_allclose(-jnp.trace(slopes, axis1=1, axis2=2), 3.0, rtol=1e-12)


def test_identity_of_prager_and_synge(getkey):
    """∫|s − ∇u|² is the sum of both energy errors, for fields that are far off."""
    grid = Grid((31, 31), boundary=Dirichlet(stored=True))
    form = EquilibratedDiffusion(grid, PHASES)
    fields = some_fields(getkey())
    points, weights = _gauss(grid)
    _, exact = torsion(points)
    _, gradient = form.solution(fields, points)
    flux = form.flux(fields, points)
    square = lambda field: float(jnp.sum(weights * jnp.sum(field**2, 1)))
    total = square(flux - gradient[0])
    errors = square(gradient[0] - exact) + square(flux - exact)
    assert abs(total - errors) < 1e-5 * total
    one = lambda points: jnp.ones(len(points))
    lower = 2 * float(jnp.sum(weights * form.solution(fields, points)[0][0]))
    lower -= square(gradient[0])
    bound = form.error_bound(fields, one)
    if lower > 0:
        np.testing.assert_allclose(bound, math.sqrt(total / lower), rtol=1e-10)
    else:
        assert bound == jnp.inf


def test_bound_holds_and_is_sharp_near_the_solution():
    grid = Grid((31, 31), boundary=Dirichlet(stored=True))
    form = EquilibratedDiffusion(grid, PHASES)
    one = lambda points: jnp.ones(len(points))
    points, weights = _gauss(grid)
    _, exact = torsion(points)
    norm = jnp.sqrt(jnp.sum(weights * jnp.sum(exact**2, 1)))

    def off(size):
        def perturbed(points):
            value, gradient = torsion(points)
            (bumps, slopes) = bump(grid, points)
            return value + size * bumps, gradient + size * slopes

        # No stream function is given, so the bound is off by its share.
        fields = lambda name, points: (
            raw_of(grid, perturbed)(points)
            if name == "u"
            else (jnp.zeros((1, len(points))), jnp.zeros((1, len(points), 2)))
        )
        _, gradient = form.solution(fields, points)
        error = jnp.sqrt(jnp.sum(weights * jnp.sum((gradient[0] - exact) ** 2, 1)))
        return float(error / norm), float(form.error_bound(fields, one))

    for size in (0.0, 0.01, 0.05):
        error, bound = off(size)
        assert error < bound < math.hypot(error, 0.8) * 1.2


def test_solution_vanishes_and_its_gradient_is_one(getkey):
    grid = Grid((9, 9), (2.0, 1.0), Dirichlet(stored=True), (-1.0, 3.0))
    form = PlainDiffusion(grid, PHASES)
    fields = some_fields(getkey())
    sides = jnp.array([[-1.0, 3.2], [1.0, 3.7], [0.3, 3.0], [-0.2, 4.0]])
    assert jnp.max(jnp.abs(form.solution(fields, sides)[0])) < 1e-14
    inside = form.draw(key=getkey()).nodes.reshape(-1, 2)[:20]
    of_point = lambda p: form.solution(fields, p[None])[0][0, 0]
    expected = jax.vmap(jax.grad(of_point))(inside)
    np.testing.assert_allclose(form.solution(fields, inside)[1][0], expected, rtol=1e-9)


def test_coefficients():
    field = jnp.arange(81.0).reshape(9, 9)
    points = jnp.array([[0.0, 0.0], [0.5, 0.5], [0.55, 0.99], [1.0, 0.93]])
    np.testing.assert_allclose(PHASES.between(field, GRID, points), [0, 40, 44, 79])
    smooth = SmoothCoefficient(2.0, 0.5, 0.1)
    np.testing.assert_allclose(
        smooth.between(field, GRID, points),
        [0, 40, 9 * 4.4 + 8 * 0.99, 72 + 8 * 0.93],
        rtol=1e-6,
    )
    a = jnp.array([5.0, 10.0])
    np.testing.assert_allclose(PHASES.normalised(a), [-1, 1])
    # −log of the probabilities of the two phases.
    p = jax.nn.sigmoid(jnp.float64(0.7))
    expected = [-math.log(1 - p), -math.log(p)]
    np.testing.assert_allclose(PHASES.misfit(jnp.full(2, 0.7), a), expected, rtol=1e-12)
    np.testing.assert_allclose(PHASES.value(jnp.float64(0.7)), 5 + 5 * p)
    values = smooth.value(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(values, [2, 2 * math.exp(0.5)])
    np.testing.assert_allclose(smooth.normalised(values), [0, 1], atol=1e-15)
    np.testing.assert_allclose(
        smooth.misfit(jnp.zeros(2), values), [0, 0.5 * (0.5 / 0.1) ** 2]
    )


def test_interior_nodes_stand_for_the_boundary(getkey):
    """Where only interior nodes are stored, cells at the sides are theirs."""
    grid, field = Grid((3, 3)), jnp.arange(9.0).reshape(3, 3)
    points = jnp.array([[0.01, 0.01], [0.99, 0.5], [0.3, 0.76]])
    np.testing.assert_allclose(PHASES.between(field, grid, points), [0, 7, 2])
    smooth = SmoothCoefficient()
    np.testing.assert_allclose(smooth.between(field, grid, points[:2]), [0, 7])


@pytest.mark.parametrize("form", [PlainDiffusion, MixedDiffusion])
def test_refuses_balls_that_do_not_fit(form):
    with pytest.raises(ValueError, match="radius: expected above 0 and below 0.5"):
        form(GRID, PHASES, radius=0.6)
    with pytest.raises(ValueError, match="num_particles"):
        form(GRID, PHASES, num_particles=0)


@pytest.mark.parametrize(
    "form", [PlainDiffusion, MixedDiffusion, EquilibratedDiffusion]
)
def test_refuses_other_problems(form):
    with pytest.raises(ValueError, match=r"expected Dirichlet\(0\)"):
        form(Grid((9, 9), boundary=Neumann()), PHASES)
    with pytest.raises(ValueError, match=r"expected Dirichlet\(0\)"):
        form(Grid((9, 9), boundary=Dirichlet(1.0)), PHASES)
    with pytest.raises(ValueError, match="source"):
        form(GRID, PHASES, source=0.0)


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="two axes"):
        EquilibratedDiffusion(Grid((9,)), PHASES)
    with pytest.raises(ValueError, match="num_points"):
        EquilibratedDiffusion(GRID, PHASES, num_points=0)
    with pytest.raises(ValueError, match="balance_weight"):
        MixedDiffusion(GRID, PHASES, balance_weight=-1.0)
    with pytest.raises(ValueError, match="low, high"):
        TwoPhaseCoefficient(10.0, 5.0)
    with pytest.raises(ValueError, match="spread"):
        SmoothCoefficient(spread=0.0)
