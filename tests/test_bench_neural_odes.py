"""The benchmark of neural ODEs measures what it says, and draws it."""

import importlib.util
import pathlib
from typing import Any

import jax.random as jr
import numpy as np
import pytest

from problems.bench import (
    _neural_odes,
    bench_neural_odes,
    choose_neural_odes,
    plot_neural_odes,
)
from problems.bench._digits_task import DigitsTask

ALL = {
    "vanilla",
    "STEER",
    "KineticEnergy",
    "TayNODE",
    "ErrorEstimate",
    "ErrorEstimateSquared",
    "NumSteps",
    "Stiffness",
    "Local",
    "Local, biased",
    "Local, unbiased",
}


@pytest.fixture
def speech(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder of data sets with a few utterances that nobody spoke."""
    folder = tmp_path / "time_series"
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, lengths in (("TRAIN", (29, 9, 12)), ("TEST", (7, 20))):
        lines = ["@data"]
        for length in lengths:
            channels = np.cumsum(random.normal(size=(12, length)), axis=1)
            lines.append(":".join(",".join(map(str, c)) for c in channels) + ":1")
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines))
    monkeypatch.setenv("SCIML_DATA", str(tmp_path))
    return tmp_path


def check_pictures(folder: pathlib.Path, problem: str) -> None:
    for kind in ("paths", "steps"):
        content = (folder / f"{problem}-{kind}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 10_000


@pytest.mark.usefixtures("speech")
def test_methods_by_problem():
    methods = choose_neural_odes()
    assert list(methods) == ["digits", "spiral", "vowels", "spiral-sde"]
    for problem in ("digits", "spiral", "vowels"):
        assert set(methods[problem]) == ALL
    undefined = {"STEER", "KineticEnergy", "TayNODE", "Stiffness"}
    assert set(methods["spiral-sde"]) == ALL - undefined
    assert {next(iter(names)) for names in methods.values()} == {"vanilla"}


@pytest.mark.slow
def test_rows_of_the_spiral(tmp_path):
    rows = bench_neural_odes(
        ("spiral",),
        methods=("vanilla", "NumSteps"),
        seeds=1,
        num_steps=3,
        rtol=1e-4,
        plot=str(tmp_path),
    )
    assert [row["method"] for row in rows] == ["vanilla", "NumSteps"]
    for row in rows:
        assert row["nfe"] == row["nfe_each"] == row["nfe_most"] > 6
        assert 6 * row["steps"] < row["nfe"]
        assert row["nfe Tsit5 1e-06"] > row["nfe"]
        assert {"nfe Dopri8 1e-04", "nfe Bosh3 1e-04"} < set(row)
        assert row["ratio"] == pytest.approx(row["nfe"] / rows[0]["nfe"])
        assert row["test"] > 0 and row["training_time"] > 0
    check_pictures(tmp_path, "spiral")


def test_seeds_are_outside_and_nothing_is_lost(monkeypatch):
    """With trainings that take no time, the last of which is interrupted."""

    def train(task, method, seed, num_steps):
        if seed == 9 and method.steer:
            raise KeyboardInterrupt
        nfe = 10.0 * seed * (2 if method.steer else 1)
        return None, {"test": 1.0, "training_time": float(seed), "nfe": nfe}

    monkeypatch.setattr(_neural_odes, "_train", train)
    runs, rows = [], []
    settings = {"methods": ("vanilla", "STEER"), "on_run": runs.append}
    found = bench_neural_odes(("spiral",), seeds=2, on_row=rows.append, **settings)
    assert rows == found
    expected = [(7, "vanilla"), (7, "STEER"), (8, "vanilla"), (8, "STEER")]
    assert [(run["seed"], run["method"]) for run in runs] == expected
    assert [run["nfe"] for run in runs] == [70, 140, 80, 160]
    assert [row["nfe"] for row in rows] == [75, 150]
    assert rows[1]["nfe_sd"] == pytest.approx(np.sqrt(200))
    assert [row["ratio"] for row in rows] == [1, 2]
    assert [row["time_ratio"] for row in rows] == [1, 1]
    runs.clear()
    with pytest.raises(KeyboardInterrupt):
        bench_neural_odes(("spiral",), seeds=3, **settings)
    assert [run["seed"] for run in runs] == [7, 7, 8, 8, 9]


def one_solver(task: type) -> Any:
    """Its first: every other one is compiled as well, and the spiral has them all."""
    make = task.make_solvers
    return lambda self: dict(list(make(self).items())[:1])


@pytest.mark.slow
def test_vowels(speech, monkeypatch):
    task = _neural_odes.TASKS["vowels"]
    monkeypatch.setattr(task, "make_solvers", one_solver(task))
    rows = bench_neural_odes(
        ("vowels",),
        # (One: what takes long is to compile.)
        methods=("STEER",),
        seeds=1,
        num_steps=2,
        rtol=1e-3,
        plot=str(speech),
    )
    for row in rows:
        assert row["steps"] >= 2 and row["nfe_each"] <= row["nfe_most"]
        # Nobody learns anything in two steps: the error is that of the mean, about.
        assert 0.5 < row["test"] < 3 and 0.5 < row["train"] < 2
    check_pictures(speech, "vowels")


@pytest.mark.slow
def test_a_noisy_spiral(tmp_path, monkeypatch):
    task = _neural_odes.TASKS["spiral-sde"]
    for name, small in (("batch_size", 8), ("num_references", 40), ("num_draws", 2)):
        monkeypatch.setattr(task, name, small)
    names = list(task(key=jr.key(0)).solvers)
    assert names == ["SPaRK 2e-03", "SPaRK 2e-04"]
    monkeypatch.setattr(task, "make_solvers", one_solver(task))
    rows = bench_neural_odes(
        ("spiral-sde",),
        # (It has no STEER.)
        methods=("STEER", "Local"),
        seeds=1,
        num_steps=2,
        rtol=5e-2,
        plot=str(tmp_path),
    )
    assert [row["method"] for row in rows] == ["Local"]
    for row in rows:
        # A step ends at each of the thirty times.
        assert row["steps"] >= 29 and row["nfe"] >= 3 * 29
        assert row["nfe_each"] <= row["nfe_most"] and row["test"] > 1
    check_pictures(tmp_path, "spiral-sde")


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="the digits come with it"
)
def test_pictures_of_digits(tmp_path):
    task = DigitsTask(1e-3, key=jr.key(0))
    models = {name: task.model(key=jr.key(k)) for k, name in enumerate("abc")}
    files = plot_neural_odes(task, models, str(tmp_path / "new"))
    names = ["digits-paths.png", "digits-steps.png"]
    assert [file.name for file in files] == names
    check_pictures(tmp_path / "new", "digits")


def test_missing_data(monkeypatch):
    monkeypatch.delenv("SCIML_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="JapaneseVowels_TRAIN.ts"):
        # Before anything is trained, which would take minutes.
        bench_neural_odes(("digits", "vowels"))
    assert _neural_odes.TASKS["spiral"].missing() is None
    # The default is what there are data for.
    with pytest.raises(ValueError, match="spiral-sde has none of STEER"):
        bench_neural_odes(methods=("STEER",))


def test_names_that_there_are_not():
    with pytest.raises(ValueError, match="known are digits, spiral, vowels"):
        bench_neural_odes(("spral",))
    with pytest.raises(ValueError, match="no 'Stepps'; known are vanilla"):
        bench_neural_odes(("spiral",), methods=("Stepps",))
