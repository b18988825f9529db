"""The units in which the error of a step is measured: those of its controller."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx

# What diffrax replaces by the controller's values before a solve, wherever it finds it
# in the root finder of an implicit solver. The import is private: a test pins it.
from diffrax._root_finder import use_stepsize_tol as FROM_CONTROLLER
from jaxtyping import Array, PyTree, Shaped


class Tolerances(eqx.Module):
    """rtol, atol and a norm; `FROM_CONTROLLER` until diffrax has filled them in."""

    rtol: Any
    atol: Any
    norm: Any

    def scaled_norm(
        self, error: PyTree, y0: PyTree, y1: PyTree, finite: Shaped[Array, ""]
    ) -> Shaped[Array, ""]:
        """E = ‖e / (atol + rtol max(|y0|, |y1|))‖, as `diffrax.PIDController` has it.

        Zero unless everything is finite: other steps are rejected, and with zeros
        instead their derivative, which is multiplied by zero, is finite.
        """
        self.check()

        def scaled(e, a, b):
            e, b = zero_unless(finite, e), zero_unless(finite, b)
            size = jnp.maximum(jnp.abs(a), jnp.abs(b))
            rtol, atol = (jnp.asarray(x, size.dtype) for x in (self.rtol, self.atol))
            return e / (atol + rtol * size)

        return jnp.asarray(self.norm(jtu.tree_map(scaled, error, y0, y1)))

    def check(self) -> None:
        """Raise unless the values are known."""
        if any(x is FROM_CONTROLLER for x in (self.rtol, self.atol, self.norm)):
            raise ValueError(
                "RecordHeuristics: the tolerances that errors are measured in are not "
                "known here. `diffrax.diffeqsolve` takes them from an adaptive step "
                "size controller; with other controllers, and where `step` is called "
                "by hand, give `RecordHeuristics(solver, rtol=..., atol=...)`."
            )

    def filled_into(self, solver: Any) -> Any:
        """An implicit solver whose root finder has these tolerances where it has none.

        diffrax fills in those of the outermost solver only.
        """
        values = {"rtol": self.rtol, "atol": self.atol, "norm": self.norm}

        def fill(path, leaf):
            return values[path[-1].name] if leaf is FROM_CONTROLLER else leaf

        is_leaf = lambda leaf: leaf is FROM_CONTROLLER or leaf is None
        return jtu.tree_map_with_path(fill, solver, is_leaf=is_leaf)


def tolerances(
    rtol: Any = None, atol: Any = None, norm: Callable | None = None
) -> Tolerances:
    """Those given, or the controller's; `ValueError` for one without the other."""
    if (rtol is None) != (atol is None):
        raise ValueError(
            f"rtol, atol: expected both or neither, got rtol={rtol!r}, atol={atol!r}."
        )
    if rtol is None:
        if norm is not None:
            raise ValueError("norm: the controller's is used unless rtol is given.")
        return Tolerances(FROM_CONTROLLER, FROM_CONTROLLER, FROM_CONTROLLER)
    return Tolerances(rtol, atol, optx.rms_norm if norm is None else norm)


def zero_unless(okay: Shaped[Array, ""], x: Array) -> Array:
    """`jnp.where(okay, x, 0)` of one flag, without a function of its own to compile."""
    return jax.lax.select(okay, x, jnp.zeros_like(x))


def all_finite(tree: PyTree) -> Shaped[Array, ""]:
    """Whether every number in a pytree is finite."""
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, flags or [jnp.asarray(True)])
