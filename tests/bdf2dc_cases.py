"""Problems with known solutions, stiff ones, and solves of them."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np

PID = dfx.PIDController(rtol=1e-6, atol=1e-8, pcoeff=0.3, icoeff=0.3)
TIGHT = (1e-12, 1e-12)
LAST = dfx.SaveAt(t1=True, solver_state=True)
CHECKPOINTS = dfx.RecursiveCheckpointAdjoint()
END = 4.0


def exact(t):
    return 1 + 0.5 * jnp.sin(t) + 0.2 * t


def cubic(t, y, args):
    return -(y**3) + exact(t) ** 3 + 0.5 * jnp.cos(t) + 0.2


def van_der_pol(t, y, mu):
    return jnp.stack([y[1], mu * ((1 - y[0] ** 2) * y[1] - y[0])])


CUBIC, VAN_DER_POL = dfx.ODETerm(cubic), dfx.ODETerm(van_der_pol)
START = jnp.array([2.0, 0.0])


@eqx.filter_jit
def solve(
    term,
    solver,
    y0,
    args=None,
    controller: Any = PID,
    t0: Any = 0.0,
    t1: Any = 1.0,
    dt0: Any = None,
    saveat=LAST,
    adjoint: dfx.AbstractAdjoint = CHECKPOINTS,
    throw=True,
    max_steps: int | None = 1024,
    **kwargs,
) -> dfx.Solution:
    return dfx.diffeqsolve(
        term,
        solver,
        t0,
        t1,
        dt0,
        y0,
        args,
        stepsize_controller=controller,
        saveat=saveat,
        adjoint=adjoint,
        throw=throw,
        max_steps=max_steps,
        **kwargs,
    )


def on_grid(term, solver, ts, y0, args=None, **kwargs):
    controller = dfx.StepTo(jnp.asarray(ts))
    return solve(term, solver, y0, args, controller, ts[0], ts[-1], **kwargs)


GRID = np.r_[0, np.cumsum(1 + 0.8 * np.sin(np.arange(20)))] / 25


def hires(t, y, args):
    y1, y2, y3, y4, y5, y6, y7, y8 = y
    w = 280 * y6 * y8
    return jnp.stack(
        [
            -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
            1.71 * y1 - 8.75 * y2,
            -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
            8.32 * y2 + 1.71 * y3 - 1.12 * y4,
            -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
            -w + 0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
            w - 1.81 * y7,
            -w + 1.81 * y7,
        ]
    )


def orego(t, y, args):
    y1, y2, y3 = y
    return jnp.stack(
        [
            77.27 * (y2 + y1 * (1 - 8.375e-6 * y1 - y2)),
            (y3 - (1 + y1) * y2) / 77.27,
            0.161 * (y1 - y3),
        ]
    )


def rober(t, y, args):
    y1, y2, y3 = y
    slow, back, fast = 0.04 * y1, 1e4 * y2 * y3, 3e7 * y2 * y2
    return jnp.stack([back - slow, slow - back - fast, fast])


def vdpol(t, y, args):
    return jnp.stack([y[1], ((1 - y[0] ** 2) * y[1] - y[0]) / 1e-6])


IVPS = {
    "hires": (hires, [1, 0, 0, 0, 0, 0, 0, 0.0057], 1e-10),
    "orego": (orego, [1, 2, 3], 1e-10),
    "rober": (rober, [1, 0, 0], 1e-16),
    "vdpol": (vdpol, [2, 0], 1e-10),
}
