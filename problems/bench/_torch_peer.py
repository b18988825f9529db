"""Programs in torch in a process of their own, which takes turns with ours."""

import json
import os
import pathlib
import subprocess
import tempfile
from typing import Any

ODES = "_torch_anchor.py"
SURROGATES = "_torch_surrogates.py"
_PACKAGES = {ODES: "torch torchdiffeq torchode", SURROGATES: "torch neuraloperator"}


def torch_versions(python: str, script: str = ODES) -> dict[str, str]:
    """What an interpreter has of the packages that a script needs, torch first.

    **Arguments:**

    - `python`: the path of the interpreter.
    - `script`: `ODES` or `SURROGATES`.

    **Raises:** `ValueError` where it cannot be run, or one of them is missing.
    """
    try:
        command = _command(python, script, "--check")
        done = subprocess.run(command, capture_output=True)
        facts = json.loads(done.stdout)
        versions, missing = facts["versions"], facts["missing"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"torch: {python} is no Python interpreter.") from error
    if missing:
        raise ValueError(
            f"torch: {python} cannot import {', '.join(missing)}. Install them in its "
            f"environment: {python} -m pip install {_PACKAGES[script]}"
        )
    return versions


class TorchPeer:
    """A process that solves the same problem with torch, and times it on demand.

    A context manager; the process ends with it.

    **Arguments:**

    - `python`: the interpreter, see `torch_versions`.
    - `problem`: what is solved, see the script.
    - `script`: `ODES` or `SURROGATES`.

    **Attributes:**

    - `facts`: the number of threads, and for each peer what it found and the setting
        that was the fastest.
    - `rounds`: seconds by peer and program, of all rounds so far.

    **Raises:** `RuntimeError` where the process ends too soon, with what it said last.
    """

    def __init__(self, python: str, problem: dict[str, Any], script: str = ODES):
        self.rounds: list[dict[str, dict[str, float]]] = []
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            _command(python, script),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.facts: dict[str, Any] = self._ask(json.dumps(problem))
        except BaseException:
            self.close()
            raise

    def measure(self) -> None:
        """One round: each peer's programs once."""
        self.rounds.append(self._ask("round"))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> "TorchPeer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, line: str) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(line + "\n")
            stdin.flush()
            return json.loads(stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(
                f"the process with torch stopped: {said[-1] if said else 'no message'}"
            ) from error


def _command(python: str, script: str, *arguments: str) -> list[str]:
    # Isolated: neither our modules nor our environment's may be found.
    path = pathlib.Path(__file__).with_name(script)
    return [os.path.expanduser(python), "-I", str(path), *arguments]
