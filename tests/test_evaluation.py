"""The machine, timing, and records of runs."""

import getpass
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.evaluation import (
    PairedTiming,
    Record,
    Timing,
    append_record,
    machine,
    paired,
    read_records,
    timed,
)

# --- machine --------------------------------------------------------------------------


def test_machine_says_what_and_not_who():
    facts = machine()
    json.dumps(facts, allow_nan=False)
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["python"] == platform.python_version()
    assert facts["threads"] >= 1 and facts["cores"] >= facts["threads"]
    assert facts["x64"] is True and facts["backend"] == jax.default_backend()
    text = json.dumps(facts)
    secrets = [str(pathlib.Path.home()), str(pathlib.Path(__file__).parents[1])]
    secrets += [platform.node(), getpass.getuser()]
    # A host or user can have a name as short as a word of ours.
    assert not [s for s in secrets if len(s) > 4 and s in text]


def test_machine_knows_its_commit(tmp_path, monkeypatch):
    from sciml.evaluation import _machine

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *who, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True)

    fake = tmp_path / "sciml" / "evaluation" / "_machine.py"
    fake.parent.mkdir(parents=True)
    fake.write_text("a = 1")
    monkeypatch.setattr(_machine, "__file__", str(fake))
    assert _machine._checkout() == (None, None)
    git("init", "-q")
    # Some repository, but not the project's: an environment inside a user's own.
    assert _machine._checkout() == (None, None)
    (tmp_path / "pyproject.toml").write_text("")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert _machine._checkout() == (head, False)
    (tmp_path / "notes.txt").write_text("not code")
    assert _machine._checkout() == (head, False)
    fake.write_text("a = 2")
    assert _machine._checkout() == (head, True)


# --- timing ---------------------------------------------------------------------------


def test_timed_keeps_the_first_call_apart():
    pauses = iter([0.2, 0.1, 0.01, 0.02, 0.03])
    timing = timed(lambda: time.sleep(next(pauses)), repeats=3, warmup=1)
    assert timing.cold_time >= 0.2 and timing.repeats == 3
    assert 0.01 <= timing.minimum <= timing.run_time <= timing.maximum
    assert 0.02 <= timing.run_time < 0.1
    assert timing.compile_time == timing.cold_time - timing.run_time


def test_timed_waits_for_the_result():
    # The callback sleeps on the device's side, where only fencing can see it.
    def slow(x):
        time.sleep(0.05)
        return np.asarray(x)

    function = jax.jit(
        lambda x: {"a": jax.pure_callback(slow, jax.ShapeDtypeStruct((3,), x.dtype), x)}
    )
    timing = timed(function, jnp.ones(3), repeats=2, warmup=0)
    assert timing.minimum >= 0.05
    np.testing.assert_array_equal(timing.value["a"], np.ones(3))


def test_timing_never_claims_negative_compilation():
    timing = Timing(1.0, (2.0, 3.0, 4.0))
    assert timing.compile_time == 0.0
    assert timing.as_dict() == {
        "compile_time": 0.0,
        "cold_time": 1.0,
        "run_time": 3.0,
        "minimum": 2.0,
        "maximum": 4.0,
        "repeats": 3,
    }


def test_paired_takes_turns():
    order = []
    times = paired(
        {"A": lambda: order.append("A"), "B": lambda: order.append("B")},
        repeats=2,
        warmup=1,
    )
    assert "".join(order) == "AB" * 4
    assert times["A"].repeats == times["B"].repeats == 2


def test_ratios():
    times = PairedTiming(
        {"slow": Timing(9.0, (4.0, 6.0, 20.0)), "fast": Timing(9.0, (1.0, 2.0, 4.0))}
    )
    assert times.ratio("slow", "fast") == 3.0
    assert times.ratio_range("slow", "fast") == (3.0, 5.0)
    with pytest.raises(KeyError, match="'other' was not timed"):
        times.ratio("other", "fast")


@pytest.mark.parametrize("bad", [{"repeats": 0}, {"warmup": -1}])
def test_timing_refuses(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        timed(lambda: None, **bad)
    with pytest.raises(ValueError, match="candidates"):
        paired({})


# --- records --------------------------------------------------------------------------


def record(**values):
    return Record("test", values, machine={"cpu": "abacus"})


def test_records_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "records.jsonl"
    values = {
        "steps": np.int64(7),
        "norm": jnp.float32(0.5),
        "fine": jnp.asarray([1.5, 2.5], jnp.bfloat16),
        "history": np.array([1.0, np.nan, np.inf, -np.inf]),
        "flags": np.array([True, False]),
        "nested": {"list": [1, (2, 3)], "nothing": None, "word": "Größe ½"},
        "nan": math.nan,
    }
    first = Record("bench", values, seeds={"field": 3})
    append_record(path, first)
    append_record(str(path), record(a=1))
    for line in path.read_text("utf-8").splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict: no bare NaN

    back, second = read_records(path)
    assert second.values == {"a": 1} and second.machine == {"cpu": "abacus"}
    assert back.name == "bench" and back.seeds == {"field": 3}
    assert back.time == first.time and back.time.endswith("+00:00")
    assert back.machine["versions"]["jax"] == jax.__version__
    got = dict(back.values)
    assert got["steps"] == 7 and got["norm"] == 0.5 and got["fine"] == [1.5, 2.5]
    np.testing.assert_array_equal(got["history"], [1.0, np.nan, np.inf, -np.inf])
    assert got["flags"] == [True, False] and math.isnan(got["nan"])
    assert got["nested"] == {"list": [1, [2, 3]], "nothing": None, "word": "Größe ½"}


def test_the_command_is_repeatable_but_anonymous(monkeypatch):
    home = pathlib.Path.home()
    arguments = [str(home / "bin" / "sciml"), "bench", str(home / "a b"), "--seed", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert record().command == "sciml bench '~/a b' --seed 1"
    arguments[2:] = ["--plot", "/some/where/plots", "--data=/some/where", "runs/x"]
    monkeypatch.setattr(sys, "argv", arguments)
    expected = "sciml bench --plot '…/plots' '--data=…/where' runs/x"
    assert record().command == expected


@pytest.mark.parametrize(
    "values, where",
    [
        ({"a": {"b": [0, object()]}}, r"values\['a'\]\['b'\]\[1\]"),
        ({"a": np.ones(2, complex)}, "complex128"),
        ({"a": 1j}, "complex"),
        ({"a": {1: 2}}, "strings as keys"),
    ],
)
def test_records_refuse_what_json_cannot_hold(tmp_path, values, where):
    path = tmp_path / "records.jsonl"
    append_record(path, record(good=1))
    with pytest.raises(TypeError, match=where):
        append_record(path, record(**values))
    assert len(read_records(path)) == 1


def test_a_torn_line_is_reported_and_harms_no_other(tmp_path):
    path = tmp_path / "records.jsonl"
    append_record(path, record(a=1))
    append_record(path, record(a="½"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    # Wherever the write was cut off, also inside a character of two bytes.
    for cut in range(first + 1, len(whole) - 2):
        path.write_bytes(whole[:cut])
        with pytest.warns(UserWarning, match="line 2: not a whole record"):
            assert [r.values for r in read_records(path)] == [{"a": 1}]
    append_record(path, record(a=3))
    with pytest.warns(UserWarning, match="line 2"):
        assert [r.values["a"] for r in read_records(path)] == [1, 3]


def test_a_record_that_lost_only_its_line_end_is_whole(tmp_path):
    path = tmp_path / "records.jsonl"
    append_record(path, record(a=1))
    path.write_bytes(path.read_bytes()[:-1])
    append_record(path, record(a=2))
    assert [r.values["a"] for r in read_records(path)] == [1, 2]


def test_other_json_is_not_a_record(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"name": "something else"}\n')
    with pytest.raises(ValueError, match="line 1: expected a record"):
        read_records(path)
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "nowhere.jsonl")


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    append_record(path, record(a=1))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="only 10 of"):
            append_record(path, record(a=2))
    append_record(path, record(a=3))
    with pytest.warns(UserWarning, match="line 2"):
        assert [r.values["a"] for r in read_records(path)] == [1, 3]


def test_many_writers_do_not_mix(tmp_path):
    path = tmp_path / "records.jsonl"

    def work(k):
        for _ in range(20):
            append_record(path, record(a=k, history=[0.1] * 500))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_records(path)) == 80
