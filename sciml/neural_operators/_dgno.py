"""DGNO: a latent vector from which coefficient and solution are decoded alike."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Grid
from ..grids._boundary import BoundaryPair
from ..weak_forms import AbstractWeakForm
from ._affine import Affine, SiLUIdentity, SiLUSin
from ._encoders import AbstractEncoder, DenseEncoder, Encoded
from ._latents import AbstractLatent, BoxLatent
from ._multionet_decoder import MultiONetDecoder, check_place
from ._sample import check_channels, floating


@register
class DGNO(eqx.Module):
    """The deep generative neural operator: β ↦ a and β ↦ u, learned without solutions.

        β ~ q(β | a)               encoder, of a coefficient's nodal values
        a(x) ~ p(a | β)            decoded
        u(x; β), fluxes, …         decoded: each field of the weak form

    Coefficient and solution come from the same vector. Trained by `VirtualObservables`
    on coefficients alone, it is a surrogate (a ↦ β ↦ u, called with a) and, because β
    is all that one has to look for, a way back from a few values of u to a, also where
    a jumps (`sciml.inverse`).

    Decoders are `MultiONetDecoder`s. It maps one sample and is batched by `jax.vmap`;
    parameters follow the dtype of the input.

    **Arguments:**

    - `weak_form`: the equation; says which fields there are and what their boundary
        conditions are.
    - `latent_dim`: length of β. Default 128.
    - `width`, `depth`, `num_summed_layers`: of the decoders of the weak form's fields.
        Default 100, 5 and 4, with `TanhSin` and `SiLUIdentity`.
    - `coefficient_width`: of the coefficient's decoder, with `SiLUSin` and
        `SiLUIdentity`. Default 128 (256 as published, for twice its time).
    - `encoder`: default `DenseEncoder(grid.num_points)`.
    - `latent`: `BoxLatent()` (default), as in the published code, or
        `GaussianLatent()`, as in the paper's text.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, fields that do not fit, and
    values that a coefficient of the weak form's kind has not (outside of `jit`).

    !!! example

        ```python
        grid = sciml.grids.Grid((29, 29))
        kind = sciml.weak_forms.TwoPhaseCoefficient(5.0, 10.0)
        form = sciml.weak_forms.EquilibratedDiffusion(grid, kind, source=10.0)
        model = sciml.neural_operators.DGNO(form, latent_dim=32, key=jr.key(0))
        a = jnp.full((1, 29, 29), 5.0)
        model(a).shape  # (1, 29, 29)
        model.at(a, jnp.array([[0.5, 0.5]])).shape  # (1, 1)
        ```

    Source: Zang & Koutsourelakis, *DGenNO: a novel physics-aware neural operator*,
    J. Comput. Phys. 538 (2025) 114137.
    """

    encode: Encoded
    head: Affine
    decoders: dict[str, MultiONetDecoder]
    weak_form: AbstractWeakForm
    latent_dim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_summed_layers: int = eqx.field(static=True)
    coefficient_width: int = eqx.field(static=True)
    encoder: AbstractEncoder | None = eqx.field(static=True)
    latent: AbstractLatent = eqx.field(static=True)

    def __init__(
        self,
        weak_form: AbstractWeakForm,
        latent_dim: int = 128,
        width: int = 100,
        depth: int = 5,
        num_summed_layers: int = 4,
        coefficient_width: int = 128,
        encoder: AbstractEncoder | None = None,
        latent: AbstractLatent = BoxLatent(),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ):
        self.weak_form = weak_form
        self.latent_dim = latent_dim
        self.width, self.depth = width, depth
        self.num_summed_layers = num_summed_layers
        self.coefficient_width = coefficient_width
        self.encoder, self.latent = encoder, latent
        grid, outputs = weak_form.grid, weak_form.outputs
        encoder_key, head_key, *keys = jr.split(key, 2 + len(outputs))
        built = DenseEncoder(grid.num_points) if encoder is None else encoder
        self.encode, size = built.build(1, grid.boundary, key=encoder_key)
        self.head = Affine(size, latent.num_raw(latent_dim), key=head_key)
        self.decoders = {
            name: self._decoder(name, channels, key=field_key)
            for (name, channels), field_key in zip(outputs.items(), keys, strict=True)
        }

    def _decoder(
        self, name: str, channels: int, *, key: PRNGKeyArray
    ) -> MultiONetDecoder:
        """A coefficient may jump, other fields do not: two kinds of trunks."""
        layers = (self.depth, self.num_summed_layers)
        if name == "coefficient":
            return MultiONetDecoder(
                self.weak_form.grid.ndim,
                self.latent_dim,
                channels,
                self.coefficient_width,
                *layers,
                (SiLUSin(), SiLUIdentity()),
                key=key,
            )
        ndim = self.weak_form.domain.ndim
        return MultiONetDecoder(
            ndim, self.latent_dim, channels, self.width, *layers, key=key
        )

    def __call__(
        self, x: Shaped[Array | np.ndarray, "1 *space"]
    ) -> Float[Array, "channels *domain"]:
        """u at the nodes of the weak form's domain, for a coefficient on its grid.

        **Arguments:**

        - `x`: the coefficient, shape `(1, *grid.shape)`.
        """
        x = self._checked(x)
        points = jnp.asarray(nodes_of(self.weak_form.domain), x.dtype)
        u = self.solution(self.latent.mean(self.raw_latent(x)), points)
        return u.reshape(-1, *self.weak_form.domain.shape)

    def at(
        self,
        x: Shaped[Array | np.ndarray, "1 *space"],
        points: Shaped[Array | np.ndarray, "num ndim"],
    ) -> Float[Array, "channels num"]:
        """u at any points of the domain, for a coefficient at the nodes.

        **Arguments:**

        - `x`: the coefficient, shape `(1, *grid.shape)`.
        - `points`: shape `(num, ndim)`, in the coordinates of the domain.
        """
        x, points = self._checked(x), jnp.asarray(points)
        check_place(points, self.weak_form.domain.ndim)
        latent = self.latent.mean(self.raw_latent(x))
        return self.solution(latent, points.astype(x.dtype))

    def raw_latent(self, x: Float[Array, "..."]) -> Float[Array, " raw"]:
        """What the encoder makes of a coefficient: the numbers that `latent` reads."""
        normalised = self.weak_form.coefficient.normalised(x)
        return self.head(self.encode(normalised))

    def solution(
        self, latent: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, "channels num"]:
        """u(x; β), with the boundary conditions.

        **Arguments:**

        - `latent`: β.
        - `points`: in the coordinates of the domain.
        """
        return self.weak_form.values(self.fields(latent), points)

    def coefficient(
        self, latent: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, " num"]:
        """The mean of p(a | β) at points.

        **Arguments:**

        - `latent`: β.
        - `points`: in the coordinates of the grid.
        """
        raw = self.raw_coefficient(latent, points)
        return self.weak_form.coefficient.value(raw)

    def raw_coefficient(
        self, latent: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, " num"]:
        """What is decoded for the coefficient: the log odds of a phase, or a logarithm.

        **Arguments:** as of `coefficient`.
        """
        return self.weak_form.raw_coefficient(self.fields(latent), points)

    def fields(self, latent: Float[Array, " latent"]) -> Callable[[str, Array], Any]:
        """The raw fields of a weak form and their gradients, as its methods take them.

        **Arguments:**

        - `latent`: β.
        """

        def field(name: str, points: Array) -> tuple[Array, Array]:
            form = self.weak_form
            box = form.grid if name == "coefficient" else form.domain
            # (Trunks are made for the unit box.)
            origin, extent = (
                jnp.asarray(k, latent.dtype)[None] for k in (box.origin, box.extent)
            )
            places = (points.astype(latent.dtype) - origin) / extent
            value, slope = self.decoders[name].values_and_gradients(latent, places)
            return value, slope / extent[None]

        return field

    @property
    def num_channels(self) -> int:
        """Of the solution."""
        latent = jax.ShapeDtypeStruct((self.latent_dim,), jnp.float32)
        place = jax.ShapeDtypeStruct((1, self.weak_form.domain.ndim), jnp.float32)
        return eqx.filter_eval_shape(self.solution, latent, place).shape[0]

    @property
    def grid(self) -> Grid:
        """That of the coefficients."""
        return self.weak_form.grid

    @property
    def boundary(self) -> tuple[BoundaryPair, ...] | None:
        """What holds on the sides of u, where u is a field on that grid; else None."""
        form = self.weak_form
        return form.grid.boundary if form.domain is form.grid else None

    @property
    def nodes(self) -> Float[Array, "nodes ndim"]:
        """The nodes of the domain, in the order of a flattened solution."""
        return jnp.asarray(nodes_of(self.weak_form.domain))

    def _checked(self, x: Array | np.ndarray) -> Array:
        x = floating(x)
        grid = self.weak_form.grid
        check_channels(x, grid.ndim, 1)
        if x.shape[1:] != grid.shape:
            raise ValueError(
                f"x: expected a coefficient on the weak form's grid, shape "
                f"{(1, *grid.shape)}, got {x.shape}."
            )
        self.weak_form.coefficient.check(x)
        return x


def nodes_of(grid: Grid) -> Float[np.ndarray, "nodes ndim"]:
    """The nodes of a grid, in the order of a flattened field."""
    return np.stack([axis.reshape(-1) for axis in grid.mesh()], -1)
