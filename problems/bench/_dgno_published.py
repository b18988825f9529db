"""The training loop that was published for DGNO, in JAX and in one program."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from sciml.weak_forms import MeshBall, Wendland, latin_hypercube

_SOURCE, _RADIUS, _PARTICLES, _LOW, _HIGH = 10.0, 1e-4, 100, 5.0, 10.0
_LATENT, _WIDTHS, _SUMMED = 128, (512, 256), 4
# Fields and the widths of their networks.
_FIELDS = {"a": 256, "u": 100, "s1": 100, "s2": 100}


def published_loop(
    media: np.ndarray, num_steps: int, shared: bool, *, seed: int, batch_size: int = 25
) -> tuple[float, float]:
    """Seconds per step, and the last loss.

    The mixed form for two phases: reverse-mode derivatives, particles drawn in each
    step, Adam with weight decay. All steps are one program, which the published loop in
    Torch is not, so that what is timed is its arithmetic.

    **Arguments:**

    - `media`: shape `(samples, nodes, nodes)`.
    - `num_steps`: of one program.
    - `shared`: evaluate the trunk once for all media of a batch, whose points are the
        same; published is once for each.
    - `seed`: of weights, batches and particles.
    - `batch_size`: media of a step.
    """
    data = jnp.asarray(media, jnp.float32)
    count, nodes = len(data), data.shape[1]
    axis = np.linspace(0, 1, nodes)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    grid = jnp.asarray(grid, jnp.float32)
    key, weight_key = jr.split(jr.key(seed))
    optimiser = optax.chain(optax.add_decayed_weights(1e-4), optax.adam(5e-4))

    def step(carry, key):
        parameters, state = carry
        batch_key, particle_key = jr.split(key)
        a = data[jr.choice(batch_key, count, (batch_size,), replace=False)]
        loss, slopes = jax.value_and_grad(_loss)(
            parameters, a, grid, shared, particle_key
        )
        updates, state = optimiser.update(slopes, state, parameters)
        return (optax.apply_updates(parameters, updates), state), loss

    def run(parameters, key):
        carry = (parameters, optimiser.init(parameters))
        (parameters, _), losses = jax.lax.scan(step, carry, jr.split(key, num_steps))
        return parameters, losses[-1]

    parameters = _parameters(nodes**2, weight_key)
    # (It broadcasts as Torch does.)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        program = jax.jit(run).lower(parameters, key).compile()
    start = time.perf_counter()
    _, loss = jax.block_until_ready(program(parameters, key))
    return (time.perf_counter() - start) / num_steps, float(loss)


def _dense(key: PRNGKeyArray, size: int, width: int) -> dict[str, Array]:
    bound = size**-0.5
    weight = jr.uniform(key, (size, width), jnp.float32, -bound, bound)
    return {"w": weight, "b": jnp.zeros(width, jnp.float32)}


def _parameters(size: int, key: PRNGKeyArray) -> dict[str, Any]:
    keys = iter(jr.split(key, 100))
    sizes = (size, *_WIDTHS, _LATENT)
    found: dict[str, Any] = {
        "encoder": [
            _dense(next(keys), m, n) for m, n in zip(sizes[:-1], sizes[1:], strict=True)
        ]
    }
    for name, width in _FIELDS.items():
        found[name] = {
            part: [
                _dense(next(keys), first if k == 0 else width, width) for k in range(5)
            ]
            for part, first in (("trunk", 2), ("branch", _LATENT))
        }
        found[name] |= {"scales": jnp.zeros(_SUMMED), "bias": jnp.zeros(())}
    return jax.tree.map(lambda x: x.astype(jnp.float32), found)


def _layer(layer: dict[str, Array], x: Array) -> Array:
    return x @ layer["w"] + layer["b"]


def _decoded(network: dict[str, Any], smooth: bool, points: Array, latent: Array):
    """(batch, points) from points of (points, 2) or (batch, points, 2)."""
    tanh_sin = lambda x: jnp.tanh(jnp.sin(np.pi * (x + 1))) + x
    silu_sin = lambda x: jax.nn.silu(jnp.sin(np.pi * (x + 1))) + x
    silu_id = lambda x: jax.nn.silu(x) + x
    of_place = tanh_sin if smooth else silu_sin
    t, b, total = points, latent, jnp.zeros((), points.dtype)
    for k in range(5):
        t = of_place(_layer(network["trunk"][k], t))
        b = silu_id(_layer(network["branch"][k], b))
        if k >= 5 - _SUMMED:
            rule = "bnh,bh->bn" if t.ndim == 3 else "nh,bh->bn"
            weight = network["scales"][k - 5 + _SUMMED]
            total = total + weight * jnp.einsum(rule, t, b)
    return total / _SUMMED + network["bias"]


def _loss(parameters, a: Array, grid: Array, shared: bool, key: PRNGKeyArray) -> Array:
    batch, nodes = a.shape[:2]
    x = ((a - 7.5) / 2.5).reshape(batch, -1)
    for layer in parameters["encoder"][:-1]:
        x = jax.nn.silu(_layer(layer, x))
    latent = jnp.tanh(_layer(parameters["encoder"][-1], x))

    places, weights = map(jnp.asarray, MeshBall(7).rule(2))
    places, weights = places.astype(a.dtype), weights.astype(a.dtype)
    room = 1 - 2 * _RADIUS
    centres = _RADIUS + room * latin_hypercube(_PARTICLES, 2, key=key).astype(a.dtype)
    points = (centres[:, None] + _RADIUS * places[None]).reshape(-1, 2)
    value = weights * Wendland(2)(places)
    slope = weights[:, None] * Wendland(2).gradient(places) / _RADIUS

    of_batch = lambda points: (
        points if shared else jnp.broadcast_to(points[None], (batch, *points.shape))
    )

    def pressure(points):
        """Π sin(π x) times the network, at points of each medium."""
        bump = jnp.prod(jnp.sin(np.pi * points), -1)
        return _decoded(parameters["u"], True, points, latent) * bump

    if shared:
        # (A reverse sweep for each medium: the points of all are the same array.)
        one = lambda latent: jax.grad(
            lambda points: jnp.sum(
                _decoded(parameters["u"], True, points, latent[None])
                * jnp.prod(jnp.sin(np.pi * points), -1)
            )
        )(points)
        gradient = jax.vmap(one)(latent)
    else:
        gradient = jax.grad(lambda points: jnp.sum(pressure(points)))(of_batch(points))
    flux = jnp.stack(
        [
            _decoded(parameters[name], True, of_batch(points), latent)
            for name in ("s1", "s2")
        ],
        -1,
    )
    index = jnp.clip(jnp.rint(points * (nodes - 1)), 0, nodes - 1).astype(int)
    here = a[:, index[:, 0], index[:, 1]]
    law = jnp.mean(jnp.sum((flux - here[..., None] * gradient) ** 2, -1))
    at_particles = flux.reshape(batch, _PARTICLES, -1, 2)
    balance = jnp.einsum("bcnd,nd->bc", at_particles, slope)
    balance = balance - _SOURCE * jnp.sum(value)
    equation = law + np.sqrt(_PARTICLES) * jnp.mean(balance**2)

    raw = _decoded(parameters["a"], False, of_batch(grid), latent)
    phase = ((a - _LOW) / (_HIGH - _LOW)).reshape(batch, -1)
    return equation + jnp.mean(jax.nn.softplus(raw) - phase * raw)
