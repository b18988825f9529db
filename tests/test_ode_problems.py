"""Initial-value problems: values by hand, invariants, known ends of the interval."""

import json

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
from sciml import AbstractODE
from sciml.neural_odes import RecordHeuristics

NAMES = sorted(problems.ode_names())
# In the file of reference values they have other names.
IN_FILE = {
    "hires": "hires",
    "oregonator": "orego",
    "robertson": "rober",
    "van-der-pol-stiff": "vdpol",
}
# A state near which f is smooth and nothing in it vanishes.
STATES = {name: np.array([0.5, 0.3]) for name in NAMES} | {
    "hires": np.linspace(0.1, 0.8, 8),
    "oregonator": np.array([2.0, 3.0, 5.0]),
    "robertson": np.array([0.5, 1e-4, 0.4]),
}
BY_HAND = {
    "hires": [
        -1.71 * 0.1 + 0.43 * 0.2 + 8.32 * 0.3 + 0.0007,
        1.71 * 0.1 - 8.75 * 0.2,
        -10.03 * 0.3 + 0.43 * 0.4 + 0.035 * 0.5,
        8.32 * 0.2 + 1.71 * 0.3 - 1.12 * 0.4,
        -1.745 * 0.5 + 0.43 * 0.6 + 0.43 * 0.7,
        -280 * 0.48 + 0.69 * 0.4 + 1.71 * 0.5 - 0.43 * 0.6 + 0.69 * 0.7,
        280 * 0.48 - 1.81 * 0.7,
        -280 * 0.48 + 1.81 * 0.7,
    ],
    "lotka-volterra": [(0.55 - 0.028 * 0.3) * 0.5, (-0.8 + 0.024 * 0.5) * 0.3],
    "oregonator": [77.27 * (-1 - 4 * 8.375e-6), -4 / 77.27, 0.161 * -3],
    "robertson": [-0.02 + 0.4, 0.02 - 0.4 - 0.3, 0.3],
    "spiral": [-0.1 * 0.125 - 2 * 0.027, 2 * 0.125 - 0.1 * 0.027],
    "van-der-pol": [0.3, 0.75 * 0.3 - 0.5],
    "van-der-pol-stiff": [0.3, (0.75 * 0.3 - 0.5) * 1e6],
}


@eqx.filter_jit
def end_value(ode, solver, rtol, atol, dt0=None, args=None, max_steps=8192):
    """y(t1) with diffrax, and the number of steps.

    (A PI controller rejects a third as many steps of the stiff ones as the default.)
    """
    solution = dfx.diffeqsolve(
        ode.term(),
        solver,
        ode.t0,
        ode.t1,
        dt0,
        ode.y0,
        ode.args if args is None else args,
        stepsize_controller=dfx.PIDController(rtol, atol, pcoeff=0.3, icoeff=0.4),
        max_steps=max_steps,
    )
    assert solution.ys is not None
    return solution.ys[-1], solution.stats["num_steps"]


@pytest.mark.parametrize("name", NAMES)
def test_vector_fields(name):
    """By hand, and under jit, vmap, grad and in single precision."""
    ode = problems.get_ode(name)
    y = jnp.asarray(STATES[name])
    f = lambda y, args: ode.vector_field(0.0, y, args)
    np.testing.assert_allclose(f(y, ode.args), BY_HAND[name], rtol=1e-12)
    np.testing.assert_array_equal(f(y, None), f(y, ode.args))
    assert ode.y0.shape == y.shape and ode.t0 == 0.0 < ode.t1
    assert f(ode.y0, ode.args).dtype == jnp.float64

    def all_of_it(states, args):
        # The gradient of a number that depends on all components.
        total = lambda y, args: jnp.sum(jnp.sin(f(y, args)))
        gradients = jax.vmap(jax.grad(total, (0, 1)), (0, None))(states, args)
        return jax.vmap(f, (0, None))(states, args), gradients

    states = jnp.stack([y, 2 * y])
    values, (slopes, slopes_of_args) = jax.jit(all_of_it)(states, ode.args)
    np.testing.assert_allclose(values[0], BY_HAND[name], rtol=1e-12)
    for x in jax.tree.leaves((slopes, slopes_of_args)):
        assert np.all(np.isfinite(x)) and np.any(x != 0)
    h = 1e-6
    finite = [
        (f(y + h * e, None) - f(y - h * e, None)) / (2 * h) for e in np.eye(y.size)
    ]
    expected = np.stack(finite) @ np.cos(np.asarray(BY_HAND[name]))
    if name not in ("robertson", "van-der-pol-stiff"):  # The sine turns too fast there.
        np.testing.assert_allclose(slopes[0], expected, rtol=1e-6, atol=1e-7)
    single = f(y.astype(jnp.float32), ode.args)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, BY_HAND[name], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_states_and_parameters_of_the_wrong_shape(name):
    ode = problems.get_ode(name)
    with pytest.raises(ValueError, match=r"y: expected one state of shape .*\(5,\)"):
        ode.vector_field(0.0, jnp.ones(5), ode.args)
    if ode.args is not None:
        with pytest.raises(ValueError, match=r"args: expected .* got \(7,\)"):
            ode.vector_field(0.0, ode.y0, jnp.ones(7))


def test_names():
    for name, text in problems.ode_names().items():
        assert text and isinstance(problems.get_ode(name), AbstractODE)
    with pytest.raises(ValueError, match="'hire'; known are .* Did you mean 'hires'"):
        problems.get_ode("hire")
    # They are none of those on grids.
    assert not set(NAMES) & (
        set(problems.problem_names()) | set(problems.system_names())
    )


def test_an_ode_of_ones_own():
    """The promise is kept by fields or by properties, and nothing else is needed."""

    class Decay(AbstractODE):
        t0: float = 0.0
        t1: float = 1.0
        args: float = 2.0

        @property
        def y0(self):
            return jnp.ones(1)

        @property
        def reference(self):
            return self.y0 * jnp.exp(-self.args)

        def vector_field(self, t, y, args):
            return -args * y

    ode = Decay()  # pyright: ignore[reportCallIssue]
    y, _ = end_value(ode, dfx.Tsit5(), 1e-9, 1e-9)
    assert problems.correct_digits(y, ode.reference) > 7

    class Unfinished(AbstractODE):
        t0: float = 0.0

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()  # pyright: ignore[reportCallIssue, reportAbstractUsage]


# --- invariants -----------------------------------------------------------------------


def test_what_the_vector_fields_conserve(getkey):
    """Mass of Robertson's and HIRES' substances; the spiral's Σ y⁴ falls as told."""
    states = np.asarray(jr.uniform(getkey(), (20, 8)))
    for y in states:
        y = jnp.asarray(y)
        rates = problems.Robertson().vector_field(0.0, y[:3], None)
        assert abs(jnp.sum(rates)) <= 1e-15 * jnp.max(jnp.abs(rates))
        rates = problems.HIRES().vector_field(0.0, y, None)
        assert rates[6] + rates[7] == 0
        f = problems.Spiral().vector_field(0.0, y[:2], None)
        np.testing.assert_allclose(4 * y[:2] ** 3 @ f, -0.4 * jnp.sum(y[:2] ** 6))
    hires = problems.HIRES()
    np.testing.assert_allclose(jnp.sum(hires.reference[6:]), jnp.sum(hires.y0[6:]))
    np.testing.assert_allclose(jnp.sum(problems.Robertson().reference), 1, rtol=1e-13)


def test_the_two_forms_of_van_der_pol():
    """Time by μ, velocity times μ, ε = 1/μ²."""
    mu, y = 50.0, jnp.array([1.3, -0.7])
    slow = problems.StiffVanDerPol().vector_field(0.0, y.at[1].multiply(mu), 1 / mu**2)
    fast = problems.VanDerPol(mu).vector_field(0.0, y, None)
    np.testing.assert_allclose(slow, fast * jnp.array([mu, mu**2]), rtol=1e-12)


def test_lotka_volterra_keeps_its_integral():
    ode = problems.LotkaVolterra()

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def hares(args):
        y, _ = end_value(ode, dfx.Tsit5(), 1e-9, 1e-9, args=args)
        return y[0], y

    (_, y), slopes = hares(ode.args)
    before, after = ode.first_integral(ode.y0), ode.first_integral(y)
    np.testing.assert_allclose(after, before, rtol=1e-7)
    assert np.max(np.abs(y - ode.y0)) > 1  # it has moved
    assert np.all(np.isfinite(slopes)) and np.all(slopes != 0)
    # At rest the integral is stationary, and so is the state.
    rest = jnp.array([0.80 / 0.024, 0.55 / 0.028])
    np.testing.assert_allclose(ode.vector_field(0.0, rest, None), 0, atol=1e-14)
    np.testing.assert_allclose(jax.grad(ode.first_integral)(rest), 0, atol=1e-14)


def test_lotka_volterra_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"args: expected 4 positive .*\[1.0, 2.0\]"):
        problems.LotkaVolterra(args=(1.0, 2.0))
    with pytest.raises(ValueError, match="y0: expected 2 positive numbers"):
        problems.LotkaVolterra(y0=(1.0, -2.0))


def test_period_of_van_der_pol():
    """6.6632868593231 for μ = 1: after one more period the state is the same."""
    period = 6.6632868593231
    ends = [
        end_value(problems.VanDerPol(1.0, t1=t), dfx.Tsit5(), 1e-9, 1e-9)[0]
        for t in (6 * period, 7 * period)
    ]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)


# --- known end values -----------------------------------------------------------------


def test_reference_values_are_those_of_the_file(data_folder):
    with (data_folder / "ivp" / "reference_endpoints.json").open() as file:
        known = json.load(file)
    for name, key in IN_FILE.items():
        ode = problems.get_ode(name)
        assert (ode.t0, ode.t1) == (known[key]["t0"], known[key]["t1"])
        assert ode.y0.size == known[key]["n"]
        np.testing.assert_array_equal(ode.reference, known[key]["y_end"])
    assert {n for n in NAMES if problems.get_ode(n).reference is not None} == set(
        IN_FILE
    )


def test_correct_digits():
    reference = jnp.array([1.0, -1e-14, 1e5])
    off = reference * jnp.array([1.0, 1.01, 1 + 1e-6])
    np.testing.assert_allclose(problems.correct_digits(off, reference), 2, atol=1e-6)
    assert problems.correct_digits(reference, reference) == np.inf
    assert np.isnan(problems.correct_digits(reference * jnp.nan, reference))
    np.testing.assert_allclose(problems.correct_digits([1.001], [1.0]), 3, atol=1e-6)
    single = problems.correct_digits(off.astype(jnp.float32), reference)
    assert single.dtype == jnp.float64
    both = jax.jit(jax.vmap(problems.correct_digits, (0, None)))
    found = both(jnp.stack([off, 2 * off]), reference)
    np.testing.assert_allclose(found, [2, -np.log10(1.02)], atol=1e-6)
    with pytest.raises(ValueError, match=r"y: expected the reference's shape \(3,\)"):
        problems.correct_digits(1.0, reference)
    with pytest.raises(ValueError, match="reference: has a zero"):
        problems.correct_digits(jnp.ones(2), jnp.array([1.0, 0.0]))


@pytest.mark.parametrize(
    "name, atol, dt0, digits, max_steps",
    [
        ("hires", 1e-10, None, 6.5, 4096),
        pytest.param("oregonator", 1e-10, None, 6.5, 65536),
        pytest.param(
            "van-der-pol-stiff", 1e-10, 1e-8, 6.0, 65536, marks=pytest.mark.slow
        ),
        pytest.param("robertson", 1e-18, None, 6.5, 65536, marks=pytest.mark.slow),
    ],
)
def test_implicit_solves_reach_the_reference(name, atol, dt0, digits, max_steps):
    """Reference values by other codes, and formulas in ours, agree; recorded or not."""
    ode, solver = problems.get_ode(name), RecordHeuristics(dfx.Kvaerno5())
    y, num_steps = end_value(ode, solver, 1e-8, atol, dt0, max_steps=max_steps)
    assert ode.reference is not None
    assert problems.correct_digits(y, ode.reference) > digits
    assert num_steps < max_steps
