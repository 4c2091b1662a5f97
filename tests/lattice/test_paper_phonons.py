"""Phonons of the paper's DFT forces: frequencies and names against the tabulated baseline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from symfc import Symfc
from symfc.utils.utils import SymfcAtoms

from mlffx.data.crystal import Crystal
from mlffx.lattice import paths, phonopy_api
from mlffx.lattice.branches import branch_frequencies, measured_frequency
from mlffx.lattice.force_constants import ForceConstants, conventional_matrix, finish
from mlffx.lattice.nac import build_nac
from mlffx.lattice.phonons import Phonons
from mlffx.references import reference

ROOT = Path(os.environ.get("MLFFX_DATA_ROOT") or Path(__file__).parents[3] / "shared/data/MLphononsdata")

pytestmark = [
    pytest.mark.paper_data,
    pytest.mark.skipif(not ROOT.is_dir(), reason="the paper's data is not here: set MLFFX_DATA_ROOT"),
]


def from_forces(crystal: Crystal, file: str, frames: int) -> ForceConstants:
    """Second-order fit to the DFT forces of the coldest frames."""
    structures = read(ROOT / file, index=slice(0, frames))
    cell = phonopy_api.geometry(crystal, crystal.repetitions(structures[0].cell.array))
    displacements, forces = [], []
    for atoms in structures:
        match = crystal.match(atoms)
        order = np.empty(len(atoms), dtype=int)
        order[match.order] = np.arange(len(atoms))  # Crystal.supercell order
        order = order[_same_order(crystal, cell)]
        displacements.append(match.displacements[order])
        forces.append(atoms.get_forces()[order])
    ideal = cell.supercell
    fractions = ideal.get_scaled_positions()
    solver = Symfc(SymfcAtoms(cell=ideal.cell.array, scaled_positions=fractions, numbers=ideal.numbers))
    solver.displacements, solver.forces = np.array(displacements), np.array(forces)
    solver.run(orders=[2], is_compact_fc=False)
    return finish(cell, solver.force_constants[2][cell.rows], crystal, "fit to forces", symmetrise=True)


def _same_order(crystal: Crystal, cell: phonopy_api.Geometry) -> np.ndarray:
    """Index into `Crystal.supercell` of each atom of phonopy's supercell."""
    ours = crystal.supercell(crystal.repetitions(cell.supercell.cell.array))
    fractions = (cell.supercell.positions[:, None] - ours.positions[None]) @ np.linalg.inv(ours.cell.array)
    distance = np.abs(fractions - np.rint(fractions)).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-6
    return distance.argmin(axis=1)


def test_diamond_dft():
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56074511)
    flat = from_forces(crystal, "c/200221forcc.xyz", 30)
    assert set(branch_frequencies(Phonons(flat), [0, 0, 0])) == {"LTO"}  # split by 4 cm-1, still one level
    assert not Phonons(flat).commensurate(paths.point(crystal, "L"))
    phonons = Phonons(flat.interpolated(conventional_matrix(crystal, 2)))
    for m in reference("diamond").baseline("dft"):
        found = measured_frequency(phonons, m.q, m.branch)
        assert found == pytest.approx(m.value, abs=25), (m.label, m.branch)


def test_lithium_hydride_dft():
    crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.01723879)
    constants = from_forces(crystal, "lih/200222forcc.xyz", 40)
    nac, _ = build_nac("reference", crystal, "lih")
    phonons = Phonons(constants, nac=nac)
    for m in reference("lih").baseline("dft"):
        found = measured_frequency(phonons, m.q, m.branch)
        assert found == pytest.approx(m.value, rel=0.05), (m.label, m.branch)
    infrared = reference("lih").one(isotope="natural", label="GAMMA", branch="LO", kind="experiment")
    assert measured_frequency(phonons, infrared.q, "LO") == pytest.approx(infrared.value, rel=0.05)
