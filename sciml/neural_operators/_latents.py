"""What an encoder's numbers say of the latent vector: a slot of DGNO."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register


class AbstractLatent(eqx.Module):
    """A distribution q(β | a) by some numbers, and the prior p(β) beside it."""

    @abc.abstractmethod
    def num_raw(self, latent_dim: int) -> int:
        """How many numbers an encoder has to give."""

    @abc.abstractmethod
    def mean(self, raw: Float[Array, " raw"]) -> Float[Array, " latent"]:
        """The mean of q."""

    @abc.abstractmethod
    def draw(
        self, raw: Float[Array, " raw"], *, key: PRNGKeyArray
    ) -> Float[Array, " latent"]:
        """A sample of q, differentiable by the numbers."""

    @abc.abstractmethod
    def divergence(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """∫ q log(q/p): Kullback and Leibler's, from the prior."""

    @abc.abstractmethod
    def bounded(self, z: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """β of numbers that have no bounds."""

    @abc.abstractmethod
    def unbounded(
        self, raw: Float[Array, " raw"]
    ) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """Mean and variance of those numbers in q."""

    @property
    @abc.abstractmethod
    def unbounded_std(self) -> float:
        """Their standard deviation in the prior."""


@register
class BoxLatent(AbstractLatent):
    """β = tanh(raw): one point, in a box that is the support of a flat prior.

    A posterior that is a point, as in the code that was published for DGNO. There is no
    divergence from the prior: what is minimised is a penalised likelihood.
    """

    def num_raw(self, latent_dim):
        """One for each entry of β."""
        return latent_dim

    def mean(self, raw):
        """tanh(raw)."""
        return jnp.tanh(raw)

    def draw(self, raw, *, key):
        """The same; nothing is random."""
        del key
        return jnp.tanh(raw)

    def divergence(self, raw):
        """0."""
        return jnp.zeros((), raw.dtype)

    def bounded(self, z):
        """tanh(z)."""
        return jnp.tanh(z)

    def unbounded(self, raw):
        """raw itself, and 0."""
        return raw, jnp.zeros_like(raw)

    @property
    def unbounded_std(self):
        """That of atanh of a uniform number, π/√12."""
        return math.pi / math.sqrt(12)


@register
class GaussianLatent(AbstractLatent):
    """q = N(μ, diag σ²) with raw = (μ, log σ²), and the prior N(0, I).

    The variational posterior of the paper's text:

        ∫ q log(q/p) = ½ Σ (μ² + σ² − 1 − log σ²)

    log σ² is kept between −20 and 4 by a smooth bound, so that nothing overflows early
    in the training.
    """

    def num_raw(self, latent_dim):
        """Two for each entry of β."""
        return 2 * latent_dim

    def mean(self, raw):
        """μ."""
        return jnp.split(raw, 2)[0]

    def log_variance(self, raw: Float[Array, " raw"]) -> Float[Array, " latent"]:
        """log σ²."""
        low, high = -20.0, 4.0
        free = jnp.split(raw, 2)[1]
        # Slope 1 in the middle, −8; −4.1, and so σ = 0.13, where the raw number is 0.
        return low + (high - low) * jax.nn.sigmoid(4 * (free + 4) / (high - low))

    def draw(self, raw, *, key):
        """μ + σ ε, ε ~ N(0, I)."""
        mean = self.mean(raw)
        noise = jr.normal(key, mean.shape, mean.dtype)
        return mean + jnp.exp(self.log_variance(raw) / 2) * noise

    def divergence(self, raw):
        """½ Σ (μ² + σ² − 1 − log σ²)."""
        mean, log_variance = self.mean(raw), self.log_variance(raw)
        return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)

    def bounded(self, z):
        """z itself."""
        return z

    def unbounded(self, raw):
        """μ and σ²."""
        return self.mean(raw), jnp.exp(self.log_variance(raw))

    @property
    def unbounded_std(self):
        """1."""
        return 1.0
