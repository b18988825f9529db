"""How good and how fast: metrics, timing, records of runs, tables, plots, reports."""

from ._machine import machine as machine
from ._metrics import evaluate as evaluate
from ._path_plots import (
    plot_paths as plot_paths,
    plot_step_sizes as plot_step_sizes,
)
from ._plots import (
    plot_bars as plot_bars,
    plot_convergence as plot_convergence,
    plot_fields as plot_fields,
    plot_training as plot_training,
    png as png,
)
from ._records import (
    Record as Record,
    append_record as append_record,
    read_records as read_records,
)
from ._report import Report as Report
from ._rollout import (
    RolloutErrors as RolloutErrors,
    rollout_errors as rollout_errors,
)
from ._spectra import band_errors as band_errors
from ._tables import Column as Column, Table as Table, format_table as format_table
from ._timing import (
    PairedTiming as PairedTiming,
    Timing as Timing,
    paired as paired,
    timed as timed,
)
