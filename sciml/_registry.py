"""Which classes a file may name, and how their constructor arguments become JSON."""

import inspect
import math
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from . import _container
from ._container import SerialisationError, fail
from .grids import Dirichlet, Grid, Neumann, Periodic

_Class = TypeVar("_Class", bound=type)
_REGISTRY: dict[str, type] = {}

# Functions that a file may refer to by name; any other would have to be looked up by
# importing what the file names.
_FUNCTIONS = {
    f"{prefix}.{name}": getattr(module, name)
    for prefix, module, names in (
        (
            "jax.nn",
            jax.nn,
            "relu gelu silu elu selu celu leaky_relu relu6 sigmoid hard_tanh mish "
            "log_sigmoid softplus soft_sign identity",
        ),
        ("jax.numpy", jnp, "tanh sin cos exp abs square arctan"),
    )
    for name in names.split()
    if hasattr(module, name)
}


def register(cls: _Class) -> _Class:
    """Class decorator: lets `sciml.save` and `sciml.load` handle a module.

    The class must keep every argument of its constructor in a field of the same name,
    except `key`, which only draws initial values: what is saved is the class's name,
    those arguments, and the arrays.

    **Arguments:**

    - `cls`: an `equinox.Module`. Names are unique over all registered classes;
        registering a class again (a reloaded module) replaces it.

    **Raises:** `ValueError` if another class has the name, `TypeError` if the
    constructor takes `*args` or `**kwargs`.

    !!! example

        ```python
        @sciml.register
        class Scaled(eqx.Module):
            model: eqx.Module
            factor: float
        ```
    """
    for parameter in _parameters(cls):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"register: the constructor of {cls.__name__} takes `{parameter}`; "
                "name every argument, since each is saved by its name."
            )
    known = _REGISTRY.get(cls.__name__)
    if known is not None and _qualified(known) != _qualified(cls):
        raise ValueError(
            f"register: the name {cls.__name__!r} is taken by {_qualified(known)}; "
            f"rename {_qualified(cls)}."
        )
    _REGISTRY[cls.__name__] = cls
    return cls


def name_function(name: str, function: Any) -> None:
    """Lets files refer to a function of ours by name."""
    _FUNCTIONS[name] = function


def encode(path: Path, name: str, value: Any) -> Any:
    """A constructor argument as JSON; `name` is what an error calls it."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if type(value) in (tuple, list):
        entries = [encode(path, f"{name}[{k}]", v) for k, v in enumerate(value)]
        return {type(value).__name__: entries}
    if isinstance(value, np.ndarray | jax.Array):
        return {"array": [str(value.dtype), list(value.shape)]}
    for function_name, function in _FUNCTIONS.items():
        if value is function:
            return {"function": function_name}
    cls = type(value)
    if _REGISTRY.get(cls.__name__) is cls:
        arguments = {}
        for parameter in _parameters(cls):
            if parameter.name == "key":
                continue
            full_name = f"{name}.{parameter.name}"
            if not hasattr(value, parameter.name):
                fail(
                    path,
                    f"{full_name}: {cls.__name__} takes this argument but has no field "
                    "of that name; keep constructor arguments as fields.",
                )
            argument = getattr(value, parameter.name)
            arguments[parameter.name] = encode(path, full_name, argument)
        return {"class": cls.__name__, "module": cls.__module__, "arguments": arguments}
    if isinstance(value, eqx.Module):
        functions = _functions_in(value)
        if functions:
            fail(
                path,
                f"{name}: {cls.__name__} holds functions ({', '.join(functions)}), "
                "which a file without pickle cannot store. Save the network that it "
                "is used with, `sciml.save(path, network)`, and build "
                f"{cls.__name__} around it again after `sciml.load`.",
            )
        fail(
            path,
            f"{name}: {_qualified(cls)} is not registered. Decorate it with "
            "`@sciml.register`.",
        )
    fail(
        path,
        f"{name}: cannot save {value!r}. Expected None, a number, a string, a tuple "
        "or list, an array, a registered module, or one of the functions "
        f"{', '.join(_FUNCTIONS)}.",
    )


def _functions_in(module: eqx.Module) -> list[str]:
    """Where in a module functions are that no file can refer to."""
    return [
        jtu.keystr(place, simple=True, separator=".")
        for place, leaf in jtu.tree_leaves_with_path(module)
        if callable(leaf) and not any(leaf is known for known in _FUNCTIONS.values())
    ]


def decode(path: Path, value: Any) -> Any:
    """The inverse of `encode`; call it under `eqx.filter_eval_shape`.

    It builds modules with a key of no meaning and arrays of zeros.
    """
    if value is None or isinstance(value, bool | str | int | float):
        return value
    match value:
        case {"float": "inf" | "-inf" | "nan" as text, **rest} if not rest:
            return float(text)
        case {"tuple": list(entries), **rest} if not rest:
            return tuple(decode(path, entry) for entry in entries)
        case {"list": list(entries), **rest} if not rest:
            return [decode(path, entry) for entry in entries]
        case {"array": [str(name), list(shape)], **rest} if not rest:
            return jnp.zeros(shape_of(shape), device_dtype(name))
        case {"function": str(name), **rest} if not rest:
            if name not in _FUNCTIONS:
                fail(path, f"the function {name!r} is unknown to this version.")
            return _FUNCTIONS[name]
        case {"class": str(name), "module": str(module), "arguments": dict(given)}:
            return _construct(path, name, module, given)
    fail(path, f"an argument is not in a form that `save` writes: {value!r:.200}.")


def _construct(path: Path, name: str, module: str, given: dict) -> Any:
    cls = _REGISTRY.get(name)
    if cls is None:
        fail(
            path,
            f"the class {name!r} is not registered. It was saved from the module "
            f"{module!r}: import that module if you trust it, then load again.",
        )
    arguments = {key: decode(path, value) for key, value in given.items()}
    names = [parameter.name for parameter in _parameters(cls)]
    unknown = [key for key in arguments if key not in names or key == "key"]
    if unknown:
        fail(
            path,
            f"{name} takes no argument {unknown[0]!r}; expected some of {names}. The "
            "file was probably written by another version.",
        )
    if "key" in names:
        arguments["key"] = jr.key(0)
    try:
        return cls(**arguments)
    except SerialisationError:
        raise
    except Exception as error:
        fail(path, f"{name} rejects the saved arguments: {error}", error)


def _parameters(cls: type) -> list[inspect.Parameter]:
    return list(inspect.signature(cls.__init__).parameters.values())[1:]


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def shape_of(entries: list) -> tuple[int, ...]:
    """A shape from its JSON form; `ValueError` if it is none."""
    if not all(type(size) is int and size >= 0 for size in entries):
        raise ValueError(f"expected a shape, got {entries}")
    return tuple(entries)


def device_dtype(name: str) -> np.dtype:
    """What JAX makes of a type: the 32-bit one while its x64 mode is off."""
    return jnp.asarray(np.zeros((), _container.dtype_named(name))).dtype


for _cls in (Dirichlet, Neumann, Periodic, Grid):
    register(_cls)
