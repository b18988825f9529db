"""The commands that measure, report and demonstrate."""

import re

import numpy as np
from cli_cases import run, strict_json

import sciml
from sciml.evaluation import Record, append_record, read_records

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
