"""What is sought where a model has learned what media there are: its latent vector."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..grids import Grid
from ..neural_operators import DGNO
from ._method import AbstractMisfit, precise
from ._observations import Observations
from ._prior import LatentPrior


class LatentMisfit(AbstractMisfit):
    """−log posterior as half a sum of squares, of standard normal numbers w:

    ½ Σ ((u(x_i; β(w)) − y_i)/std_i)² + ½ ‖w‖²
    """

    model: DGNO
    prior: LatentPrior
    observations: Observations

    @property
    def grid(self) -> Grid:
        """That of the weak form."""
        return self.model.weak_form.grid

    @property
    def domain(self) -> Grid:
        """That of the weak form."""
        return self.model.weak_form.domain

    def rows(self, w: Float[Array, " latent"]) -> Float[Array, " rows"]:
        """The numbers that are squared: of the observations, then of the prior."""
        return jnp.concatenate([self.seen(w), w])

    def latent(self, w: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """β."""
        return self.prior.latent(self.model, w)

    def solution(self, w, points):
        """u at points."""
        return self.model.solution(self.latent(w), points)

    def coefficient(self, w, points):
        """The mean of a at points."""
        return self.model.coefficient(self.latent(w), points)


def latent_misfit(
    model: Any, observations: Observations, prior: LatentPrior | None
) -> LatentMisfit:
    """Of a trained model, with the prior that its training had if none is given.

    **Raises:** `TypeError` for what is no `DGNO`; `ValueError` for a prior of another
    length, points outside of the domain, and channels that there are not.
    """
    if not isinstance(model, DGNO):
        raise TypeError(
            f"model: expected a DGNO, got a {type(model).__name__}. For a problem take "
            "method=TotalVariation(…)."
        )
    prior = LatentPrior.standard(model) if prior is None else prior
    if prior.mean.shape != (model.latent_dim,):
        raise ValueError(
            f"prior: expected one of {model.latent_dim} numbers, the model's "
            f"latent_dim, got {prior.mean.shape[0]}."
        )
    form = model.weak_form
    observations.check_inside(form.domain)
    covered = np.asarray(form.covers(observations.points))
    if not covered.all():
        bad = np.flatnonzero(~covered)
        raise ValueError(
            f"points: at {bad.size} of {len(covered)} there is no solution, the first "
            f"is number {bad[0]} at {np.asarray(observations.points)[bad[0]].tolist()}."
        )
    observations.check_channels(model.num_channels)
    return LatentMisfit(model=model, prior=prior, observations=precise(observations))
