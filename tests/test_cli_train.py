"""`sciml train`: interrupted, resumed, judged on held-out pairs."""

import json
import os
import pathlib
import signal
import threading
import time

import numpy as np
import pytest
from cli_cases import run, strict_json
from training_cases import same_bits

import sciml
from problems.cli._train_task import TrainingTask
from sciml.training import History

SMALL = "train darcy --points 15 --width 4 --depth 1 --num-train 12 --num-test 4"
SMALL += " --batch-size 4 --checkpoint-every 60 --optimiser adamw --json"


@pytest.fixture
def ctrl_c():
    """A function that waits for a file of metrics and presses Ctrl-C; its threads."""
    # (Python has no handler for SIGINT where it was started in the background.)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threads = []

    def press(metrics: pathlib.Path) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if metrics.exists() and metrics.stat().st_size:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.001)

    def begin(metrics: pathlib.Path) -> None:
        threads.append(threading.Thread(target=press, args=(metrics,)))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_and_resume(tmp_path, capsys, ctrl_c):
    metrics, saves = tmp_path / "metrics.jsonl", tmp_path / "run"
    line = f"{SMALL} --num-steps 150 --checkpoint-dir {saves} --metrics {metrics}"
    line += f" --validation 4 --validate-every 20 --output {tmp_path}/a.safetensors"
    ctrl_c(metrics)
    code, out, err = run(line, capsys)
    assert (code, out) == (130, "")
    assert "--resume goes on from here" in err and "interrupted" in err
    done = len(metrics.read_text().splitlines())
    assert 0 < done < 150 and (saves / str(done)).is_dir()

    # Not by accident, and not as another run.
    code, _, err = run(line, capsys)
    assert code == 2 and f"holds a run at step {done}. Add --resume" in err
    for change in ("--num-steps 400", "--seed 8", "--validate-every 10"):
        code, _, err = run(f"{line} --resume {change}", capsys)
        name = change.split()[0][2:].replace("-", "_")
        assert code == 2 and f"usage: {name}: " in err and "cannot go on with" in err

    code, out, err = run(f"{line} --resume", capsys)
    assert (code, err) == (0, "")
    resumed = strict_json(out)
    other = tmp_path / "other"
    whole = line.replace(str(saves), str(other)).replace("a.saf", "b.saf")
    whole = whole.replace(str(metrics), f"{tmp_path}/other.jsonl")
    # There is nothing there yet, and `--resume` says so and starts.
    code, out, err = run(f"{whole} --resume", capsys)
    assert code == 0 and "from the beginning" in err
    expected = strict_json(out)
    times = ("compile_time", "training_time", "output")
    for facts in (resumed, expected):
        assert facts["steps"] == 150 and facts["best_step"] % 20 == 0
        for name in times:
            facts.pop(name)
    assert resumed == expected
    models = [sciml.load(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert same_bits(*models)
    losses = [
        [json.loads(entry)["loss"] for entry in path.read_text().splitlines()]
        for path in (metrics, tmp_path / "other.jsonl")
    ]
    assert len(losses[0]) == 150 and losses[0] == losses[1]


def test_the_best_model_is_saved(tmp_path, capsys, monkeypatch):
    """With patience; what is saved is what the history calls the best."""
    seen: dict[str, History] = {}
    fit = sciml.training.fit

    def spy(*args, **settings):
        model, seen["history"] = fit(*args, **settings)
        return model, seen["history"]

    monkeypatch.setattr(sciml.training, "fit", spy)
    output = tmp_path / "model.safetensors"
    line = f"{SMALL} --num-steps 400 --num-validation 4 --validate-every 5"
    code, out, err = run(f"{line} --patience 2 --output {output}", capsys)
    facts, history = strict_json(out), seen["history"]
    assert (code, err) == (0, "")
    assert facts["stopped_early"] and facts["steps"] == len(history.loss) < 400
    assert facts["best_step"] == facts["steps"] - 10 == history.best_step
    least = np.argmin(history.validation.value)
    assert history.validation.step[least] == facts["best_step"]
    assert same_bits(sciml.load(output), history.best_model)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("problem", "model", "kind"),
    [
        ("darcy --points 15", "unet", "UNet"),
        ("darcy --points 15 --optimiser adamw", "multionet", "MultiONet"),
        ("helmholtz-waves --points 11 --optimiser adamw", "fno", "FNO"),
        pytest.param("burgers", "mgno", "MgNOStepper", marks=pytest.mark.slow),
    ],
)
def test_every_model_and_kind_of_problem(tmp_path, capsys, problem, model, kind):
    path = tmp_path / "model.safetensors"
    line = f"train {problem} --model {model} --width 4 --depth 2 --num-train 12"
    line += f" --num-test 4 --batch-size 4 --num-steps 3 --json --output {path}"
    code, out, err = run(line, capsys)
    assert code == 0 and err == ""
    assert np.isfinite(strict_json(out)["relative_l2"])
    found = sciml.load(path)
    assert type(found.model).__name__ == kind


def test_what_can_be_certified_and_how_data_are_parted():
    assert TrainingTask("darcy", 15, None).certified
    assert not TrainingTask("helmholtz-waves", 11, None).certified
    task = TrainingTask("burgers", None, None)
    assert not task.certified
    train, none, test = task.datasets((12, 0, 4), 7, lambda count: None)
    assert none is None and (len(train), len(test)) == (12, 4)
    # Ten pairs to a trajectory: a state follows the one before it, within one only.
    follows = [np.array_equal(train.inputs[k + 1], train.targets[k]) for k in range(11)]
    assert follows == [True] * 9 + [False, True]
    assert not np.isin(test.inputs, train.inputs).any()


def test_options_that_a_problem_does_not_have(capsys):
    for line, text in (
        ("train burgers --points 15", "points: 'burgers' has its own"),
        ("train helmholtz-waves --contrast 3", "contrast: 'helmholtz-waves' has its"),
    ):
        code, _, err = run(line, capsys)
        assert code == 2 and text in err
