"""What `sciml train` learns, and with which model: by the names on the command line."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from ._common import Usage

MODELS = {"mgno": "MgNO", "fno": "FNO", "unet": "UNet", "multionet": "MultiONet"}

# Pairs that a trajectory of a time-dependent problem gives.
_NUM_SAVES = 10

Progress = Callable[[int], None]


# What is learned but not solved by `sciml solve`.
TRAINED_ONLY = {"helmholtz-waves": "waves in a random medium (sciml train only)"}


class TrainingTask:
    """The samples of a problem, and untrained models that fit them.

    Elliptic problems and waves give (coefficient, solution), time-dependent problems
    (state, state one interval later).

    **Arguments:**

    - `name`: of the problem.
    - `points`, `contrast`: where the problem has them.

    **Raises:** `Usage` for a name that there is not, and for an option too many.
    """

    def __init__(self, name: str, points: int | None, contrast: float | None):
        from .. import evolution_names, get_evolution

        self.marches = name in evolution_names()
        self.certified = False
        if self.marches:
            for option, value in (("points", points), ("contrast", contrast)):
                if value is not None:
                    raise Usage(f"{option}: {name!r} has its own.")
            self.problem: Any = get_evolution(name)
        else:
            self.problem = _stationary(name, points, contrast)
            self.certified = name not in TRAINED_ONLY

    def datasets(self, counts: Sequence[int], seed: int, progress: Progress) -> list:
        """Training, validation and test samples, in float32; None for a count of 0.

        Pairs of a trajectory are in one of them only.
        """
        import jax.random as jr

        from .._surrogate import as_float32

        key = jr.key(seed)
        if self.marches:
            trajectories = [math.ceil(count / _NUM_SAVES) for count in counts]
            sizes = [count * _NUM_SAVES for count in trajectories]
            data = self.problem.transitions(
                sum(trajectories), num_saves=_NUM_SAVES, key=key
            )
            progress(sum(counts))
        else:
            sizes = list(counts)
            data = self.problem.dataset(sum(counts), key=key, progress=progress)
        data, first, parts = as_float32(data), 0, []
        for count, size in zip(counts, sizes, strict=True):
            parts.append(data[first : first + count] if count else None)
            first += size
        return parts

    def model(self, name: str, width: int, depth: int, seed: int) -> Any:
        """An untrained model for one input and one output field, in float32.

        MgNO is the one that adds to the state where the problem marches in time. The
        depth of a U-Net is its number of levels.
        """
        import jax.random as jr

        from sciml.neural_operators import (
            FNO,
            MgNO,
            MgNOStepper,
            MultiONet,
            NoCoordinates,
            NodeCoordinates,
            UNet,
        )

        from .._surrogate import in_float32

        key, grid = jr.key(seed), self.problem.grid
        shape, boundary = (grid.ndim, 1, 1), _boundary(grid)
        smallest = min(grid.num_points)
        levels = max(1, smallest.bit_length() - 1)
        shared = {"width": width, "boundary": boundary, "key": key}
        if name == "mgno":
            kind = MgNOStepper if self.marches else MgNO
            model = kind(*shape, depth=depth, num_levels=min(6, levels), **shared)
        elif name == "unet":
            model = UNet(*shape, num_levels=min(depth, levels), **shared)
        elif name == "multionet":
            summed = max(1, depth - 1)
            model = MultiONet(*shape, depth=depth, num_summed_layers=summed, **shared)
        else:
            # What has no sides looks the same everywhere, and so may the model.
            places = NoCoordinates() if all(grid.periodic) else NodeCoordinates()
            modes = min(16, smallest // 2)
            model = FNO(
                *shape, depth=depth, num_modes=modes, coordinates=places, **shared
            )
        return in_float32(model)


def _boundary(grid: Any) -> tuple:
    """The kinds of conditions, with values only where models set nodes to them."""
    from sciml.grids import Dirichlet

    def chosen(own, bare):
        return own if isinstance(own, Dirichlet) and own.stored else bare

    sides = zip(grid.boundary, grid.homogeneous().boundary, strict=True)
    return tuple(tuple(map(chosen, own, bare)) for own, bare in sides)


def _stationary(name: str, points: int | None, contrast: float | None):
    from .. import HelmholtzWaves, get_problem

    try:
        if name not in TRAINED_ONLY:
            return get_problem(name, points=points, contrast=contrast)
        if contrast is not None:
            raise Usage(f"contrast: {name!r} has its own.")
        return HelmholtzWaves() if points is None else HelmholtzWaves((points,) * 2)
    except ValueError as error:
        raise Usage(str(error)) from error
