"""A directory tree of calculations like those of one's own: `python docs/examples/lih_tree.py calc`.

Forty displaced LiH-like cells of 64 atoms, as VASP and Cc4s would leave them: DFT in calc/NNN/vasprun.xml, Hartree-Fock
in calc/NNN/hf/OUTCAR, CCSD(T) in calc/NNN/cc4s.out.yaml, and the response to a field in born/vasprun.xml. One
electronic loop and one amplitude equation are not converged, as it happens.

The numbers come from analytic ionic crystals (`mlffx.potentials.ionic_twin`), not from electronic-structure theory.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from outputs import IonicStep, write_cc4s, write_outcar, write_vasprun

from mlffx.data.crystal import Crystal
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.ionic_twin import IonicTwin

N_CALCULATIONS = 40
UNCONVERGED_DFT, UNCONVERGED_CC = 17, 29
DISPLACEMENT = 0.02  # A
# Levels differ in stiffness and charge. Electrons of the analytic crystal do not screen: a charge q acts like Z* = 2 q
# with a dielectric constant of 4.
DFT = {"charge": 0.52, "repulsion": {"unlike": (75.0, 0.33), "anion": (30.0, 0.4)}}
HF = {"charge": 0.60, "repulsion": {"unlike": (62.0, 0.33), "anion": (30.0, 0.4)}}
CCSDT = {"charge": 0.56, "repulsion": {"unlike": (68.0, 0.33), "anion": (30.0, 0.4)}}
BORN, DIELECTRIC = 1.08, 4.0


def main(root: Path) -> None:
    """Write the tree."""
    crystal = Crystal.from_prototype("rocksalt", ["Li", "H"], 4.02)
    cubic = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    ideal = crystal.supercell(2 * cubic)
    ideal = ideal[np.argsort(-ideal.numbers, kind="stable")]
    del ideal.arrays["site_type"]
    structures = []
    for seed in range(N_CALCULATIONS):
        atoms = ideal.copy()
        atoms.rattle(DISPLACEMENT * (0.5 + seed / N_CALCULATIONS), seed=seed)
        structures.append(atoms)
    dft, hf, cc = (evaluate_atoms(IonicTwin(**level).double(), structures) for level in (DFT, HF, CCSDT))  # type: ignore[arg-type]
    for k, atoms in enumerate(structures):
        place = root / f"{k + 1:03d}"
        energy = float(dft.energies[k])
        loop = [energy + 1.0, energy + 0.1] if k + 1 == UNCONVERGED_DFT else []
        write_vasprun(
            place / "vasprun.xml", [IonicStep(atoms, energy, dft.forces[k], loop=loop)], nelm=2 if loop else 60
        )
        write_outcar(place / "hf" / "OUTCAR", [IonicStep(atoms, float(hf.energies[k]), hf.forces[k])])
        correlation = float(cc.energies[k] - hf.energies[k]) - 30.0
        write_cc4s(
            place / "cc4s.out.yaml", 0.9 * correlation, 0.97 * correlation, 0.03 * correlation, k + 1 != UNCONVERGED_CC
        )
    cell = crystal.supercell(cubic)
    born = np.where(cell.numbers == 3, BORN, -BORN)[:, None, None] * np.eye(3)
    step = IonicStep(cell, -24.0, np.zeros((len(cell), 3)))
    write_vasprun(root.with_name("born") / "vasprun.xml", [step], born=born, dielectric=DIELECTRIC * np.eye(3))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "calc"))
