"""SIGTERM and SIGINT as a flag that the trainer reads between steps, so that it can save before it ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(SystemExit):
    """A run that was asked to stop and has saved; its code is the shell's for that signal, 128 + number."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(128 + number)


class Flag:
    """The number of the signal that came, 0 for none."""

    number = 0

    def raise_for(self, number: int, _: FrameType | None) -> None:
        """Note the signal; a second one ends the process at once, as it would without us."""
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number


@contextmanager
def listening() -> Iterator[Flag]:
    """Listen for the two signals while the block runs; outside the main thread Python forbids it, and nothing is."""
    flag = Flag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag.raise_for) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
