"""Stiff PDEs by implicit time steps that never store a matrix.

Run it with `python examples/stiff_pde_matrix_free.py`. For two fields on 256 × 256
nodes the Jacobian that diffrax's implicit solvers store by default has 131,072²
entries, 137 GB in double precision. Here the same solver runs on products with it.
Prints steps, times, errors and the peak memory of the process.
"""

import resource
import sys
import time

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml.grids import Grid, Periodic
from sciml.linear import MatrixFree, diffusion_operator
from sciml.preconditioners import FastDiagonalisation


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` takes small grids.

    **Returns:** steps, errors and memory by name.
    """
    jax.config.update("jax_enable_x64", True)
    points = 16 if smoke else 256
    grid = Grid((points, points), boundary=Periodic())
    A = diffusion_operator(0.1, grid)
    # Newton's method in every stage, its linear systems by GMRES. The reactions make
    # these unsymmetric; the preconditioner inverts the diffusion and sees the average
    # of the reactions, which leaves GMRES a few steps.
    implicit = MatrixFree(dfx.Kvaerno5(), preconditioner=FastDiagonalisation(grid))
    print(f"{points} × {points} nodes, two fields")
    numbers = heat(A, implicit)
    return numbers | brusselator(A, implicit, 0.2 if smoke else 1.0)


def right_hand_side(t, fields, args):
    """u_t = s (1 + u²v − 4.4 u) + a Δu,  v_t = s (3.4 u − u²v) + a Δv.

    With s = 1 the Brusselator, BRUSS-2D of Hairer & Wanner, *Solving Ordinary
    Differential Equations II*, §IV.10, before its source is switched on; with s = 0 two
    heat equations.
    """
    A, s = args
    u, v = fields
    uuv = u * u * v
    reactions = jnp.stack([1 + uuv - 4.4 * u, 3.4 * u - uuv])
    return s * reactions - jax.vmap(A.mv)(fields)


@eqx.filter_jit
def integrate(solver, end, start, args) -> dfx.Solution:
    """One call of diffrax, the same for every solver."""
    return dfx.diffeqsolve(
        dfx.ODETerm(right_hand_side),
        solver,
        t0=0.0,
        t1=end,
        dt0=None,
        y0=start,
        args=args,
        stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-5),
        max_steps=100_000,
    )


def heat(A, solver) -> dict[str, float]:
    """No reactions: the solution is known, and so is the error."""
    x, y = A.grid.mesh()
    end, wave = 0.1, 2 * np.pi * np.array([1, 4])
    # Eigenvectors of A, one for each field, with their eigenvalues.
    modes = np.stack([np.cos(k * x) * np.cos(k * y) for k in wave])
    h = A.grid.spacing[0]
    rates = 0.1 * 2 * (2 / h * np.sin(wave * h / 2)) ** 2
    args = A, jnp.asarray(0.0)
    start = jnp.asarray(modes)
    seconds, solution = timed(integrate, solver, jnp.asarray(end), start, args)
    exact = np.exp(-rates * end)[:, None, None] * modes
    error = float(np.abs(solution.ys[0] - exact).max())
    steps = int(solution.stats["num_steps"])
    print(f"  heat equation to t = {end}: {steps} steps, {seconds:.1f} s", end="")
    print(f", error {error:.0e}")
    return {"heat_steps": steps, "heat_error": error}


def brusselator(A, implicit, end: float) -> dict[str, float]:
    """With reactions; the explicit solver beside it on a part of the time."""
    x, y = A.grid.mesh()
    start = np.stack([22 * y * (1 - y) ** 1.5, 27 * x * (1 - x) ** 1.5])
    start = jnp.asarray(start)
    args = A, jnp.asarray(1.0)
    # The explicit steps are bounded by stability, wherever the solution goes: from a
    # part of the time the work for all of it is known.
    part = end / 20
    numbers, finals = {}, []
    for name, solver, until in (
        ("implicit", implicit, end),
        ("implicit_part", implicit, part),
        ("explicit_part", dfx.Tsit5(), part),
    ):
        seconds, solution = timed(integrate, solver, jnp.asarray(until), start, args)
        finals.append(np.asarray(solution.ys[0]))
        steps = int(solution.stats["num_steps"])
        numbers[f"{name}_steps"] = steps
        method = "Tsit5" if name == "explicit_part" else "Kvaerno5"
        print(f"  Brusselator to t = {until:g}, {method}: {steps} steps", end="")
        print(f", {seconds:.1f} s")
        if name == "implicit":
            numbers["peak_megabytes"] = peak_memory()
            print(f"  peak memory so far: {numbers['peak_megabytes']:.0f} MB")
    difference = float(np.abs(finals[1] - finals[2]).max())
    print(f"  largest difference between the two: {difference:.0e}")
    return numbers | {"difference": difference}


def timed(function, *arguments):
    """Seconds of a second call, without compiling, and what it returns."""
    jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    out = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start, out


def peak_memory() -> float:
    """The most memory this process ever had, in MB, Python and compiler included."""
    # In kilobytes; on macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
