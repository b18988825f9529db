"""The file of metrics has each step once, whatever happened to it."""

import functools
import json
import random

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from cli_cases import strict_json
from training_cases import (
    Network,
    Pointwise,
    cast,
    mean_square,
    network_data,
    pointwise_data,
    training_run,
)

from sciml.training import NonFiniteLossError, Validation, fit
from sciml.training._metrics_file import MetricsFile
from sciml.training._series import Series


def lines_of(path) -> list[dict]:
    text = path.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return [strict_json(line) for line in text.splitlines()]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_lines_are_the_history(getkey, tmp_path, dtype):
    """To the last bit; throughput and remaining time beside it."""
    path = tmp_path / "new" / "metrics.jsonl"
    seed = getkey()
    _, history = training_run(
        None,
        seed,
        model=cast(Network(key=seed), dtype),
        dataset=cast(network_data(seed), dtype),
        validation=Validation(cast(network_data(getkey()), dtype), every=4),
        metrics_path=path,
    )
    lines = lines_of(path)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert len({line["run"] for line in lines}) == 1
    assert np.array([line["loss"] for line in lines], dtype).tobytes() == (
        history.loss.tobytes()
    )
    aux = [line["aux"]["relative_l2"] for line in lines]
    assert np.array(aux, dtype).tobytes() == history.aux["relative_l2"].tobytes()
    judged = [line for line in lines if "validation" in line]
    assert [line["step"] for line in judged] == [4, 8, 12]
    values = [line["validation"]["value"] for line in judged]
    assert values == history.validation.value.tolist()
    assert set(judged[0]["validation"]["aux"]) == {"relative_l2"}
    times = [line["training_time"] for line in lines]
    assert times == sorted(times) and 0 < times[-1] <= history.training_time
    assert lines[-1]["eta"] == 0 and lines[0]["steps_per_second"] > 0
    assert lines[3]["eta"] == pytest.approx(8 / lines[3]["steps_per_second"])


def test_a_run_made_again_and_a_run_resumed(getkey, tmp_path):
    path, seed = tmp_path / "metrics.jsonl", getkey()
    run = functools.partial(training_run, seed=seed, metrics_path=path)
    _, history = run(None)
    whole = lines_of(path)
    run(None)
    again = lines_of(path)
    assert [(e["step"], e["loss"]) for e in again] == [
        (e["step"], e["loss"]) for e in whole
    ]
    # After a crash at step 6 the file is ahead of the checkpoint, and ends in the
    # middle of a line.
    run(tmp_path / "run", num_steps=6)
    ahead = [json.dumps(line) for line in whole[6:9]]
    with path.open("a") as file:
        file.write("\n".join([*ahead, ahead[0][:20]]))
    kept = path.read_text("utf-8").splitlines()[:6]
    run(tmp_path / "run")
    assert path.read_text("utf-8").splitlines()[:6] == kept
    lines = lines_of(path)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["loss"] for line in lines] == history.loss.tolist()
    # Whoever removes the file gets it back, without the times; a finished run, too.
    path.unlink()
    run(tmp_path / "run")
    lines = lines_of(path)
    assert [line["loss"] for line in lines] == history.loss.tolist()
    assert {line["eta"] for line in lines} == {None}


def test_another_file_is_left_alone(getkey, tmp_path):
    path, seed = tmp_path / "metrics.jsonl", getkey()
    training_run(None, seed, metrics_path=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="metrics_path.* something else"):
        training_run(None, seed, metrics_path=path, batch_size=4)
    assert path.read_bytes() == before
    for content in (b"notes\n", b"\x89HDF\r\n", b'{"run": "12345678", "step": 1'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="something else"):
            training_run(None, seed, metrics_path=path)
        assert path.read_bytes() == content
    with pytest.raises(ValueError, match="metrics_path: .* cannot be written"):
        training_run(None, seed, metrics_path=tmp_path)


def series(count):
    made = Series({"loss": np.float32, "aux.n": np.int32})
    rng = np.random.default_rng(0)
    values = rng.normal(size=100).astype(np.float32)
    made.extend([{"loss": values[k], "aux.n": np.int32(k)} for k in range(count)])
    return made


def test_every_place_where_a_file_can_be_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, "abcd0123", series(4), None).close()
    whole = path.read_bytes()
    assert len(lines_of(path)) == 4
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        MetricsFile(path, "abcd0123", series(4), None).close()
        assert path.read_bytes() == whole
        MetricsFile(path, "abcd0123", series(2), None).close()
        assert path.read_bytes() == b"".join(whole.splitlines(True)[:2])


def test_damage_behind_the_first_line(tmp_path):
    """Lines that are no longer what was written are written again."""
    path, draw = tmp_path / "metrics.jsonl", random.Random(3)
    MetricsFile(path, "abcd0123", series(6), None).close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for _ in range(200):
        damaged = bytearray(whole)
        place = draw.randrange(first, len(whole))
        damaged[place : place + draw.randrange(4)] = draw.randbytes(draw.randrange(3))
        path.write_bytes(damaged)
        MetricsFile(path, "abcd0123", series(6), None).close()
        assert [line["step"] for line in lines_of(path)] == list(range(1, 7))


def test_a_loss_that_is_not_finite_is_null(getkey, tmp_path):
    data, _ = pointwise_data(getkey())
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(NonFiniteLossError, match="step 7"):
        fit(
            Pointwise(jnp.ones((1, 2))),
            data,
            loss=mean_square,
            optimiser=optax.sgd(-1e30),
            num_steps=300,
            batch_size=5,
            metrics_path=path,
            progress=False,
            key=jr.key(0),
        )
    lines = lines_of(path)
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert lines[-1]["loss"] is None and None not in [e["loss"] for e in lines[:-1]]


def test_records_in_pieces():
    """Many short pieces are what one long piece is."""
    rows = [{"loss": np.float32(k / 3), "aux.n": np.int32(-k)} for k in range(500)]
    one, many = series(0), series(0)
    one.extend(rows)
    for k in range(0, 500, 3):
        many.extend(rows[k : k + 3])
        assert len(many) == min(k + 3, 500)
    for name, column in one.columns().items():
        assert column.dtype == rows[0][name].dtype and len(column) == 500
        assert column.tobytes() == many.columns()[name].tobytes()
