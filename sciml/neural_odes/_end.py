"""How a solve ended, said with the time."""

from typing import Any

import diffrax as dfx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped

# pyright: reportPrivateImportUsage=false


def end_of(
    solution: dfx.Solution, time: Shaped[Array, ""], throw: bool
) -> tuple[dfx.Solution, Bool[Array, ""]]:
    """The solution and whether it is one; raises if it is none and `throw` says so.

    `time` is that until which the solution was finite, NaN if it is.
    """
    okay = (solution.result == dfx.RESULTS.successful) | (
        solution.result == dfx.RESULTS.event_occurred
    )
    if not throw:
        return solution, okay
    nonfinite = solution.result == dfx.RESULTS.nonfinite
    raised = _raise_with_time(nonfinite, jax.lax.stop_gradient(time))
    failed = (~okay & ~nonfinite) | raised
    # (Both: a caller may keep one of them only.)
    return solution.result.error_if((solution, okay), failed)


@jax.custom_jvp
def _raise_with_time(failed: Bool[Array, ""], time: Shaped[Array, ""]) -> Array:
    """`failed`, unless it is true: then a `RuntimeError` that names the time."""
    call = lambda: jax.pure_callback(
        _raise, jax.ShapeDtypeStruct((), bool), failed, time, vmap_method="expand_dims"
    )
    # (Both branches of a batched condition would run.)
    return jax.lax.cond(eqxi.unvmap_any(failed), call, lambda: failed)


@_raise_with_time.defjvp  # pyright: ignore[reportArgumentType]
def _raise_with_time_jvp(primals, tangents):
    del tangents
    out = _raise_with_time(*primals)
    return out, np.zeros(jnp.shape(out), jax.dtypes.float0)


def _raise(failed: Any, time: Any) -> Any:
    if np.any(failed):
        times = np.broadcast_to(time, np.shape(failed))[np.asarray(failed)]
        raise RuntimeError(
            f"The solution is not finite beyond t = {np.min(times):.6g}: the vector "
            "field returns NaN or infinity there, or the solution grows without bound."
        )
    return np.asarray(failed)
