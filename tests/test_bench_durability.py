"""The benchmark of durability: what it calls lost, and a sample of it."""

import json
import sys

import numpy as np
import pytest

from problems.bench import bench_durability, bench_soak, durability_problems
from problems.bench._durability import _outcome, _problem, _Run, _setback


def finished(folder, losses=(0.5, 0.25), steps=None, recorded=None):
    """A run that has left what the child leaves."""
    run = _Run(folder, 2, 7)
    steps = range(1, len(losses) + 1) if steps is None else steps
    recorded = losses if recorded is None else recorded
    lines = [
        json.dumps({"step": step, "loss": loss})
        for step, loss in zip(steps, recorded, strict=True)
    ]
    run.metrics.write_text("".join(f"{line}\n" for line in lines))
    arrays = {"loss": np.array(losses, np.float32), "best.0": np.ones(2, np.float32)}
    np.savez(folder / "outcome.npz", **arrays)
    return run


def test_what_counts_as_lost(tmp_path):
    expected = _outcome(finished(tmp_path / "a"), 0)
    assert set(expected) == {"loss", "best.0"}
    assert _problem(_outcome(finished(tmp_path / "b"), 0), expected) is None
    # The next number after 0.25.
    other = float(np.nextafter(np.float32(0.25), np.float32(1)))
    found = _outcome(finished(tmp_path / "c", (0.5, other)), 0)
    assert _problem(found, expected) == "loss differs"
    found = _outcome(finished(tmp_path / "d", recorded=(0.5, other)), 0)
    assert "other losses" in str(_problem(found, expected))
    for name, steps in (("e", (1, 1)), ("f", (2, 3))):
        found = _outcome(finished(tmp_path / name, steps=steps), 0)
        assert "not each step once" in str(_problem(found, expected))
    del expected["loss"]
    assert _problem(_outcome(finished(tmp_path / "g"), 0), expected) is None
    missing = {"model.0": np.ones(1)}
    assert _problem(expected, missing) == "model.0 differs"


def test_a_process_that_fails(tmp_path):
    run = finished(tmp_path / "a")
    run.command = [sys.executable, "-c", "raise SystemExit('no room')"]
    child = run.start()
    assert "it ended with 1: no room" in _outcome(run, child.wait())["problem"]


def test_steps_made_again():
    before = [b"1 a", b"2 a", b"3 a"]
    assert _setback(before, [b"1 a", b"2 a", b"3 b", b"4 b"], newest=2) is None
    assert _setback(before, before[:2], newest=2) is None
    again = [b"1 a", b"2 b", b"3 b", b"4 b"]
    assert "step 2 were made again" in str(_setback(before, again, newest=2))
    assert _setback([], again, newest=0) is None


def test_problems_in_words():
    good = {"run": "soak", "memory_slope": 0.3, "step_programs": 1, "later_programs": 0}
    good |= {"files_before": 8, "files_after": 8}
    assert durability_problems([good, {"run": "1", "kills": 5, "lost": 0}]) == []
    for change, words in (
        ({"memory_slope": 1.5}, "1.50 MB per 1000 steps"),
        ({"files_after": 9}, "8 files open, then 9"),
        ({"step_programs": 2}, "compiled while"),
        ({"later_programs": 1}, "compiled while"),
        ({"terminated": 11.0}, "11 s to save and end"),
        ({"problem": "it hangs"}, "was lost: it hangs"),
    ):
        (found,) = durability_problems([good | change])
        assert words in found and found.startswith("run soak ")


@pytest.mark.slow
def test_a_sample_of_kills():
    rows = bench_durability(num_kills=3, num_steps=120, seed=1)
    assert durability_problems(rows) == []
    total = rows[-1]
    assert total["run"] == "all" and total["kills"] == 3 and total["lost"] == 0
    assert total["sessions"] >= 6 and rows[0]["terminated"] < 10


@pytest.mark.slow
def test_a_long_run():
    (row,) = bench_soak(num_steps=2000)
    # (It takes longer than that until memory no longer grows at all.)
    assert abs(row.pop("memory_slope")) < 10
    assert durability_problems([row]) == []
    assert (row["step_programs"], row["later_programs"]) == (1, 0)
    assert row["files_before"] == row["files_after"] > 2 and row["memory"] > 100
