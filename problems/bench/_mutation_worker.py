"""The process that opens damaged files, which it may not survive.

It is told what to do in lines of JSON, says that it is ready, and then of each file how
it went, before it opens the next.
"""

import contextlib
import faulthandler
import json
import pathlib
import random
import sys
import warnings

import numpy as np

from problems.bench._mutation_files import KINDS, mutated

# What opening a small file may take, beside what Python and JAX have taken.
_MEMORY = 2 * 2**30


def main(folder: str, timeout: float) -> None:
    """Serve until the input ends.

    **Arguments:**

    - `folder`: has the valid files, by the names of their kinds.
    - `timeout`: seconds for one file; after that the process ends itself.
    """
    warnings.simplefilter("ignore")
    known = {}
    for line in sys.stdin:
        job = json.loads(line)
        kind, path = KINDS[job["kind"]], pathlib.Path(folder) / job["kind"]
        if job["kind"] not in known:
            known[job["kind"]] = path.read_bytes(), kind.read(path)
            _limit_memory()
        content, expected = known[job["kind"]]
        print("ready", flush=True)
        for number in range(job["first"], job["first"] + job["count"]):
            draw = random.Random(f"{job['seed']} {job['kind']} {number}")
            damaged = path.with_name("damaged")
            damaged.write_bytes(mutated(content, draw))
            faulthandler.dump_traceback_later(timeout, exit=True)
            outcome = _outcome(kind, damaged, expected)
            faulthandler.cancel_dump_traceback_later()
            print(outcome, flush=True)


def _outcome(kind, path: pathlib.Path, expected: list) -> str:
    try:
        found = kind.read(path)
    except kind.error as error:
        # A message that does not say which file is of no use.
        return "typed_errors" if str(path) in str(error) else "other_errors"
    except Exception:
        return "other_errors"
    return "right_data" if _same(found, expected) else "other_data"


def _same(found: list, expected: list) -> bool:
    return len(found) == len(expected) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        if isinstance(b, np.ndarray)
        else a == b
        for a, b in zip(found, expected, strict=True)
    )


def _limit_memory() -> None:
    """A damaged size shall fail here, and not take the machine's memory."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _MEMORY
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        # No core files.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
