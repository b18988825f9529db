"""The comparison of penalties, hard constraints and experts, trained on equations."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from problems.bench import (
    BasisNetwork,
    TrainingSize,
    bench_constraint_training,
    check_constraint_training,
)
from problems.bench._constraint_models import (
    Constrained,
    EquationLoss,
    constraint_model,
    with_rows,
)
from problems.bench._constraint_training import FORMULATIONS, KNOWN_METHODS
from problems.cli import main

_SMALL = TrainingSize(
    num_points=24,
    num_saves=12,
    experts=(2,),
    network=BasisNetwork(num_basis=4, width=4, depth=1, num_modes=3),
    num_samples=4,
    num_test=1,
    num_steps=2,
    batch_size=2,
)


_FLOW = dataclasses.replace(_SMALL, num_points=12, num_saves=6, experts=(2, 2))
_SIZES = {"integrated": _SMALL, "differences": _SMALL, "vorticity": _FLOW}
_SORPTION = ("integrated", "differences")


def _rows(formulation, num_points, num_saves, until=None):
    size = dataclasses.replace(_SMALL, num_points=num_points, num_saves=num_saves)
    return FORMULATIONS[formulation].of(size, until)


def _residuals(formulation, num_points, num_saves, exponent=0.874):
    """Root mean squares of the rows of a reference solution at t > 100 s."""
    rows = _rows(formulation, num_points, num_saves)
    problem = problems.DiffusionSorption(num_points, freundlich_exponent=exponent)
    rows = dataclasses.replace(rows, problem=problem)
    inputs, reference = rows.data(1, jr.key(0))
    terms = rows.terms(jnp.asarray(reference[0]))
    found = rows.residual(terms, rows.parameters(jnp.asarray(inputs[0, 0])))
    return float(jnp.sqrt(jnp.mean(found[num_saves // 5 + 1 : -1] ** 2)))


def test_differences_vanish_on_the_solution():
    coarse, fine = (_residuals("differences", 31 * k + 1, 25 * k) for k in (1, 2))
    assert fine < 0.35 * coarse


def test_integrals_vanish_on_the_solution():
    # With constant retardation the offset is the solution until the far side is felt.
    assert _residuals("integrated", 32, 25, exponent=1.0) < 2e-3
    # Otherwise what is left of the jump in the first step stays in the integral. (The
    # root mean square of w(u) − w(u(0)) is 1.)
    assert _residuals("integrated", 32, 25) < 1e-2


@pytest.mark.parametrize("formulation", _SORPTION)
def test_linear_rows_are_those_of_constant_retardation(formulation):
    rows = _rows(formulation, 24, 12)
    linear = dataclasses.replace(
        rows, problem=problems.DiffusionSorption(24, freundlich_exponent=1.0)
    )
    u0 = jnp.full(rows.shape, 0.1)
    u = jr.uniform(jr.key(1), rows.shape)
    found, expected = (
        one(linear.terms(u), linear.parameters(u0))
        for one in (linear.linear, linear.residual)
    )
    # (Its content is shifted by 1e-6, which differences cancel.)
    np.testing.assert_allclose(found, expected, atol=1e-9 * float(abs(found).max()))


def test_the_offset_has_the_known_values():
    rows = _rows("integrated", 24, 12)
    offset, envelope = rows.offset(jnp.full(rows.shape, 0.1)), rows.envelope()
    assert offset is not None and envelope is not None
    np.testing.assert_allclose(offset[:, 0], 1.0, rtol=1e-3)
    assert 0 <= offset[1:, -1].min() and offset[1:, -1].max() < 1e-2
    np.testing.assert_allclose(offset[0, 1:], 0.1, rtol=1e-12)
    assert not np.any(envelope[0]) and not np.any(envelope[:, 0])
    assert np.all(envelope[1:, 1:] > 0)


@pytest.mark.parametrize("formulation", _SORPTION)
def test_rows_after_the_limit_do_not_count(formulation):
    rows = _rows(formulation, 24, 12, until=300.0)
    inputs, _ = rows.data(1, jr.key(0))
    u0 = jnp.asarray(inputs[0, 0])
    u = jr.uniform(jr.key(1), rows.shape)
    parts = EquationLoss(rows, 1.0).parts
    gradient = jax.grad(lambda u: sum(parts(u, u0)))(u)
    # (Central differences of the last row that counts see one node beyond.)
    reach = 300.0 + 500 / 12 * (formulation == "differences")
    later = np.linspace(0, 500, 13) > reach + 1e-6
    assert not np.any(gradient[later]) and np.any(gradient[~later])
    all_rows = EquationLoss(rows.until_the_end(), 1.0).parts
    assert np.any(jax.grad(lambda u: sum(all_rows(u, u0)))(u)[later])


@pytest.mark.slow
def test_experts_are_no_worse_on_the_same_basis():
    rows = _rows("integrated", 24, 12)
    inputs, _ = rows.data(1, jr.key(0))
    u0 = jnp.asarray(inputs[0])
    found = {}
    for method in ("hard", "hard, C1(10, 1)"):
        model = constraint_model(method, rows, _SMALL, jr.key(0))
        assert isinstance(model, Constrained)
        out = model.solve(u0)
        assert bool(jnp.all(out.result == sciml.RESULTS.successful))
        # (Rows are means over a box.)
        found[method] = float(jnp.mean(out.stats["residual_norm"] ** 2))
    assert found["hard, C1(10, 1)"] < found["hard"]


def test_a_model_keeps_its_network_with_other_rows():
    rows = _rows("integrated", 24, 12, until=300.0)
    for method in KNOWN_METHODS:
        model = constraint_model(method, rows, _SMALL, jr.key(0))
        other = with_rows(model, rows.until_the_end(), _SMALL.experts)
        assert type(other) is type(model)
        leaves = [jax.tree.leaves(m) for m in (model, other)]
        arrays = [[x for x in found if hasattr(x, "shape")] for found in leaves]
        assert len(arrays[0]) == len(arrays[1])
        for one, two in zip(*arrays, strict=True):
            np.testing.assert_array_equal(one, two)


def test_unknown_names():
    with pytest.raises(ValueError, match="integrated"):
        check_constraint_training(["weak"], ["soft"])
    with pytest.raises(ValueError, match="hard, C0"):
        check_constraint_training(["integrated"], ["hard, C2"])
    check_constraint_training(["integrated"], ["hard, Schwarz"])
    with pytest.raises(ValueError, match="ends of a torus"):
        check_constraint_training(["vorticity"], ["hard, Schwarz"])


@pytest.mark.parametrize(
    "arguments",
    [
        "--methods half-hard",
        "--until 501",
        "--formulations vorticity --until 1.1",
        "--seeds 0",
        "--num-steps 0",
    ],
)
def test_wrong_arguments_of_the_command(arguments, capsys):
    command = f"bench constraint-training {arguments}".split()
    assert main(command) == 2
    assert "expected" in (err := capsys.readouterr().err) or "half-hard" in err


@pytest.mark.slow
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_training(formulation, tmp_path):
    until = 400.0 if formulation in _SORPTION else 0.5
    with jax.numpy_dtype_promotion("standard"):
        rows = bench_constraint_training(
            formulations=[formulation],
            methods=["soft", "hard", "hard, C1(10, 1)"],
            sizes=_SIZES,
            until=until,
            seeds=1,
            plot=str(tmp_path),
        )
    # (A flow on a torus has no sides whose penalties could be weighed.)
    soft = ["soft"] * (3 if formulation in _SORPTION else 1)
    assert [row["method"] for row in rows] == [*soft, "hard", "hard, C1(10, 1)"]
    for row in rows:
        assert 0 < row["relative_l2"] < 2 and 0 < row["after"] < 2
        assert len(row["each"]) == 1 and row["training_time"] > 0
    assert rows[-1]["converged"] == 1.0 and rows[-1]["seam_jump"] > 0
    assert (tmp_path / f"constraints-{formulation}.png").stat().st_size > 10_000
