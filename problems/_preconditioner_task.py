"""What `sciml train preconditioner` trains: methods and families of systems by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

import sciml
from sciml import preconditioners as pc
from sciml.data import Dataset
from sciml.grids import LogNormalField, SquaredExponentialField

from ._diffusion import Diffusion
from ._mixtures import KINDS, EllipticMixture
from ._registry import get_problem, get_system, system_names
from ._surrogate import in_float32

# The variance and correlation length at which published factors are compared.
_LOG_NORMAL = LogNormalField(SquaredExponentialField(variance=1.1))
_EXACT = pc.IncompleteCholesky(pc.LevelSchedule())
_RIVALS = {
    "sparse-inverse": {"FSAI": pc.FSAI(), "Chebyshev": pc.ChebyshevPolynomial(3, 12.0)},
    "neural-factor": {"IncompleteCholesky": _EXACT, "SSOR(1)": pc.SSOR(1.0)},
    "ic-correction": {"IncompleteCholesky": _EXACT},
    "multigrid": {
        "Multigrid": pc.Multigrid(),
        "by strength": pc.Multigrid(coarsening=pc.ByStrength()),
    },
    "deep-directions": {"Multigrid": pc.Multigrid()},
    "deep-directions-two-level": {"Multigrid": pc.Multigrid()},
}
_DIRECTIONS = {
    "deep-directions": pc.SharedLevelDirections,
    "deep-directions-two-level": pc.TwoLevelDirections,
}
# Of steepest descent in the loss: what the shared levels, which start as multigrid, are
# bad at shows later. The two levels are trained as published.
_STEPS_BEFORE = {"deep-directions": 3, "deep-directions-two-level": 0}
# Of the losses that go through CG: enough for the smallest eigenvalues to matter, not
# so many that residuals in single precision are rounding.
_CG_STEPS = {"sparse-inverse": 40, "multigrid": 5}


class SystemFamily:
    """Random systems of one size: of a problem on a grid, or of finite elements.

    **Arguments:**

    - `name`: "lognormal" (variance 1.1, correlation length 0.1), "mixture" (two
        phases, channels and anisotropy: `problems.EllipticMixture`), or one that
        `get_problem` or `get_system` knows.
    - `size`: nodes per axis, or the number of refinements. Default the problem's own.

    **Raises:** `ValueError` for an unknown name.
    """

    def __init__(self, name: str, size: int | None):
        self.name = name
        self.problem: Any = None
        self.mixture: Any = None
        if name in system_names():
            self.system = get_system(name, refinements=size)
        elif name == "mixture":
            points = 63 if size is None else size
            self.mixture = EllipticMixture((points, points), KINDS)
        elif name == "lognormal":
            self.problem = Diffusion((64 if size is None else size,) * 2, _LOG_NORMAL)
        else:
            self.problem = get_problem(name, points=size)

    def sample(self, key: PRNGKeyArray) -> tuple[Any, Any, np.ndarray]:
        """A, b and the coordinates of the unknowns."""
        if self.mixture is not None:
            index = int(jr.randint(key, (), 0, len(KINDS)))
            A = self.mixture.sample(index, key)[1]
            points = np.stack([axis.ravel() for axis in A.grid.mesh()], -1)
            return A, self.mixture.vector(key), points
        if self.problem is None:
            found = self.system.discretise(key=key)
            return found.operator, found.vector, found.coordinates
        A, b = self.problem.linear_system(key=key)
        points = np.stack([axis.ravel() for axis in self.problem.grid.mesh()], -1)
        return A, b, points

    def coefficients(self, count: int, key: PRNGKeyArray) -> Dataset:
        """Coefficient fields in float32, for losses that assemble A themselves."""
        draw = lambda key: self.problem.sample_coefficient(key=key)
        fields = jax.vmap(draw)(jr.split(key, count)).astype(jnp.float32)
        return Dataset(fields[:, None], None, self.problem.grid)


class PreconditionerTask:
    """A method on a family: its untrained model, data and loss, and its rivals.

    **Arguments:**

    - `method`: "sparse-inverse", "neural-factor", "ic-correction", "multigrid",
        "deep-directions" or "deep-directions-two-level".
    - `family`: the systems to train on.

    **Raises:** `ValueError` for directions on anything but Poisson's problem, and for
    multigrid on what has no grid with two axes.
    """

    def __init__(self, method: str, family: SystemFamily):
        if method in _DIRECTIONS and not family.name.startswith("poisson"):
            raise ValueError(
                f"problem: {method} knows no coefficients; expected poisson-1d, "
                f"poisson-2d or poisson-3d, got {family.name}."
            )
        if method == "multigrid" and family.problem is None and family.mixture is None:
            raise ValueError(
                f"problem: multigrid needs a grid, {family.name} has none. Expected "
                "mixture, lognormal or a problem on a grid."
            )
        self.method, self.family = method, family

    @property
    def rival(self) -> str:
        """The classical method that the learned one has to beat."""
        return next(iter(_RIVALS[self.method]))

    def model(self, width: int, key: PRNGKeyArray, *, relaxation: float = 0.0) -> Any:
        """The untrained model, in float32; `relaxation` is that of `NeuralFactor`."""
        if self.method in _DIRECTIONS:
            network = _DIRECTIONS[self.method]
            ndim = self.family.problem.grid.ndim
            model = pc.DeepConjugateDirections(network(ndim, width, key=key))
        elif self.method == "multigrid":
            A, _, _ = self.family.sample(key)
            model = pc.LearnedMultigrid(A.grid.ndim, width=width, key=key)
        elif self.method == "sparse-inverse":
            model = pc.SparseApproximateInverse(width, key=key)
        elif self.method == "ic-correction":
            model = pc.CorrectedCholesky(width, key=key)
        else:
            _, _, points = self.family.sample(key)
            model = pc.NeuralFactor(
                points.shape[1], width, relaxation=relaxation, key=key
            )
        return in_float32(model)

    def data(self, count: int, num_cg_steps: int | None, key: PRNGKeyArray):
        """Systems (for directions: vectors), and the loss to train with."""
        if num_cg_steps is None:
            num_cg_steps = _CG_STEPS.get(self.method, 2)
        if self.method in _DIRECTIONS:
            A, _ = self.family.problem.linear_system(key=key)
            vectors = pc.sine_vectors(A.grid, count, key=key)
            return vectors, pc.DirectionResidual(A, _STEPS_BEFORE[self.method])
        if self.method == "sparse-inverse" and self.family.problem is not None:
            loss = pc.UnrolledCG(self.family.problem, num_cg_steps)
            return self.family.coefficients(count, key), loss
        found = [self.family.sample(k) for k in jr.split(key, count)]
        operators, vectors, points = zip(*found, strict=True)
        if self.method == "multigrid":
            # While it is traced a cycle coarsens all axes at once, and is trained for
            # those systems for which it is to do so.
            rule = pc.ByStrength()
            full = [A for A in operators if set(rule.spacing(A)) == {1.0}]
            data, systems = pc.pack_stencils(full)
            return data, pc.UnrolledCG(systems, num_cg_steps)
        if self.method == "neural-factor":
            # As published: the family's own right-hand sides and solutions.
            flat = [np.asarray(b).ravel() for b in vectors]
            data, systems = pc.pack_systems(operators, points=points, vectors=flat)
            return data, pc.FactorResidual(systems)
        # Right-hand sides of noise: every part of the spectrum is seen.
        data, systems = pc.pack_systems(operators)
        if self.method == "sparse-inverse":
            return data, pc.UnrolledCG(systems, num_cg_steps)
        return data, pc.FactorResidual(systems)

    def builders(self, model: Any) -> dict[str, Callable[[Any, np.ndarray], Any]]:
        """By name: from A and its nodes' coordinates to M."""
        plain = lambda builder: lambda A, _: builder.build(A)
        named = {**_RIVALS[self.method], "Jacobi": pc.Jacobi()}
        if self.method == "sparse-inverse":
            # (Whatever its weights: the network's last layer starts as zero.)
            named["untrained"] = pc.SparseApproximateInverse(4, 1, key=jr.key(0))
        if self.method == "deep-directions":
            ndim = self.family.problem.grid.ndim
            network = pc.SharedLevelDirections(ndim, 1, key=jr.key(0))
            named["untrained"] = in_float32(pc.DeepConjugateDirections(network))
        found: dict[str, Callable] = {k: plain(v) for k, v in named.items()}
        if isinstance(model, pc.NeuralFactor):
            found["learned"] = lambda A, points: model.at(points).build(A)
        else:
            found["learned"] = plain(model)
        return found

    def solver(self, name: str, rtol: float) -> sciml.CG | sciml.linear.FlexibleCG:
        """What one of the `builders` is used in."""
        if self.method in _DIRECTIONS and name in ("learned", "untrained"):
            return sciml.linear.FlexibleCG(rtol=rtol, max_steps=10_000)
        return sciml.CG(rtol=rtol, max_steps=10_000)


def count_steps(
    task: PreconditionerTask,
    model: Any,
    family: SystemFamily,
    count: int,
    key: PRNGKeyArray,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """CG steps to 1e-8 from zero, b of standard normals, per method of a task.

    **Arguments:**

    - `task`, `model`: the method, and what it learned.
    - `family`: systems to solve, of any size.
    - `count`: of systems.
    - `key`: of systems and right-hand sides.
    - `on_row`: called with each row when it is complete.

    **Returns:** per preconditioner of a task `method` and `problem`, `unknowns` of the
    largest system, `median` and `worst` number of steps (of those that converged),
    `of_rival`, the median over that of the task's rival, `converged` of `systems`, and
    `nonzeros` that an application touches in the largest system (of networks
    multiplications by a weight; None for cycles).
    """
    systems = []
    for k in jr.split(key, count):
        A, _, points = family.sample(k)
        structure = A.in_structure()
        systems.append((A, jr.normal(k, structure.shape, structure.dtype), points))
    largest = max((A for A, _, _ in systems), key=lambda A: A.in_size())
    rows: list[dict[str, Any]] = []
    rival = None
    for name, build in task.builders(model).items():
        steps = []
        for A, b, points in systems:
            solution = sciml.linear_solve(
                A,
                b,
                task.solver(name, 1e-8),
                preconditioner=build(A, points),
                throw=False,
            )
            if solution.result == sciml.RESULTS.successful:
                steps.append(int(solution.stats["num_steps"]))
        median = float(np.median(steps)) if steps else None
        rival = median if name == task.rival else rival
        rows.append(
            {
                "method": task.method,
                "problem": family.name,
                "unknowns": largest.in_size(),
                "preconditioner": name,
                "median": median,
                "worst": max(steps, default=None),
                "of_rival": median / rival if median and rival else None,
                "converged": len(steps),
                "systems": count,
                "nonzeros": _nonzeros(name, task.method, model, largest),
            }
        )
        if on_row is not None:
            on_row(rows[-1])
    return rows


def _nonzeros(name: str, method: str, model: Any, operator: Any) -> int | None:
    """Entries of matrices and diagonals that one application touches."""
    if method in _DIRECTIONS and name == "learned":
        return model.network.num_products(operator.grid.num_points)
    size, entries = operator.in_size(), sciml.linear.to_scipy(operator).nnz
    if name == "Jacobi":
        return size
    if method == "sparse-inverse" and name != "FSAI":
        # Two products with a matrix of A's pattern, and the diagonal.
        return 2 * entries + size
    if method == "multigrid" or method in _DIRECTIONS:
        return None
    # Two with a triangle of it.
    return entries + size
