"""A channel with a cylinder in it: points, a cut-off, and an integral."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._particles import latin_hypercube

# What part of the points is drawn around the cylinder, where flows change fastest.
_NEAR = 0.3


class Channel(eqx.Module):
    """[0, length] × [low, low + height] without a disc.

    `gap` is the distance from the disc to the nearest side; in the ring of that width
    `cut_off` goes from 0 to 1.
    """

    length: float
    low: float
    height: float
    centre: tuple[float, float]
    radius: float

    def __init__(
        self,
        length: float,
        low: float,
        height: float,
        centre: Sequence[float],
        radius: float,
    ):
        self.length, self.low, self.height = length, low, height
        self.centre = (float(centre[0]), float(centre[1]))
        self.radius = radius
        for name, number in (("length", length), ("radius", radius)):
            if not 0 < number < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {number}.")
        if not (all(map(math.isfinite, self.centre)) and self.gap > 0):
            raise ValueError(
                f"centre, radius: expected a disc within the channel, "
                f"[0, {length:g}] × [{low:g}, {low + height:g}], got {self.centre} and "
                f"{radius:g}."
            )

    @property
    def gap(self) -> float:
        """From the cylinder to the nearest side."""
        x, y = self.centre
        nearest = min(x, self.length - x, y - self.low, self.low + self.height - y)
        return nearest - self.radius

    @property
    def area(self) -> float:
        """Of the fluid."""
        return self.length * self.height - math.pi * self.radius**2

    def within(self, points: Float[Array, "num 2"]) -> Array:
        """Whether points are in the cylinder, not on its surface."""
        return self._distance(points) < self.radius * (1 - 1e-5)

    def outside(self, points: Float[Array, "num 2"]) -> Float[Array, "num 2"]:
        """The points, those in the cylinder moved to one place on its surface."""
        place = jnp.array([[self.centre[0] + self.radius, self.centre[1]]])
        within = self.within(points)[:, None]
        return jnp.where(within, place.astype(points.dtype), points)

    def cut_off(self, points: Float[Array, "num 2"]) -> Float[Array, " num"]:
        """0 on the cylinder, with slope 0, and 1 from the next side on.

        1 − (1 − t)⁴ (1 + 4t): three derivatives are continuous.
        """
        # (Not bounded below: at the surface, which rounding is on either side of,
        # second derivatives are those of the fluid.)
        t = jnp.minimum((self._distance(points) - self.radius) / self.gap, 1)
        return jnp.where(self.within(points), 0, 1 - (1 - t) ** 4 * (1 + 4 * t))

    def draw(
        self, num_points: int, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "num 2"], Float[Array, " num"]]:
        """Random points, and √weights: a mean of weight · f is the mean over the fluid.

        Two Latin hypercubes, of the box and of the ring around the cylinder. (Each
        point's weight is one over the density of both: the balance heuristic of Veach &
        Guibas.)
        """
        near = round(_NEAR * num_points)
        far = num_points - near
        box_key, ring_key = jr.split(key)
        box, ring = self.length * self.height, self._ring_area
        unit = latin_hypercube(far, 2, key=box_key)
        found = [
            unit * jnp.array([[self.length, self.height]], unit.dtype)
            + jnp.array([[0.0, self.low]], unit.dtype)
        ]
        density = jnp.full((num_points,), far / box, unit.dtype)
        if near:
            unit = latin_hypercube(near, 2, key=ring_key)
            angle = 2 * math.pi * unit[:, 0]
            inner, outer = self.radius**2, (self.radius + self.gap) ** 2
            distance = jnp.sqrt(inner + (outer - inner) * unit[:, 1])
            rays = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
            found.append(self._middle(unit.dtype) + distance[:, None] * rays)
        points = jnp.concatenate(found)
        in_ring = self._distance(points) <= self.radius + self.gap
        density = density + jnp.where(in_ring, near / ring, 0)
        weights = num_points / (density * self.area)
        return points, jnp.sqrt(jnp.where(self.within(points), 0, weights))

    def quadrature(
        self, angles: int = 24, distances: int = 20
    ) -> tuple[Float[np.ndarray, "num 2"], Float[np.ndarray, " num"]]:
        """Nodes and weights of an integral over the fluid.

        Gauss's, along rays from the cylinder to the sides; in four sectors, which the
        corners bound, within and beyond the ring.
        """
        x, y = self.centre
        sides = np.array([self.length - x, self.low + self.height - y, x, y - self.low])
        ahead, up, behind, down = sides
        corners = np.unwrap(
            np.arctan2([-down, up, up, -down], [ahead, ahead, -behind, -behind])
        )
        corners = np.r_[corners, corners[0] + 2 * math.pi]
        nodes, weights = np.polynomial.legendre.leggauss(angles)
        steps, step_weights = np.polynomial.legendre.leggauss(distances)
        points, found = [], []
        for sector in range(4):
            low, high = corners[sector], corners[sector + 1]
            angle = (low + high) / 2 + (high - low) / 2 * nodes
            weight = (high - low) / 2 * weights
            # The side that the rays of this sector meet is at a right angle to it.
            normal = sector * math.pi / 2
            end = sides[sector] / np.cos(angle - normal)
            middle = np.full_like(end, self.radius + self.gap)
            for first, last in (
                (np.full_like(end, self.radius), middle),
                (middle, end),
            ):
                half = ((last - first) / 2)[:, None]
                distance = ((last + first) / 2)[:, None] + half * steps[None]
                across = [np.cos(angle)[:, None], np.sin(angle)[:, None]]
                place = [c + distance * a for c, a in zip((x, y), across, strict=True)]
                points.append(np.stack([p.ravel() for p in place], 1))
                area = weight[:, None] * half * step_weights[None] * distance
                found.append(area.ravel())
        return np.concatenate(points), np.concatenate(found)

    @property
    def _ring_area(self) -> float:
        return math.pi * ((self.radius + self.gap) ** 2 - self.radius**2)

    def _middle(self, dtype: np.dtype) -> Float[Array, "1 2"]:
        return jnp.asarray([self.centre], dtype)

    def _distance(self, points: Array) -> Array:
        away = points - self._middle(points.dtype)
        # (At the centre itself the root has no derivative.)
        return jnp.sqrt(jnp.maximum(jnp.sum(away**2, 1), (self.radius / 2) ** 2))
