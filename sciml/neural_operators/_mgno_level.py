"""What MgNO puts into the V-cycle: learned smoothing and transfer on every level.

All of it acts on arrays with channels last (see `sciml.grids.Convolution`), is linear,
and shares no parameters.
"""

import abc
from collections.abc import Callable, Sequence

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..grids._convolution import Convolution, TransposedConvolution
from ..linear import AbstractLevel

# u has `out_channels` and f `in_channels` of the operator, both channels last.
Field = Float[Array, "..."]
NewConvolution = Callable[..., Convolution]


class SmoothingStep(eqx.Module):
    """u ← u + S(f − A u), and u = S f from u = 0, which has no A.

    **Arguments:**

    - `operator`: A, from the channels of u to those of f; None for a first step.
    - `smoother`: S, from the channels of f to those of u.
    """

    operator: Convolution | None
    smoother: Convolution

    def __call__(self, u: Field | None, f: Field) -> Field:
        """The improved u."""
        if u is None or self.operator is None:
            return self.smoother.channels_last(f)
        residual = f - self.operator.channels_last(u)
        return u + self.smoother.channels_last(residual)


def smooth(steps: Sequence[SmoothingStep], u: Field | None, f: Field) -> Field:
    """The steps one after another; at least one if u is None."""
    for step in steps:
        u = step(u, f)
    assert u is not None
    return u


def smoothing_steps(
    num_steps: int,
    from_zero: bool,
    convolution: NewConvolution,
    channels: tuple[int, int],
    key: PRNGKeyArray,
) -> tuple[SmoothingStep, ...]:
    """Steps with parameters of their own; `channels` are those of (f, u)."""
    of_f, of_u = channels
    steps = []
    for k, step_key in enumerate(jr.split(key, max(num_steps, 1))[:num_steps]):
        operator_key, smoother_key = jr.split(step_key)
        first = from_zero and k == 0
        operator = None if first else convolution(of_u, of_f, key=operator_key)
        steps.append(SmoothingStep(operator, convolution(of_f, of_u, key=smoother_key)))
    return tuple(steps)


class AbstractRestriction(eqx.Module):
    """How MgNO starts the next coarser level: the slot `restriction` of `MgNO`.

    Where the coarser level's u starts as zero its first smoothing step has no A.
    """

    @property
    @abc.abstractmethod
    def starts_from_zero(self) -> bool:
        """Whether the coarser level's u starts as zero."""

    @abc.abstractmethod
    def build(
        self,
        convolution: NewConvolution,
        channels: tuple[int, int],
        coarse_channels: tuple[int, int],
        *,
        key: PRNGKeyArray,
    ) -> Callable[[Field, Field], tuple[Field | None, Field]]:
        """The module that maps (u, f) to the coarser (u or None, f).

        **Arguments:**

        - `convolution`: `convolution(in_channels, out_channels, stride=1, key=key)`
            makes a 3-node convolution with the grid's boundary.
        - `channels`, `coarse_channels`: those of f and of u on the two levels.
        - `key`: draws the parameters.
        """


class FieldTransfer(eqx.Module):
    """u_c = Π u and f_c = R f."""

    restrict_u: Convolution
    restrict_f: Convolution

    def __call__(self, u: Field, f: Field) -> tuple[Field, Field]:
        """The coarser level's initial u and right-hand side."""
        return self.restrict_u.channels_last(u), self.restrict_f.channels_last(f)


class ResidualTransfer(eqx.Module):
    """u_c = 0 and f_c = R(f − A′u)."""

    operator: Convolution
    restrict_f: Convolution

    def __call__(self, u: Field, f: Field) -> tuple[None, Field]:
        """The coarser level's initial u (zero) and right-hand side."""
        residual = f - self.operator.channels_last(u)
        return None, self.restrict_f.channels_last(residual)


class FieldRestriction(AbstractRestriction):
    """u_c = Π u and f_c = R f, with learned Π and R.

    The choice of the released MgNO code, and the one that the published parameter
    counts belong to: the coarser level continues with a coarse version of the same
    problem.

    Source: He, Liu & Xu, *MgNO: Efficient Parameterization of Linear Operators via
    Multigrid*, ICLR 2024, the accompanying code.
    """

    @property
    def starts_from_zero(self) -> bool:
        """Whether the coarser level's u starts as zero: False."""
        return False

    def build(self, convolution, channels, coarse_channels, *, key) -> FieldTransfer:
        """Π and R."""
        of_f, of_u = channels
        coarse_f, coarse_u = coarse_channels
        u_key, f_key = jr.split(key)
        return FieldTransfer(
            convolution(of_u, coarse_u, stride=2, key=u_key),
            convolution(of_f, coarse_f, stride=2, key=f_key),
        )


class ResidualRestriction(AbstractRestriction):
    """u_c = 0 and f_c = R(f − A′u), with learned R and A′.

    Multigrid's own choice, and the one in the text of the MgNO paper: the coarser
    level computes a correction. With classical stencils as kernels the operator is
    then the classical V-cycle.

    Source: He, Liu & Xu, *MgNO: Efficient Parameterization of Linear Operators via
    Multigrid*, ICLR 2024, section 3.
    """

    @property
    def starts_from_zero(self) -> bool:
        """Whether the coarser level's u starts as zero: True."""
        return True

    def build(self, convolution, channels, coarse_channels, *, key) -> ResidualTransfer:
        """A′ and R."""
        of_f, of_u = channels
        operator_key, f_key = jr.split(key)
        return ResidualTransfer(
            convolution(of_u, of_f, key=operator_key),
            convolution(of_f, coarse_channels[0], stride=2, key=f_key),
        )


class MgNOLevel(AbstractLevel):
    """A level of MgNO's V-cycle with parameters of its own.

    **Arguments:**

    - `pre`, `post`: smoothing steps on the way down and up.
    - `restriction`: maps (u, f) to the coarser level's (u or None, f).
    - `prolongation`: brings the coarser u to this level, where it is added.
    """

    pre: tuple[SmoothingStep, ...]
    restriction: Callable[[Field, Field], tuple[Field | None, Field]]
    prolongation: TransposedConvolution
    post: tuple[SmoothingStep, ...]

    def pre_smooth(self, u: Field | None, f: Field) -> Field:
        """The smoothing steps on the way down."""
        return smooth(self.pre, u, f)

    def restrict(self, u: Field, f: Field) -> tuple[Field | None, Field]:
        """What the slot `restriction` makes of (u, f)."""
        return self.restriction(u, f)

    def prolong(self, u: Field, coarse_u: Field) -> Field:
        """u plus the prolonged coarse u."""
        return u + self.prolongation.channels_last(coarse_u, u.shape[:-1])

    def post_smooth(self, u: Field, f: Field) -> Field:
        """The smoothing steps on the way up."""
        return smooth(self.post, u, f)
