"""`make bench`: every benchmark in turn, each with its defaults; `python benchmarks/NAME.py --help` for one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# peers.py builds environments of its own: by hand
QUICK = ("models.py", "force_constants.py", "ewald.py", "dynamics.py")


def main() -> int:
    """Exit status of the first benchmark that fails, else 0."""
    for name in QUICK:
        print(f"== {name}", flush=True)
        status = subprocess.run([sys.executable, str(HERE / name)], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
