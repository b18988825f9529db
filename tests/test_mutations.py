"""Files with random changes, opened in another process: noticed, and survived."""

import random
import sys

import pytest

from problems.bench import _mutations as bench, bench_mutations, is_durable
from problems.bench._mutation_files import mutated


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("h5py")
    counts = {"model": 60, "npz, compressed": 60, "npz": 60, "MATLAB 5, compressed": 60}
    return bench_mutations(counts | {"HDF5": 150, "HDF5, checksums": 100})


def test_every_change_is_noticed_or_harmless(rows):
    for row in rows:
        assert is_durable(row), row
        assert sum(row[name] for name in bench.OUTCOMES) == row["mutations"] > 0
        # Most bytes of the small files matter.
        assert row["typed_errors"] > 0.2 * row["mutations"]
    by_kind = {row["file"]: row for row in rows}
    assert by_kind["model"]["typed_errors"] == 60
    # Numbers without a checksum can change unseen, and the bench sees that they do.
    assert by_kind["HDF5"]["silent"] is None and by_kind["HDF5"]["other_data"] > 0
    assert by_kind["HDF5, checksums"]["silent"] == 0


def test_mutations_change_the_file_and_can_be_repeated():
    content = bytes(range(256)) * 4
    lengths = set()
    for number in range(400):
        once, again = (mutated(content, random.Random(number)) for _ in range(2))
        assert once == again != content
        lengths.add((len(once) > len(content)) - (len(once) < len(content)))
    assert lengths == {-1, 0, 1}
    # Also where the bytes repeat, and where there are few.
    for content in (bytes(1000), b"a"):
        for number in range(100):
            assert mutated(content, random.Random(number)) != content


PRETENDER = """
import os, signal, sys, time
from problems.bench import _mutation_worker as worker
from problems.bench._mutation_files import Kind
from sciml.data import DataError

def read(path):
    if path.name == "made up":
        return ["right"]
    counter = path.with_name("counter")
    number = counter.stat().st_size if counter.exists() else 0
    counter.write_bytes(bytes(number + 1))
    if number == 0:
        raise KeyError("not typed")
    if number == 1:
        raise DataError("does not say which file")
    if number == 2:
        return ["wrong"]
    if number == 3:
        return ["right"]
    if number == 4:
        time.sleep(60)
    if number == 6:
        os.kill(os.getpid(), signal.SIGSEGV)
    raise DataError(f"{path}: typed")

worker.KINDS = {"made up": Kind(None, read, DataError, True)}
worker.main(sys.argv[1], float(sys.argv[2]))
"""


@pytest.mark.slow
def test_every_end_is_told(tmp_path):
    """Wrong data, errors of other types, a process that hangs, and one that dies."""
    (tmp_path / "made up").write_bytes(b"content")
    script = tmp_path / "script.py"
    script.write_text(PRETENDER)
    with bench._Worker(str(tmp_path), 1.0) as worker:
        worker._command = [sys.executable, str(script), str(tmp_path), "1"]
        ends = worker.outcomes("made up", 7, seed=0)
        assert ends == {
            "other_errors": 2,
            "other_data": 1,
            "right_data": 1,
            "hung": 1,
            "typed_errors": 1,
            "died": 1,
        }
        script.write_text("raise SystemExit('no worker')")
        with pytest.raises(RuntimeError, match="cannot start: no worker"):
            worker.outcomes("made up", 1, seed=0)
    row: dict[str, int | None] = dict.fromkeys(("silent", *bench.OUTCOMES), 0)
    assert is_durable(row) and is_durable(row | {"silent": None, "other_data": 3})
    for name in ("silent", "other_errors", "died", "hung"):
        assert not is_durable(row | {name: 1})
