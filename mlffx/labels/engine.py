"""Energies of one structure by PySCF: periodic, Gamma point of the cell as it is, pseudopotentials, Gaussian bases.

DFT runs on multigrids and has analytic forces. Hartree-Fock and what builds on it take the integrals from the same
mesh, exactly (small cells), or by Gaussian density fitting: even-tempered fitting bases roughen the energy surface of
diamond by several meV a cell, while curvatures from the mesh are the same at 0.01 and 0.04 A to 1e-3. The exchange
divergence is treated by the Madelung (probe-charge Ewald) correction, in HF and in the orbital energies. Cells with an
odd number of electrons, metals and magnets are out of scope: everything is restricted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Any

import numpy as np
from ase import Atoms, units

from mlffx.errors import UserError
from mlffx.labels.method import FUNCTIONALS, LEVELS, Method, checked_levels

FORCE_UNIT = units.Hartree / units.Bohr  # eV/A
PAIRS = 64  # densities transformed at once


@dataclass
class Label:
    """What was computed for one structure.

    Attributes:
        energies: eV per cell, by level; only those that converged.
        forces: [n_atoms, 3], eV/A, by level; of `dft` alone.
        unconverged: levels that were asked for and did not converge, or build on one that did not.
        seconds: wall time by step: dft, forces, hf, mp2, ccsd, ccsdt.
        details: `hf_gap_ev`; `t1`, norm of the CCSD singles per root of correlated electrons; `ccsd_cycles`.
    """

    energies: dict[str, float] = field(default_factory=dict)
    forces: dict[str, np.ndarray] = field(default_factory=dict)
    unconverged: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)


def require_pyscf() -> str:
    """Version of the installed PySCF.

    Raises:
        UserError: when there is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module("pyscf.pbc.gto")
        return metadata.version("pyscf")
    except ImportError as error:
        raise UserError(f"labels need PySCF ({error})", "pip install 'mlffx[labels]'", "pyscf") from None


def labels_of(atoms: Atoms, method: Method | None = None, levels: Sequence[str] = LEVELS, forces: bool = True) -> Label:
    """Energies of a periodic structure at several levels, each built on the one before.

    Args:
        atoms: periodic in three directions, with an even number of valence electrons.
        method: basis, thresholds and so on.
        levels: of `dft hf mp2 ccsd ccsdt`; those below are computed where they are needed, and not returned.
        forces: of the level `dft`, if it is asked for.

    Raises:
        UserError: for a structure or a basis the engine cannot take.
    """
    require_pyscf()
    method, wanted = method or Method(), checked_levels(list(levels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        label = _Calculation(atoms, method, wanted, forces).run()
    label.energies = {k: label.energies[k] for k in wanted if np.isfinite(label.energies.get(k, np.nan))}
    label.unconverged = [level for level in wanted if level not in label.energies]
    return label


def check_structure(atoms: Atoms, method: Method) -> None:
    """Refuse what the engine cannot take, before any work starts.

    Raises:
        UserError: for a cell that is not periodic, an unknown basis or pseudopotential, or an odd number of electrons.
    """
    if not atoms.pbc.all() or abs(atoms.cell.volume) < 1e-3:
        raise UserError("the structure is not periodic in three directions", "give it a cell and pbc")
    electrons = _cell(atoms, method, method.precision).nelectron
    if electrons % 2:
        raise UserError(f"{atoms.symbols} has {electrons} valence electrons", "closed shells only: an even number")


class _Calculation:
    """The chain DFT; HF, MP2, CCSD, CCSD(T) for one structure."""

    def __init__(self, atoms: Atoms, method: Method, wanted: tuple[str, ...], forces: bool) -> None:
        self.atoms, self.method, self.wanted, self.forces = atoms, method, wanted, forces
        self.label = Label()
        self.density: np.ndarray | None = None  # first guess of HF

    def run(self) -> Label:
        if "dft" in self.wanted:
            self.dft()
        correlated = [level for level in self.wanted if level in ("mp2", "ccsd", "ccsdt")]
        if "hf" in self.wanted or correlated:
            hf = self.hartree_fock()
            if hf is not None and correlated:
                self.correlate(hf, correlated)
        return self.label

    def dft(self) -> None:
        from pyscf.pbc import dft
        from pyscf.pbc.dft.multigrid import MultiGridNumInt2

        cell = _cell(self.atoms, self.method, self.method.dft_precision)
        start = time.perf_counter()
        ks = dft.RKS(cell)
        ks.xc = FUNCTIONALS[self.method.functional]
        ks._numint = MultiGridNumInt2(cell)
        ks.conv_tol, ks.max_cycle = self.method.scf_tolerance, self.method.scf_cycles
        energy = ks.kernel()
        start = self._took("dft", start)
        self.density = np.asarray(ks.make_rdm1())
        if not ks.converged:
            return
        self.label.energies["dft"] = float(energy * units.Hartree)
        if self.forces:
            self.label.forces["dft"] = -np.asarray(ks.nuc_grad_method().kernel()) * FORCE_UNIT
            self._took("forces", start)

    def hartree_fock(self) -> Any:
        """Converged Hartree-Fock, or None."""
        from pyscf.pbc import df, scf

        cell = _cell(self.atoms, self.method, self.method.precision, self.method.mesh)
        start = time.perf_counter()
        hf = scf.RHF(cell, exxdiv="ewald")
        if self.method.fitting == "fft":
            _keep_integrals(hf)
        else:
            hf = hf.rs_density_fit() if self.method.fitting == "rsgdf" else hf.density_fit()
            hf.with_df.auxbasis = df.aug_etb(cell, beta=self.method.auxiliary_beta)
        hf.conv_tol, hf.max_cycle = self.method.scf_tolerance, self.method.scf_cycles
        energy = hf.kernel(dm0=self.density)
        self._took("hf", start)
        if not hf.converged:
            return None
        self.label.energies["hf"] = float(energy * units.Hartree)
        occupied = hf.mo_occ > 0
        gap = hf.mo_energy[~occupied].min() - hf.mo_energy[occupied].max()
        self.label.details["hf_gap_ev"] = float(gap * units.Hartree)
        return hf

    def correlate(self, hf: Any, wanted: list[str]) -> None:
        """MP2, CCSD and (T) from the same transformed integrals."""
        from pyscf.pbc import cc, mp

        start = time.perf_counter()
        frozen = self.method.frozen or None
        if wanted == ["mp2"]:
            self._correlated("mp2", hf, mp.RMP2(hf, frozen=frozen).kernel()[0])
            self._took("mp2", start)
            return
        solver = cc.RCCSD(hf, frozen=frozen)
        solver.max_cycle = self.method.ccsd_cycles
        solver.conv_tol, solver.conv_tol_normt = self.method.ccsd_tolerance, self.method.amplitude_tolerance
        integrals = solver.ao2mo()
        emp2, t1, t2 = solver.init_amps(integrals)
        self._correlated("mp2", hf, emp2)
        start = self._took("mp2", start)
        solver.kernel(t1=t1, t2=t2, eris=integrals)
        start = self._took("ccsd", start)
        self.label.details["ccsd_cycles"] = float(solver.cycles)
        if not solver.converged:
            return
        self._correlated("ccsd", hf, solver.e_corr)
        self.label.details["t1"] = float(np.linalg.norm(solver.t1) / np.sqrt(2 * solver.nocc))
        if "ccsdt" in wanted:
            self._correlated("ccsdt", hf, solver.e_corr + solver.ccsd_t(eris=integrals))
            self._took("ccsdt", start)

    def _correlated(self, level: str, hf: Any, correlation: float) -> None:
        self.label.energies[level] = float((hf.e_tot + correlation) * units.Hartree)

    def _took(self, step: str, start: float) -> float:
        now = time.perf_counter()
        self.label.seconds[step] = round(now - start, 2)
        return now


def _keep_integrals(hf: Any) -> None:
    """All two-electron integrals once, from the mesh of the cell: for HF, and transformed for what builds on it."""
    from pyscf import ao2mo

    integrals = hf._eri = mesh_integrals(hf.cell)
    hf.with_df.ao2mo = lambda orbitals, *_, **__: ao2mo.incore.full(integrals, orbitals, compact=False)


def mesh_integrals(cell: Any) -> np.ndarray:
    """Coulomb integrals (ij|kl) of real Gamma-point orbitals, without the divergent G = 0, Ha.

    (ij|kl) = V sum_G v(G) rho_ij(G)* rho_kl(G), v(G) = 4 pi / G^2, with pair densities transformed on the mesh of the
    cell. PySCF's FFTDF has the same integrals; as the square of one real matrix they take a third of its time.

    Returns:
        [n_pairs, n_pairs], pairs i >= j.
    """
    from pyscf.pbc import tools
    from scipy.fft import rfftn

    mesh = tuple(cell.mesh)
    orbitals = np.ascontiguousarray(cell.pbc_eval_gto("GTOval", cell.get_uniform_grids()).T)
    twice = np.full(mesh[2] // 2 + 1, 2.0)  # G and -G; planes that are their own opposite count once
    twice[0] = 1.0
    if mesh[2] % 2 == 0:
        twice[-1] = 1.0
    kernel = tools.get_coulG(cell, mesh=cell.mesh).reshape(mesh)
    opposite = np.roll(np.flip(kernel), 1, axis=(0, 1, 2))  # of -G: another one on the faces of even, skew meshes
    kernel = (0.5 * (kernel + opposite))[..., : len(twice)] * twice
    scale, finite = np.sqrt(kernel * cell.vol) / np.prod(mesh), kernel > 0
    first, second = np.tril_indices(len(orbitals))
    waves = np.empty((len(first), 2 * int(finite.sum())))
    for start in range(0, len(first), PAIRS):
        part = slice(start, start + PAIRS)
        pairs = (orbitals[first[part]] * orbitals[second[part]]).reshape(-1, *mesh)
        waves[part] = np.ascontiguousarray((rfftn(pairs, axes=(1, 2, 3)) * scale)[:, finite]).view(float)
    return waves @ waves.T


def _cell(atoms: Atoms, method: Method, precision: float, mesh: int | None = None) -> Any:
    """PySCF's cell of a structure."""
    from pyscf.lib.exceptions import BasisNotFoundError
    from pyscf.pbc import gto

    vectors = atoms.cell.array  # a rounding error off the axes costs ten times the time on the grids of the density
    vectors = np.where(np.abs(vectors) < 1e-9, 0.0, vectors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to install other packages
            return gto.M(
                atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
                a=vectors,
                unit="A",
                basis=method.basis,
                mesh=None if mesh is None else [mesh] * 3,
                pseudo=method.pseudo,
                precision=precision,
                max_memory=method.memory,
                spin=None,
                verbose=0,
            )
    except (BasisNotFoundError, KeyError) as error:
        reason = " ".join(str(error).split())
        where = f"basis '{method.basis}' or pseudopotential '{method.pseudo}'"
        raise UserError(f"{where}: {reason}", "choose one that PySCF has for these elements", "method") from None
