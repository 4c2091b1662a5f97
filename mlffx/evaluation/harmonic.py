"""From potentials to `Spectra`: force constants of every member, labelled frequencies, bands, densities of states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.evaluation.members import Members, fingerprint
from mlffx.evaluation.spectra import BandPath, LabelledPoint, Spectra
from mlffx.evaluation.uncertainty import small_sample_factor
from mlffx.lattice.branches import Branch, branches
from mlffx.lattice.force_constants import ForceConstants, autodiff, conventional_matrix, finite_displacement
from mlffx.lattice.isotopes import isotope_label, masses_of
from mlffx.lattice.nac import Nac, check_choice
from mlffx.lattice.paths import labelled_points
from mlffx.lattice.phonons import Bands, Phonons
from mlffx.potentials.base import Potential

DOS_MEMBERS = 8  # densities of states cost seconds a member, and their sigma is for the eye
Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class PhononSettings:
    """How phonons are computed: the keys of conf/phonons.

    Attributes:
        method: `finite_displacement` or `autodiff`.
        displacement: A.
        supercell: conventional cells along each axis, n or [n1, n2, n3]; or a 3x3 matrix in primitive rows.
        symmetrise: project force constants onto every symmetry.
        cross_check: also by the other method, for the first member.
        nac: non-analytical term of polar crystals: `none`, `reference` (tabulated), `model` (its own charges), or a
            file with Born charges (vasprun.xml, OUTCAR, BORN, phonopy_params.yaml).
        nac_method: `gonze` or `wang`.
        isotopes: element -> isotope (`{Li: 7Li, H: D}`); natural where not named.
        mesh: q-points along each axis for densities of states.
        pitch: of the frequency grid, cm-1.
        points_per_segment: of the longest segment of the path.
        volume: also at the measured lattice constant, where the reference has one and it is another than the crystal's.
    """

    method: Literal["finite_displacement", "autodiff"] = "finite_displacement"
    displacement: float = 0.01
    supercell: Sequence[Sequence[int]] | Sequence[int] | int = ((4, 0, 0), (0, 4, 0), (0, 0, 4))
    symmetrise: bool = True
    cross_check: bool = True
    nac: str = "none"
    nac_method: Literal["gonze", "wang"] = "gonze"
    isotopes: dict[str, Any] = field(default_factory=dict)
    mesh: Sequence[int] | int = 31
    pitch: float = 2.0
    points_per_segment: int = 51
    volume: bool = True

    def __post_init__(self) -> None:
        check_choice(self.nac)

    def matrix(self, crystal: Crystal) -> np.ndarray:
        """Supercell rows in primitive rows, [3, 3]."""
        array = np.asarray(self.supercell)
        if array.shape not in ((), (3,), (3, 3)):
            raise UserError(f"{self.supercell} is no supercell", "give n, three or 3x3 integers", "phonons.supercell")
        return array.astype(int) if array.ndim == 2 else conventional_matrix(crystal, self.supercell)  # type: ignore[arg-type]


def force_constants(members: Members, crystal: Crystal, settings: PhononSettings, track: Track) -> list[ForceConstants]:
    """Force constants of every member by the method of the settings; draws from posteriors as in `settled`."""
    known: dict[str, ForceConstants] = {}  # members may share a base

    def computed(potential: Potential) -> ForceConstants:
        key = fingerprint(potential)
        if key not in known:
            known[key] = constants(potential, crystal, settings)
        return known[key]

    found = [computed(p) for p in track(members.potentials, "force constants")]
    if not members.centres:
        return found
    centres = np.array([computed(c).values for c in members.centres])
    values = settled(np.array([fc.values for fc in found]), centres, [id(c) for c in members.centres])
    return [replace(fc, values=v) for fc, v in zip(found, values, strict=True)]


def settled(draws: np.ndarray, centres: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Few draws about few fits, placed so that their mean and spread are those of many.

    Force constants are linear in the drawn coefficients. The draws about one fit are therefore shifted to have its
    force constants as their mean (with the lost degree of freedom given back to their spread), and the fits are moved
    apart by what Student's t says about their small number, which the number of draws would hide.

    Args:
        draws: [n, ...]; centres: the fit each was drawn about, [n, ...]; groups: which fit that is, [n].
    """
    n, fits = len(draws), list(dict.fromkeys(groups))
    middle = np.mean([centres[list(groups).index(g)] for g in fits], axis=0)
    apart = 1.0
    if (k := len(fits)) > 1:
        wanted, pooled = small_sample_factor(k) ** 2 * k / (k - 1), small_sample_factor(n) ** 2 * n / (n - 1)
        apart = float(np.sqrt(wanted / pooled))
    out = np.empty_like(draws)
    for g in fits:
        own = [i for i, other in enumerate(groups) if other == g]
        about = draws[own] - draws[own].mean(axis=0)
        m = len(own)
        about = about * np.sqrt(m / (m - 1)) if m > 1 else about
        out[own] = middle + apart * (centres[own] - middle) + about
    return out


def recalibrated(members: Sequence[ForceConstants], factor: float) -> list[ForceConstants]:
    """Members moved away from their mean by a factor, so that every sigma made of them grows by it.

    The factor comes from a twin (`mlffx.evaluation.calibration`), where the true phonons are known.
    """
    centre = np.mean([m.values for m in members], axis=0)
    return [replace(m, values=centre + factor * (m.values - centre)) for m in members]


def constants(potential: Potential, crystal: Crystal, settings: PhononSettings) -> ForceConstants:
    matrix = settings.matrix(crystal)
    if settings.method == "autodiff":
        return autodiff(potential, crystal, matrix, settings.symmetrise)
    return finite_displacement(potential, crystal, matrix, settings.displacement, settings.symmetrise)


def disagreement(potential: Potential, crystal: Crystal, settings: PhononSettings) -> float:
    """Largest difference between displaced supercells and automatic differentiation, eV/A^2."""
    methods: tuple[Any, Any] = ("finite_displacement", "autodiff")
    first, second = (constants(potential, crystal, replace(settings, method=m)) for m in methods)
    return float(np.abs(first.values - second.values).max())


def mean_constants(members: Sequence[ForceConstants]) -> ForceConstants:
    """Average over members: the force constants of the ensemble's mean energy."""
    values = np.mean([m.values for m in members], axis=0)
    raw = {k: max(m.raw.get(k, 0.0) for m in members) for k in members[0].raw}
    return replace(members[0], values=values, raw=raw)


def spectra(
    name: str,
    members: Sequence[ForceConstants],
    settings: PhononSettings,
    track: Track,
    nac: Nac | None = None,
    density_of_states: bool = True,
    member_nacs: Sequence[Nac | None] | None = None,
) -> Spectra:
    """Everything that is plotted and tabulated, of every member.

    Args:
        name: for legends.
        members: force constants in one supercell.
        nac: non-analytical term; of the mean force constants, and of every member unless they have their own.
        member_nacs: one a member, where charges differ between members and their spread is to show in LO.
        density_of_states: skip it where only frequencies are wanted (other isotopes).
    """
    crystal = members[0].crystal
    masses = masses_of(crystal.numbers, settings.isotopes)
    isotope = isotope_label(crystal.numbers, settings.isotopes)
    nacs = [nac] * len(members) if member_nacs is None else list(member_nacs)
    shared: dict[tuple, Phonons] = {}  # draws of a difference may share their base
    phonons = []
    for fc, own in zip(members, nacs, strict=True):
        key = (fc.values.tobytes(), None if own is None else own.born.tobytes())
        phonons.append(shared.setdefault(key, Phonons(fc, masses, own, isotope)))
    average = phonons[0] if len(members) == 1 else Phonons(mean_constants(members), masses, nac, isotope)
    points = {label: labelled(label, q, average, phonons) for label, q in labelled_points(crystal).items()}
    solved = {id(p): p.bands(settings.points_per_segment) for p in track(list(shared.values()), "bands")}
    bands = [solved[id(p)] for p in phonons]
    grid, total = np.zeros(0), np.zeros((len(members), 0))
    projected: dict[str, np.ndarray] = {}
    if density_of_states:
        some = phonons[:: -(-len(phonons) // DOS_MEMBERS)]  # evenly spaced: every fit with its draws takes part
        once = list({id(p): p for p in some}.values())
        found = {id(p): p.dos(settings.mesh, settings.pitch) for p in track(once, "density of states")}
        grid, total, projected = common_dos([found[id(p)] for p in some])
    return Spectra(
        name=name,
        points=points,
        path=band_path(bands[0]),
        bands=np.stack([b.frequencies for b in bands]),
        grid=grid,
        dos=total,
        element_dos=projected,
        isotope=isotope,
    )


def labelled(label: str, q: np.ndarray, average: Phonons, members: Sequence[Phonons]) -> LabelledPoint:
    """Named frequencies of every member; names and degeneracies are those of the mean force constants."""
    reference = branches(average, q)
    return LabelledPoint(
        label,
        np.asarray(q),
        tuple(b.name for b in reference),
        np.array([_like(reference, branches(m, q)) for m in members]),
    )


def _like(reference: Sequence[Branch], member: Sequence[Branch]) -> list[float]:
    """Frequencies of a member in the order of the reference: by name where the names agree, else in ascending order."""
    by_name = {b.name: b.frequency for b in member}
    if set(by_name) == {b.name for b in reference}:
        return [by_name[b.name] for b in reference]
    modes = np.repeat([b.frequency for b in member], [b.degeneracy for b in member])
    stops = np.cumsum([b.degeneracy for b in reference])
    return [float(np.mean(modes[stop - b.degeneracy : stop])) for b, stop in zip(reference, stops, strict=True)]


def band_path(bands: Bands) -> BandPath:
    return BandPath(bands.qpoints, bands.distance, tuple(bands.segments), tuple(bands.labels))


def common_dos(found: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Densities of states on one grid, which starts at zero or at the deepest imaginary mode."""
    pitch = float(np.median(np.diff(found[0].frequency)))
    low = min(float(d.frequency[0]) for d in found)
    high = max(float(d.frequency[-1]) for d in found)
    grid = np.arange(np.floor(low / pitch), np.ceil(high / pitch) + 1) * pitch
    total = np.stack([np.interp(grid, d.frequency, d.total, left=0.0, right=0.0) for d in found])
    projected = {
        element: np.stack([np.interp(grid, d.frequency, d.projected[element], left=0.0, right=0.0) for d in found])
        for element in found[0].projected
    }
    return grid, total, projected
