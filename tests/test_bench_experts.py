"""The benchmark of experts in turn, at once, and on devices."""

import pytest

from problems.bench import bench_expert_scaling


@pytest.mark.slow
def test_expert_scaling():
    rows = bench_expert_scaling(
        experts=8, nodes=64, totals=(512,), counts=(2,), repeats=1
    )
    executions = [row for row in rows if "execution" in row]
    assert len(executions) == 6
    for row in executions:
        assert row["converged"] == row["experts"] == 8 and row["error"] < 1e-2
        assert row["num_steps"] == executions[row["task"] == "alike" and 3]["num_steps"]
    assert executions[0]["most_steps"] > 2 * executions[0]["fewest_steps"]
    devices = {
        (row["within"], row["program"], row["devices"]): row
        for row in rows
        if "within" in row
    }
    assert len(devices) == 16
    for program in ("solve", "gradient"):
        row = devices["VmapExperts", program, 8]
        for figure in ("flops", "accessed", "arguments"):
            assert row[f"{figure}_of_one"] < 1.2 / 8
        # (With one small box on each, what does not fall shows.)
        assert row["temporaries_of_one"] < 1.6 / 8
    steps = devices["MapExperts", "solve", 8]["steps_of_one"]
    assert steps == executions[0]["most_steps"] / sum(executions[0]["num_steps"])
    coupled = [row for row in rows if "coupling" in row]
    assert [(row["experts"], row["total_nodes"]) for row in coupled] == [
        (4, 512),
        (2, 32000),
        (2, 1000),
    ]
    assert all(row["converged"] == row["experts"] for row in coupled)


def test_wrong_numbers_of_experts():
    with pytest.raises(ValueError, match="multiple of 8"):
        bench_expert_scaling(experts=12)
