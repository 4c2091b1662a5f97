"""Outputs of VASP, Cc4s, CP2K and Quantum ESPRESSO written from known values, in the layout the codes write.

For trying the readers of mlffx without running those codes; the tests read them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units


@dataclass
class IonicStep:
    """What one ionic step of VASP found: eV, eV/A; `loop` are the energies of its electronic steps."""

    atoms: Atoms
    free_energy: float
    forces: np.ndarray
    smearing: float = 0.0  # sigma -> 0 minus free energy
    loop: Sequence[float] = ()
    converged: bool = True


def _vectors(name: str, rows: np.ndarray, indent: str) -> list[str]:
    body = [f"{indent} <v>  " + " ".join(f"{x:15.8f}" for x in row) + " </v>" for row in rows]
    return [f'{indent}<varray name="{name}" >', *body, f"{indent}</varray>"]


def _xml_structure(atoms: Atoms, name: str) -> list[str]:
    attribute = f' name="{name}"' if name else ""
    return [
        f" <structure{attribute} >",
        "  <crystal>",
        *_vectors("basis", atoms.cell.array, "   "),
        f'   <i name="volume">  {atoms.get_volume():14.8f} </i>',
        *_vectors("rec_basis", np.linalg.inv(atoms.cell.array).T, "   "),
        "  </crystal>",
        *_vectors("positions", atoms.get_scaled_positions(wrap=False), "  "),
        " </structure>",
    ]


def _xml_energy(free: float, extrapolated: float) -> list[str]:
    return [
        "  <energy>",
        f'   <i name="e_fr_energy">  {free:16.8f} </i>',
        f'   <i name="e_wo_entrp">  {2 * extrapolated - free:16.8f} </i>',
        f'   <i name="e_0_energy">  {extrapolated:16.8f} </i>',
        "  </energy>",
    ]


def write_vasprun(
    path: Path,
    steps: Sequence[IonicStep],
    nelm: int = 60,
    ediff: float = 1e-6,
    born: np.ndarray | None = None,
    dielectric: np.ndarray | None = None,
) -> None:
    """A vasprun.xml; with Born charges and dielectric tensor as LEPSILON = .TRUE. gives them."""
    first = steps[0].atoms
    kinds = list(dict.fromkeys(first.get_chemical_symbols()))
    out = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<modeling>", " <generator>"]
    out += ['  <i name="program" type="string">vasp </i>', '  <i name="version" type="string">6.3.0  </i>']
    out += [" </generator>", " <kpoints>", '  <generation param="Gamma">']
    out += ['   <v type="int" name="divisions">       1        1        1 </v>', "  </generation>"]
    out += [*_vectors("kpointlist", np.zeros((1, 3)), "  "), '  <varray name="weights" >']
    out += ["   <v>       1.00000000 </v>", "  </varray>", " </kpoints>", " <parameters>"]
    out += ['  <separator name="electronic" >', '   <i type="string" name="PREC">accurate</i>']
    out += [f'   <i name="ENMAX">    600.00000000</i>\n   <i name="EDIFF">{ediff:16.8f}</i>']
    out += ['   <separator name="electronic convergence" >', f'    <i type="int" name="NELM">{nelm:6d}</i>']
    out += ["   </separator>", "  </separator>", '  <separator name="ionic" >']
    out += ['   <i name="PSTRESS">      0.00000000</i>', "  </separator>", " </parameters>", " <atominfo>"]
    out += [f"  <atoms>{len(first):8d} </atoms>", f"  <types>{len(kinds):8d} </types>", '  <array name="atoms" >']
    out += ['   <dimension dim="1">ion</dimension>', '   <field type="string">element</field>']
    out += ['   <field type="int">atomtype</field>', "   <set>"]
    out += [f"    <rc><c>{s:2s}</c><c>{kinds.index(s) + 1:4d}</c></rc>" for s in first.get_chemical_symbols()]
    out += ["   </set>", "  </array>", " </atominfo>", *_xml_structure(first, "initialpos")]
    for number, step in enumerate(steps):
        loop = list(step.loop) or [step.free_energy + 0.02, step.free_energy]
        out += [" <calculation>"]
        for energy in loop:
            out += ["  <scstep>", '   <time name="total">    0.20    0.20</time>']
            out += [*_xml_energy(energy, energy + step.smearing), "  </scstep>"]
        out += [*_xml_structure(step.atoms, ""), *_vectors("forces", step.forces, "  ")]
        out += _vectors("stress", np.zeros((3, 3)), "  ")
        out += _xml_energy(step.free_energy, step.free_energy + step.smearing)
        if number == len(steps) - 1 and born is not None and dielectric is not None:
            out += _vectors("epsilon", dielectric, "  ")
            out += ['  <array name="born_charges" >', '   <dimension dim="1">ion</dimension>']
            for tensor in born:
                out += ["   <set>"]
                out += ["    <v> " + " ".join(f"{x:13.8f}" for x in row) + " </v>" for row in tensor]
                out += ["   </set>"]
            out += ["  </array>"]
        out += [" </calculation>"]
    out += [*_xml_structure(steps[-1].atoms, "finalpos"), "</modeling>"]
    _write(path, out)


def write_outcar(
    path: Path,
    steps: Sequence[IonicStep],
    born: np.ndarray | None = None,
    dielectric: np.ndarray | None = None,
) -> None:
    """An OUTCAR of a finished run."""
    first = steps[0].atoms
    symbols = first.get_chemical_symbols()
    kinds = list(dict.fromkeys(symbols))
    potcar = [f" POTCAR:    PAW_PBE {s}_GW 28Sep2005                  " for s in kinds]
    out = [" vasp.6.3.0 20Jan22 (build Mar 06 2023 08:24:33) gamma-only", *potcar, *potcar, ""]
    out += [" Dimension of arrays:"]
    out += [
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      8"
    ]
    out += [f"   number of dos      NEDOS =    301   number of ions     NIONS = {len(first):6d}"]
    out += ["   ions per type =            " + "".join(f"{symbols.count(s):4d}" for s in kinds)]
    out += ["   ISPIN  =      1    spin polarized calculation?", "   NELM   =     60;   NELMIN=  2; NELMDL=  0", ""]
    out += [
        " k-points in reciprocal lattice and weights: Gamma",
        "   0.00000000  0.00000000  0.00000000       1.000",
        "",
    ]
    rule, half = "-" * 104, "-" * 39
    for number, step in enumerate(steps, start=1):
        out += [f"{half} Iteration {number:6d}(   1)  {half}"]
        out += [f"  free energy    TOTEN  =  {step.free_energy + 0.02:18.8f} eV", "", rule]
        if step.converged:
            out += [f"{rule[:24]} aborting loop because EDIFF is reached {rule[:40]}"]
        else:
            out += [f"{rule[:24]} aborting loop EDIFF was not reached (unconverged)  {rule[:28]}"]
        out += ["", " VOLUME and BASIS-vectors are now :", f"  volume of cell :  {step.atoms.get_volume():12.2f}"]
        out += ["      direct lattice vectors                 reciprocal lattice vectors"]
        reciprocal = np.linalg.inv(step.atoms.cell.array).T
        for row, inverse in zip(step.atoms.cell.array, reciprocal, strict=True):
            out += ["  " + "".join(f"{x:13.9f}" for x in (*row, *inverse))]
        out += ["", " POSITION                                       TOTAL-FORCE (eV/Angst)", " " + "-" * 83]
        for position, force in zip(step.atoms.positions, step.forces, strict=True):
            out += ["".join(f"{x:13.5f}" for x in position) + "  " + "".join(f"{x:14.6f}" for x in force)]
        out += [" " + "-" * 83, "    total drift:         0.000000      0.000000      0.000000", "", rule]
        out += ["  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  " + "-" * 51]
        out += [f"  free  energy   TOTEN  =  {step.free_energy:18.8f} eV", ""]
        out += [
            f"  energy  without entropy={step.free_energy + 2 * step.smearing:18.8f}"
            f"  energy(sigma->0) ={step.free_energy + step.smearing:18.8f}",
            "",
        ]
    if born is not None and dielectric is not None:
        out += [" MACROSCOPIC STATIC DIELECTRIC TENSOR (including local field effects in DFT)", " " + "-" * 54]
        out += ["     " + "".join(f"{x:12.6f}" for x in row) for row in dielectric]
        out += [
            " " + "-" * 54,
            "",
            " BORN EFFECTIVE CHARGES (including local field effects) (in |e|, cummulative output)",
        ]
        out += [" " + "-" * 83]
        for ion, tensor in enumerate(born, start=1):
            out += [f" ion {ion:4d}"]
            out += [f"{axis:5d}" + "".join(f"{x:12.5f}" for x in row) for axis, row in enumerate(tensor, start=1)]
        out += [""]
    out += ["", " General timing and accounting informations for this job:", " " + "=" * 56]
    _write(path, out)


def write_cc4s(
    path: Path,
    mp2: float,
    ccsd: float,
    triples: float | None,
    converged: bool = True,
    basis_set: tuple[float, float, float] | None = None,
    finite_size: float | None = None,
    unit: str = "0.036749322175638782",
) -> None:
    """A cc4s.out.yaml: correlation energies in eV (`unit`: eV in Hartree).

    Args:
        basis_set: corrections of MP2, CCSD and (T).
        finite_size: correction of CCSD.
    """
    cluster = {"correlation": ccsd, "direct": 1.5 * ccsd, "exchange": -0.5 * ccsd, "secondOrder": mp2}
    state = ["amplitudes: 0x1eb7a38", f"convergenceReached: {int(converged)}"]
    mixer = ["maxIterations: 30", "method: Ccsd", "mixer:", "  maxResidua: 4", "  type: DiisMixer"]
    steps = [
        _cc4s_step("Read", ["fileName: EigenEnergies.yaml"], ["destination: 0x1882178"]),
        _cc4s_step("Read", ["fileName: CoulombVertex.yaml"], ["destination: 0x1882ed8"]),
        _cc4s_step("CoupledCluster", mixer, [*state, *_cc4s_energy(cluster, unit)]),
    ]
    if finite_size is not None:
        energies = {"corrected": ccsd + finite_size, "correction": finite_size, "uncorrected": ccsd}
        steps.append(
            _cc4s_step("FiniteSizeCorrection", ["interpolationGridSize: 20"], _cc4s_energy(energies, "0.0367493221768"))
        )
    if basis_set is not None:
        energies = {
            "correction": basis_set[1],
            "pplCorrection": basis_set[1] - basis_set[0],
            "secondOrderCorrection": basis_set[0],
            "uncorrectedCorrelation": ccsd,
        }
        steps.append(_cc4s_step("BasisSetCorrection", ["amplitudes: 0x1eb7a38"], _cc4s_energy(energies, unit)))
    steps += [_cc4s_step("Read", ["fileName: DeltaIntegralsHH.yaml"], ["destination: 0x1995f58"]) for _ in range(8)]
    if triples is not None:
        energies = {"correlation": triples} | ({"starCorrection": basis_set[2]} if basis_set is not None else {})
        steps.append(_cc4s_step("PerturbativeTriples", ["amplitudes: 0x1eb7a38"], _cc4s_energy(energies, unit)))
    out = ["executionEnvironment:", "  buildDate: Feb 22 2022 11:43:58", "  dryRanks: 0"]
    out += [
        '  startTime: "Tue Feb 22 11:44:54 2022\\n"',
        "  totalProcesses: 48",
        "statistics:",
        "  realtime: 73.197363904",
    ]
    out += ["steps:"]
    for key in sorted(map(str, range(len(steps)))):  # Cc4s sorts its keys as text
        out += [
            f"  {key}:",
            *(f"    {line}" for line in steps[int(key)]),
            "    statistics:",
            "      realtime: 0.042000756",
        ]
    _write(path, out)


def _cc4s_step(name: str, given: list[str], found: list[str]) -> list[str]:
    return ["in:", *(f"  {line}" for line in given), f"name: {name}", "out:", *(f"  {line}" for line in found)]


def _cc4s_energy(energies: dict[str, float], unit: str) -> list[str]:
    return ["energy:", *(f"  {key}: {value:.17g}" for key, value in energies.items()), f"  unit: {unit}"]


def write_cp2k(path: Path, energy: float, forces: np.ndarray, symbols: Sequence[str], modern: bool = True) -> None:
    """The end of a CP2K output: eV and eV/A in, Hartree and Hartree/bohr out; `modern` from version 2025."""
    atomic = forces / (units.Hartree / units.Bohr)
    total = energy / units.Hartree
    out = [" PROGRAM STARTED AT 2025-07-27 10:12:13.456", "  *** SCF run converged in    12 steps ***", ""]
    if modern:
        out += [f" ENERGY| Total FORCE_EVAL ( QS ) energy [hartree] {total:28.15f}", ""]
        out += [
            " FORCES| Atomic forces [hartree/bohr]",
            " FORCES|   Atom x               y               z               |f|",
        ]
        for number, force in enumerate(atomic, start=1):
            cells = "".join(f"{x:16.8E}" for x in (*force, np.linalg.norm(force)))
            out += [f" FORCES|{number:7d}{cells}"]
        out += [" FORCES|    Sum  0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00"]
    else:
        out += [f" ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]: {total:28.15f}", "", " ATOMIC FORCES in [a.u.]", ""]
        out += [" # Atom   Kind   Element          X              Y              Z"]
        for number, (force, symbol) in enumerate(zip(atomic, symbols, strict=True), start=1):
            out += [f"{number:7d}{1:7d}      {symbol:2s}  " + "".join(f"{x:15.8f}" for x in force)]
        out += [" SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000"]
    _write(path, out)


def write_pwo(path: Path, atoms: Atoms, energy: float, forces: np.ndarray, converged: bool = True) -> None:
    """A pw.x output: eV and eV/A in, Rydberg and Rydberg/bohr out."""
    alat = atoms.cell.lengths()[0]
    out = ["", "     Program PWSCF v.7.2 starts on 27Jul2025 at 10:12:13 ", ""]
    out += [f"     lattice parameter (alat)  = {alat / units.Bohr:11.4f}  a.u."]
    out += [f"     number of atoms/cell      = {len(atoms):12d}", "     number of atomic types    =            2", ""]
    out += [f"     celldm(1)= {alat / units.Bohr:14.8f}  celldm(2)=   0.000000  celldm(3)=   0.000000", ""]
    out += ["     crystal axes: (cart. coord. in units of alat)"]
    for i, row in enumerate(atoms.cell.array / alat, start=1):
        out += [f"               a({i}) = ( " + " ".join(f"{x:10.6f}" for x in row) + " )  "]
    out += ["", "   Cartesian axes", "", "     site n.     atom                  positions (alat units)"]
    for number, (symbol, position) in enumerate(zip(atoms.symbols, atoms.positions / alat, strict=True), start=1):
        cells = " ".join(f"{x:12.8f}" for x in position)
        out += [f"     {number:5d}           {symbol:2s}  tau({number:4d}) = ( {cells} )"]
    out += ["", "     number of k points=     1", "                       cart. coord. in units 2pi/alat"]
    out += ["        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000", ""]
    if converged:
        out += [f"!    total energy              = {energy / units.Rydberg:16.8f} Ry", ""]
        out += [
            "     convergence has been achieved in   8 iterations",
            "",
            "     Forces acting on atoms (cartesian axes, Ry/au):",
            "",
        ]
        for number, force in enumerate(forces / (units.Rydberg / units.Bohr), start=1):
            out += [f"     atom {number:4d} type  1   force = " + " ".join(f"{x:13.8f}" for x in force)]
        out += ["", "     Total force =     0.000000     Total SCF correction =     0.000000", ""]
    else:
        out += ["     convergence NOT achieved after 100 iterations: stopping", ""]
    out += ["     JOB DONE."] if converged else []
    _write(path, out)


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
