"""`sciml train preconditioner`."""

import jax.random as jr
import pytest
from cli_cases import run, strict_json

import sciml
from sciml.evaluation import read_records

SMALL = "--num-train 4 --num-test 2 --num-steps 3 --width 4 --batch-size 2 --json"
CASES = {
    "sparse-inverse lognormal --size 8 --num-cg-steps 4": "Chebyshev",
    "ic-correction fem-disc-heat --size 1": "IncompleteCholesky",
    "neural-factor darcy --size 8 --test-size 9 --relaxation 1": "SSOR(1)",
    "deep-directions poisson-2d --size 16 --test-size 18": "untrained",
    "deep-directions-two-level poisson-3d --size 5": "Multigrid",
    "multigrid mixture --size 9 --batch-size 2 --num-cg-steps 3": "by strength",
}


# (A minute of compilation.)
LONG = "deep-directions-two-level poisson-3d --size 5"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.slow) if line == LONG else line
        for line in CASES
    ],
)
def test_trains_saves_and_counts(line, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    line_ = f"train preconditioner {line} {SMALL} --output {path}"
    code, out, err = run(line_, capsys)
    assert code == 0, err
    facts = strict_json(out)
    method, problem = line.split()[:2]
    assert facts["training_time"] > 0 and facts["parameters"] > 0
    rows = {row["preconditioner"]: row for row in facts["rows"]}
    for row in rows.values():
        assert (row["method"], row["problem"]) == (method, problem)
        assert row["of_rival"] == row["median"] / facts["rows"][0]["median"]
    assert {"Jacobi", CASES[line], "learned"} <= set(rows)
    assert all(row["converged"] == 2 for row in rows.values())
    assert all(0 < row["median"] <= row["worst"] for row in rows.values())
    if method == "multigrid":
        assert rows["learned"]["nonzeros"] is None
    else:
        assert rows["learned"]["nonzeros"] > rows["Jacobi"]["nonzeros"]
    assert type(sciml.load(path)).__name__ in {
        "SparseApproximateInverse",
        "CorrectedCholesky",
        "NeuralFactor",
        "DeepConjugateDirections",
        "LearnedMultigrid",
    }


def test_counts_what_was_saved(tmp_path, capsys):
    """No training; sizes one after the other; a record without this machine's paths."""
    path = tmp_path / "m.safetensors"
    sciml.save(path, sciml.preconditioners.CorrectedCholesky(4, 1, key=jr.key(0)))
    line = f"train preconditioner ic-correction --weights {path} --num-test 2"
    options = f"--test-size 6 8 --record --record-dir {tmp_path} --json"
    code, out, err = run(f"{line} {options}", capsys)
    assert code == 0, err
    rows = strict_json(out)["rows"]
    assert [row["unknowns"] for row in rows] == [36] * 3 + [64] * 3
    # Untrained it is incomplete Cholesky.
    assert all(
        row["of_rival"] == 1 for row in rows if row["preconditioner"] == "learned"
    )
    (record,) = read_records(tmp_path / "preconditioners.jsonl")
    assert record.values["rows"] == rows
    assert str(tmp_path) not in str(record.values)
    code, _, err = run(f"{line} --weights {path}.not", capsys)
    assert code == 4 and "no such file" in err
    code, _, err = run(f"train preconditioner sparse-inverse --weights {path}", capsys)
    assert code == 4 and "CorrectedCholesky" in err


@pytest.mark.parametrize(
    "line, message",
    [
        ("ic-correction nowhere", "Unknown problem 'nowhere'"),
        ("ic-correction --num-test 0", "num_test"),
        ("ic-correction --batch-size 65", "num_train"),
        ("sparse-inverse --num-cg-steps 1", "num_cg_steps"),
        ("sparse-inverse --learning-rate 0", "learning_rate"),
        ("neural-factor --relaxation 3", "relaxation"),
        ("deep-directions lognormal", "poisson-3d, got lognormal"),
        ("magic", "magic"),
    ],
)
def test_usage(line, message, capsys):
    code, _, err = run(f"train preconditioner {line}", capsys)
    assert code == 2 and message in err
