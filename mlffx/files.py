"""Files that are either the old one or the new one, and one sentence where the disk does not take them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mlffx.errors import UserError

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "the quota is used up: free some space",
    errno.EFBIG: "a limit on the size of files is set (ulimit -f): raise it",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.EACCES: "give write permission or choose another place",
    errno.EPERM: "give write permission or choose another place",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells what the operating system has against a file in one line.

    Raises:
        UserError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "check the place") + ", then go on with resume=RUN_DIR"
        raise UserError(f"cannot be written ({error.strerror or error})", remedy, path) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is either the old one or the new one, never half of it, also when the power goes.

    Raises:
        UserError: when the disk is full or may not be written to; the old file is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def save_tensors(content: Any, path: Path) -> None:
    """torch.save by way of memory, so that a full disk is an OSError of ours and not one of torch's writer.

    Raises:
        UserError: as `write_atomically`.
    """
    memory = io.BytesIO()
    torch.save(content, memory)
    write_atomically(path, memory.getvalue())
