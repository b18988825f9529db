"""The linear systems of the benchmark, by name."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import lineax as lx
import numpy as np

from sciml.grids import (
    GaussianField,
    LogNormalField,
    SquaredExponentialField,
    TwoPhaseField,
)
from sciml.linear import StencilOperator

from .._anisotropic import AnisotropicDiffusion
from .._diffusion import Diffusion
from .._unstructured import UnstructuredDiffusion

# SuperLU's fill in three dimensions grows out of hand beyond.
_MAX_DIRECT_3D = 30_000


class System:
    """A x = b, and how the methods of a grid assemble it.

    `assemble` is None where the system comes as a matrix; otherwise a jittable function
    of `inputs` that gives A and b, which our methods run as part of their set-up.
    """

    def __init__(
        self,
        operator: lx.AbstractLinearOperator,
        vector: jax.Array,
        assemble: Callable | None = None,
        inputs: Any = None,
    ):
        self.operator, self.vector = operator, vector
        self.assemble, self.inputs = assemble, inputs

    @property
    def grid(self):
        """The grid of a stencil, or None."""
        if isinstance(self.operator, StencilOperator):
            return self.operator.grid
        return None

    @property
    def is_constant(self) -> bool:
        """Whether a sine transform solves it: a constant stencil, zero all around."""
        grid = self.grid
        if grid is None or not isinstance(self.operator, StencilOperator):
            return False
        held = all(pair == (1, 1) for pair in grid.margins)
        same = np.ptp(np.asarray(self.operator.stencil.diagonal)) == 0
        return held and bool(same)

    @property
    def suits_direct(self) -> bool:
        """Whether a sparse direct solve takes seconds, not minutes."""
        ndim = 2 if self.grid is None else self.grid.ndim
        return ndim < 3 or self.operator.in_size() <= _MAX_DIRECT_3D


def _of_problem(problem: Any, seed: int) -> System:
    coefficient = problem.sample_coefficient(key=jr.key(seed))
    A, b = problem.linear_system(coefficient)

    def assemble(inputs):
        problem, coefficient = inputs
        return problem.assemble(coefficient)

    return System(A, b, assemble, (problem, coefficient))


def _diffusion(coefficient: Any, contrast: float = 1.0, ndim: int = 2):
    def make(points: int, seed: int) -> System:
        return _of_problem(Diffusion((points,) * ndim, coefficient, contrast), seed)

    return make


def _anisotropic(points: int, seed: int) -> System:
    return _of_problem(AnisotropicDiffusion((points, points)), seed)


def _finite_elements(mesh: str):
    def make(points: int, seed: int) -> System:
        # The refinement whose number of unknowns is nearest to points².
        sizes = _SIZES[mesh]
        nearest = int(np.argmin(np.abs(np.log(np.asarray(sizes) / points**2))))
        problem = UnstructuredDiffusion(mesh, num_refinements=nearest + 2)
        A, b = problem.linear_system(key=jr.key(seed))
        # Random, as the smooth one's solution is: no part of the spectrum is left out.
        return System(A, jr.normal(jr.key(seed), b.shape, b.dtype))

    return make


_TWO_PHASE = "two-phase-"
# Unknowns of two, three, … refinements.
_SIZES = {
    "l_shape": (233, 876, 3245, 12465, 49208),
    "ball": (63, 575, 4991, 41727, 341503),
}

SYSTEMS: dict[str, tuple[Callable[[int, int], System], str]] = {
    "poisson": (_diffusion("constant"), "−Δu = 1"),
    "lognormal": (
        _diffusion(LogNormalField(SquaredExponentialField(variance=1.1))),
        "a log-normal, variance 1.1, length 0.1",
    ),
    "hard-two-phase": (
        _diffusion(TwoPhaseField(1.0, 1e4, GaussianField(tau=20.0))),
        "two phases that change over τ = 20, contrast 10⁴",
    ),
    "checkerboard": (_diffusion("checkerboard", 1e6), "alternating blocks, 10⁶"),
    "channels": (_diffusion("channels", 1e4), "thin channels, 10⁴"),
    "anisotropic": (_anisotropic, "diag(1, 10⁻³) turned by 30°"),
    "poisson-3d": (_diffusion("constant", ndim=3), "−Δu = 1 on points³ nodes"),
    "two-phase-3d": (
        _diffusion("two_phase", 1e3, ndim=3),
        "two phases, 10³, on points³ nodes",
    ),
    "l-shape": (_finite_elements("l_shape"), "P1 on a graded L-shape, n ≈ points²"),
    "ball": (_finite_elements("ball"), "P1 on a ball, n ≈ points²"),
}


def make_system(name: str, points: int, seed: int) -> System:
    """A system by its name in `SYSTEMS`.

    **Arguments:**

    - `name`: a key of `SYSTEMS`, "two-phase-CONTRAST" with any number, or "matrix:NAME"
        for a test matrix of $SCIML_DATA.
    - `points`: nodes per axis; meshes take the refinement with about points² unknowns.
    - `seed`: of what is random.
    """
    if name.startswith("matrix:"):
        from .._matrices import load_matrix

        A, b = load_matrix(name.removeprefix("matrix:"))
        return System(A, b)
    make = SYSTEMS.get(name, (None,))[0]
    if name not in SYSTEMS and name.startswith(_TWO_PHASE):
        try:
            contrast = float(name.removeprefix(_TWO_PHASE))
        except ValueError:
            pass
        else:
            make = _diffusion("two_phase", contrast)
    if make is None:
        raise ValueError(
            f"problems: unknown system {name!r}; known are two-phase-CONTRAST, "
            f"{', '.join(SYSTEMS)}, and matrix:NAME for the test matrices of "
            "SCIML_DATA."
        )
    system = make(points, seed)
    jax.block_until_ready(eqx.filter(system.operator, eqx.is_array))
    return system
