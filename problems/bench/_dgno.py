"""Training without solutions: errors at equal time, and the speed of a step."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from sciml.data import Dataset
from sciml.neural_operators import (
    DGNO,
    DenseEncoder,
    FixedPrecision,
    VirtualObservables,
)
from sciml.training import fit, muon_optimiser
from sciml.weak_forms import MeshBall, MixedDiffusion

from .._dgno_recipe import (
    DGNO_PROBLEMS,
    dgno_coefficients,
    dgno_error,
    exact_solutions,
    mean_error,
)
from .._diffusion_family import AbstractDiffusion
from .._surrogate import in_float32, num_parameters
from .._two_phase_darcy import TwoPhaseDarcy
from ._dgno_published import published_loop
from ._dgno_tasks import DGNO_METHODS, Candidate

Row = dict[str, Any]
_TRIAL_STEPS = 30


def bench_dgno(
    *,
    names: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    minutes: float = 2.0,
    num_train: int = 1000,
    num_test: int = 50,
    seeds: int = 3,
    seed: int = 7,
    speed: bool = True,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Relative L2 errors on unseen coefficients after equal training time.

    The first 30 steps of a training say how many fit into the time; the training then
    starts anew with a schedule of that length. References are those of the problems,
    on finer grids, for Stokes flow by finite elements. All are trained on the same
    coefficients, by Muon, with batches of 100 (of 20 for MgNO, 50 for Burgers and
    Stokes), and on the square in random positions of it.

    **Arguments:**

    - `names`: of `DGNO_PROBLEMS`: "darcy-two-phase", "darcy-continuous",
        "burgers-dirichlet" and "stokes-cylinder". Default all.
    - `methods`: names of `DGNO_METHODS`. Default all.
    - `minutes`: of each training, compilation apart. Default 2.
    - `num_train`, `num_test`: coefficients.
    - `seeds`: trainings of each: initial weights, batches and points.
    - `seed`: the first of the seeds.
    - `speed`: whether to time the steps of the published loop beside ours.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `problem`, `method`, `labels` (whether it uses solutions),
    `relative_l2` (mean over seeds, and over channels where there are several),
    `relative_l2_sd`, `channels`, `each` (by seed), `steps`, `training_time`,
    `parameters`; of speed `loop`, `step_time`, and `of_ours`, its time over ours.

    **Raises:** `ValueError` for names that there are not.
    """
    chosen, named = check_dgno(names, methods)
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        if on_row is not None:
            on_row(row)

    if speed:
        for row in _speeds(seed):
            report(row)
    for name in chosen:
        problem = DGNO_PROBLEMS[name]()
        media = dgno_coefficients(problem, num_train, jr.key(seed + 1000))
        test = dgno_coefficients(problem, num_test, jr.key(seed + 2000))
        exact = exact_solutions(problem, test.inputs)
        facts = {"problem": name, "method": "mean field", "labels": "yes"}
        mean = jnp.asarray(_mean_field(problem, media))
        errors = dgno_error(lambda _, mean=mean: mean, test.inputs, exact)
        report(facts | _errors([errors]))
        if isinstance(problem, AbstractDiffusion):
            solved = jax.lax.map(
                lambda a, solve=problem.solve: solve(a).value,
                jnp.asarray(test.inputs[:, 0], jnp.result_type(float)),
            )
            facts = {"problem": name, "method": "finite volumes", "labels": "no"}
            report(facts | {"relative_l2": mean_error(np.asarray(solved), exact)})
        labelled = _labels(problem, media)
        for method in named:
            labels, where, make = DGNO_METHODS[method]
            if name not in where:
                continue
            found = [
                _trained(make(problem, media, labelled, jr.key(k)), minutes, k)
                for k in range(seed, seed + seeds)
            ]
            errors = [dgno_error(model, test.inputs, exact) for model, *_ in found]
            facts = {
                "problem": name,
                "method": method,
                "labels": "yes" if labels else "no",
            }
            spent = {
                "steps": int(np.median([steps for _, steps, _ in found])),
                "training_time": float(np.median([s for *_, s in found])),
                "parameters": num_parameters(found[0][0]),
            }
            report(facts | _errors(errors) | spent)
    return rows


def _errors(found: list[list[float]]) -> Row:
    """Of the seeds' models, by channel."""
    each = [float(np.mean(errors)) for errors in found]
    row: Row = {"relative_l2": float(np.mean(each))}
    if len(found) > 1:
        row["relative_l2_sd"] = float(np.std(each, ddof=1))
    if len(found[0]) > 1:
        row["channels"] = [float(e) for e in np.mean(found, axis=0)]
    return row | {"each": each}


def check_dgno(
    names: Sequence[str] | None, methods: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The problems and methods; `ValueError` if there is no such one."""
    chosen = []
    for what, given, known in (
        ("names", names, DGNO_PROBLEMS),
        ("methods", methods, DGNO_METHODS),
    ):
        found = list(known) if given is None else list(given)
        for name in found:
            if name not in known:
                raise ValueError(f"{what}: no {name!r}; known are {', '.join(known)}.")
        chosen.append(found)
    problems, trained = chosen
    for method in trained:
        if not set(problems) & set(DGNO_METHODS[method][1]):
            raise ValueError(f"methods: {method!r} is not for {', '.join(problems)}.")
    return problems, trained


def _trained(candidate: Candidate, minutes: float, seed: int) -> tuple[Any, int, float]:
    """The model, its steps, and the seconds that they took."""

    rate = candidate.learning_rate

    def run(num_steps: int):
        return fit(
            in_float32(candidate.model),
            candidate.data,
            loss=candidate.loss,
            optimiser=muon_optimiser(num_steps, rate, rate / 2),
            num_steps=num_steps,
            batch_size=candidate.batch_size,
            progress=False,
            key=jr.key(seed),
        )

    _, history = run(_TRIAL_STEPS)
    steps = max(int(60 * minutes * _TRIAL_STEPS / history.training_time), 1)
    model, history = run(steps)
    return model, steps, history.training_time


def _mean_field(problem: Any, media: Dataset) -> np.ndarray:
    mean = exact_solutions(problem, media.inputs[:100]).mean(0)
    return mean.reshape(-1, *problem.weak_form().domain.shape)


def _labels(problem: Any, media: Dataset) -> Callable[[], Dataset]:
    """Solutions of the training media, made when the first asks for them."""
    made: list[Dataset] = []

    def labelled() -> Dataset:
        if not made:
            exact = exact_solutions(problem, media.inputs).astype(np.float32)
            exact = exact.reshape(len(exact), -1, *problem.weak_form().domain.shape)
            made.append(Dataset(media.inputs, exact, media.grid))
        return made[0]

    return labelled


def _speeds(seed: int, num_steps: int = 5, repeats: int = 3) -> list[Row]:
    """A step with the published sizes: 25 media, 100 balls of 25 nodes."""
    problem = TwoPhaseDarcy()
    media = dgno_coefficients(problem, 200, jr.key(seed))
    form = problem.weak_form()
    mixed = MixedDiffusion(
        form.grid, form.coefficient, form.source, quadrature=MeshBall(7)
    )
    encoder = DenseEncoder((29, 29), (512, 256))
    sizes = {"coefficient_width": 256, "encoder": encoder}
    ours = {
        "ours, published form and sizes": (DGNO(mixed, **sizes, key=jr.key(seed)), 841),
        "ours, by default": (DGNO(form, key=jr.key(seed)), 200),
    }

    def ours_step(model: DGNO, num_nodes: int) -> float:
        _, history = fit(
            in_float32(model),
            media,
            loss=VirtualObservables(FixedPrecision(50.0), num_nodes),
            optimiser=optax.adam(5e-4),
            num_steps=num_steps,
            batch_size=25,
            progress=False,
            key=jr.key(seed),
        )
        return history.training_time / num_steps

    inputs = np.asarray(media.inputs[:, 0])
    loops: dict[str, Callable[[], float]] = {
        "published": lambda: published_loop(inputs, num_steps, False, seed=seed)[0],
        "published, trunks shared": lambda: published_loop(
            inputs, num_steps, True, seed=seed
        )[0],
    }
    for name, (model, num_nodes) in ours.items():
        loops[name] = lambda model=model, n=num_nodes: ours_step(model, n)
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, measure in loops.items():
            times[name].append(measure())
    own = np.array(times["ours, published form and sizes"])
    return [
        {
            "loop": name,
            "step_time": float(np.median(found)),
            "of_ours": float(np.median(np.array(found) / own)),
        }
        for name, found in times.items()
    ]
