"""Locks between processes: jobs of a sweep that want the same base train it once. A process that dies holds none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mlffx.errors import UserError


@contextlib.contextmanager
def alone_with(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Only one process at a time is inside for the same path; the lock is a file beside it.

    Args:
        waiting: called once if another process has to be waited for.

    Raises:
        UserError: when the lock cannot be written.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", "choose another place", path.parent) from error
    try:
        yield
    finally:
        lock.release()
