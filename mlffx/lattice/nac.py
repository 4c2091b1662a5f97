"""The non-analytical term: Born charges and dielectric tensor, where they come from, and whether they fit the model.

At q -> 0 the dynamical matrix of a polar crystal gains (4 pi e^2 / V) (q.Z_i)(q.Z_j) / (q.eps.q sqrt(m_i m_j)), which
splits LO from TO: for two ions of charge Z* and reduced mass mu, LO^2 = TO^2 + 4 pi e^2 Z*^2 / (V eps mu).
Between Gamma and the zone boundary it is interpolated by Gonze and Lee, Phys. Rev. B 55, 10355 (1997).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError, nearest
from mlffx.potentials.base import Potential
from mlffx.potentials.born import charged_terms, model_born_charges
from mlffx.references import reference
from mlffx.units import AMU_A2_FS2_TO_EV, COULOMB_EV_A, THZ_TO_CM1

CHOICES = ("none", "reference", "model")
METHODS = ("gonze", "wang")
CONSISTENT = 0.05  # relative disagreement of q^2 and Z*^2/eps above which a message is due


@dataclass(frozen=True, eq=False)
class Nac:
    """Born charges and high-frequency dielectric tensor.

    Attributes:
        born: [n_basis, 3, 3], e, in the order of the primitive cell.
        dielectric: [3, 3].
        source: where the numbers come from.
        method: `gonze` or `wang`.
        uncertainty: relative standard uncertainties of the Born charges and of the dielectric tensor, where stated.
    """

    born: np.ndarray
    dielectric: np.ndarray
    source: str
    method: str = "gonze"
    uncertainty: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"unknown NAC method '{self.method}'", nearest(self.method, METHODS), "phonons.nac.method")
        if self.born.ndim != 3 or self.born.shape[1:] != (3, 3) or self.dielectric.shape != (3, 3):
            raise UserError(
                f"Born charges of shape {self.born.shape}, dielectric {self.dielectric.shape}", where="phonons.nac"
            )
        if np.linalg.eigvalsh(0.5 * (self.dielectric + self.dielectric.T)).min() <= 0:
            raise UserError("the dielectric tensor is not positive definite", where="phonons.nac.dielectric")

    @property
    def violation(self) -> float:
        """Largest |sum_i Z_i|, e: the acoustic sum rule of Born charges; non-zero shifts the acoustic modes."""
        return float(np.abs(self.born.sum(axis=0)).max())

    def neutral(self) -> Nac:
        """The same with the mean tensor subtracted, so that the sum rule holds."""
        return replace(self, born=self.born - self.born.mean(axis=0))

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "source": self.source,
            "born_e": self.born.tolist(),
            "dielectric": self.dielectric.tolist(),
            "raw_charge_sum_e": self.violation,
        }


def isotropic(
    crystal: Crystal, charges: dict[int, float], dielectric: float, source: str, method: str = "gonze"
) -> Nac:
    """Scalar Z* per element (atomic number -> e) and scalar eps_inf, as tables give them for cubic crystals."""
    missing = sorted({int(z) for z in crystal.numbers} - set(charges))
    if missing:
        raise UserError(f"no Born charge for atomic number {missing[0]}", where="phonons.nac")
    born = np.array([charges[int(z)] * np.eye(3) for z in crystal.numbers])
    return Nac(born, dielectric * np.eye(3), source, method)


def build_nac(
    choice: str,
    crystal: Crystal,
    material: str | None = None,
    potential: Potential | None = None,
    method: str = "gonze",
) -> tuple[Nac | None, list[str]]:
    """The non-analytical term the command line asks for (`phonons.nac`), and what has to be said about it.

    Args:
        choice: `none`; `reference`, tabulated Z* and eps_inf of `material`; `model`, the Born charges of the
            potential's own charges, whose dielectric constant is 1 (they are screened ones, Z*/sqrt(eps_inf)); or a
            file, see `born_files.nac_of_file`.
        crystal: primitive cell.
        material: name of a reference table.
        potential: asked for its charges; with `reference`, compared with the table where it carries any.
        method: `gonze` or `wang`.

    Raises:
        UserError: for an unknown choice, a table without Born charges, or a potential without charges.
    """
    check_choice(choice)
    if choice == "none":
        return None, []
    charged = potential is not None and bool(charged_terms(potential))
    if choice == "model":
        if potential is None or not charged:
            raise UserError("the potential carries no charges", "take phonons.nac=reference or none", "phonons.nac")
        born, dielectric, violation = model_born_charges(potential, crystal)
        nac = Nac(born, dielectric, "charges of the potential, screening included (eps = 1)", method)
        return nac, [f"raw sum of the model's Born charges: {violation:.2e} e"] if violation > CONSISTENT else []
    notes: list[str] = []
    if choice == "reference":
        nac = reference_nac(crystal, material or "", method)
    else:
        from mlffx.lattice.born_files import nac_of_file  # it makes Nac

        nac, notes = nac_of_file(Path(choice), crystal, method)
    if potential is None or not charged:
        return nac, notes
    model, _, _ = model_born_charges(potential, crystal)
    _, message = consistency(nac, np.einsum("iaa->i", model) / 3)
    return nac, [*notes, message] if message else notes


def check_choice(choice: str) -> None:
    """That `phonons.nac` is one of CHOICES or a file that is there.

    Raises:
        UserError: otherwise.
    """
    if choice not in CHOICES and not Path(choice).is_file():
        kinds = [*CHOICES, "a file (vasprun.xml, OUTCAR, BORN, phonopy_params.yaml)"]
        raise UserError(f"unknown non-analytical term '{choice}'", nearest(choice, kinds), "phonons.nac")


def reference_nac(crystal: Crystal, material: str, method: str = "gonze") -> Nac:
    """Tabulated Born charges and eps_inf of a material's reference table.

    Raises:
        UserError: for an unknown material or one without Born charges.
    """
    table = reference(material)
    charges = {atomic_numbers[m.label]: m for m in table.select(quantity="born_charge", isotope="natural")}
    dielectric = table.select(quantity="epsilon_inf", isotope="natural")
    if not charges or not dielectric:
        raise UserError(f"the table of {material} has no Born charges", "take phonons.nac=none or model", "phonons.nac")
    z = next(iter(charges.values()))
    eps = dielectric[0]
    source = f"|Z*| {abs(z.value):g} +- {z.sigma:g} ({z.source}), eps_inf {eps.value:g} +- {eps.sigma:g} ({eps.source})"
    found = isotropic(crystal, {number: m.value for number, m in charges.items()}, eps.value, source, method)
    if z.sigma is None or eps.sigma is None:
        return found
    return replace(found, uncertainty=(abs(z.sigma / z.value), abs(eps.sigma / eps.value)))


def plasma_frequency(
    crystal: Crystal, nac: Nac, masses: np.ndarray, direction: tuple[float, float, float] = (0, 0, 1)
) -> float:
    """sqrt(LO^2 - TO^2) of a diatomic crystal along a Cartesian direction, cm-1.

    LO^2 - TO^2 = 4 pi e^2 / (V q.eps.q) sum_i |q.Z_i|^2 / m_i; the sum is Z*^2 / mu for two opposite charges.
    """
    unit = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    charge = (np.einsum("a,iab->ib", unit, nac.born) ** 2).sum(axis=1)
    volume = abs(np.linalg.det(crystal.cell))
    spring = (
        4 * math.pi * COULOMB_EV_A / (volume * unit @ nac.dielectric @ unit) * (charge / masses).sum()
    )  # eV/A^2/amu
    omega = math.sqrt(spring / AMU_A2_FS2_TO_EV)  # 1/fs
    return omega / (2 * math.pi) * 1e3 * THZ_TO_CM1


def consistency(nac: Nac, model_charges: np.ndarray) -> tuple[float, str]:
    """Whether the Coulomb part a potential carries is the one the non-analytical term adds.

    A potential with Ewald charges q already holds dipole-dipole forces of strength q^2; Gonze and Lee subtract and add
    them with Z*^2/eps. Where the two disagree the interpolation between commensurate points is inconsistent.

    Args:
        nac: supplied Born charges and dielectric tensor.
        model_charges: what the potential's charges amount to for the primitive atoms, [n_basis], e: bare charges or,
            where they respond to displacements, the trace of their Born tensors / 3.

    Returns:
        Largest relative disagreement of q^2 with Z*^2/eps, and a message (empty when below 5 %).
    """
    eps = float(np.trace(nac.dielectric)) / 3
    expected = (np.einsum("iaa->i", nac.born) / 3) ** 2 / eps
    given = np.asarray(model_charges, dtype=float) ** 2
    scale = max(float(expected.max()), 1e-12)
    worst = int(np.abs(given - expected).argmax())
    disagreement = float(np.abs(given - expected).max() / scale)
    if disagreement <= CONSISTENT:
        return disagreement, ""
    return disagreement, (
        f"the potential's Ewald part has q^2 = {given[worst]:.3f} e^2 where the non-analytical term "
        f"uses Z*^2/eps = {expected[worst]:.3f} e^2 ({nac.source}): frequencies between commensurate points "
        "and LO at Gamma mix the two; phonons.nac=model takes the potential's own charges"
    )
