"""Benchmarks: each measures, returns rows, and says against whom."""

from ._certified import (
    CERTIFIED_CASES as CERTIFIED_CASES,
    bench_certified as bench_certified,
)
from ._constraint_training import (
    CONSTRAINT_FORMULATIONS as CONSTRAINT_FORMULATIONS,
    CONSTRAINT_METHODS as CONSTRAINT_METHODS,
    bench_constraint_training as bench_constraint_training,
    check_constraint_training as check_constraint_training,
    constraint_sizes as constraint_sizes,
)
from ._constraints import bench_constraints as bench_constraints
from ._contraction import bench_contraction as bench_contraction
from ._darcy_small import (
    bench_darcy_small as bench_darcy_small,
    check_darcy_small as check_darcy_small,
)
from ._deep_directions import bench_deep_directions as bench_deep_directions
from ._dgno import bench_dgno as bench_dgno, check_dgno as check_dgno
from ._dgno_tasks import DGNO_METHODS as DGNO_METHODS
from ._durability import (
    bench_durability as bench_durability,
    bench_soak as bench_soak,
    durability_problems as durability_problems,
)
from ._equation_rows import (
    BasisNetwork as BasisNetwork,
    TrainingSize as TrainingSize,
)
from ._expert_scaling import bench_expert_scaling as bench_expert_scaling
from ._faults import (
    bench_faults as bench_faults,
    fault_cells as fault_cells,
    fault_totals as fault_totals,
    has_failed as has_failed,
    nested_cells as nested_cells,
    rival_cells as rival_cells,
)
from ._inverse import (
    bench_inverse as bench_inverse,
    inverse_cases as inverse_cases,
    reliability as reliability,
)
from ._learned_multigrid import bench_learned_multigrid as bench_learned_multigrid
from ._linear import bench_linear as bench_linear
from ._mutations import (
    bench_mutations as bench_mutations,
    is_durable as is_durable,
    mutation_counts as mutation_counts,
)
from ._neural_odes import (
    bench_neural_odes as bench_neural_odes,
    choose_neural_odes as choose_neural_odes,
)
from ._neural_odes_plot import plot_neural_odes as plot_neural_odes
from ._plot import plot_linear as plot_linear
from ._products import bench_many as bench_many, bench_products as bench_products
from ._recorder import (
    bench_recorder as bench_recorder,
    check_recorder as check_recorder,
)
from ._relaxation import bench_relaxation as bench_relaxation
from ._rollouts import (
    ROLLOUT_MODELS as ROLLOUT_MODELS,
    bench_rollouts as bench_rollouts,
    check_rollouts as check_rollouts,
)
from ._surrogate_speed import bench_surrogate_speed as bench_surrogate_speed
from ._surrogates import (
    SURROGATE_MODELS as SURROGATE_MODELS,
    bench_surrogates as bench_surrogates,
    check_surrogates as check_surrogates,
)
from ._surrogates_paper import (
    PAPER_SURROGATES as PAPER_SURROGATES,
    bench_surrogates_paper as bench_surrogates_paper,
)
from ._systems import make_system as make_system
from ._torch_peer import SURROGATES as SURROGATES, torch_versions as torch_versions
