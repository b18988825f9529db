"""What has to be the same for a run of training to go on, in JSON."""

import hashlib
import json
import re
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np

from .._serialisation import fingerprint
from ..data import Dataset
from ._placement import as_numbers
from ._step import split_model
from ._validation import Validation

# Of what is in a checkpoint; an older one is not read.
_FORMAT = 2


def describe(
    model: Any,
    optimiser_state: Any,
    loss: Any,
    dataset: Dataset,
    batch_size: int,
    validation: Validation | None,
    key: Any,
) -> dict[str, Any]:
    """The run, by name. What starts with "values of" is compared up to rounding."""
    trained, arrays, rest = split_model(model)
    facts = {
        "format of checkpoints": _FORMAT,
        "batch_size": batch_size,
        "key": np.asarray(as_numbers(key)).tolist(),
        "loss": _name(loss),
        "model": _shapes(trained) + _shapes(arrays),
        "structure of the model": fingerprint(rest),
        "values of the model at the start": _sketches((trained, arrays)),
        "optimiser": _shapes(optimiser_state),
        **_of_data("dataset", dataset),
        "grid": fingerprint(dataset.grid),
        "validation": None,
    }
    if validation is None:
        return facts
    settings = {
        "every": validation.every,
        "metric": None if validation.metric is None else _name(validation.metric),
        "batch_size": validation.batch_size,
        "min_delta": validation.min_delta,
    }
    data = _of_data("validation data", validation.dataset)
    return facts | {"validation": settings} | data


def run_id(description: dict[str, Any]) -> str:
    """Eight characters that tell runs apart, the same on every machine."""
    exact = {k: v for k, v in description.items() if not k.startswith("values of ")}
    content = json.dumps(exact, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:8]


def _of_data(name: str, dataset: Dataset) -> dict[str, Any]:
    fields = {"inputs": dataset.inputs}
    if dataset.targets is not None:
        fields["targets"] = dataset.targets
    return {
        name: [[k, str(a.dtype), list(a.shape)] for k, a in fields.items()],
        f"values of the {name}": _sketches(fields),
    }


def _name(function: Any) -> str:
    if isinstance(function, eqx.Module):
        # (Functions in it are shown with their places in memory.)
        return re.sub(r" at 0x[0-9a-f]+", "", repr(function))
    return getattr(function, "__qualname__", type(function).__qualname__)


def _shapes(tree: Any) -> list:
    return [
        [jtu.keystr(path), str(leaf.dtype), list(leaf.shape)]
        for path, leaf in jtu.tree_leaves_with_path(tree)
    ]


def _sketches(tree: Any) -> list[float]:
    return [v for leaf in jax.tree.leaves(tree) for v in _sketch(as_numbers(leaf))]


def _sketch(array: Any) -> list[float]:
    """Up to eight entries spread over an array: enough to tell two data sets apart."""
    flat = array.reshape(-1)
    places = np.linspace(0, max(flat.size - 1, 0), min(flat.size, 8)).astype(int)
    numbers = np.asarray(flat[places]).astype(complex)
    return [float(v) for v in np.real(numbers) + np.imag(numbers)]
