"""What a method for posteriors is given, and what it gives."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..grids import Grid
from ._observations import Observations


class AbstractMisfit(eqx.Module):
    """Observations, and how numbers w make a coefficient and a solution.

    - `observations`: as precise as JAX is.
    """

    observations: eqx.AbstractVar[Observations]

    @property
    @abc.abstractmethod
    def grid(self) -> Grid:
        """Where coefficients are."""

    @property
    @abc.abstractmethod
    def domain(self) -> Grid:
        """Where solutions are."""

    @abc.abstractmethod
    def solution(
        self, w: Float[Array, " numbers"], points: Float[Array, "num ndim"]
    ) -> Float[Array, "channels num"]:
        """u at points."""

    @abc.abstractmethod
    def coefficient(
        self, w: Float[Array, " numbers"], points: Float[Array, "num ndim"]
    ) -> Float[Array, " num"]:
        """The mean of a at points."""

    def seen(self, w: Float[Array, " numbers"]) -> Float[Array, " num"]:
        """(u − y)/std at the observations."""
        return self.off(self.solution(w, self.points)) / self.observations.std

    def off(self, solution: Float[Array, "channels num"]) -> Float[Array, " num"]:
        """u − y, for u at the points of the observations."""
        channels = self.observations.channels
        return solution[channels, jnp.arange(len(channels))] - self.values

    @property
    def points(self) -> Float[Array, "num ndim"]:
        """Of the observations."""
        return self.observations.points

    @property
    def values(self) -> Float[Array, " num"]:
        """y."""
        return self.observations.values

    def nodes(self) -> Float[Array, "nodes ndim"]:
        """Of the domain."""
        return self._nodes(self.domain)

    def coefficient_nodes(self) -> Float[Array, "nodes ndim"]:
        """Of the grid."""
        return self._nodes(self.grid)

    def _nodes(self, grid: Grid) -> Float[Array, "nodes ndim"]:
        axes = [jnp.asarray(axis, self.values.dtype) for axis in grid.mesh()]
        return jnp.stack([axis.reshape(-1) for axis in axes], -1)


class Found(eqx.Module):
    """What a method makes of a misfit.

    - `mode`: the most probable w.
    - `draws`: samples of w.
    - `mean`, `std`: of u at the domain's nodes.
    - `coefficient_mean`, `coefficient_std`: of a at the grid's nodes.
    - `result`: an item of `sciml.RESULTS`.
    - `stats`: a dictionary of arrays.
    """

    mode: Float[Array, " numbers"]
    draws: Float[Array, "draws numbers"]
    mean: Float[Array, "channels nodes"]
    std: Float[Array, "channels nodes"]
    coefficient_mean: Float[Array, " coefficients"]
    coefficient_std: Float[Array, " coefficients"]
    result: Any
    stats: dict[str, Array]


class AbstractPosteriorMethod(eqx.Module):
    """How the distribution of a coefficient is found, and of which numbers."""

    @abc.abstractmethod
    def misfit(self, model: Any, observations: Observations, prior: Any) -> Any:
        """What is to be searched.

        **Arguments:** as of `posterior`; `prior` may be None.

        **Raises:** `TypeError` for a model that the method is not for, `ValueError`
        for what does not fit together.
        """

    @abc.abstractmethod
    def find(self, misfit: Any, *, key: PRNGKeyArray) -> Found:
        """Mode, spread and samples.

        **Arguments:**

        - `misfit`: what the method of that name gave.
        - `key`: draws starting points and samples.
        """


def averaged(
    misfit: AbstractMisfit, draws: Float[Array, "draws numbers"]
) -> tuple[Float[Array, " coefficients"], Float[Array, " coefficients"]]:
    """Mean and standard deviation of a at the nodes, over samples."""
    nodes = misfit.coefficient_nodes()
    drawn = jax.vmap(lambda w: misfit.coefficient(w, nodes))(draws)
    return jnp.mean(drawn, 0), jnp.std(drawn, 0)


def precise(observations: Observations) -> Observations:
    """Points, values and deviations as precise as JAX is.

    (A search is short, and its algebra is not well-conditioned.)
    """
    dtype = jnp.result_type(float)
    cast = lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x
    return jax.tree.map(cast, observations)
