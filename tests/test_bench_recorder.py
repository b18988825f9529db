"""`sciml bench recorder`, with a stand-in for torch that speaks its protocol."""

import json
import pathlib
import re
import sys

import jax
import pytest
from cli_cases import run, strict_json

from problems.bench import _recorder, torch_versions
from problems.bench._torch_peer import TorchPeer
from sciml.evaluation import read_records

# Solves by the classical Runge-Kutta method, differentiates by differences, and tells
# times that cannot be mistaken for measured ones.
STAND_IN = """
import json, math, sys
if "--check" in sys.argv:
    print(json.dumps({"versions": {"torch": "0"}, "missing": []})), sys.exit()
problem = json.loads(sys.stdin.readline())
(size,), layers = {len(y) for y in problem["y0"]}, problem["layers"]
parts = [[[r[:-1] for r in W], [r[-1] for r in W], b] for W, b in layers]
def f(t, y):
    for W, w, b in parts:
        y = [math.tanh(sum(p * q for p, q in zip(r, y)) + t * c + d)
             for r, c, d in zip(W, w, b)]
    return y
def solve(y, n=40):
    for i in range(n):
        h, t, ks = 1 / n, i / n, [f(i / n, y)]
        for c in (0.5, 0.5, 1):
            ks.append(f(t + c * h, [u + c * h * k for u, k in zip(y, ks[-1])]))
        y = [u + h * (a + 2 * b + 2 * c + d) / 6 for u, a, b, c, d in zip(y, *ks)]
    return y
def total():
    return sum(sum(solve(y)) for y in problem["y0"])
def slope(of, i, e=1e-5):
    x = of[i]
    of[i] = x + e; up = total()
    of[i] = x - e; down = total()
    of[i] = x
    return (up - down) / (2 * e)
vectors = [[*W, w, b] for W, w, b in parts]
gradient = [[slope(v, i) for i in range(len(v))] for vs in vectors for v in vs]
peer = {"value": [solve(y) for y in problem["y0"]], "gradient": gradient, "nfe": 160}
print(json.dumps({"threads": 1, "peers": {"torchdiffeq": peer, "torchode": peer}}))
sys.stdout.flush()
for k, line in enumerate(sys.stdin):
    assert line == "round\\n"
    times = {"forward": 1e3, "gradient": 3e3 + k}
    print(json.dumps({"torchdiffeq": times, "torchode": times}), flush=True)
"""


@pytest.fixture
def interpreter(tmp_path):
    """Makes a program that runs a script whatever it is asked to run."""

    def make(code: str) -> str:
        script, program = tmp_path / "stand_in.py", tmp_path / "python"
        script.write_text(code)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        program.chmod(0o755)
        return str(program)

    return make


METHODS = [
    "diffrax",
    "RecordHeuristics",
    "regularised_diffeqsolve",
    "UnrolledRungeKutta",
    "regularised, unrolled",
]
ALL = [f"{method} {kind}" for kind in ("forward", "gradient") for method in METHODS]
FEW = ["diffrax forward", "RecordHeuristics forward", "diffrax gradient"]


@pytest.mark.parametrize(
    "names", [FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_the_command(names, interpreter, tmp_path, monkeypatch, capsys):
    programs = _recorder._programs
    kept = lambda static: {name: programs(static)[name] for name in names}
    monkeypatch.setattr(_recorder, "_programs", kept)
    line = "bench recorder --fields 2-3-2 --batches 2 --repeats 1 --json --record"
    line += f" --record-dir {tmp_path} --torch {interpreter(STAND_IN)}"
    before = jax.config.values["jax_enable_compilation_cache"]
    code, out, err = run(line, capsys)
    rows = strict_json(out)["rows"]
    assert code == 0 and "another solution" not in err
    assert jax.config.values["jax_enable_compilation_cache"] == before
    assert [f"{row['method']} {row['program']}" for row in rows] == names
    for row in rows:
        assert row["field"] == "2-3-2" and row["batch"] == 2
        assert row["num_steps"] == rows[0]["num_steps"] >= 2
        assert row["nfe"] == 6 * row["num_steps"] + 1
        assert row["agrees"] and row["torch"]["torchode"]["nfe"] == 160
        assert 0 < row["time"] and 0 < row["compile_time"] and 0 < row["ratio"]
        assert row["ratio"] == 1 or row["method"] != "diffrax"
        # The first call and a round to warm up are not counted.
        theirs = 1e3 if row["program"] == "forward" else 3e3 + 2
        for peer in ("torchdiffeq", "torchode"):
            assert row[f"{peer}_time"] == theirs
            # (Ours beside torch are timed in rounds of their own.)
            assert row[f"{peer}_ratio"] > 1e3
    (record,) = read_records(tmp_path / "recorder.jsonl")
    assert record.values["torch_versions"] == {"torch": "0"}
    assert record.values["arguments"]["fields"] == ["2-3-2"]


def test_another_solution_is_a_failure(monkeypatch, capsys):
    row = {"field": "2-3-2", "batch": 1, "agrees": False}
    monkeypatch.setattr("problems.bench.bench_recorder", lambda *_, **__: [row])
    code, _, err = run("bench recorder", capsys)
    assert code == 1 and "2-3-2, batch 1: torch has another solution" in err


@pytest.mark.parametrize(
    "options, message",
    [
        ("--fields 2-50-3", "a field such as 2-50-2, got '2-50-3'"),
        ("--fields 0-5-0", "a field such as 2-50-2"),
        ("--batches 0", "at least 1"),
        ("--repeats 0", "at least 1"),
        ("--torch nowhere/python", "nowhere/python is no Python interpreter"),
        ("--torch /bin/true", "/bin/true is no Python interpreter"),
    ],
)
def test_usage(options, message, capsys):
    code, out, err = run(f"bench recorder {options}", capsys)
    assert (code, out) == (2, "") and err.startswith("usage: ") and message in err


def test_what_is_missing_is_named(interpreter):
    facts = {"versions": {}, "missing": ["torchode (No module named 'torchode')"]}
    python = interpreter(f"print('''{json.dumps(facts)}''')")
    with pytest.raises(ValueError, match="torchode.*-m pip install torch torchdiffeq"):
        torch_versions(python)


def test_the_program_says_what_its_interpreter_lacks():
    try:
        versions = torch_versions(sys.executable)
    except ValueError as error:
        assert "pip install torch torchdiffeq torchode" in str(error)
    else:
        assert set(versions) == {"torch", "torchdiffeq", "torchode"}


def test_a_process_that_stops_says_why(interpreter):
    python = interpreter("raise OSError('no more')")
    with pytest.raises(RuntimeError, match="with torch stopped: OSError: no more"):
        TorchPeer(python, {})


def test_the_program_stands_alone():
    """Its interpreter has none of our packages."""
    script = pathlib.Path(_recorder.__file__).with_name("_torch_anchor.py")
    imported = re.findall(r"^ *(?:import|from) (\S+)", script.read_text("utf-8"), re.M)
    assert imported and {n.split(".")[0] for n in imported} <= sys.stdlib_module_names
