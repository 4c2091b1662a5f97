"""Lattice dynamics: a potential and a crystal to force constants, and those to frequencies."""

from mlffx.lattice.branches import branch_frequencies, labelled_frequencies
from mlffx.lattice.force_constants import (
    ForceConstants,
    autodiff,
    conventional_matrix,
    finite_displacement,
    load_force_constants,
    supercell_matrix,
)
from mlffx.lattice.isotopes import isotope_label, masses_of
from mlffx.lattice.nac import Nac
from mlffx.lattice.phonons import Phonons
from mlffx.lattice.results import Bands, DensityOfStates, Modes, Protocol, Thermal

__all__ = [
    "Bands",
    "DensityOfStates",
    "ForceConstants",
    "Modes",
    "Nac",
    "Phonons",
    "Protocol",
    "Thermal",
    "autodiff",
    "branch_frequencies",
    "conventional_matrix",
    "finite_displacement",
    "isotope_label",
    "labelled_frequencies",
    "load_force_constants",
    "masses_of",
    "supercell_matrix",
]
