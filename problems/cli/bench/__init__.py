"""`sciml bench`: a command for each benchmark, with options of its own."""

from ._choice import BENCHMARKS as BENCHMARKS, Bench as Bench
