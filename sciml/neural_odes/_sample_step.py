"""One accepted step, drawn at random while the solve goes on."""

import abc
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

from ._tolerances import Tolerances
from ._transparent import AbstractTransparentSolver

# Attributes of solvers are properties here.
# pyright: reportIncompatibleVariableOverride=false


class Sample(eqx.Module):
    """Where a local step starts and how long it is; constants to derivatives.

    `weight` makes E · weight what the sampling stands for.
    """

    t: Shaped[Array, ""]
    h: Shaped[Array, ""]
    y: PyTree
    weight: Shaped[Array, ""]


class AbstractSampling(eqx.Module):
    """How `SampleStep` draws a step."""

    @abc.abstractmethod
    def probability(self, count: Int[Array, ""], h: Any, elapsed: Any) -> Array:
        """That the newest step, of size h, replaces the one kept so far.

        `count` steps were accepted before; `elapsed` is the time since the start, this
        step included.
        """

    @abc.abstractmethod
    def sample(self, t0: Any, t1: Any, y0: PyTree, path: Any, u: Any) -> tuple:
        """The start (t, y) of the local step; u is uniform in [0, 1)."""

    @abc.abstractmethod
    def weight(self, h: Any, elapsed: Any) -> Any:
        """What E of the local step is multiplied by; `elapsed` is the whole time."""


class Unbiased(AbstractSampling):
    """A time t ~ U(t₀, t₁) and the solution there; the value is E h.

    h is the size of the step of the solve that covers t. (The published code lets the
    solver choose an initial step instead: at common tolerances that is so much shorter
    that the penalty, which falls like h⁶ for Tsit5, has no effect.)

    Source: Pal, Edelman & Rackauckas, *Locally Regularized Neural Differential
    Equations*, ICML 2023.
    """

    def probability(self, count, h, elapsed):
        """In proportion to the size of the step."""
        del count
        return h / elapsed

    def sample(self, t0, t1, y0, path, u):
        """Somewhere within the step."""
        t = t0 + u * (t1 - t0)
        return t, path.evaluate(t)

    def weight(self, h, elapsed):
        """h."""
        return h


class Biased(AbstractSampling):
    """One of the accepted steps, each as likely as the other; the value is E h.

    So towards where steps are short.

    Source: as of `Unbiased`.
    """

    def probability(self, count, h, elapsed):
        """One over the number of steps."""
        del elapsed
        return 1.0 / (count + 1).astype(h.dtype)

    def sample(self, t0, t1, y0, path, u):
        """The start of the step."""
        return t0, y0

    def weight(self, h, elapsed):
        """h."""
        return h


class Reservoir(AbstractSampling):
    """An accepted step, drawn in proportion to its size; the value is E (t₁ − t₀).

    Its mean over keys is Σ E_j h_j, the value of `ErrorEstimate`, at the memory of one
    copy of y and under every adjoint.
    """

    def probability(self, count, h, elapsed):
        """In proportion to the size of the step."""
        del count
        return h / elapsed

    def sample(self, t0, t1, y0, path, u):
        """The start of the step."""
        return t0, y0

    def weight(self, h, elapsed):
        """The whole time."""
        return elapsed


class _State(eqx.Module):
    inner: Any
    start: Shaped[Array, ""]
    end: Shaped[Array, ""]
    count: Int[Array, ""]
    t: Shaped[Array, ""]
    h: Shaped[Array, ""]
    y: PyTree


class SampleStep(AbstractTransparentSolver):
    """Another solver, which keeps one of its accepted steps, drawn at random.

    The steps are the same as without. What is kept replaces what was kept before with a
    probability that makes every step as likely as `sampling` says, however many there
    will be (reservoir sampling): the memory is one copy of y. Ask for the state with
    `SaveAt(..., solver_state=True)` and read it with `sample_of`.

    **Arguments:**

    - `solver`: any solver.
    - `sampling`: `Unbiased()`, `Biased()` or `Reservoir()`, the default.
    - `key`: the same key draws the same step of the same solve.

    Source: Vitter, ACM Trans. Math. Softw. 11 (1985) 37 (reservoir sampling).
    """

    inner: dfx.AbstractSolver
    sampling: AbstractSampling
    key: PRNGKeyArray

    def __init__(
        self,
        solver: dfx.AbstractSolver,
        sampling: AbstractSampling | None = None,
        *,
        key: PRNGKeyArray,
    ):
        self.inner = solver
        self.sampling = Reservoir() if sampling is None else sampling
        self.key = key

    @property
    def root_finder(self) -> Any:
        """Of the inner solver; one that asks for nothing if it is explicit."""
        return getattr(self.inner, "root_finder", Tolerances(None, None, None))

    def init(self, terms, t0, t1, y0, args) -> _State:
        """The inner solver's state, and no step kept."""
        t0 = jax.lax.stop_gradient(jnp.asarray(t0))
        count = jnp.zeros((), jnp.int32)
        inner = self.inner.init(terms, t0, t1, y0, args)
        y = jax.lax.stop_gradient(y0)
        return _State(inner, t0, t0, count, t0, jnp.zeros_like(t0), y)

    def step(self, terms, t0, t1, y0, args, solver_state: _State, made_jump):
        """A step of the inner solver, perhaps kept."""
        y1, error, dense_info, inner, result = self.inner.step(
            terms, t0, t1, y0, args, solver_state.inner, made_jump
        )
        t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
        start, end, info, y = jax.lax.stop_gradient((t0, t1, dense_info, y0))
        path = self.inner.interpolation_cls(t0=start, t1=end, **info)
        h, elapsed = end - start, end - solver_state.start
        keys = jr.split(jr.fold_in(self.key, solver_state.count))
        draw, position = (jr.uniform(k, (), h.dtype) for k in keys)
        take = draw < self.sampling.probability(solver_state.count, h, elapsed)
        t, y = self.sampling.sample(start, end, y, path, position)
        choose = lambda new, old: jnp.where(take, new, old)
        state = _State(
            inner,
            solver_state.start,
            end,
            solver_state.count + 1,
            choose(t, solver_state.t),
            choose(h, solver_state.h),
            jtu.tree_map(choose, y, solver_state.y),
        )
        return y1, error, dense_info, state, result

    def sample_of(self, solver_state: _State) -> Sample:
        """The step that was kept, in the time that increases along the solve."""
        elapsed = solver_state.end - solver_state.start
        t, h, y = solver_state.t, solver_state.h, solver_state.y
        # A step from within another one must not leave the interval.
        h = jnp.minimum(h, solver_state.end - t)
        return Sample(t, h, y, self.sampling.weight(h, elapsed))


def local_error_estimate(
    terms: PyTree, solver: Any, tolerances: Any, sample: Sample, args: PyTree
) -> Float[Array, ""]:
    """E · weight of one step from a sample: differentiable in terms and args only."""
    sample = jax.lax.stop_gradient(sample)
    end = sample.t + sample.h
    state = solver.init(terms, sample.t, end, sample.y, args)
    y1, error, *_ = solver.step(terms, sample.t, end, sample.y, args, state, False)
    E, _ = tolerances.scaled_norm(error, sample.y, y1)
    return E * sample.weight.astype(E.dtype)
