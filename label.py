"""Label structures from DFT to CCSD(T): `python label.py label=boron_nitride`; `python label.py --help` explains."""

from __future__ import annotations

import sys

from mlffx.command_line import run_checked


def main() -> None:
    """Compose, check, and call the package."""
    from mlffx.labels.entry import entry_point

    entry_point(sys.argv[1:])


if __name__ == "__main__":
    run_checked(main)
