"""What a label is computed with: levels, basis, thresholds."""

from __future__ import annotations

from dataclasses import dataclass

from mlffx.data.levels import NAMES, level_name
from mlffx.errors import UserError, nearest

LEVELS = tuple(NAMES)
FUNCTIONALS = {"lda": "lda,pw", "pbe": "pbe,pbe"}
FITTINGS = ("fft", "gdf", "rsgdf")


@dataclass(frozen=True)
class Method:
    """Settings of the engine; every one of them is part of what a label is, and of the name of its checkpoint.

    Attributes:
        functional: of the level `dft`: lda (Perdew-Wang 1992) or pbe.
        basis: name in PySCF, or one an element, `{Li: gth-cc-dzvp, H: gth-dzv}`. The default is correlation-consistent
            and made for solids (Ye & Berkelbach, J. Chem. Theory Comput. 18, 1595, 2022): condition number 600 in LiH,
            where the diffuse functions of gth-dzvp give 4e7 and five times the cost.
        pseudo: the same pseudopotential at all levels, so that levels differ in the treatment of electrons alone.
        auxiliary_beta: ratio of the even-tempered exponents of the fitting basis; smaller is larger and finer.
        fitting: of the integrals of HF and beyond: fft (none: exact on the mesh, all in memory, up to about a hundred
            orbitals), gdf, or rsgdf (range-separated).
        mesh: points along each edge of the cell, for the integrals of fft; None: from the precision.
        precision: of the lattice sums of the integrals, Ha.
        dft_precision: the same for the density on the grids of the level `dft`; chooses their mesh. Differences of LDA
            between cells of boron nitride are then right to 0.2 meV in 790; 1e-8 misses 1.6 and 1e-7 56 meV.
        scf_tolerance: change of the energy at which DFT and HF are converged, Ha.
        ccsd_tolerance: change of the correlation energy at which CCSD is converged, Ha.
        amplitude_tolerance: change of the norm of its amplitudes.
        scf_cycles, ccsd_cycles: a label that takes more is not converged, and left out.
        frozen: lowest orbitals that are not correlated.
        memory: MB a worker may use for integrals.
    """

    functional: str = "lda"
    basis: str | dict[str, str] = "gth-cc-dzvp"
    pseudo: str = "gth-pade"
    auxiliary_beta: float = 1.8
    fitting: str = "gdf"
    mesh: int | None = None
    precision: float = 1e-7
    dft_precision: float = 1e-9
    scf_tolerance: float = 1e-9
    ccsd_tolerance: float = 1e-7
    amplitude_tolerance: float = 1e-5
    scf_cycles: int = 60
    ccsd_cycles: int = 60
    frozen: int = 0
    memory: int = 4000

    def __post_init__(self) -> None:
        for value, valid, key in (
            (self.functional, FUNCTIONALS, "functional"),
            (self.fitting, FITTINGS, "fitting"),
        ):
            if value not in valid:
                raise UserError(f"unknown {key} '{value}'", nearest(value, valid), f"method.{key}")
        for key in ("precision", "dft_precision", "scf_tolerance", "ccsd_tolerance", "amplitude_tolerance"):
            if not 0 < getattr(self, key) < 1e-2:
                raise UserError(f"{getattr(self, key):g} is no threshold", "1e-9 to 1e-5 are usual", f"method.{key}")
        for key in ("scf_cycles", "ccsd_cycles", "memory"):
            if getattr(self, key) < 1:
                raise UserError(f"{getattr(self, key)}", "give at least 1", f"method.{key}")
        if self.mesh is not None and self.mesh < 5:
            raise UserError(f"{self.mesh} points", "15 to 60 are usual, or null", "method.mesh")
        if not 1.2 <= self.auxiliary_beta <= 3:
            raise UserError(f"{self.auxiliary_beta:g}", "a ratio between 1.2 and 3", "method.auxiliary_beta")

    def description(self, level: str) -> str:
        """Of a level, for people."""
        if level == "dft":
            return f"DFT ({self.functional.upper()})"
        return "Hartree-Fock" if level == "hf" else level_name(level)


def checked_levels(levels: object) -> tuple[str, ...]:
    """The levels asked for, in the order in which they build on each other.

    Raises:
        UserError: for an unknown level, or none.
    """
    names = [levels] if isinstance(levels, str) else list(levels) if isinstance(levels, (list, tuple)) else []
    if not names:
        raise UserError("no level is asked for", f"give some of {', '.join(LEVELS)}", "levels")
    for name in names:
        if name not in LEVELS:
            raise UserError(f"unknown level '{name}'", nearest(name, LEVELS), "levels")
    return tuple(level for level in LEVELS if level in names)
