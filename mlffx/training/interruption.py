"""Signals that end a run in order: SIGTERM and SIGUSR1 (preemption, time limit of a cluster), SIGINT (Ctrl-C).

In the middle of a fit the first signal is only remembered: the step is finished and a checkpoint written before the run
ends. Elsewhere, and at a second signal, it ends at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """A run was told to stop.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = int(number)

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.number).name}"

    @property
    def exit_status(self) -> int:
        """As shells have it: 128 and the number of the signal."""
        return 128 + self.number


class Watch:
    """What has been asked of this process.

    Attributes:
        received: number of the first signal, None so far.
        deferred: whether a signal waits for the end of a step.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        first, self.received = self.received is None, self.received or number
        if not (self.deferred and first):
            raise Interrupted(self.received)


watch = Watch()


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Take over the signals that nobody else has taken over (submitit has those of its own)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [n for n in SIGNALS if before[n] in (signal.SIG_DFL, signal.default_int_handler)]
    if mine:
        watch.received, watch.deferred = None, False
    for number in mine:
        signal.signal(number, watch.handle)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])


def take_back() -> None:
    """Again after Lightning has put its own handlers before ours, which talk to other processes from within."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            current = signal.getsignal(number)
            if current != watch.handle and _ours(current):
                signal.signal(number, watch.handle)


def _ours(handler: object) -> bool:
    """Whether a handler of Lightning's calls ours."""
    return watch.handle in getattr(handler, "signal_handlers", [])
