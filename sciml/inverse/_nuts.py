"""Samples of the posterior itself, by Hamiltonian Monte Carlo."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._result import RESULTS
from ._laplace import Laplace, Mode
from ._latent_misfit import LatentMisfit, latent_misfit
from ._method import AbstractPosteriorMethod, Found, averaged


class NUTS(AbstractPosteriorMethod):
    """p(w | y) by the no-U-turn sampler, in coordinates that Laplace's method gives.

        w = w* + L⁻ᵀ v,   L Lᵀ = JᵀJ at the most probable w*

    In v the posterior is close to N(0, I), so that the step size is all that has to be
    adapted. Chains start at draws of that normal distribution. It is the check of
    `Laplace`, and the method where u is far from linear in w over the posterior.

    `stats` of a `Posterior` by it, besides those of `Laplace` (of the mode):

    - `r_hat`: the largest ratio of a number's standard deviations among all chains and
        within them; `effective_sample_size`: the smallest, of all chains together.
    - `acceptance`: mean probability; `num_divergent`: of all transitions.

    The result is `RESULTS.max_steps_reached` unless `r_hat` is at most 1.05, and
    `RESULTS.nonfinite` where samples are not finite.

    **Arguments:**

    - `num_samples`: per chain. Default 500.
    - `num_warmup`: transitions that adapt the step size and are dropped. Default 300.
    - `num_chains`: at least 2. Default 4.
    - `laplace`: how the mode is searched for. Default `Laplace()`.

    Needs `pip install 'sciml-solvers[inverse]'`, for BlackJAX.

    **Raises:** `ValueError` for numbers out of range, `ImportError` without BlackJAX.

    !!! example

        ```python
        method = sciml.inverse.NUTS(num_samples=1000)
        ```

    Source: Hoffman & Gelman, *The no-U-turn sampler*, J. Mach. Learn. Res. 15 (2014),
    1593–1623; the sampler is BlackJAX's.
    """

    num_samples: int = eqx.field(static=True, default=500)
    num_warmup: int = eqx.field(static=True, default=300)
    num_chains: int = eqx.field(static=True, default=4)
    laplace: Laplace = Laplace()

    def __check_init__(self):
        for name, least in (("num_samples", 4), ("num_warmup", 20), ("num_chains", 2)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: expected at least {least}, got {getattr(self, name)}."
                )

    def misfit(self, model, observations, prior) -> LatentMisfit:
        """In the latent space of a `DGNO`."""
        return latent_misfit(model, observations, prior)

    def find(self, misfit: LatentMisfit, *, key: PRNGKeyArray) -> Found:
        """Chains, and what they say of u."""
        blackjax = _blackjax()
        mode_key, start_key, chain_key = jr.split(key, 3)
        mode = self.laplace.mode(misfit, key=mode_key)
        size, dtype = misfit.model.latent_dim, misfit.values.dtype

        def log_density(v):
            return -0.5 * jnp.sum(misfit.rows(mode.at(v)) ** 2)

        starts = jr.normal(start_key, (self.num_chains, size), dtype)
        keys = jr.split(chain_key, self.num_chains)
        run = lambda key, start: self._chain(blackjax, log_density, key, start)
        # BlackJAX mixes types, as NumPy lets one.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            chains, accepted, divergent = jax.vmap(run)(keys, starts)
            r_hat = blackjax.diagnostics.potential_scale_reduction(chains)
            effective = blackjax.diagnostics.effective_sample_size(chains)
        draws = jax.vmap(mode.at)(chains.reshape(-1, size))
        nodes = misfit.nodes()
        # (One after the other in blocks: a solution each would be a lot of memory.)
        solutions = jax.lax.map(
            lambda w: misfit.solution(w, nodes), draws, batch_size=100
        )
        stats = {
            **mode.stats,
            "r_hat": jnp.max(r_hat),
            "effective_sample_size": jnp.min(effective),
            "acceptance": jnp.mean(accepted),
            "num_divergent": jnp.sum(divergent),
        }
        return Found(
            mode.place,
            draws,
            jnp.mean(solutions, 0),
            jnp.std(solutions, 0),
            *averaged(misfit, draws),
            _judged(mode, draws, jnp.max(r_hat)),
            stats,
        )

    def _chain(
        self, blackjax: Any, log_density: Any, key: PRNGKeyArray, start: Array
    ) -> tuple[Array, Array, Array]:
        """Samples of one chain, acceptance probabilities, and what diverged."""
        adapt_key, sample_key = jr.split(key)
        warmup = blackjax.window_adaptation(blackjax.nuts, log_density)
        (state, parameters), _ = warmup.run(adapt_key, start, self.num_warmup)
        kernel = blackjax.nuts(log_density, **parameters)

        def step(state, key):
            state, info = kernel.step(key, state)
            return state, (state.position, info.acceptance_rate, info.is_divergent)

        _, found = jax.lax.scan(step, state, jr.split(sample_key, self.num_samples))
        return found


def _judged(mode: Mode, draws: Float[Array, "draws latent"], r_hat: Array) -> Any:
    names: Any = RESULTS
    result = names.where(r_hat <= 1.05, names.successful, names.max_steps_reached)
    finite = jnp.all(jnp.isfinite(draws)) & jnp.isfinite(r_hat)
    finite = finite & jnp.all(jnp.isfinite(mode.place))
    return names.where(finite, result, names.nonfinite)


def _blackjax() -> Any:
    try:
        import blackjax
    except ImportError as error:
        raise ImportError(
            "NUTS needs BlackJAX: pip install 'sciml-solvers[inverse]'."
        ) from error
    return blackjax
