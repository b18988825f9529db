"""The command line: what it prints, what it writes, how it ends."""

import importlib.metadata
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_cases import run, strict_json

import problems
import sciml
from problems.cli import main

TINY_MODEL = "--points 15 --width 4 --depth 1 --num-steps 3".split()
TINY_DATA = "--num-train 8 --num-test 4 --batch-size 4".split()


def kinds(facts: dict) -> dict[str, type]:
    return {name: type(value) for name, value in facts.items()}


# --- without a command ----------------------------------------------------------------


def test_no_arguments_print_help(capsys):
    code, out, _ = run([], capsys)
    assert code == 0
    for command in ("list", "solve", "train", "predict", "bench", "report", "demo"):
        assert f"• {command}" in out


def test_version(capsys):
    version = importlib.metadata.version("sciml-solvers")
    assert run("--version", capsys) == (0, version + "\n", "")


def test_the_installed_command():
    command = pathlib.Path(sys.executable).with_name("sciml")
    if not command.exists():
        pytest.skip("the console script is not installed beside the interpreter")
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    version = importlib.metadata.version("sciml-solvers")
    assert (done.returncode, done.stdout, done.stderr) == (0, version + "\n", "")


@pytest.mark.parametrize(
    "line", ["slove", "solve", "bench nothing", "solve --points x"]
)
def test_usage_of_the_parser(line, capsys):
    code, out, err = run(line, capsys)
    assert code == 2
    assert "sciml" in out + err


def test_interrupt(monkeypatch, capsys):
    from problems.cli._list import List

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(List, "__call__", interrupted)
    assert run("list", capsys) == (130, "", "interrupted\n")


def test_a_failure_has_no_traceback(monkeypatch, capsys):
    from problems.cli._list import List

    monkeypatch.setattr(List, "__call__", lambda self: 1 / 0)
    message = "failed: ZeroDivisionError: division by zero\n"
    assert run("list", capsys) == (1, "", message)


# --- list and solve -------------------------------------------------------------------


def test_list(capsys):
    code, out, err = run("list --json", capsys)
    catalogue = strict_json(out)
    assert code == 0 and err == ""
    titles = ["problems", "time-dependent problems", "initial-value problems"]
    titles += ["solvers", "preconditioners", "models", "benchmarks"]
    assert list(catalogue) == titles
    assert catalogue["time-dependent problems"] == problems.evolution_names()
    assert catalogue["initial-value problems"] == problems.ode_names()
    assert {"darcy", "helmholtz-waves"} <= set(catalogue["problems"])
    assert "CG" in catalogue["solvers"]
    assert {"Jacobi", "Multigrid"} <= set(catalogue["preconditioners"])
    assert set(catalogue["models"]) == {"mgno", "fno", "unet", "multionet"}
    code, out, _ = run("list", capsys)
    assert code == 0
    for entries in catalogue.values():
        for name, text in entries.items():
            assert re.search(rf"^  {re.escape(name)} +{re.escape(text)}$", out, re.M)


SOLVED = (
    dict.fromkeys(["problem", "preconditioner", "result", "message"], str)
    | dict.fromkeys(["unknowns", "num_steps"], int)
    | dict.fromkeys(["relative_residual", "cold_time", "run_time"], float)
    | {"num_points": list}
)


def test_solve(tmp_path, capsys):
    file = tmp_path / "new" / "solved"
    line = f"solve poisson-2d --points 15 --json --output {file}"
    code, out, err = run(line, capsys)
    facts = strict_json(out)
    assert code == 0 and err == ""
    assert kinds(facts) == SOLVED | {"max_error": float, "output": str}
    assert facts["num_points"] == [15, 15] and facts["unknowns"] == 225
    assert facts["result"] == "successful" and facts["num_steps"] == 5
    assert facts["relative_residual"] <= 1e-8 and facts["max_error"] < 5e-3
    with np.load(facts["output"]) as arrays:
        assert {name: a.shape for name, a in arrays.items()} == {
            "coefficient": (15, 15),
            "solution": (15, 15),
            "residual_history": (6,),
        }
        assert np.isfinite(arrays["residual_history"]).all()


def test_solve_without_convergence(capsys):
    line = "solve darcy --points 15 --preconditioner jacobi --max-steps 1"
    code, out, _ = run(line + " --json", capsys)
    facts = strict_json(out)
    assert code == 3
    assert kinds(facts) == SOLVED
    assert facts["result"] == "max_steps_reached" and facts["num_steps"] == 1
    assert "max_steps" in facts["message"] and facts["relative_residual"] > 1e-8
    code, out, _ = run(line, capsys)
    assert code == 3
    assert re.search(r"^result +max_steps_reached$", out, re.M)
    assert re.search(r"^message +.*Try increasing", out, re.M)


@pytest.mark.parametrize(
    "line, message",
    [
        ("solve dacry", "Did you mean 'darcy'?"),
        ("solve poisson-2d --contrast 3", "'poisson-2d' has a constant coefficient"),
        ("solve darcy --contrast 0.5", "contrast: expected a finite number ≥ 1"),
        ("solve darcy --points 0", "num_points: axis 0 has 0 points"),
        ("solve darcy --rtol -1", "rtol: expected a finite number ≥ 0, got -1.0"),
        ("solve darcy --max-steps 0", "max_steps: expected an integer ≥ 1, got 0"),
        ("train dacry", "Did you mean 'darcy'?"),
        ("train darcy --width 0", "width: expected at least 1, got 0"),
        ("train darcy --num-train 0", "num_train: expected at least 1, got 0"),
        ("train --num-train 4", "expected at most num_train (4), got 10"),
        ("train --resume", "resume: from where? Give --checkpoint-dir"),
        ("train --patience 3", "patience: needs pairs to judge by, --num-validation"),
        ("train --validation 4 --patience 0", "patience: expected at least 1, got 0"),
        ("train --validation 4 --validate-every 1001", "expected at most 1000"),
        ("bench durability --kills -1", "kills: expected at least 0"),
        ("predict none --problem dacry", "Did you mean 'darcy'?"),
        ("predict none --rtol -1", "rtol: expected a finite number ≥ 0"),
        ("predict none --steps 2", "a solution of 'darcy' is not the next state"),
        ("predict none --problem heat-step --steps 0", "steps: expected at least 1"),
        ("predict none --problem heat-step --contrast 2", "constant coefficient"),
        ("bench linear --points 0", "num_points: axis 0 has 0 points"),
        ("bench linear --problems two-phase-0.1", "contrast: expected a finite"),
        ("bench linear --problems nothing", "unknown system 'nothing'"),
        ("bench linear --repeats 0", "at least one repeat"),
        ("bench contraction --threads 0", "threads: "),
        ("bench neural-odes --problems spral", "problems: no 'spral'"),
        ("bench neural-odes --methods Stepps", "methods: no 'Stepps'"),
        ("bench neural-odes --rtol 2", "tolerance between 0 and 1"),
    ],
)
def test_usage(line, message, capsys):
    code, out, err = run(line, capsys)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ") and message in err and "Traceback" not in err


def test_the_folder_of_data_is_asked_for(monkeypatch, capsys):
    monkeypatch.delenv("SCIML_DATA", raising=False)
    code, _, err = run("bench darcy-small", capsys)
    assert code == 2 and "--data" in err and "SCIML_DATA" in err
    code, _, err = run("bench darcy-small --data nowhere", capsys)
    assert code == 4 and "nowhere" in err and "no such file" in err


# --- train and predict ----------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> pathlib.Path:
    """What `sciml train` leaves, with what it printed beside it."""
    path = tmp_path_factory.mktemp("trained") / "runs" / "model.safetensors"
    stdout = sys.stdout
    printed = path.parent.parent / "printed.json"
    with open(printed, "w") as sys.stdout:
        try:
            line = ["train", "darcy", *TINY_MODEL, *TINY_DATA, "--json"]
            assert main([*line, "--output", str(path)]) == 0
        finally:
            sys.stdout = stdout
    return path


@pytest.fixture
def predict(model, tmp_path, monkeypatch, capsys):
    """Run `sciml predict` with the model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda line: run(f"predict {model} --points 15 {line}", capsys)


def test_train(model):
    facts = strict_json((model.parent.parent / "printed.json").read_text())
    metrics = ["relative_l2", "relative_h1", "boundary_rmse", "max_error"]
    expected = dict.fromkeys(["problem", "model", "output"], str)
    expected |= dict.fromkeys([*metrics, "compile_time", "training_time"], float)
    assert kinds(facts) == expected | {"parameters": int}
    leaves = jax.tree.leaves(sciml.load(model))
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    assert facts["parameters"] == sum(a.size for a in arrays)
    assert {a.dtype.name for a in arrays} == {"float32"}


PREDICTED = {"result": str} | dict.fromkeys(["num_steps", "num_steps_from_zero"], int)
PREDICTED |= dict.fromkeys(
    ["surrogate_relative_residual", "surrogate_relative_error", "relative_residual"],
    float,
)


def test_predict(predict):
    code, out, err = predict("--json --output fields.npz")
    facts = strict_json(out)
    assert code == 0 and err == ""
    assert kinds(facts) == PREDICTED | {"output": str}
    assert facts["result"] == "successful" and facts["relative_residual"] <= 1e-8
    with np.load("fields.npz") as arrays:
        assert set(arrays) == {"coefficient", "prediction", "solution"}
        error = arrays["prediction"] - arrays["solution"]
        relative = np.linalg.norm(error) / np.linalg.norm(arrays["solution"])
    assert relative == pytest.approx(facts["surrogate_relative_error"], rel=1e-6)

    # The same coefficient, from a file: the same numbers.
    code, out, _ = predict("fields.npz --json")
    again = strict_json(out)
    assert code == 0 and kinds(again) == PREDICTED
    assert again == {name: facts[name] for name in PREDICTED}


def test_predict_reads_npy(predict):
    np.save("a.npy", np.ones((15, 15), int))
    code, out, _ = predict("a.npy")
    assert code == 0
    assert re.search(r"^result +successful$", out, re.M)


def load_npz(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def test_predict_marches(model, tmp_path, monkeypatch, capsys):
    """Each step from the solution of the one before: as one step after the other."""
    monkeypatch.chdir(tmp_path)
    line = f"predict {model} --problem heat-step --points 15 --json"
    code, out, err = run(f"{line} --steps 2 --output both.npz", capsys)
    facts = strict_json(out)
    assert code == 0 and err == "" and facts["time_steps"] == 2
    extra = {"num_steps_from_state": int, "time_steps": int, "output": str}
    assert kinds(facts) == PREDICTED | extra
    name, singles = "", []
    for k in range(2):
        code, out, _ = run(f"{line} {name} --output {k}.npz", capsys)
        singles.append(strict_json(out))
        assert code == 0 and singles[k]["time_steps"] == 1
        np.save(name := "state.npy", load_npz(f"{k}.npz")["solution"])
    for count in ("num_steps", "num_steps_from_zero", "num_steps_from_state"):
        assert facts[count] == sum(found[count] for found in singles)
    last, both = load_npz("1.npz"), load_npz("both.npz")
    np.testing.assert_array_equal(both["solution"], last["solution"])
    step = problems.get_problem("heat-step", points=15)
    state = jnp.asarray(last["coefficient"])
    alone = step.solve(state, rtol=1e-8, x0=state).stats["num_steps"]
    assert singles[-1]["num_steps_from_state"] == alone

    np.testing.assert_array_equal(both["coefficient"], last["coefficient"])

    # What cannot be met ends the march, and says what to do.
    code, out, _ = run(f"{line} --steps 3 --rtol 0", capsys)
    facts = strict_json(out)
    assert code == 3 and facts["time_steps"] == 1 and facts["result"] != "successful"
    assert len(facts["message"]) > 40

    line = f"predict {model} --problem pressure-step --points 16 --json"
    code, out, _ = run(line, capsys)
    facts = strict_json(out)
    assert code == 0 and kinds(facts) == PREDICTED
    assert facts["relative_residual"] <= 1e-8


def save_bad_coefficients() -> None:
    np.save("good.npy", np.ones((15, 15)))
    whole = pathlib.Path("good.npy").read_bytes()
    pathlib.Path("truncated.npy").write_bytes(whole[: len(whole) // 2])
    pathlib.Path("empty.npy").write_bytes(b"")
    pathlib.Path("text.npz").write_text("no archive")
    np.save("shape.npy", np.ones((15, 16)))
    np.save("pickle.npy", np.array([{}], object))
    np.save("negative.npy", -np.ones((15, 15)))
    np.save("nan.npy", np.full((15, 15), np.nan))
    np.save("complex.npy", np.ones((15, 15), complex))
    np.save("words.npy", np.full((15, 15), "a"))
    np.savez("other.npz", a=np.ones((15, 15)))


@pytest.mark.parametrize(
    "name, message",
    [
        ("missing.npy", "no such file"),
        ("truncated.npy", "not a readable .npy or .npz file"),
        ("empty.npy", "not a readable .npy or .npz file"),
        ("text.npz", "not a readable .npy or .npz file"),
        ("shape.npy", "expected a field of shape (15, 15), got (15, 16)"),
        ("pickle.npy", "Object arrays cannot be loaded"),
        ("negative.npy", "expected finite values above 0, got -1.0"),
        ("nan.npy", "expected finite values above 0, got nan"),
        ("complex.npy", "expected real numbers, got complex128"),
        ("words.npy", "expected real numbers, got <U1"),
        ("other.npz", "expected an entry 'coefficient', got a"),
    ],
)
def test_bad_coefficients(name, message, predict):
    save_bad_coefficients()
    code, out, err = predict(name)
    assert (code, out) == (4, "")
    assert err.startswith("bad data: ") and message in err and "Traceback" not in err


def test_bad_models(model, tmp_path, capsys):
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(model.read_bytes()[:-10])
    no_model = tmp_path / "grid.safetensors"
    sciml.save(no_model, sciml.grids.Grid((15, 15)))
    for file, message in (
        (tmp_path / "missing.safetensors", "no such file"),
        (truncated, str(truncated)),
        (no_model, "expected a model, got a Grid"),
    ):
        code, out, err = run(f"predict {file} --points 15", capsys)
        assert (code, out) == (4, "")
        assert err.startswith("bad data: ") and message in err
    code, _, err = run(f"predict {model} --points 3", capsys)
    assert code == 4 and "num_levels: 3 grids were asked for" in err
