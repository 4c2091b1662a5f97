"""Hold a run's phonons against experiment: `python evaluate.py run=RUN_DIR`; `python evaluate.py --help` explains."""

from __future__ import annotations

import sys

from mlffx.command_line import AGAIN, run_checked


def main() -> None:
    """Compose, check, and call the package."""
    from mlffx.evaluation.entry import entry_point

    entry_point(sys.argv[1:])


if __name__ == "__main__":
    run_checked(main, AGAIN)
