"""What a method for posteriors is given, and what it gives."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..neural_operators import DGNO
from ._prior import LatentPrior


class Found(eqx.Module):
    """What a method makes of a `Misfit`.

    - `mode`: the most probable w.
    - `draws`: samples of w, in which things that are not nearly linear are averaged.
    - `mean`, `std`: of u at the nodes.
    - `result`: an item of `sciml.RESULTS`.
    - `stats`: a dictionary of arrays.
    """

    mode: Float[Array, " latent"]
    draws: Float[Array, "draws latent"]
    mean: Float[Array, "channels nodes"]
    std: Float[Array, "channels nodes"]
    result: Any
    stats: dict[str, Array]


class Misfit(eqx.Module):
    """−log posterior as half a sum of squares, of standard normal numbers w:

    ½ Σ ((u(x_i; β(w)) − y_i)/std_i)² + ½ ‖w‖²
    """

    model: DGNO
    prior: LatentPrior
    points: Float[Array, "num ndim"]
    values: Float[Array, " num"]
    std: Float[Array, " num"]

    def rows(self, w: Float[Array, " latent"]) -> Float[Array, " rows"]:
        """The numbers that are squared: of the observations, then of the prior."""
        seen = (self.solution(w, self.points)[0] - self.values) / self.std
        return jnp.concatenate([seen, w])

    def solution(
        self, w: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, "channels num"]:
        """u at points."""
        return self.model.solution(self.prior.latent(self.model, w), points)

    def coefficient(
        self, w: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, " num"]:
        """The mean of a at points."""
        return self.model.coefficient(self.prior.latent(self.model, w), points)

    def nodes(self) -> Float[Array, "nodes ndim"]:
        """Of the model's grid."""
        return self.model.nodes.astype(self.values.dtype)


class AbstractPosteriorMethod(eqx.Module):
    """How the distribution of the latent vector is found."""

    @abc.abstractmethod
    def find(self, misfit: Misfit, *, key: PRNGKeyArray) -> Found:
        """Mode, spread and samples."""
