"""The command line of label.py."""

from __future__ import annotations

import signal
import sys
from typing import Any

from mlffx.compose import composed, plain, show
from mlffx.errors import UserError

HELP = """mlffx: energies of supercells from DFT to CCSD(T), by PySCF (pip install 'mlffx[labels]')

  python label.py label=boron_nitride
  python label.py structures=thermal structures.count=100 structures.temperature=300 crystal.a=3.57
  python label.py structures=frozen 'structures.qpoints=[GAMMA,X]' levels=[dft,hf]
  python label.py structures=md structures.run=RUN_DIR
  python label.py structures=file structures.file=chosen.xyz name=chosen

Groups:
  label=boron_nitride                           presets of conf/label: data sets to make yourself
  structures=thermal|displaced|frozen|md|file   which structures
  method=default|mesh|quick|tight               basis and thresholds
Keys:
  name=NAME               of the set; the output is runs/labels/NAME/NAME.xyz and NAME.json unless output=DIR
  crystal.a=3.57          and crystal.prototype, crystal.species
  supercell=[1,1,1]       conventional cells; its Gamma point alone is used
  levels=[dft,mp2]        some of dft hf mp2 ccsd ccsdt
  collect=true            write the file of what is finished and compute nothing
  workers=0               processes of one thread; 0: one a core
  print=true              show the composed configuration and stop

Every structure is checkpointed: the same command goes on where it was stopped. Unconverged labels are left out.
"""


def entry_point(arguments: list[str]) -> None:
    """Run label.py with these arguments.

    Raises:
        UserError: for anything a user can mend.
    """
    if any(a in ("-h", "--help") for a in arguments):
        print(HELP, end="")
        return
    if flags := [a for a in arguments if a.startswith("-")]:
        raise UserError(f"unknown option '{flags[0]}'", "options are KEY=VALUE; see --help", "command line")
    config = composed("label", arguments)
    if config.get("print"):
        return show(config)
    values = plain(config)
    values.pop("label", None)
    signal.signal(signal.SIGTERM, _terminated)
    from mlffx.labels.run import label

    try:
        label(values, "python label.py " + " ".join(arguments))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
    return None


def _terminated(number: int, frame: Any) -> None:
    """End the workers by leaving the loop; what is finished is on disk."""
    print("terminated; the same command goes on where it stopped", file=sys.stderr)
    raise SystemExit(143)
