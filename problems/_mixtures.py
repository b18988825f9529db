"""Random systems of several kinds on one grid: what a preconditioner may meet."""

import math

import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grids import Grid
from sciml.linear import StencilOperator

from ._anisotropic import AnisotropicDiffusion
from ._diffusion import Diffusion

KINDS = ("two-phase", "channels", "aligned", "turned", "mild")


class EllipticMixture:
    """−∇·(a∇u) and −∇·(K∇u) on the unit square, Dirichlet, of `KINDS`:

    - `two-phase`, `channels`: a of these families, contrast 10³ to 10⁴;
    - `aligned`: K = diag(1, ε) or diag(ε, 1), ε from 10⁻³ to 10⁻¹;
    - `turned`: the same K turned by an angle from 0 to π;
    - `mild`: two phases of contrast 1 to 10.

    All exponents and angles are uniformly distributed.

    **Arguments:**

    - `num_points`: nodes per axis, two numbers.
    - `kinds`: which to draw from, in turn.

    **Raises:** `ValueError` for an unknown kind.
    """

    def __init__(self, num_points: tuple[int, int], kinds: tuple[str, ...] = KINDS[:4]):
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(
                f"kinds: expected some of {', '.join(KINDS)}, got {kinds}."
            )
        self.num_points, self.kinds = num_points, kinds

    def sample(self, index: int, key: PRNGKeyArray) -> tuple[str, StencilOperator]:
        """The kind with this index (from the start after the last), and a system."""
        kind = self.kinds[index % len(self.kinds)]
        exponent_key, angle_key, field_key = jr.split(key, 3)
        part = float(jr.uniform(exponent_key))
        if kind in ("aligned", "turned"):
            angle = float(jr.uniform(angle_key)) * math.pi
            if kind == "aligned":
                angle = 0.5 * math.pi * round(angle / math.pi)
            epsilon = 10.0 ** (-3 + 2 * part)
            problem = AnisotropicDiffusion(self.num_points, epsilon, angle)
            return kind, problem.assemble(problem.constant_coefficient())[0]
        contrast = 10.0 ** (part if kind == "mild" else 3 + part)
        coefficient = "channels" if kind == "channels" else "two_phase"
        problem = Diffusion(self.num_points, coefficient, contrast)
        return kind, problem.assemble(problem.sample_coefficient(key=field_key))[0]

    def vector(self, key: PRNGKeyArray) -> Float[Array, "n m"]:
        """A right-hand side of independent standard normals."""
        return jr.normal(key, self.num_points)

    @property
    def grid(self) -> Grid:
        """That of all systems."""
        return Diffusion(self.num_points).grid
