"""`sciml train preconditioner`."""

import pytest
from cli_cases import run, strict_json

import sciml

SMALL = "--num-train 4 --num-test 2 --num-steps 3 --width 4 --batch-size 2 --json"
CASES = {
    "sparse-inverse lognormal --size 8 --num-cg-steps 4": "Chebyshev",
    "ic-correction fem-disc-heat --size 1": "IncompleteCholesky",
    "neural-factor darcy --size 8 --test-size 9": "SSOR(1)",
    "deep-directions poisson-2d --size 16 --test-size 18": "untrained",
    "deep-directions-two-level poisson-3d --size 5": "Multigrid",
}


@pytest.mark.parametrize("line", CASES)
def test_trains_saves_and_counts(line, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    line_ = f"train preconditioner {line} {SMALL} --output {path}"
    code, out, err = run(line_, capsys)
    assert code == 0, err
    facts = strict_json(out)
    assert facts["method"] == line.split()[0]
    rows = {row["preconditioner"]: row for row in facts["rows"]}
    assert {"Jacobi", CASES[line], "learned"} <= set(rows)
    assert all(row["converged"] == 2 for row in rows.values())
    assert all(0 < row["median"] <= row["worst"] for row in rows.values())
    assert rows["learned"]["nonzeros"] > rows["Jacobi"]["nonzeros"]
    assert type(sciml.load(path)).__name__ in {
        "SparseApproximateInverse",
        "CorrectedCholesky",
        "NeuralFactor",
        "DeepConjugateDirections",
    }


@pytest.mark.parametrize(
    "line, message",
    [
        ("ic-correction nowhere", "Unknown problem 'nowhere'"),
        ("ic-correction --num-test 0", "num_test"),
        ("ic-correction --batch-size 65", "num_train"),
        ("sparse-inverse --num-cg-steps 1", "num_cg_steps"),
        ("sparse-inverse --learning-rate 0", "learning_rate"),
        ("deep-directions lognormal", "poisson-3d, got lognormal"),
        ("magic", "magic"),
    ],
)
def test_usage(line, message, capsys):
    code, _, err = run(f"train preconditioner {line}", capsys)
    assert code == 2 and message in err
