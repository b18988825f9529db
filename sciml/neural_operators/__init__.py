"""Models that map fields to fields, one sample at a time, on grids of any size."""

from ._affine import (
    SiLUIdentity as SiLUIdentity,
    SiLUSin as SiLUSin,
    TanhSin as TanhSin,
)
from ._bounded_step import BoundedStep as BoundedStep
from ._cape import (
    CAPE as CAPE,
    AbstractUpdate as AbstractUpdate,
    AdditiveUpdate as AdditiveUpdate,
    MultiplicativeUpdate as MultiplicativeUpdate,
)
from ._d4_averaged import D4Averaged as D4Averaged
from ._depthwise_spectral import (
    DepthwiseSpectralConvolution as DepthwiseSpectralConvolution,
)
from ._dgno import DGNO as DGNO
from ._encoders import (
    AbstractEncoder as AbstractEncoder,
    ConvolutionalEncoder as ConvolutionalEncoder,
    DenseEncoder as DenseEncoder,
    FlattenedField as FlattenedField,
)
from ._fno import (
    FNO as FNO,
    AbstractCoordinates as AbstractCoordinates,
    NoCoordinates as NoCoordinates,
    NodeCoordinates as NodeCoordinates,
    SpectralConvolution as SpectralConvolution,
)
from ._latents import (
    AbstractLatent as AbstractLatent,
    BoxLatent as BoxLatent,
    GaussianLatent as GaussianLatent,
)
from ._layer_norms import LayerNormMultigridOperator as LayerNormMultigridOperator
from ._mgno import MgNO as MgNO
from ._mgno_level import (
    AbstractRestriction as AbstractRestriction,
    FieldRestriction as FieldRestriction,
    ResidualRestriction as ResidualRestriction,
)
from ._mgno_stepper import MgNOStepper as MgNOStepper
from ._multigrid_operator import MultigridOperator as MultigridOperator
from ._multionet import MultiONet as MultiONet
from ._multionet_decoder import (
    AbstractDecoder as AbstractDecoder,
    MultiONetDecoder as MultiONetDecoder,
    SequenceDecoder as SequenceDecoder,
)
from ._normalisation import (
    AbstractNormalisation as AbstractNormalisation,
    ChannelNormalisation as ChannelNormalisation,
    NoNormalisation as NoNormalisation,
    SpaceNormalisation as SpaceNormalisation,
)
from ._normalised import Normalised as Normalised, normalised as normalised
from ._precisions import (
    AbstractPrecision as AbstractPrecision,
    AnnealedPrecision as AnnealedPrecision,
    FixedPrecision as FixedPrecision,
    LearnedPrecision as LearnedPrecision,
)
from ._rollout import Rollout as Rollout, TemporalBundle as TemporalBundle
from ._stable_fno import StableFNO as StableFNO
from ._transferred import Transferred as Transferred
from ._unet import UNet as UNet
from ._virtual_observables import VirtualObservables as VirtualObservables
from ._widening_mgno import WideningMgNO as WideningMgNO
