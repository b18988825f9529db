"""What the benchmark of surrogates learns."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax.random as jr

import sciml
from sciml.data import Dataset

from .._diffusion import Darcy
from .._helmholtz_waves import HelmholtzWaves
from .._registry import get_problem
from .._surrogate import as_float32


@dataclasses.dataclass(frozen=True)
class Task:
    """A distribution of problems on a fine grid, learned at some of its nodes.

    **Attributes:**

    - `make`: the problem with a number of nodes per axis.
    - `num_points`: per axis, of the grid that solutions are computed on.
    - `factor`: how much coarser the grid is that a model sees.
    - `paper_points`, `paper_factor`: the same at the published size, None where there
        is none.
    - `loss`: that all models are trained with.
    """

    make: Callable[[int], Any]
    num_points: int
    factor: int
    paper_points: int | None = None
    paper_factor: int = 1
    loss: Callable = dataclasses.field(default_factory=sciml.training.RelativeH1)


def _symmetric() -> Callable:
    """The loss where turning and mirroring a sample gives another one."""
    return sciml.training.D4Augmented(sciml.training.RelativeH1())


TASKS: dict[str, Task] = {
    "two-phase": Task(lambda n: Darcy((n, n)), 64, 1, loss=_symmetric()),
    "smooth": Task(
        lambda n: get_problem("darcy-smooth", points=n), 127, 2, 419, 2, _symmetric()
    ),
    "rough": Task(
        lambda n: get_problem("darcy-rough", points=n), 127, 2, 511, 2, _symmetric()
    ),
    "multiscale": Task(
        lambda n: get_problem("darcy-multiscale", points=n), 255, 4, 1023, 4
    ),
    "helmholtz": Task(
        lambda n: HelmholtzWaves((n, n)), 101, 2, loss=sciml.training.AbsoluteH1()
    ),
}


def task_data(
    name: str,
    num_samples: int,
    seed: int,
    *,
    paper: bool = False,
    folder: pathlib.Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Samples at the nodes that a model sees, in float32.

    **Arguments:**

    - `name`: of the task.
    - `num_samples`: how many.
    - `seed`: of the samples.
    - `paper`: at the published size.
    - `folder`: where samples are kept, as to solve for them takes minutes.
    - `progress`: called with the number of solved samples.

    **Raises:** `ValueError` if there is no published size.
    """
    points, factor = task_size(name, paper)
    file = None
    if folder is not None:
        file = folder / f"{name}-{points}-{num_samples}-{seed}.safetensors"
        if file.is_file():
            return sciml.load(file)
    problem = TASKS[name].make(points)
    data = problem.dataset(num_samples, key=jr.key(seed), progress=progress)
    data = as_float32(data.coarsen(factor))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        sciml.save(file, data)
    return data


def task_size(name: str, paper: bool = False) -> tuple[int, int]:
    """Nodes per axis of the fine grid, and how much coarser the models' one is."""
    task = TASKS[name]
    if not paper:
        return task.num_points, task.factor
    if task.paper_points is None:
        raise ValueError(f"problems: {name!r} has no published size.")
    return task.paper_points, task.paper_factor
