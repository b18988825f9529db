"""Means over the unit ball."""

import abc
import itertools

import equinox as eqx
import numpy as np
from jaxtyping import Float


class AbstractBallQuadrature(eqx.Module):
    """mean over the unit ball of f ≈ Σ_k weight_k f(node_k), Σ_k weight_k = 1."""

    @abc.abstractmethod
    def rule(
        self, ndim: int
    ) -> tuple[Float[np.ndarray, "nodes ndim"], Float[np.ndarray, " nodes"]]:
        """Nodes and weights, in double precision.

        **Arguments:**

        - `ndim`: dimension of the ball, from 1 to 3.
        """


class GaussBall(AbstractBallQuadrature):
    """Gauss along the radius times a rule on the sphere.

    Exact for polynomials of degree below both 2 `num_radial` and `num_angles` (in one
    dimension below 2 `num_radial`), and so for those times v of `Wendland` or times its
    gradient if 2 `num_radial` is larger by 8. Nodes lie opposite each other, so that
    the mean of an odd function is zero to rounding.

    - d = 1: ±r.
    - d = 2: `num_angles` equal angles.
    - d = 3: `num_angles` equal longitudes by half as many of Gauss in latitude.

    **Arguments:**

    - `num_radial`: Default 6.
    - `num_angles`: even; default 8. In all there are 12, 48 or 192 nodes.

    **Raises:** `ValueError` for numbers that are not positive, or odd angles.
    """

    num_radial: int = eqx.field(static=True, default=6)
    num_angles: int = eqx.field(static=True, default=8)

    def __check_init__(self):
        if not isinstance(self.num_radial, int) or self.num_radial < 1:
            raise ValueError(
                f"num_radial: expected an integer ≥ 1, got {self.num_radial!r}."
            )
        even = isinstance(self.num_angles, int) and self.num_angles % 2 == 0
        if not even or self.num_angles < 2:
            raise ValueError(
                f"num_angles: expected an even integer ≥ 2, got {self.num_angles!r}."
            )

    def rule(self, ndim):
        """The product of both rules."""
        # (Here, as importing it adds a filter of warnings.)
        from scipy.special import roots_jacobi

        _check_ndim(ndim)
        # Weight r^{d−1} on (0, 1), of Jacobi's on (−1, 1).
        t, along = roots_jacobi(self.num_radial, 0.0, ndim - 1.0)
        radii, along = (t + 1) / 2, along / np.sum(along)
        directions, around = self._sphere(ndim)
        nodes = radii[:, None, None] * directions
        weights = along[:, None] * around
        return nodes.reshape(-1, ndim), weights.reshape(-1)

    def _sphere(self, ndim: int) -> tuple[np.ndarray, np.ndarray]:
        if ndim == 1:
            return np.array([[-1.0], [1.0]]), np.full(2, 0.5)
        angles = 2 * np.pi * (np.arange(self.num_angles) + 0.5) / self.num_angles
        circle = np.stack([np.cos(angles), np.sin(angles)], -1)
        even = np.full(self.num_angles, 1 / self.num_angles)
        if ndim == 2:
            return circle, even
        heights, up = np.polynomial.legendre.leggauss(self.num_angles // 2)
        widths = np.sqrt(1 - heights**2)
        flat = widths[:, None, None] * circle
        high = np.broadcast_to(heights[:, None, None], (*flat.shape[:2], 1))
        directions = np.concatenate([flat, high], -1).reshape(-1, 3)
        return directions, (up[:, None] / 2 * even).reshape(-1)


class MeshBall(AbstractBallQuadrature):
    """Equal weights at the nodes of a mesh on [−1, 1]^d that lie within the ball.

    As published for DGenNO, with 7 (25 nodes in two dimensions), 8 (32) or 9 (45). Not
    exact for any polynomial but the linear ones.

    **Arguments:**

    - `num_points`: of the mesh, along each axis. Default 9.

    **Raises:** `ValueError` for fewer than 3.
    """

    num_points: int = eqx.field(static=True, default=9)

    def __check_init__(self):
        if not isinstance(self.num_points, int) or self.num_points < 3:
            raise ValueError(
                f"num_points: expected an integer ≥ 3, got {self.num_points!r}."
            )

    def rule(self, ndim):
        """The nodes with |s| < 1."""
        _check_ndim(ndim)
        axis = np.linspace(-1.0, 1.0, self.num_points)
        mesh = np.array(list(itertools.product(axis, repeat=ndim)))
        nodes = mesh[np.sum(mesh**2, -1) < 1 - 1e-12]
        return nodes, np.full(len(nodes), 1 / len(nodes))


def _check_ndim(ndim: int) -> None:
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim: expected 1, 2 or 3, got {ndim!r}.")
