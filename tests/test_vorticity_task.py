"""Rows of Navier–Stokes in space and time, for layers and losses."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from problems.bench import TrainingSize
from problems.bench._constraint_models import Constrained, constraint_model
from problems.bench._equation_rows import BasisNetwork
from problems.bench._vorticity_task import VorticityRows

_SIZE = TrainingSize(
    num_points=16,
    num_saves=8,
    experts=(2, 2),
    network=BasisNetwork(num_basis=6, width=4, depth=1, num_modes=3),
)


def _sample(rows):
    inputs, reference = rows.data(1, jr.key(0))
    return jnp.asarray(inputs[0, 0]), jnp.asarray(reference[0])


def _found(rows, w, w0, which="residual"):
    terms = rows.terms(rows.completed(w))
    return getattr(rows, which)(terms, rows.parameters(w0))


def test_rows_vanish_on_the_solution():
    def norm(num_saves):
        size = dataclasses.replace(_SIZE, num_points=32, num_saves=num_saves)
        rows = VorticityRows.of(size)
        w0, w = _sample(rows)
        return float(jnp.sqrt(jnp.mean(_found(rows, w, w0)[..., -1] ** 2)))

    coarse, fine = norm(5), norm(10)
    # Trapezoids in time; little is left that 32 nodes do not resolve.
    assert fine < 0.3 * coarse and fine < 0.02


def test_rows_are_the_integral_of_the_problems_residual():
    rows = VorticityRows.of(_SIZE)
    problem, (w0, _) = rows.problem, _sample(rows)
    w = w0 + rows.offset(w0) * jnp.asarray(rows.times)[None, None]
    w = w - jnp.mean(w, (0, 1), keepdims=True)
    still = [
        problem.residual(
            slice_,
            jnp.zeros_like(slice_),
            _gradient(slice_),
            _laplacian(slice_),
            problem.velocity(slice_),
        )
        for slice_ in jnp.moveaxis(w, -1, 0)
    ]
    rate = np.stack(still, -1)
    step = rows.final_time / rows.num_saves
    integral = np.zeros_like(rate)
    for k in range(1, rate.shape[-1]):
        integral[..., k] = integral[..., k - 1] + step * (
            rate[..., k] / 2 + rate[..., k - 1] / 2
        )
    expected = np.asarray(w - w0) + integral
    expected[..., 0] = 0
    np.testing.assert_allclose(_found(rows, w, w0), expected, atol=1e-10)


def _spectral(field, power):
    n = field.shape[0]
    k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    odd = np.where(np.abs(k) == np.pi * n, 0, k)
    v = np.fft.fft2(np.asarray(field))
    if power == 2:
        return jnp.asarray(np.fft.ifft2(-(k[:, None] ** 2 + k[None] ** 2) * v).real)
    parts = [np.fft.ifft2(1j * w * v).real for w in (odd[:, None], odd[None])]
    return jnp.asarray(np.stack(parts))


def _gradient(field):
    return _spectral(field, 1)


def _laplacian(field):
    return _spectral(field, 2)


def test_linear_rows_have_the_offsets_flow():
    rows = VorticityRows.of(_SIZE)
    w0, _ = _sample(rows)
    offset = rows.offset(w0)
    np.testing.assert_allclose(
        _found(rows, offset, w0), _found(rows, offset, w0, "linear"), atol=1e-12
    )
    # Linear in w, but for what does not depend on it.
    one, two = jr.normal(jr.key(1), rows.shape), jr.normal(jr.key(2), rows.shape)
    f = lambda w: _found(rows, w, w0, "linear")
    zero = jnp.zeros_like(one)
    np.testing.assert_allclose(f(one + two) + f(zero), f(one) + f(two), atol=1e-8)


def test_what_is_exact():
    rows = VorticityRows.of(_SIZE)
    w0, _ = _sample(rows)
    envelope = rows.envelope()
    np.testing.assert_allclose(rows.offset(w0)[..., 0], w0[..., 0], atol=1e-12)
    assert not np.any(envelope[..., 0]) and np.all(envelope[..., 1:] > 0)
    # Vortices of Taylor and Green only decay.
    vortices = rows.problem.exact_solution(rows.times)
    vortices = jnp.moveaxis(jnp.asarray(vortices), 0, -1)
    start = jnp.broadcast_to(vortices[..., :1], rows.shape)
    np.testing.assert_allclose(rows.offset(start), vortices, atol=1e-12)
    completed = rows.completed(vortices + 1.0)
    np.testing.assert_allclose(rows.field(completed), vortices, atol=1e-12)
    # −Δω = 8π² ω: ψ, in the size of the longest wave.
    np.testing.assert_allclose(completed["stream"], vortices / 2, atol=1e-12)


def test_late_rows_do_not_count():
    rows = VorticityRows.of(_SIZE, 0.5)
    w0, w = _sample(rows)
    found = _found(rows, w + 1e-2 * jr.normal(jr.key(1), w.shape), w0)
    late = rows.times > 0.5
    assert not np.any(found[..., late]) and np.all(found[..., 1:][..., ~late[1:]] != 0)
    whole = rows.until_the_end()
    assert np.all(_found(whole, w + 1.0, w0)[..., late] != 0)


@pytest.mark.parametrize("method", ["hard", "hard, C1(1, 0.1)"])
def test_a_layer_finds_the_flow_in_its_span(method):
    rows = VorticityRows.of(dataclasses.replace(_SIZE, num_saves=24))
    size = dataclasses.replace(_SIZE, num_saves=24)
    model = constraint_model(method, rows, size, jr.key(0))
    assert isinstance(model, Constrained)
    w0, w = _sample(rows)
    offset = rows.offset(w0)
    fields = jnp.stack([w - offset, *(jr.normal(jr.key(1), (2, *rows.shape)) * 0.1)])
    basis = jax.vmap(rows.completed)(fields)
    out = model.layer(
        basis, rows.parameters(w0), offset=rows.completed(offset), throw=False
    )
    assert bool(jnp.all(out.result == sciml.RESULTS.successful))
    error = jnp.linalg.norm(rows.field(out.value) - w) / jnp.linalg.norm(w)
    # (Up to the rows' own error.)
    assert error < 0.02 < jnp.linalg.norm(offset - w) / jnp.linalg.norm(w)


def test_the_published_size_is_that_of_the_publication():
    paper = VorticityRows.sizes()[1]
    rows = VorticityRows.of(paper)
    assert rows.shape == (64, 64, 64) and paper.network.num_basis == 64
    assert isinstance(rows.problem, problems.NavierStokesVorticity)
    assert (float(rows.problem.viscosity), rows.final_time) == (1e-4, 5.0)
    assert rows.partition(paper.experts).parts(rows.shape) == (2, 2, 1)
