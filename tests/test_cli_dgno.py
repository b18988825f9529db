"""`sciml train dgno` and `sciml invert`: files, exit codes, what is refused."""

import json

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from problems.cli._main import main
from sciml.inverse import TrainedDGNO
from sciml.neural_operators import DGNO, DenseEncoder

PROBLEM = problems.TwoPhaseDarcy((9, 9))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    """A small model that is not trained, but has the form of one that is."""
    form = PROBLEM.weak_form(10)
    model = DGNO(form, 4, 6, 3, 2, 6, DenseEncoder((9, 9), (9,)), key=jr.key(1))
    scales = lambda m: tuple(d.scales for d in m.decoders.values())
    model = eqx.tree_at(scales, model, (0.1 * jnp.ones((2, 1)),) * 3)
    path = tmp_path_factory.mktemp("dgno") / "small.safetensors"
    media = PROBLEM.coefficients(20, key=jr.key(0))
    sciml.save(path, TrainedDGNO.of(model, media))
    return str(path)


def run(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    out = capsys.readouterr()
    return code, (json.loads(out.out) if out.out else {}), out.err


@pytest.mark.slow
def test_adjoint_solves_of_a_random_case(capsys, file, tmp_path):
    picture, fields = tmp_path / "case.png", tmp_path / "case.npz"
    code, facts, _ = run(
        capsys, "invert", "--model", file, "--method", "total-variation",
        "--num-observations", 30, "--plot", picture, "--output", fields,
    )  # fmt: skip
    assert code == 0 and facts["result"] == "successful"
    assert facts["solution_error"] < 0.1 and facts["observations"] == 30
    assert not facts["out_of_distribution"]
    assert picture.read_bytes()[:4] == b"\x89PNG"
    with np.load(fields) as found:
        assert found["mean"].shape == (1, 9, 9)
        assert found["coefficient"].shape == found["coefficient_std"].shape == (9, 9)
        off = np.linalg.norm(found["mean"][0] - found["solution"])
        size = np.linalg.norm(found["solution"])
        np.testing.assert_allclose(off / size, facts["solution_error"], rtol=1e-5)


def test_observations_from_files(capsys, file, tmp_path):
    points = np.array([[0.3, 0.4], [0.5, 0.5], [0.6, 0.2]])
    values = np.array([0.05, 0.08, 0.04])
    table = tmp_path / "seen.csv"
    np.savetxt(table, np.c_[points, values], delimiter=",")
    code, facts, said = run(capsys, "invert", table, "--model", file, "--std", 1e-3)
    # The model is not trained: no latent vector explains these values.
    assert code == 0 and facts["out_of_distribution"] and "another kind" in said
    arrays = tmp_path / "seen.npz"
    np.savez(arrays, points=points, values=values, std=1e-3)
    _, same, _ = run(capsys, "invert", arrays, "--model", file)
    assert same["misfit"] == pytest.approx(facts["misfit"], rel=1e-6)
    # What is asked for on the command line counts.
    _, other, _ = run(capsys, "invert", arrays, "--model", file, "--snr", 5)
    assert other["misfit"] < 0.1 * facts["misfit"]


def test_bad_observations(capsys, file, tmp_path):
    def refused(match, *arguments, code=4):
        found, _, said = run(capsys, "invert", "--model", *arguments)
        assert found == code, said
        assert match in said, said

    missing = tmp_path / "missing.npz"
    refused("no such file", file, missing)
    two = tmp_path / "two.npz"
    np.savez(two, points=np.full((1, 2), 0.5), values=np.ones(1), snr=np.ones(2))
    refused("not a readable .npz", file, two)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 no archive")
    refused("not a readable .npz", file, broken)
    hostile = tmp_path / "hostile.npz"
    np.savez(hostile, points=np.array([{"a": 1}], object), values=np.ones(1))
    refused("not a readable .npz", file, hostile)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.ones(3))
    refused("expected entries 'points' and 'values'", file, other)
    words = tmp_path / "words.csv"
    words.write_text("x,y,value\n")
    refused("not a table of numbers", file, words)
    silent = tmp_path / "silent.csv"
    silent.write_text("0.5,0.5,0.1\n")
    refused("std, snr: expected one of them", file, silent)
    outside = tmp_path / "outside.csv"
    outside.write_text("0.5,1.5,0.1\n")
    refused("outside of the domain", file, outside, "--std", 0.1)
    nan = tmp_path / "nan.csv"
    nan.write_text("0.5,0.5,nan\n")
    refused("not finite", file, nan, "--std", 0.1)
    refused("at most one", file, silent, "--std", 0.1, "--snr", 10, code=2)
    refused("the nodes inside", file, "--num-observations", 50, code=2)
    refused("--snr", file, "--std", 0.1, code=2)
    refused("none of", tmp_path / "model")
    plain = tmp_path / "plain.safetensors"
    sciml.save(plain, sciml.load(file).model)
    refused("expected what `sciml train dgno` saves", plain)


def test_wrong_sizes_of_a_training(capsys):
    for name, value in (
        ("num-train", 1),
        ("num-steps", 0),
        ("batch-size", 2000),
        ("learning-rate", 0.0),
    ):
        code, _, said = run(capsys, "train", "dgno", f"--{name}", value)
        assert code == 2 and name.replace("-", "_") in said
    assert main(["train", "dgno", "no-such-problem"]) == 2
    assert "no-such-problem" in capsys.readouterr().err


@pytest.mark.slow
def test_trained_saved_and_inverted(capsys, tmp_path):
    path = tmp_path / "runs" / "dgno.safetensors"
    code, facts, _ = run(
        capsys, "train", "dgno", "--num-train", 100, "--num-steps", 60, "--num-test", 5,
        "--output", path,
    )  # fmt: skip
    assert code == 0 and facts["relative_l2"] < 0.08
    assert facts["relative_l2_averaged"] < facts["relative_l2"]
    found = sciml.load(path)
    assert "--num-steps 60" in found.provenance.command
    assert found.provenance.table[1] == f"{facts['relative_l2']:.4f}"
    code, facts, _ = run(capsys, "invert", "--model", path, "--snr", 20)
    assert code == 0 and facts["solution_error"] < 0.15
