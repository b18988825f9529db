"""How much memory a call needs."""

import ctypes
import gc
from collections.abc import Callable
from typing import Any

_STATUS = "/proc/self/status"
_CLEAR = "/proc/self/clear_refs"


def peak_memory(call: Callable[[], Any]) -> int | None:
    """Bytes of main memory that a call takes at its most, on top of what is held.

    The peak of the resident memory of this process while `call` runs, less what is
    resident before, when free memory has gone back to the system. It counts whatever
    allocates: JAX, NumPy, C++. None where the system does not tell (it does on Linux).
    Slows the call down: time it elsewhere.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open(_CLEAR, "w") as file:
            file.write("5")
        before = _status("VmRSS")
        call()
        return max(_status("VmHWM") - before, 0)
    except (OSError, AttributeError, KeyError):
        return None


def _status(name: str) -> int:
    with open(_STATUS) as file:
        lines = dict(line.split(":", 1) for line in file)
    return 1024 * int(lines[name].split()[0])
