"""The benchmark of surrogates: equal models, honest solvers, runs that go on."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from problems import get_problem
from problems._surrogate import short_run_optimiser
from problems.bench import (
    _surrogates as surrogates,
    bench_surrogates,
    bench_surrogates_paper,
    check_surrogates,
)
from problems.bench._surrogate_rivals import _splined, classical_rows
from problems.bench._surrogate_tasks import TASKS, Task, task_data
from problems.bench._surrogates import surrogate_models
from problems.bench._surrogates_paper import published_optimiser
from sciml.grids import Dirichlet, Grid, Neumann
from sciml.neural_operators import UNet


@pytest.fixture
def small(monkeypatch):
    """A task of its own, small in every way, with one small model."""
    loss = TASKS["rough"].loss
    make_problem = lambda n: get_problem("darcy-rough", points=n)
    task = Task(make_problem, 31, 2, 31, 2, loss)
    monkeypatch.setitem(TASKS, "small", task)

    def make(key):
        return UNet(2, 1, 1, width=4, num_levels=2, key=key)

    monkeypatch.setattr(
        surrogates, "surrogate_models", lambda grid, names: dict.fromkeys(names, make)
    )
    return task


@pytest.mark.parametrize(
    "grid", [Grid((63, 63)), Grid((51, 51), boundary=Neumann())], ids=["63", "51"]
)
def test_models_are_of_one_size(grid):
    sizes = {n: surrogates._size(make) for n, make in surrogate_models(grid).items()}
    assert list(sizes) == ["MgNO", "FNO", "UNet"]
    for size in sizes.values():
        assert abs(size / sizes["MgNO"] - 1) < 0.12


def test_the_published_size():
    make = surrogate_models(Grid((64, 64), boundary=Dirichlet(stored=True)), ["MgNO"])
    assert surrogates._size(make["MgNO"]) == 572_661


def test_data_are_solutions_of_the_fine_grid(small, tmp_path):
    data = task_data("small", 2, 3, folder=tmp_path)
    fine = small.make(31).dataset(2, key=jr.key(3))
    assert data.grid.num_points == (15, 15) and data.targets.dtype == np.float32
    np.testing.assert_allclose(data.targets, fine.targets[..., 1::2, 1::2], rtol=1e-6)
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    again = task_data("small", 2, 3, folder=tmp_path)
    np.testing.assert_array_equal(again.inputs, data.inputs)
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="'two-phase' has no published size"):
        task_data("two-phase", 2, 3, paper=True)


@pytest.mark.slow
def test_solvers_are_asked_for_the_error_of_the_models(small):
    exact = classical_rows("small", 5, [], num_samples=3)
    assert [row["points"] for row in exact] == [31, 15, 7]
    errors = [row["relative_l2"] for row in exact]
    assert errors[0] < 1e-3 < errors[1] < errors[2] < 1
    loose = classical_rows("small", 5, [0.9], num_samples=3)
    assert all(row["relative_l2"] <= 0.9 for row in loose)


def test_splines_know_the_boundary():
    coarse, fine = Grid((15, 15)), Grid((31, 31))
    field = lambda grid: np.prod([x * (1 - x) for x in grid.mesh()], 0)
    splined = _splined(field(coarse)[None], coarse, fine)
    np.testing.assert_allclose(splined[0], field(fine), atol=1e-12)


@pytest.mark.slow
def test_a_run_goes_on_where_it_was(small, tmp_path, monkeypatch):
    told = []
    options: dict[str, Any] = {
        "problems": ["small"],
        "models": ["FNO"],
        "minutes": 1e-4,
        "num_samples": 8,
        "num_test": 4,
        "batch_size": 4,
        "folder": tmp_path,
    }
    rows = bench_surrogates(**options, seeds=1, on_row=told.append)
    assert rows == told and len(rows) == 4
    first = rows[0]
    assert first["method"] == "FNO" and first["steps"] >= 1
    assert np.isfinite([first["relative_l2"], first["relative_h1"]]).all()
    assert first["relative_l2_sd"] == 0 and first["latency"] > 0

    calls = []
    fit = sciml.training.fit
    monkeypatch.setattr(
        sciml.training, "fit", lambda *a, **k: calls.append(1) or fit(*a, **k)
    )
    again = bench_surrogates(**options, seeds=2)
    assert len(calls) == 1 and again[0]["steps"] == first["steps"]
    assert again[0]["each"][0] == first["each"][0]
    for name, value in (("minutes", 2e-4), ("num_samples", 9), ("seed", 8)):
        changed: dict[str, Any] = {**options, name: value}
        with pytest.raises(ValueError, match="other arguments"):
            bench_surrogates(**changed, seeds=1)


def test_names_that_there_are_not():
    with pytest.raises(ValueError, match="problems: no 'wavy'; known are 'two-phase'"):
        check_surrogates(["wavy"], ["FNO"])
    with pytest.raises(ValueError, match="models: no 'GNO'"):
        bench_surrogates(problems=["rough"], models=["GNO"])


def test_the_published_optimiser():
    # The first step of Adam is the rate in the direction of the gradient's sign, and
    # the rate is half of the peak there; the decay belongs to the gradient.
    optimiser = published_optimiser(100)
    parameters = jnp.array([1.0, -2.0, 3.0])
    gradient = jnp.array([1e-3, 1e-3, -1e-4 / 8 * 3 / 2])
    state, updates = optimiser.init(parameters), []
    with jax.numpy_dtype_promotion("standard"):  # (as in `fit`)
        for _ in range(21):
            update, state = optimiser.update(gradient, state, parameters)
            updates.append(np.asarray(update))
    np.testing.assert_allclose(updates[0], [-2.5e-4] * 3, rtol=2e-3)
    np.testing.assert_allclose(updates[20][0], -5e-4, rtol=1e-2)


def test_a_run_of_one_step_has_a_schedule():
    optimiser = short_run_optimiser(1)
    parameters = jnp.array([1.0])
    with jax.numpy_dtype_promotion("standard"):
        update, _ = optimiser.update(parameters, optimiser.init(parameters), parameters)
    found = np.asarray(update)
    assert np.isfinite(found).all() and found[0] != 0


@pytest.mark.slow
def test_the_published_recipe(small, monkeypatch, tmp_path):
    monkeypatch.setitem(TASKS, "smooth", small)
    (row,) = bench_surrogates_paper(
        problems=["smooth"], epochs=2, num_samples=16, folder=tmp_path
    )
    assert row["epochs"] == 2 and 1 <= row["best_epoch"] <= 2
    assert row["points"] == 15 and row["published_l2"] == pytest.approx(0.00176)
    assert 0 < row["relative_l2"] < 2 and 0 < row["spectral_h1"] < 2
