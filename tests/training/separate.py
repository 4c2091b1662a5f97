"""Command lines in processes of their own that need not import everything anew: they are forked off one that has."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mlffx.command_line import run_checked

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["mlffx.training.train", "mlffx.training.entry", "pytorch_lightning"])


def _main(arguments: list[str], said: Path, prepare: Callable[[], None] | None) -> None:
    import torch

    from mlffx.training.entry import entry_point

    torch.set_num_threads(1)
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["train.py", *arguments]
    if prepare is not None:
        prepare()
    run_checked(lambda: entry_point(arguments))


def start(arguments: list[str], said: Path, prepare: Callable[[], None] | None = None):
    """Start train.py with arguments; what it prints goes to the end of a file. Returns the process."""
    process = _context.Process(target=_main, args=(arguments, said, prepare))
    process.start()
    return process


def run(arguments: list[str], said: Path, prepare: Callable[[], None] | None = None) -> int:
    """Run it to its end; returns the exit status."""
    process = start(arguments, said, prepare)
    process.join(300)
    assert process.exitcode is not None, said.read_text()
    return process.exitcode
