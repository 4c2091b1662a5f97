"""What every command line does around its work: mistakes and interrupts told in one line, and the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from mlffx.errors import UserError

RESUME = "go on with resume=RUN_DIR"
AGAIN = "run the same command again"


def run_checked(main: Callable[[], Any], interrupted: str = RESUME) -> None:
    """Run an entry point and exit with `exit_status`; returns where that is 0."""
    if status := exit_status(main, interrupted):
        raise SystemExit(status)


def exit_status(main: Callable[[], Any], interrupted: str = RESUME) -> int:
    """Run an entry point; the exit status tells what became of it.

    | status | meaning |
    |---|---|
    | 0 | done |
    | 2 | a mistake of the user's, told in one line |
    | 130, 143, 138 | interrupted by SIGINT (Ctrl-C), SIGTERM, SIGUSR1; the line says how to go on |
    | 1 | a mistake of ours, told in one line; MLFFX_TRACEBACK=1 shows where |

    Args:
        main: what it returns is not looked at.
        interrupted: what the user can do after an interrupt.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"{error or 'interrupted'}; {interrupted}", file=sys.stderr)
        return int(getattr(error, "exit_status", 130))
    except BrokenPipeError:  # what we print goes to `head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if os.environ.get("MLFFX_TRACEBACK"):
            raise
        line = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"error: {line[:500]}; this is a bug of mlffx; MLFFX_TRACEBACK=1 shows where", file=sys.stderr)
        return 1
    return 0
