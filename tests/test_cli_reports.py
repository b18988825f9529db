"""The commands that measure, report and demonstrate."""

import pathlib
import re
import shlex

import numpy as np
import pytest
from cli_cases import run, strict_json

import sciml
from problems.cli.bench import BENCHMARKS, Bench
from problems.cli.bench._report import record_tables
from sciml.evaluation import Record, append_record, read_records

# --- bench and report -----------------------------------------------------------------

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_options_of_its_own(name, capsys):
    code, out, _ = run(f"bench {name} --help", capsys)
    assert code == 0 and "--record-dir" in out and "--seed" in out
    on_a_grid = ("linear", "certified", "surrogate-speed", "learned-multigrid")
    assert ("--points" in out) == (name in on_a_grid)
    assert ("--data" in out) == (name == "darcy-small")


@pytest.fixture
def chosen(monkeypatch):
    """The benchmarks that would have run."""
    kept = []
    monkeypatch.setattr(Bench, "__call__", lambda self: kept.append(self.benchmark))
    monkeypatch.setattr("problems.cli._main._run", lambda command: command() or 0)
    return kept


def test_linear_is_the_first_benchmark(chosen, capsys):
    assert run("bench", capsys)[0] == run("bench linear", capsys)[0] == 0
    assert chosen[0] == chosen[1] and chosen[0].points == 511
    assert run("bench products --points 15", capsys)[0] == 2


def test_commands_of_the_documentation(chosen, capsys):
    pages = [ROOT / "README.md", *(ROOT / "docs" / "pages").glob("*.md")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    lines = re.findall(r"^sciml (bench [^#\n]*)", text, re.M)
    assert len(lines) >= 12
    for line in lines:
        assert run(shlex.split(line), capsys)[0] == 0, line
    assert len(chosen) == len(lines)


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
    assert {row["problem"] for row in results["large"]} == {
        "two-phase-10",
        "two-phase-1000",
    }

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


def test_rows_of_one_kind_are_one_table():
    """Kills, a long run and changed files do not share one; rivals and models do."""
    rows = [
        {"run": "1", "kills": 3, "lost": 0, "seconds": 1.0},
        {"run": "all", "kills": 3, "lost": 0, "seconds": 1.0, "sessions": 4},
        {"run": "soak", "steps": 5, "memory": 1.0, "programs": 1},
        {"method": "MgNO", "points": 63, "error": 0.1, "width": 24, "steps": 9},
        {"method": "multigrid", "points": 31, "error": 0.1},
    ]
    tables = [table.plain().splitlines() for table in record_tables(rows)]
    # (A line of names, one of dashes.)
    assert [len(lines) - 2 for lines in tables] == [2, 1, 2]
    assert "sessions" in tables[0][0] and "sessions" not in tables[1][0]
    assert record_tables([]) == []
