"""Files of models: what comes back, what is refused, what survives a crash."""

import errno
import os
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
import safetensors.numpy
from serialisation_cases import BOUNDARY, Careless, Changed, Layered, Wrapped, identical

from sciml import _registry
from sciml._serialisation import SerialisationError, load, register, save
from sciml.grids import Dirichlet, Grid


@pytest.fixture
def saved(tmp_path, getkey):
    model = Layered(3, 2, key=getkey())
    save(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors", model


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_round_trip(tmp_path, getkey, dtype):
    inner = Layered(3, 2, jnp.tanh, BOUNDARY, key=getkey())
    inner = jax.tree.map(
        lambda x: x.astype(dtype) if eqx.is_inexact_array(x) and x.ndim else x,
        eqx.tree_at(lambda m: m.spectrum, inner, jnp.ones(3)),
    )
    inner = eqx.tree_at(lambda m: m.spectrum, inner, jr.normal(getkey(), (3,), complex))
    model = Wrapped(inner, jnp.zeros((0, 2)), "ünï")
    save(tmp_path / "m", model)
    loaded = load(tmp_path / "m")
    assert identical(loaded, model)
    assert isinstance(loaded.model.table, np.ndarray)
    assert loaded.model.activation is jnp.tanh


def test_same_answer_and_same_bytes(saved, getkey):
    path, model = saved
    field = jr.normal(getkey(), (3,))
    assert jnp.array_equal(load(path)(field), model(field))
    first = path.read_bytes()
    save(path, load(path))
    assert path.read_bytes() == first


def test_other_programs_can_read_it(saved):
    path, model = saved
    tensors = safetensors.numpy.load_file(path)
    assert np.array_equal(tensors["layers.0.weight"], model.layers[0].weight)


def test_grid(tmp_path):
    grid = Grid((5, 4), (2.0, 1.0), BOUNDARY, origin=-1.0)
    save(tmp_path / "grid", grid)
    assert identical(load(tmp_path / "grid"), grid)


def test_load_sees_no_key_and_no_weights(tmp_path):
    with pytest.raises(SerialisationError, match="no field of that name"):
        save(tmp_path / "m", Careless(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda k: Layered(3, 1, lambda x: x, key=k), r"Layered\.activation: cannot"),
        (
            lambda k: Layered(3, 1, boundary=Dirichlet(value=np.sin), key=k),
            r"boundary\.value",
        ),
        (
            lambda k: Wrapped(eqx.nn.Linear(2, 2, key=k), jnp.ones(1), ""),
            "Wrapped.model",
        ),
        (lambda k: Wrapped(Layered(2, 1, key=k), k, ""), "mean has the type key"),
        (lambda k: eqx.nn.Linear(2, 2, key=k), "Linear is not registered"),
        (lambda k: eqx.tree_at(lambda m: m.rates, Changed(2), (1.0, 3.0)), "rebuild"),
        (lambda k: eqx.tree_at(lambda m: m.weight, Changed(2), jnp.ones(3)), "shape"),
        (lambda k: eqx.tree_at(lambda m: m.weight, Changed(2), jnp.arange(2)), "int64"),
    ],
)
def test_what_cannot_be_saved(tmp_path, getkey, make, message):
    with pytest.raises(SerialisationError, match=message):
        save(tmp_path / "m", make(getkey()))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("given", [None, 3.5, (1, 2), {"a": np.ones(2)}])
def test_wrong_kinds_of_argument(tmp_path, given):
    # The tests check annotations, and may refuse before the function does.
    refused = (SerialisationError, jaxtyping.TypeCheckError)
    with pytest.raises(refused):
        load(given)
    with pytest.raises(refused):
        save(tmp_path / "m", given)
    assert not os.listdir(tmp_path)


def test_save_under_jit(tmp_path, getkey):
    with pytest.raises(SerialisationError, match="outside of `jit`"):
        eqx.filter_jit(lambda m: save(tmp_path / "m", m))(Changed(2))


def test_register():
    def fresh(name):
        class Thing(eqx.Module):
            pass

        Thing.__qualname__ = name
        return Thing

    try:
        register(fresh("Thing"))
        register(fresh("Thing"))
        with pytest.raises(ValueError, match="taken by"):
            register(fresh("Other.Thing"))
    finally:
        _registry._REGISTRY.pop("Thing")

    class Variadic(eqx.Module):
        def __init__(self, *layers):
            pass

    with pytest.raises(TypeError, match="name every argument"):
        register(Variadic)


def test_unknown_class_names_the_module(saved, monkeypatch):
    path, _ = saved
    monkeypatch.delitem(_registry._REGISTRY, "Layered")
    with pytest.raises(SerialisationError, match="'Layered'.*import that module"):
        load(path)


def test_x64_off(saved):
    path, _ = saved
    with jax.enable_x64(False):
        with pytest.raises(SerialisationError, match="jax_enable_x64"):
            load(path)


def test_float32_file_in_a_float64_session(tmp_path, getkey):
    with jax.enable_x64(False):
        model = Changed(2)
        save(tmp_path / "m", model)
    assert load(tmp_path / "m").weight.dtype == jnp.float32


class Broken:
    """A file that takes some bytes and then fails."""

    def __init__(self, file, error):
        self.file, self.error = file, error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise self.error


@pytest.mark.parametrize("place", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        KeyboardInterrupt(),
        MemoryError(),
    ],
    ids=["disk full", "interrupt", "memory"],
)
def test_failed_save_keeps_the_old_file(saved, getkey, monkeypatch, place, error):
    path, model = saved

    def broken(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        if place == "write":
            fdopen = os.fdopen
            patch.setattr(os, "fdopen", lambda *a: Broken(fdopen(*a), error))
        else:
            patch.setattr(os, place, broken)
        expected = SerialisationError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected) as raised:
            save(path, Layered(3, 2, key=getkey()))
    if isinstance(error, OSError):
        assert "nothing was changed" in str(raised.value)
    assert os.listdir(path.parent) == [path.name]
    assert identical(load(path), model)


def test_folder_that_is_missing_and_target_that_is_a_folder(tmp_path):
    for path in (tmp_path / "none" / "m", tmp_path):
        with pytest.raises(SerialisationError, match=re.escape(str(path))):
            save(path, Changed(2))


def test_links_and_permissions_stay(saved):
    path, model = saved
    path.chmod(0o640)
    link = path.with_name("latest")
    link.symlink_to(path)
    save(link, model)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    assert identical(load(link), model)
