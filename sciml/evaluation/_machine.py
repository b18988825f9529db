"""What a figure depends on besides the code: machine, threads, versions, commit."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

_PACKAGES = (
    "sciml-solvers",
    "jax",
    "jaxlib",
    "equinox",
    "diffrax",
    "lineax",
    "optimistix",
    "optax",
    "numpy",
    "scipy",
    "pyamg",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What has to be committed for a commit to say which code ran.
_CODE = ("sciml", "problems", "examples", "pyproject.toml")


def machine() -> dict[str, Any]:
    """What a reader needs to judge or repeat a measurement made here.

    Nothing in it names the user, the host or a folder. What cannot be found out is
    None.

    **Returns:** a dictionary that JSON can hold, with

    - `platform`: operating system, its release, and the architecture.
    - `cpu`: the processor's model.
    - `cores`: logical cores of the machine.
    - `threads`: those of them this process may run on, which is what XLA uses.
    - `cpu_quota`: cores' worth of time a container may use; None if not limited.
    - `thread_variables`: `OMP_NUM_THREADS` and its like, where they are set.
    - `memory_gib`: main memory in GiB.
    - `python`: version of Python.
    - `versions`: versions of this library, of those it computes with, and of the
        rival it is measured against.
    - `backend`, `device`, `num_devices`: what JAX computes on.
    - `x64`: whether JAX's 64-bit types are switched on.
    - `commit`, `dirty`: git's commit of the project, and whether the code differs from
        it; None where the library does not run from a checkout.
    """
    device = jax.devices()[0]
    commit, dirty = _checkout()
    return {
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": _threads(),
        "cpu_quota": _cpu_quota(),
        "thread_variables": {
            name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ
        },
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "num_devices": jax.device_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "commit": commit,
        "dirty": dirty,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run(*command: str) -> str | None:
    """What a command prints; None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _cpu() -> str | None:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    if platform.system() == "Darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string")
    return platform.processor() or None


def _threads() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_quota() -> float | None:
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    try:
        return float(quota) / float(period)
    except ValueError:  # no such file, or "max": not limited
        return None


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(size / 2**30, 1)


def _checkout() -> tuple[str | None, bool | None]:
    root = pathlib.Path(__file__).resolve().parents[2]
    # An installed copy may lie inside somebody else's repository.
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return None, None
    git = ("git", "-C", str(root))
    commit = _run(*git, "rev-parse", "HEAD")
    changes = _run(*git, "--no-optional-locks", "status", "--porcelain", "--", *_CODE)
    return commit, None if changes is None else bool(changes)
