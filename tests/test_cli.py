"""The command line: what it prints, what it writes, how it ends."""

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import sciml
from problems.cli import main
from sciml.evaluation import Record, append_record, read_records

TINY_MODEL = "--points 15 --width 4 --depth 1 --num-steps 3".split()
TINY_DATA = "--num-train 8 --num-test 4 --batch-size 4".split()


def run(line: str | list[str], capsys) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    code = main(line.split() if isinstance(line, str) else line)
    out, err = capsys.readouterr()
    return code, out, err


def strict_json(text: str):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


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
    titles = ["problems", "solvers", "preconditioners", "models", "benchmarks"]
    assert list(catalogue) == titles
    assert "darcy" in catalogue["problems"] and "CG" in catalogue["solvers"]
    assert {"Jacobi", "Multigrid"} <= set(catalogue["preconditioners"])
    assert set(catalogue["models"]) == {"mgno", "fno"}
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
        ("predict none --problem dacry", "Did you mean 'darcy'?"),
        ("predict none --rtol -1", "rtol: expected a finite number ≥ 0"),
        ("bench linear --points 0", "num_points: axis 0 has 0 points"),
        ("bench linear --problems two-phase-0.1", "contrast: expected a finite"),
        ("bench linear --problems nothing", "unknown system 'nothing'"),
        ("bench linear --repeats 0", "at least one repeat"),
        ("bench contraction --threads 0", "threads: "),
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
    code, out, _ = predict("--coefficient fields.npz --json")
    again = strict_json(out)
    assert code == 0 and kinds(again) == PREDICTED
    assert again == {name: facts[name] for name in PREDICTED}


def test_predict_reads_npy(predict):
    np.save("a.npy", np.ones((15, 15), int))
    code, out, _ = predict("--coefficient a.npy")
    assert code == 0
    assert re.search(r"^result +successful$", out, re.M)


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
    code, out, err = predict(f"--coefficient {name}")
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


# --- bench and report -----------------------------------------------------------------


def test_bench_linear(tmp_path, capsys):
    records = tmp_path / "records"
    line = "bench linear --points 15 --problems two-phase-10 --repeats 1 --seed 3"
    line += f" --plot {tmp_path / 'plots'}"
    code, out, err = run(f"{line} --json --record --record-dir {records}", capsys)
    printed = strict_json(out)
    assert code == 0
    assert err.endswith(f"recorded in {records / 'linear.jsonl'}\n")
    for kind in ("convergence", "time"):
        picture = tmp_path / "plots" / f"two-phase-10-{kind}.png"
        assert str(picture) in err and picture.read_bytes()[1:4] == b"PNG"
    assert {"cpu", "threads", "device", "versions"} <= set(printed["machine"])
    ours = printed["rows"][0]
    assert ours["method"] == "sciml CG + Multigrid" and ours["ratio"] == 1.0
    assert "history" not in ours
    (record,) = read_records(records / "linear.jsonl")
    assert record.name == "linear" and record.seeds == {"seed": 3}
    assert record.values["arguments"]["points"] == 15
    assert len(record.values["rows"]) == len(printed["rows"]) >= 5

    page = tmp_path / "pages" / "bench.html"
    code, out, _ = run(f"report {records} --output {page} --json", capsys)
    assert code == 0 and strict_json(out) == {"output": str(page), "records": 1}
    html = page.read_text("utf-8")
    assert "Benchmark records" in html and "sciml CG + Multigrid" in html


def test_report_reads_files(tmp_path, capsys):
    file, page = tmp_path / "runs.jsonl", tmp_path / "page.html"
    for n in (1, 2):
        append_record(file, Record("mine", {"rows": [{"n": n}]}))
    code, out, _ = run(f"report {file} --output {page}", capsys)
    assert (code, out) == (0, f"2 records → {page}\n")
    assert "mine" in page.read_text("utf-8")


def test_report_without_records(tmp_path, capsys):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "other.jsonl").write_text('{"no": "record"}\n')
    (tmp_path / "folder").mkdir()
    page = tmp_path / "page.html"
    for name, message in (
        ("nowhere", "no such file or folder"),
        ("folder", "no .jsonl file in there"),
        ("empty.jsonl", "no records in there"),
        ("other.jsonl", "line 1: expected a record"),
    ):
        code, out, err = run(f"report {tmp_path / name} --output {page}", capsys)
        assert (code, out) == (4, "")
        assert err.startswith("bad data: ") and message in err
    assert not page.exists()


# --- the demo -------------------------------------------------------------------------


def test_demo(tmp_path, capsys):
    folder = tmp_path / "demo"
    code, out, err = run(f"demo --smoke --json --output {folder}", capsys)
    assert code == 0
    for act in ("1/3 generate", "2/3 train", "3/3 solve", "open "):
        assert act in err
    results = strict_json((folder / "results.json").read_text("utf-8"))
    assert results == strict_json(out)
    assert list(results) == ["generate", "train", "predict", "large", "machine", "time"]
    assert results["generate"]["pairs"] == 16
    assert results["generate"]["largest_relative_residual"] <= 1e-8
    methods = [row["method"] for row in results["train"]["errors"]]
    assert methods[:2] == ["MgNO", "mean field"] and len(methods) == 5
    for start in results["predict"]["starts"]:
        assert start["status"] == "successful" and start["relative_residual"] <= 1e-8
    assert {row["contrast"] for row in results["large"]} == {10.0, 1000.0}

    html = (folder / "report.html").read_text("utf-8")
    titles = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", html)
    assert titles[:5] == [
        "Solvers you can train and trust",
        "Generate",
        "Train",
        "Predict, with a certificate",
        "Solve large systems",
    ]
    # Self-contained: every picture is inside, and nothing is fetched.
    assert html.count("<img") == html.count('src="data:image/png;base64,') == 5
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    pictures = {path.stem: path.read_bytes()[:8] for path in folder.glob("*.png")}
    assert set(pictures) == {"fields", "training", "start", "large-10", "large-1000"}
    assert set(pictures.values()) == {b"\x89PNG\r\n\x1a\n"}
    loaded = sciml.load(folder / "model.safetensors")
    assert loaded(np.ones((1, 15, 15), np.float32)).shape == (1, 15, 15)
