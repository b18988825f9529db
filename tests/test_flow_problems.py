"""Kuramoto–Sivashinsky and Navier–Stokes: balances, and other integrators' answers."""

import jax.numpy as jnp
import numpy as np
import scipy.integrate

import problems
from sciml.grids import GaussianField

# --- Kuramoto–Sivashinsky -------------------------------------------------------------


def test_energy_of_kuramoto_sivashinsky(getkey):
    """d/dt ½‖u‖² = ‖u_x‖² − ‖u_xx‖², by Simpson's rule over many saved states."""
    problem = problems.KuramotoSivashinsky(48, extent=22.0, final_time=2.0)
    u0 = problem.initial(key=getkey())
    saved = np.concatenate([u0[None], problem.solve(u0, num_saves=200)])
    kappa = 2 * np.pi * np.fft.rfftfreq(48, 22.0 / 48)
    v = np.abs(np.fft.rfft(saved)) ** 2 * (2 * 22.0 / 48**2)
    energy = 0.5 * v.sum(-1)
    rate = (v * (kappa**2 - kappa**4)).sum(-1)
    gained = scipy.integrate.simpson(rate, dx=0.01)
    np.testing.assert_allclose(energy[-1] - energy[0], gained, rtol=0, atol=1e-7)
    assert abs(gained) > 0.1
    np.testing.assert_allclose(saved.mean(-1), 0, atol=1e-13)


def test_kuramoto_sivashinsky_by_another_integrator(getkey):
    """The same modes by SciPy's Radau."""
    n, extent = 24, 12.0
    problem = problems.KuramotoSivashinsky(
        n, extent=extent, final_time=3.0, time_step=5e-3, refine=1
    )
    u0 = np.asarray(problem.initial(key=getkey()))
    j = np.fft.fftfreq(n, 1 / n)
    kappa, inside = 2 * np.pi * j / extent, np.abs(j) < n / 3
    project = lambda u, factor: np.fft.ifft(factor * np.fft.fft(u)).real

    def field(t, u):
        smooth = project(u, inside)
        return project(u, kappa**2 - kappa**4) - 0.5 * project(
            smooth**2, 1j * kappa * inside
        )

    solution = scipy.integrate.solve_ivp(
        field, (0, 3), u0, method="Radau", rtol=1e-10, atol=1e-11
    )
    found = problem.solve(jnp.asarray(u0))[0]
    np.testing.assert_allclose(found, solution.y[:, -1], rtol=0, atol=1e-8)


# --- Navier–Stokes --------------------------------------------------------------------


def test_taylor_green_vortices():
    """They decay without changing shape: ω = 8π² sin 2πx sin 2πy e^{−8π²νt} / 4."""
    problem = problems.NavierStokesVorticity(
        (16, 16), viscosity=0.01, forcing=0.0, final_time=1.0
    )
    x, y = problem.grid.mesh()
    shape = 2 * np.pi**2 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y)
    saved = problem.solve(jnp.asarray(shape), num_saves=4)
    for found, time in zip(saved, problem.times(4), strict=True):
        decay = np.exp(-8 * np.pi**2 * 0.01 * time)
        np.testing.assert_allclose(found, decay * shape, rtol=0, atol=1e-12)
    # ψ = ω / 8π², u = (ψ_y, −ψ_x).
    sin, cos = np.sin, np.cos
    expected = np.stack(
        [
            sin(2 * np.pi * x) * cos(2 * np.pi * y),
            -cos(2 * np.pi * x) * sin(2 * np.pi * y),
        ]
    )
    u = problem.velocity(jnp.asarray(shape))
    np.testing.assert_allclose(u, np.pi / 2 * expected, rtol=0, atol=1e-13)


def smooth_vorticity(n, key):
    """Of a distribution whose samples 16 modes carry."""
    return problems.NavierStokesVorticity(
        (n, n), initial_field=GaussianField(7.0, 6.0, scale=2e5, num_modes=7)
    ).initial(key=key)


def test_velocity_has_no_divergence(getkey):
    n = 32
    omega = smooth_vorticity(n, getkey())
    u = problems.NavierStokesVorticity((n, n)).velocity(omega)
    kappa = 2j * np.pi * np.fft.fftfreq(n, 1 / n)
    along = lambda f, axis: (
        np.fft.ifft2(np.fft.fft2(f) * (kappa[:, None] if axis == 0 else kappa)).real
    )
    scale = np.abs(along(u[0], 0)).max()
    np.testing.assert_allclose(along(u[0], 0) + along(u[1], 1), 0, atol=1e-13 * scale)
    curl = along(u[1], 0) - along(u[0], 1)
    np.testing.assert_allclose(curl, omega, rtol=0, atol=1e-12 * scale)


def test_enstrophy_of_navier_stokes(getkey):
    """d/dt ½‖ω‖² = −ν ‖∇ω‖² + (f, ω): transport gives none."""
    n, nu = 32, 2e-3
    problem = problems.NavierStokesVorticity(
        (n, n), viscosity=nu, forcing=2.0, final_time=1.0
    )
    omega = smooth_vorticity(n, getkey())
    saved = np.concatenate([omega[None], problem.solve(omega, num_saves=100)])
    kappa = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    squares = kappa[:, None] ** 2 + kappa**2
    v = np.abs(np.fft.fft2(saved)) ** 2 / n**4
    x, y = problem.grid.mesh()
    f = 2.0 * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y)))
    rate = -nu * (squares * v).sum((1, 2)) + (f * saved).mean((1, 2))
    gained = scipy.integrate.simpson(rate, dx=0.01)
    change = 0.5 * (v[-1].sum() - v[0].sum())
    np.testing.assert_allclose(change, gained, rtol=1e-6, atol=1e-7)
    assert abs(change) > 0.1
    # Transport matters: without it the shape would be another one.
    still = (
        saved[0]
        - np.fft.ifft2(np.fft.fft2(saved[0]) * (1 - np.exp(-nu * squares))).real
    )
    assert np.abs(saved[-1] - still).max() > 0.1


def test_navier_stokes_by_another_integrator(getkey):
    """−u·∇ω as −∇·(uω), by SciPy's DOP853 with complex transforms, at 16²."""
    n, nu, s = 16, 5e-3, 0.5
    problem = problems.NavierStokesVorticity(
        (n, n), viscosity=nu, forcing=s, final_time=1.0, time_step=5e-3
    )
    omega = np.asarray(smooth_vorticity(n, getkey()))
    j = np.fft.fftfreq(n, 1 / n)
    inside = (np.abs(j)[:, None] < n / 3) & (np.abs(j) < n / 3)
    kx, ky = 2 * np.pi * j[:, None], 2 * np.pi * j[None]
    squares = kx**2 + ky**2
    inverse = np.where(squares > 0, 1 / np.where(squares > 0, squares, 1), 0)
    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
    f = s * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y)))

    def field(t, flat):
        v = np.fft.fft2(flat.reshape(n, n))
        w = v * inside
        back = lambda v: np.fft.ifft2(v).real
        p = back(1j * ky * inverse * w) * back(w)
        q = back(-1j * kx * inverse * w) * back(w)
        flux = 1j * kx * np.fft.fft2(p) + 1j * ky * np.fft.fft2(q)
        return back(-nu * squares * v - inside * flux).ravel() + f.ravel()

    solution = scipy.integrate.solve_ivp(
        field, (0, 1), omega.ravel(), method="DOP853", rtol=1e-10, atol=1e-11
    )
    found = problem.solve(jnp.asarray(omega))[0]
    expected = solution.y[:, -1].reshape(n, n)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
    assert np.abs(expected - omega).max() > 0.1
