"""Ewald sums and charges: `build_electrostatics` makes any of `none`, `fixed`, `latent`, `qeq`."""

from mlffx.electrostatics import equilibrated, fixed, latent  # noqa: F401  (they register themselves)
from mlffx.electrostatics.base import ELECTROSTATICS, Electrostatics, build_electrostatics
from mlffx.electrostatics.ewald import Splitting, ewald_energy

__all__ = ["ELECTROSTATICS", "Electrostatics", "Splitting", "build_electrostatics", "ewald_energy"]
