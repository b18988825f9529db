"""Weights that come with the library."""

import importlib.resources
from typing import Any

from .._serialisation import load

_SUFFIX = ".safetensors"


def pretrained(name: str) -> Any:
    """A trained preconditioner or model that comes with the library.

    What trained it, on what, and what it achieved stands in its `provenance`; what a
    preconditioner is for in its `scope`. Other systems get a classical one, and
    `stats["preconditioner"]["in_distribution"]` says so.

    **Arguments:**

    - `name`: "two-phase-2d" (`LearnedMultigrid` for scalar elliptic operators on grids
        with two axes: jumps up to 10⁴, channels, turned anisotropy), "lognormal-2d"
        (`SparseApproximateInverse`, which needs no grid), "poisson-3d"
        (`DeepConjugateDirections`, which needs `sciml.FlexibleCG`), or
        "dgno-two-phase" (`sciml.inverse.TrainedDGNO` for `problems.TwoPhaseDarcy`).

    **Returns:** a `sciml.preconditioners.Pretrained`, or the model.

    **Raises:** `ValueError` for an unknown name.

    !!! example

        ```python
        import sciml

        builder = sciml.pretrained("two-phase-2d")
        print(builder.provenance.command, *builder.provenance.table, sep="\\n")
        ```
    """
    names = pretrained_names()
    if name not in names:
        raise ValueError(
            f"name: expected one of {', '.join(map(repr, names))}, got {name!r}."
        )
    with importlib.resources.as_file(
        importlib.resources.files(__name__) / (name + _SUFFIX)
    ) as path:
        return load(path)


def pretrained_names() -> tuple[str, ...]:
    """What `pretrained` knows, in alphabetical order."""
    found = importlib.resources.files(__name__).iterdir()
    return tuple(
        sorted(f.name[: -len(_SUFFIX)] for f in found if f.name.endswith(_SUFFIX))
    )
