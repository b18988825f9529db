"""Time-dependent problems: what they promise; the solutions that are known."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.io

import problems
from sciml.data import Dataset
from sciml.grids import GaussianField, Grid, Periodic, SquaredExponentialField

SMALL = {
    "advection": functools.partial(problems.Advection, 16, 0.3),
    "allen-cahn": functools.partial(
        problems.AllenCahn,
        (8, 8),
        diffusivity=0.02,
        initial_field=SquaredExponentialField(0.25, 0.8),
        final_time=0.2,
        time_step=0.02,
        refine=2,
    ),
    "burgers": functools.partial(
        problems.Burgers, 16, viscosity=0.05, final_time=0.2, time_step=0.01
    ),
    "burgers-dirichlet": functools.partial(
        problems.DirichletBurgers, 17, final_time=0.2, time_step=0.01
    ),
    "diffusion-sorption": functools.partial(
        problems.DiffusionSorption, 16, relative_step=0.3, refine=2
    ),
    "heat": functools.partial(problems.Heat, (7, 9), extent=(1.0, 1.25)),
    "kuramoto-sivashinsky": functools.partial(
        problems.KuramotoSivashinsky, 32, extent=22.0, final_time=1.0
    ),
    "navier-stokes": functools.partial(
        problems.NavierStokesVorticity,
        (8, 8),
        viscosity=0.01,
        initial_field=GaussianField(7.0, 4.0, scale=500.0),
        final_time=0.2,
    ),
}


# --- what all of them promise ---------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SMALL)
def test_data_sets(name, getkey):
    problem, key = SMALL[name](), getkey()
    space = problem.grid.shape
    data = problem.dataset(5, num_saves=3, key=key, batch_size=2)
    assert isinstance(data, Dataset) and data.grid is problem.grid
    assert data.inputs.shape == (5, 1, *space)
    assert data.targets.shape == (5, 3, *space)
    # Sample i depends on the key and on i only, and is what `solve` gives.
    more = problem.dataset(3, num_saves=3, key=key, batch_size=3)
    np.testing.assert_allclose(more.targets, data.targets[:3], rtol=0, atol=1e-12)
    u0 = problem.initial(key=jr.fold_in(key, 1))
    np.testing.assert_allclose(u0, data.inputs[1, 0], rtol=0, atol=1e-13)
    saved = problem.solve(u0, num_saves=3)
    np.testing.assert_allclose(saved, data.targets[1], rtol=0, atol=1e-12)
    assert float(jnp.std(u0)) > 0.01
    assert np.abs(data.targets[:, -1] - data.inputs[:, 0]).max() > 1e-3
    pairs = problem.transitions(5, num_saves=3, key=key)
    assert pairs.inputs.shape == pairs.targets.shape == (15, 1, *space)
    np.testing.assert_array_equal(pairs.inputs[1:3], pairs.targets[:2])
    np.testing.assert_allclose(
        pairs.targets.reshape(5, 3, *space), data.targets, rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(pairs.inputs[::3], data.inputs)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SMALL)
def test_transforms(name, getkey):
    """jit, vmap = loop, both derivatives against finite differences, float32."""
    problem = SMALL[name]()
    fields = jnp.stack([problem.initial(key=getkey()) for _ in range(3)])
    direction = problem.initial(key=getkey())
    parameters, rest = eqx.partition(problem, eqx.is_inexact_array)

    def end(parameters, u0):
        return eqx.combine(parameters, rest).solve(u0)[-1]

    total = lambda p, u0: jnp.sum(jnp.sin(3 * end(p, u0)))
    gradient = jax.jit(jax.grad(total, (0, 1)))
    compiled = jax.jit(total)
    loop = jnp.stack([problem.solve(u0)[-1] for u0 in fields])
    batch = eqx.filter_jit(jax.vmap(end, (None, 0)))(parameters, fields)
    np.testing.assert_allclose(batch, loop, rtol=0, atol=1e-12)
    slopes, slope = gradient(parameters, fields[0])
    h = 1e-5
    finite = compiled(parameters, fields[0] + h * direction)
    finite = (finite - compiled(parameters, fields[0] - h * direction)) / (2 * h)
    np.testing.assert_allclose(jnp.vdot(slope, direction), finite, rtol=1e-6, atol=1e-7)
    for k, leaf in enumerate(jax.tree.leaves(parameters)):
        h = 1e-4 * float(jnp.max(leaf))
        ends = []
        for sign in (1, -1):
            leaves, tree = jax.tree.flatten(parameters)
            leaves[k] = leaf + sign * h
            ends.append(compiled(jax.tree.unflatten(tree, leaves), fields[0]))
        found = jnp.sum(jax.tree.leaves(slopes)[k])
        finite = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(found, finite, rtol=1e-5, atol=1e-7)
        assert abs(found) > 1e-6
    single = problem.solve(fields[0].astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single[-1], loop[0], rtol=0, atol=1e-5)
    traced = eqx.filter_jit(lambda p, u: p.solve(u))(
        problem, fields[0].astype(jnp.float32)
    )
    np.testing.assert_allclose(traced, single, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name, step",
    [
        ("allen-cahn", 0.05),
        ("burgers", 0.005),
        ("kuramoto-sivashinsky", 0.05),
        ("navier-stokes", 0.1),
    ],
)
def test_order_in_time(name, step, getkey):
    make, longer = SMALL[name], {"final_time": 4 * step}
    # Fast enough for errors well above rounding.
    u0 = 2 * make().initial(key=getkey())
    ends = [
        make(**longer, time_step=step / 2**k).solve(u0)[-1] for k in (0, 1, 2, 3, 4)
    ]
    errors = [float(jnp.max(jnp.abs(u - ends[-1]))) for u in ends[:-1]]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[2] > 1e-12
    assert 3.7 < orders[1] < 4.5


def test_blow_up_is_an_error(getkey):
    problem = problems.Burgers(64, viscosity=1e-3, time_step=0.5, final_time=100.0)
    u0 = problem.initial(key=getkey())
    advice = "time_step is 0.5, try 0.25"
    with pytest.raises(problems.BlowUpError, match=f"sample 0 .* at t = .* {advice}"):
        problem.solve(100 * u0, num_saves=4)
    with pytest.raises(problems.BlowUpError, match="Burgers: . of 2 .* not finite"):
        fast = eqx.tree_at(
            lambda p: p.initial_field, problem, SquaredExponentialField(1e6, 0.1)
        )
        fast.dataset(2, key=getkey())
    with pytest.raises(Exception, match=advice):
        jax.block_until_ready(eqx.filter_jit(problem.solve)(100 * u0))
    with pytest.raises(problems.BlowUpError, match="Check that u0"):
        problems.Advection(8).solve(jnp.full(8, jnp.nan))


def test_wrong_arguments():
    cases = [
        (lambda: problems.Burgers((8, 8)), "num_points: expected nodes for 1 axes"),
        (lambda: problems.NavierStokesVorticity(8), "for 2 axes, got"),
        (lambda: problems.Burgers(viscosity=0.0), "viscosity: expected a positive"),
        (lambda: problems.Burgers(viscosity=np.ones(2)), "viscosity: .* jax.vmap"),
        (lambda: problems.AllenCahn(rate=-1.0), "rate: expected a positive"),
        (lambda: problems.AllenCahn(kept=0.0), "kept: expected a fraction"),
        (lambda: problems.NavierStokesVorticity(forcing=-1.0), "forcing: .* ≥ 0"),
        (lambda: problems.KuramotoSivashinsky(final_time=0.0), "final_time: expected"),
        (lambda: problems.Burgers(time_step=np.inf), "time_step: expected"),
        (lambda: problems.Burgers(refine=0), "refine: expected a positive integer"),
        (lambda: problems.Advection(8, velocity=[1.0, 2.0]), "velocity: expected"),
        (lambda: problems.Burgers(8).solve(jnp.ones(9)), r"u0: .*\(8,\).* \(9,\)"),
        (lambda: problems.Burgers(8).solve(jnp.ones(8, int)), "u0: expected floating"),
        (lambda: problems.Burgers(8).times(0), "num_saves: expected at least 1"),
        (
            lambda: problems.Burgers(8).dataset(0, key=jr.key(0)),
            "num_samples: expected at least 1",
        ),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()


def test_names():
    assert set(problems.evolution_names()) == set(SMALL)
    for name, text in problems.evolution_names().items():
        problem = problems.get_evolution(name)
        assert text and isinstance(problem, type(SMALL[name]()))
    with pytest.raises(ValueError, match="'burger'; known are .* Did you mean 'burg"):
        problems.get_evolution("burger")


def test_a_problem_of_ones_own():
    """Fisher and Kolmogorov's equation, with fields as a dataclass has them."""

    class FisherKPP(problems.AbstractSemilinear):
        grid: Grid = Grid(16, boundary=Periodic())
        diffusivity: float = 1e-3
        final_time: float = 2.0
        time_step: float = 0.02
        refine: int = 1
        kept: float = 2 / 3

        def initial(self, *, key):
            return jnp.full(self.grid.shape, jr.uniform(key))

        def symbol(self, squares):
            return 1.0 - self.diffusivity * squares

        def nonlinear(self, v, space):
            return -space.coefficients(space.field(v) ** 2)

    data = FisherKPP().dataset(3, key=jr.key(0))
    expected = 1 / (1 + (1 / data.inputs - 1) * np.exp(-2))
    np.testing.assert_allclose(data.targets, expected, rtol=1e-7)

    class Unfinished(problems.AbstractSemilinear):
        time_step: float = 0.02

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()  # pyright: ignore[reportCallIssue, reportAbstractUsage]


# --- advection ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16,), (15, 16), (8, 9, 10)])
def test_advection_is_exact(shape):
    velocity = np.array([0.7, -0.4, 1.3])[: len(shape)]
    extent = (2.0, 1.0, 3.0)[: len(shape)]
    problem = problems.Advection(shape, velocity, extent, final_time=0.9)

    def u(t):
        out = 1.0
        for k, (x, c, length) in enumerate(
            zip(problem.grid.mesh(), velocity, extent, strict=True)
        ):
            phase = 2 * np.pi * (x - c * t) / length
            out = out * (1.3 + np.sin((k + 1) * phase) + 0.4 * np.cos(2 * phase))
        return out

    saved = problem.solve(jnp.asarray(u(0.0)), num_saves=3)
    for found, time in zip(saved, problem.times(3), strict=True):
        np.testing.assert_allclose(found, u(time), rtol=0, atol=1e-13 * 10)
    # Once around, every field is what it was, the highest mode too.
    around = problems.Advection(shape, extent, extent, final_time=1.0)
    rough = jr.normal(jr.key(0), shape)
    np.testing.assert_allclose(around.solve(rough)[0], rough, rtol=0, atol=1e-12)


# --- Burgers --------------------------------------------------------------------------


def cole_hopf(x, time, viscosity):
    """u(0) = −sin πx: by Hermite quadrature of the heat kernel, in NumPy only."""
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    y = x[:, None] - np.sqrt(4 * viscosity * time) * nodes
    density = weights * np.exp(-np.cos(np.pi * y) / (2 * np.pi * viscosity))
    return -(density * np.sin(np.pi * y)).sum(1) / density.sum(1)


def test_burgers_by_cole_hopf():
    problem = problems.Burgers(48, 0.1, extent=2.0, final_time=0.6, time_step=2.5e-3)
    x = problem.grid.coordinates(0)
    saved = problem.solve(jnp.asarray(-np.sin(np.pi * x)), num_saves=3)
    for found, time in zip(saved, problem.times(3), strict=True):
        expected = cole_hopf(x, time, 0.1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        exact = problem.exact_solution_from_sine(time)
        np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)


def test_spectral_convergence_in_space():
    errors = []
    for n in (12, 24, 48):
        problem = problems.Burgers(
            n, 0.1, extent=2.0, final_time=0.5, time_step=2e-3, refine=1
        )
        x = problem.grid.coordinates(0)
        found = problem.solve(jnp.asarray(-np.sin(np.pi * x)))[0]
        errors.append(np.abs(found - cole_hopf(x, 0.5, 0.1)).max())
    # Doubling squares the error, as no fixed order does.
    assert errors[0] < 0.1 and errors[1] < errors[0] ** 1.5
    assert errors[2] < 10 * errors[1] ** 1.8


def test_burgers_shock_of_the_file(data_folder):
    """256 × 100 values, ν = 0.01/π, a layer of width 0.006 from t = 0.4 on."""
    known = scipy.io.loadmat(data_folder / "pde_references" / "burgers_shock.mat")
    expected = known["usol"].T[1:, :-1]  # without t = 0, and x = 1 which is x = −1
    problem = problems.Burgers(
        255,
        0.01 / np.pi,
        extent=2.0,
        final_time=0.99,
        time_step=2.5e-4,
        refine=12,
    )
    x = problem.grid.coordinates(0) - 1
    np.testing.assert_allclose(x, known["x"][:-1, 0], rtol=0, atol=1e-14)
    found = problem.solve(jnp.asarray(-np.sin(np.pi * x)), num_saves=99)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


# --- Allen–Cahn -----------------------------------------------------------------------


def test_allen_cahn_of_the_file(data_folder):
    """512 × 201 values, which are those of the equations with aliases."""
    known = scipy.io.loadmat(data_folder / "pde_references" / "AC.mat")
    u0, expected = jnp.asarray(known["uu"][:, 0]), known["uu"].T[1:]
    problem = problems.AllenCahn(512, time_step=1.25e-3, refine=1, kept=1.0)
    np.testing.assert_allclose(
        problem.grid.coordinates(0), known["x"][0], rtol=0, atol=1e-14
    )
    found = problem.solve(u0, num_saves=200)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    # On 512 nodes their solution is 1.4e-6 off (u(0) has a kink at x = ±1).
    fine = [problems.AllenCahn(512, refine=k).solve(u0, num_saves=200) for k in (4, 8)]
    np.testing.assert_allclose(fine[0], fine[1], rtol=0, atol=1e-11)
    assert 1.3e-6 < np.abs(fine[1] - expected).max() < 1.5e-6


def test_allen_cahn_at_one_point():
    """A constant: u = (1 + (1/u₀² − 1) e^{−2γt})^{−1/2}."""
    problem = problems.AllenCahn((4, 4, 4), rate=3.0, time_step=1e-3, refine=1)
    found = problem.solve(jnp.full((4, 4, 4), 0.2), num_saves=2)
    expected = (1 + 24 * np.exp(-6 * problem.times(2))) ** -0.5
    for u, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(u, value, rtol=1e-10)
