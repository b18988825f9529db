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
from jaxtyping import Array, Bool, PyTree, Shaped


class Tolerances(eqx.Module):
    """rtol, atol and a norm; `FROM_CONTROLLER` until diffrax has filled them in."""

    rtol: Any
    atol: Any
    norm: Any

    def scaled_norm(
        self, error: PyTree, y0: PyTree, y1: PyTree
    ) -> tuple[Shaped[Array, ""], Bool[Array, ""]]:
        """E = ‖e / (atol + rtol max(|y0|, |y1|))‖, as `diffrax.PIDController` has it.

        And whether it is finite. Where it is not E is zero: such a step is rejected,
        and with zero instead its derivative, which is multiplied by zero, is finite.
        """
        self.check()
        E = _scaled_norm(error, y0, y1, self.rtol, self.atol, norm=self.norm)
        finite = jnp.isfinite(E) & ~_any_nan(y1)
        return zero_unless(finite, E), finite

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


def _as_controllers_do(error, y0, y1, rtol, atol, norm):
    # Operation by operation what the controller computes of the same step, so that
    # compilers find that they have it already: more than half of what recording costs.
    error = jtu.tree_map(lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), error)

    def scaled(a, b, e):
        b = jnp.where(jnp.isnan(b).any(), a, b)
        size = jnp.maximum(jnp.abs(a), jnp.abs(b))
        return e / (
            jnp.asarray(atol, size.dtype) + size * jnp.asarray(rtol, size.dtype)
        )

    return jnp.asarray(norm(jtu.tree_map(scaled, y0, y1, error)))


@eqx.filter_custom_jvp
def _scaled_norm(error, y0, y1, rtol, atol, *, norm):
    return _as_controllers_do(error, y0, y1, rtol, atol, norm)


@_scaled_norm.def_jvp
def _scaled_norm_jvp(primals, tangents, *, norm):
    error, y0, y1, rtol, atol = primals
    E = _as_controllers_do(error, y0, y1, rtol, atol, norm)
    finite = jnp.isfinite(E) & ~_any_nan(y1)

    def guarded(error, y0, y1, rtol, atol):
        error, y1 = jtu.tree_map(lambda x: zero_unless(finite, x), (error, y1))
        return _as_controllers_do(error, y0, y1, rtol, atol, norm)

    _, tangent = eqx.filter_jvp(guarded, primals, tangents)
    return E, tangent


def _any_nan(tree: PyTree) -> Bool[Array, ""]:
    flags = [jnp.isnan(leaf).any() for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_or, flags or [jnp.asarray(False)])


def zero_unless(okay: Shaped[Array, ""], x: Array) -> Array:
    """`jnp.where(okay, x, 0)` of one flag, without a function of its own to compile."""
    return jax.lax.select(okay, x, jnp.zeros_like(x))


def all_finite(tree: PyTree) -> Shaped[Array, ""]:
    """Whether every number in a pytree is finite."""
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.logical_and, flags or [jnp.asarray(True)])
