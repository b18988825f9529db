"""Interrupts and terminations that wait for the end of a step."""

import signal
import threading
from typing import Any


class DeferredSignals:
    """Holds back SIGINT and SIGTERM until `deliver` is called.

    An exception in the middle of a step would find the parameters half handed over
    (their memory is donated to the step), and nothing to save. A second signal of the
    same kind is not held back. Outside of the main thread this does nothing: there
    Python delivers no signals.
    """

    def __init__(self, active: bool):
        main = threading.current_thread() is threading.main_thread()
        self.numbers = (signal.SIGINT, signal.SIGTERM) if active and main else ()
        self.previous: dict[int, Any] = {}
        self.pending: list[int] = []

    def __enter__(self) -> "DeferredSignals":
        for number in self.numbers:
            # None means a handler that Python did not set and could not restore.
            if signal.getsignal(number) is not None:
                self.previous[number] = signal.signal(number, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def _hold(self, number: int, frame: Any) -> None:
        del frame
        if number in self.pending:
            self.deliver()
        else:
            self.pending.append(number)

    def deliver(self) -> None:
        """Let what was held back take its usual effect (KeyboardInterrupt, exit)."""
        pending, self.pending = self.pending, []
        self.__exit__()
        for number in pending:
            signal.raise_signal(number)
        # Whoever ignores these signals goes on training.
        self.__enter__()
