"""A model as a program: run by a process that has neither sciml nor equinox loaded."""

import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml.grids import Dirichlet
from sciml.neural_operators import FNO, MgNO, normalised

RUNNER = """
import sys
import jax.export, numpy as np
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
inputs = np.load(sys.argv[2])
np.save(sys.argv[3], program.call(inputs))
assert not {"sciml", "equinox"} & set(sys.modules)
"""


def models(key):
    data = 3 + jr.normal(key, (4, 1, 9, 12), jnp.float32)
    boundary = Dirichlet(0.5, stored=True)
    mgno = MgNO(2, 1, 1, 2, 1, num_levels=2, boundary=boundary, key=key)
    fno = FNO(2, 1, 1, width=2, depth=1, num_modes=3, key=key)
    return {"mgno": normalised(mgno, data, data), "fno": fno}


@pytest.mark.parametrize("name", ["mgno", "fno"])
def test_another_process_runs_it(name, getkey, tmp_path):
    model = models(getkey())[name]
    model = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if isinstance(leaf, jax.Array) else leaf,
        model,
    )
    sciml.export(tmp_path / "model.stablehlo", model, (1, 9, 12))
    # A batch of another size than any that was seen.
    inputs = np.asarray(jr.normal(getkey(), (5, 1, 9, 12), jnp.float32))
    np.save(tmp_path / "inputs.npy", inputs)
    files = [str(tmp_path / n) for n in ("model.stablehlo", "inputs.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", RUNNER, *files], check=True)
    outputs = np.load(files[2])
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, jax.vmap(model)(inputs), rtol=1e-5, atol=1e-5)
    if name == "mgno":
        assert np.all(outputs[:, :, 0] == 0.5)


def test_programs_for_other_platforms(getkey, tmp_path):
    model = models(getkey())["mgno"]
    path = tmp_path / "model.stablehlo"
    sciml.export(path, model, (1, 9, 12), dtype=jnp.float64, platforms=["cpu", "cuda"])
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    assert program.platforms == ("cpu", "cuda")
    assert str(program.in_avals[0].shape[0]) == "samples"


def test_what_cannot_be_exported(getkey, tmp_path):
    model = models(getkey())["mgno"]
    with pytest.raises(ValueError, match="channels"):
        sciml.export(tmp_path / "m.stablehlo", model, (2, 9, 12), dtype=jnp.float64)
    with pytest.raises(sciml.SerialisationError, match="could not be written"):
        sciml.export(tmp_path / "no" / "m", model, (1, 9, 12), dtype=jnp.float64)
    assert list(tmp_path.iterdir()) == []
