"""Methods that choose ω: what they learn, as programs and files, their mistakes."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import PSD
from relaxation_cases import (
    AROUND,
    INTERVAL,
    METHODS,
    PROBLEM,
    counts,
    first_operator,
    play,
)

import sciml
from problems.bench import bench_relaxation
from problems.bench._relaxation import _shifted
from sciml.preconditioners import (
    AroundYoung,
    ChebCB,
    FixedOmega,
    OmegaInterval,
    RelaxationPlan,
    ResponseSurface,
    TsallisINF,
    TsallisINFContextual,
    Young,
)

# --- learning -------------------------------------------------------------------------


def test_regrets():
    """All beat drawing at random; contexts help; sharing what is seen helps most."""
    rounds = 1500
    contexts = np.asarray(5 + 5 * np.sin(0.02 * np.arange(rounds)))
    table = np.array(
        [np.asarray(counts(w, contexts)) for w in np.linspace(1, 1.95, 96)]
    )
    fixed, oracle = table.sum(1).min(), table.min(0).sum()
    total = {name: play(METHODS[name], rounds)[0].sum() for name in list(METHODS)[:5]}
    uniform = table.mean(0).sum()
    assert oracle < fixed < uniform
    for name in ("tsallis", "bins", "chebyshev"):
        assert total[name] < 0.93 * uniform
    assert total["chebyshev"] < fixed
    assert total["surface"] < 1.06 * oracle and total["surface"] < total["chebyshev"]


def test_parameters_stay_where_they_may():
    for name in list(METHODS)[:5]:
        _, omegas, _ = play(METHODS[name], 50)
        assert (omegas >= 1).all() and (omegas <= 1.95 + 1e-12).all(), name
    around = AroundYoung(2.0)
    state = around.init(first_operator())
    middle = around.omega(state, jnp.asarray(0.5))
    np.testing.assert_allclose(
        middle,
        Young().choose(state, operator=first_operator(), key=jr.key(0))[0],
        rtol=1e-6,
    )
    ends = around.omega(state, jnp.array([0.0, 1.0]))
    zeta = 2 / np.asarray([*ends, middle]) - 1
    np.testing.assert_allclose(zeta[:2], np.minimum(zeta[2] * np.array([2, 0.5]), 1))


def heat(method, steps):
    """Counts and ω over some steps of the heat sequence, in one program."""
    plan = RelaxationPlan(first_operator())

    def advance(carry, inputs):
        u, state = carry
        step, key = inputs
        A, b = PROBLEM.system(step, u)
        omega, state = method.choose(state, PROBLEM.context(step), A, key=key)
        M = plan.ssor(A, omega)
        solver = sciml.CG(rtol=1e-8, history_length=1)
        solution = sciml.linear_solve(A, b, solver, preconditioner=M, x0=u)
        num_steps = solution.stats["num_steps"]
        return (solution.value, method.update(state, num_steps)), (num_steps, omega)

    @jax.jit
    def run(state):
        keys = jr.split(jr.key(0), len(steps))
        carry = (PROBLEM.initial(), state)
        return jax.lax.scan(advance, carry, (jnp.asarray(steps), keys))[1]

    return map(np.asarray, run(method.init(first_operator())))


def by_hand(steps, omegas):
    """SSOR-CG with the same ω, dense, in NumPy."""
    u, found = np.ravel(PROBLEM.initial()), []
    system = eqx.filter_jit(PROBLEM.system)
    for step, omega in zip(steps, omegas, strict=True):
        A, b = system(jnp.asarray(step), jnp.asarray(u.reshape(9, 9)))
        A, b = sciml.linear.to_scipy(A).toarray(), np.ravel(b)
        X = np.diag(np.diag(A)) + omega * np.tril(A, -1)
        M = np.linalg.inv(X.T) @ np.diag(np.diag(A)) @ np.linalg.inv(X)
        r, p, product, count = b - A @ u, 0 * b, 1.0, 0
        while np.linalg.norm(r) > 1e-8 * np.linalg.norm(b):
            z = M @ r
            beta, product = (r @ z / product if count else 0.0), r @ z
            p = z + beta * p
            q = A @ p
            alpha = product / (p @ q)
            u, r, count = u + alpha * p, r - alpha * q, count + 1
        found.append(count)
    return np.array(found)


def test_the_heat_sequence():
    """One program for 200 systems; its counts are those of NumPy for the same ω."""
    steps = np.arange(500, 700)
    total = {}
    for name in ("young", "chebyshev", "around young"):
        found, omegas = heat(METHODS[name], steps)
        theirs = by_hand(steps, omegas)
        assert abs(found.sum() - theirs.sum()) <= 3 and abs(found - theirs).max() <= 1
        total[name] = found.sum()
        if name == "young":
            mu = np.array([PROBLEM.jacobi_radius(int(k)) for k in steps])
            np.testing.assert_allclose(omegas, 2 / (1 + np.sqrt(1 - mu**2)), atol=1e-6)
    # In so few rounds there is more to lose than to gain over Young.
    assert total["young"] < total["around young"] < total["chebyshev"]


def test_young_without_his_order():
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(81)
    csr = sciml.linear.to_scipy(first_operator())[shuffled][:, shuffled].tocsr()
    A = sciml.linear.from_scipy(csr, PSD)
    omega, state = Young().choose(Young().init(A), operator=A, key=jr.key(0))
    assert omega == 1.0 and state.mu > 0.5
    identity = sciml.linear.from_scipy(sp.eye_array(81, format="csr"), PSD)
    state = Young().init(identity)
    assert Young().choose(state, operator=identity, key=jr.key(0))[0] == 1.0


# --- as programs and files ------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded(name, tmp_path):
    """A file holds the method or its state; what follows is the same."""
    method = METHODS[name]
    A = first_operator()
    state = method.init(A)
    for k, key in enumerate(jr.split(jr.key(0), 5)):
        omega, state = method.choose(state, 2.0 * k, A, key=key)
        state = method.update(state, counts(omega, 2.0 * k))
    for part, file in ((method, "method"), (state, "state")):
        sciml.save(tmp_path / file, part)
    again, kept = sciml.load(tmp_path / "method"), sciml.load(tmp_path / "state")
    assert eqx.tree_equal(kept, state) and again == method
    expected, _ = method.choose(state, 3.0, A, key=jr.key(7))
    assert again.choose(kept, 3.0, A, key=jr.key(7))[0] == expected


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [n for n in METHODS if n not in AROUND])
def test_batches_and_single_precision(name):
    method = METHODS[name]
    keys = jr.split(jr.key(3), 3)
    contexts = jnp.array([0.0, 4.0, 10.0])

    def turn(state, context, key):
        omega, state = method.choose(state, context, key=key)
        return omega, method.update(state, counts(omega, context))

    start = method.init()
    states = jtu.tree_map(lambda leaf: jnp.stack([leaf] * 3), start)
    omega, omegas = jnp.zeros(()), jnp.zeros(3)
    for _ in range(3):
        omegas, states = jax.vmap(turn)(states, contexts, keys)
    state = start
    for _ in range(3):
        omega, state = turn(state, contexts[1], keys[1])
    np.testing.assert_allclose(omegas[1], omega, rtol=1e-10)

    single = jtu.tree_map(
        lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, start
    )
    float32 = lambda x: jnp.asarray(x, jnp.float32)
    total = 0.0
    with jax.enable_x64(False):
        play32 = eqx.filter_jit(turn)
        for k, key in enumerate(jr.split(jr.key(0), 60)):
            omega, single = play32(single, float32(k % 10), key)
            total += float(counts(omega, float32(k % 10)))
    dtypes = {x.dtype for x in jtu.tree_leaves(single) if eqx.is_inexact_array(x)}
    assert dtypes == {jnp.dtype(jnp.float32)} and np.isfinite(total)


def test_contexts_outside_of_the_interval():
    for name in ("bins", "chebyshev", "surface"):
        method = METHODS[name]
        _, _, state = play(method, 30)
        for outside, end in ((-5.0, 0.0), (40.0, 10.0), (jnp.inf, 10.0)):
            got, expected = (
                method.choose(state, c, key=jr.key(0))[0] for c in (outside, end)
            )
            assert got == expected


def test_mistakes():
    for name in ("bins", "chebyshev", "surface"):
        method = METHODS[name]
        state = method.init()
        with pytest.raises(Exception, match="context: got NaN"):
            jax.block_until_ready(method.choose(state, jnp.nan, key=jr.key(0))[0])
        with pytest.raises(ValueError, match="context: this method needs a number"):
            method.choose(state, key=jr.key(0))
        with pytest.raises(ValueError, match=r"context: expected one number, .*\(2,\)"):
            method.choose(state, jnp.ones(2), key=jr.key(0))
    for name in ("tsallis", "chebyshev", "surface"):
        method = METHODS[name]
        for bad in (jnp.nan, -1, jnp.inf):
            with pytest.raises(Exception, match="num_steps: expected a finite number"):
                jax.block_until_ready(method.update(method.init(), bad))
        with pytest.raises(ValueError, match="num_steps: expected one number"):
            method.update(method.init(), jnp.ones(3))
    with pytest.raises(ValueError, match=r"operator: Young.init looks at A"):
        Young().init()
    A = first_operator()
    with pytest.raises(ValueError, match=r"operator: Young.choose looks at A"):
        Young().choose(Young().init(A), key=jr.key(0))
    with pytest.raises(TypeError, match="Call init outside of jit"):
        eqx.filter_jit(Young().init)(A)
    for make, message in (
        (lambda: OmegaInterval(1.0, 2.0), "0 < lower < upper < 2"),
        (lambda: FixedOmega(2.0), "omega: expected a number between 0 and 2"),
        (lambda: AroundYoung(1.0), "ratio: expected a number above 1"),
        (lambda: TsallisINF(1), "num_arms: expected at least 2, got 1"),
        (lambda: TsallisINFContextual((1.0, 1.0)), "interval: expected two finite"),
        (lambda: TsallisINFContextual(INTERVAL, 0), "num_bins"),
        (lambda: ChebCB((0.0, jnp.inf)), "interval: expected two finite"),
        (lambda: ChebCB(INTERVAL, num_features=0), "num_features"),
        (lambda: ResponseSurface(INTERVAL, num_nodes=1), "num_nodes"),
        (lambda: ResponseSurface(INTERVAL, length=0.0), "length: expected a positive"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# --- the benchmark --------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark():
    rows = bench_relaxation(intervals=(8,), steps=60, seeds=1)
    assert {row["sequence"] for row in rows} == {"heat 8", "low", "high"}
    by_name = {(row["sequence"], row["method"]): row for row in rows}
    for (sequence, _), row in by_name.items():
        young = by_name[sequence, "Young"]["total"]
        assert row["of_young"] == row["total"] / young and row["failures"] == 0
        assert row["rerun"] is None and row["run_time"] > 0
    # Gauss-Seidel and the best fixed ω of these matrices, on average of 5000.
    assert 200 < by_name["low", "omega 1.0"]["total"] / 60 < 350
    assert 50 < by_name["low", "omega 1.6"]["total"] / 60 < 80
    fixed = [row["total"] for row in rows if row["method"].startswith("omega")]
    assert len(fixed) == 3 * 8 and len(rows) == 3 * (8 + 10) + 1


@pytest.mark.parametrize("kind", ["low", "high"])
def test_the_shifted_systems(kind):
    """A + cI with a context that is c, and right-hand sides that are short enough."""
    sequence = _shifted(kind)
    keys = jr.split(jr.key(0), 500)
    A, b, contexts = jax.vmap(lambda k: sequence.system(0, sequence.start, k))(keys)
    assert (jnp.linalg.norm(b, axis=1) <= 10).all()
    assert contexts.min() >= -0.15 and contexts.max() <= 0.45
    # Means of Beta variables, and what is left of A once c is taken off.
    assert abs(contexts.mean() - (-0.15 + 0.6 * 0.25)) < 0.02
    main = A.values[:, A.offsets.index(0)] - contexts[:, None]
    np.testing.assert_allclose(main, 4.0, rtol=1e-12)
