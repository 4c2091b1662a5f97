"""Names for modes: TA, LA, TO, LO by polarisation, the way measured points are listed.

A mode's longitudinal fraction is |q.e|^2 summed over the atoms, with e the eigenvector and q a unit vector. Degenerate
modes are first rotated among themselves so that the fraction is as definite as it can be. With n atoms in the primitive
cell the n most longitudinal modes are longitudinal, the rest transverse; within each kind the lowest are acoustic
(branches of one symmetry do not cross). Names that remain equal are one entry when the modes are degenerate and get
`_1`, `_2` when they are not.

Special cases: at Gamma the acoustic modes are left out; an optical triplet is `LTO` in a crystal of one element and
`TO` in a polar one without a non-analytical term (the frequency it has is the transverse one); with the term, the
direction [100] splits it into TO and LO. At X of diamond LA and LO are one level, called `LA`: X holds TA, LA, TO.
Where symmetry makes one level of longitudinal and transverse modes (W), the levels are TA, LA, TO, LO from below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlffx.lattice import paths
from mlffx.lattice.phonons import Phonons

ORDER = ("TA", "LA", "TO", "LO")
DEGENERATE = 0.1  # cm-1; symmetric force constants give 1e-4
NEARLY = 10.0  # cm-1; for force constants of a supercell with less symmetry than the crystal
GAMMA_DIRECTION = (1.0, 0.0, 0.0)  # of LO at Gamma, conventional axes; cubic crystals do not care


@dataclass(frozen=True)
class Branch:
    """A named mode.

    Attributes:
        name: `TA`, `LA`, `TO_1`...
        frequency: cm-1 (imaginary negative).
        longitudinal: |q.e|^2 between 0 and 1; far from both where symmetry mixes the polarisations.
        degeneracy: modes merged under this name.
    """

    name: str
    frequency: float
    longitudinal: float
    degeneracy: int


def labelled_frequencies(phonons: Phonons) -> dict[str, dict[str, float]]:
    """Named frequencies at GAMMA, X, L, W, K: label -> branch -> cm-1."""
    return {label: branch_frequencies(phonons, q) for label, q in paths.labelled_points(phonons.crystal).items()}


def branch_frequencies(phonons: Phonons, q: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Branch -> cm-1 at a q-point given in fractions of the reciprocal primitive cell."""
    return {branch.name: branch.frequency for branch in branches(phonons, q)}


def branches(phonons: Phonons, q: Sequence[float] | np.ndarray) -> list[Branch]:
    """Named modes at q, ascending in frequency.

    Args:
        phonons: of any crystal.
        q: [3], fractions of the reciprocal primitive cell; its direction defines what is longitudinal, so give the
            point of the path that was measured and not an equivalent one.
    """
    q = np.asarray(q, dtype=float)
    at_gamma = bool(np.abs(q).max() < 1e-8)
    toward = paths.to_primitive(phonons.crystal, GAMMA_DIRECTION) if at_gamma else q
    unit = paths.cartesian(phonons.crystal, toward)
    modes = phonons.modes(q, nac_direction=toward if at_gamma else None)
    frequencies, vectors = modes.frequencies[0], modes.eigenvectors[0]
    if at_gamma:
        keep = np.sort(np.argsort(np.abs(frequencies))[3:])
        frequencies, vectors = frequencies[keep], vectors[keep]
    tolerance = DEGENERATE if phonons.symmetric else NEARLY
    fractions = longitudinal_fractions(frequencies, vectors, unit / np.linalg.norm(unit), tolerance)
    n_longitudinal = phonons.crystal.n_basis - (1 if at_gamma else 0)
    order = np.argsort(-fractions, kind="stable")
    longitudinal = np.zeros(len(frequencies), dtype=bool)
    longitudinal[order[:n_longitudinal]] = True
    names = _names(longitudinal, at_gamma)
    one_element = len(set(phonons.crystal.numbers.tolist())) == 1
    return _merge(names, frequencies, fractions, tolerance, "LTO" if one_element else "TO", at_gamma)


def longitudinal_fractions(
    frequencies: np.ndarray, vectors: np.ndarray, unit: np.ndarray, tolerance: float = DEGENERATE
) -> np.ndarray:
    """Longitudinal fraction of each mode, [n_modes], degenerate groups rotated to make it definite.

    Args:
        frequencies: [n_modes], cm-1, ascending.
        vectors: [n_modes, n_basis, 3], complex eigenvectors.
        unit: Cartesian unit vector along q, [3].
        tolerance: neighbours closer than this are degenerate, cm-1.
    """
    along = vectors @ unit  # [mode, atom]
    fractions = np.empty(len(frequencies))
    for group in _groups(frequencies, tolerance):
        overlap = along[group].conj() @ along[group].T  # Hermitian; its eigenvalues are the definite fractions
        fractions[group] = np.linalg.eigvalsh(overlap)
    return fractions


def measured_frequency(phonons: Phonons, q_conventional: Sequence[float], branch: str) -> float | None:
    """The calculated counterpart of a measured point, cm-1; None where the branch has none.

    Args:
        q_conventional: [3], units of 2 pi / a, as the reference tables give it.
        branch: TA, LA, TO, LO, LTO, or mode_k for the k-th lowest.
    """
    q = paths.to_primitive(phonons.crystal, q_conventional)
    if branch.startswith("mode_"):
        k = int(branch.removeprefix("mode_")) - 1
        frequencies = phonons.frequencies(q)[0]
        return float(frequencies[k]) if k < len(frequencies) else None
    return match_branch(branch_frequencies(phonons, q), branch)


def match_branch(named: Mapping[str, float], wanted: str) -> float | None:
    """Frequency of a measured branch among the named ones; None where it is not there.

    Tables list one `TA` where the crystal has a degenerate pair, `LA` or `LO` where both are one level (X of diamond),
    `TO` or `LO` where the triplet is unsplit. `TA` against split `TA_1`, `TA_2` has no single answer.
    """
    for name in (wanted, *_SYNONYMS.get(wanted, ())):
        if name in named:
            return float(named[name])
    return None


_SYNONYMS = {
    "LTO": ("TO", "LO"),
    "TO": ("LTO",),
    "LO": ("LTO", "LA"),
    "LA/LO": ("LA", "LO"),
    "TA_1": ("TA",),
    "TA_2": ("TA",),
    "TO_1": ("TO",),
    "TO_2": ("TO",),
}


def _mixed(members: list[str], fractions: np.ndarray) -> bool:
    """Whether symmetry degenerates longitudinal with transverse modes, so that neither name means anything."""
    return len({name[0] for name in members}) > 1 and bool(((fractions > 0.02) & (fractions < 0.98)).any())


def _groups(frequencies: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """Runs of degenerate modes in an ascending list."""
    cuts = np.flatnonzero(np.diff(frequencies) > tolerance) + 1
    return np.split(np.arange(len(frequencies)), cuts)


def _names(longitudinal: np.ndarray, at_gamma: bool) -> list[str]:
    """Bare names of ascending modes: the lowest longitudinal and the two lowest transverse ones are acoustic."""
    names: list[str] = []
    seen = {True: 1 if at_gamma else 0, False: 2 if at_gamma else 0}
    for is_longitudinal in longitudinal.tolist():
        acoustic = seen[is_longitudinal] < (1 if is_longitudinal else 2)
        seen[is_longitudinal] += 1
        names.append(("L" if is_longitudinal else "T") + ("A" if acoustic else "O"))
    return names


def _merge(
    names: list[str],
    frequencies: np.ndarray,
    fractions: np.ndarray,
    tolerance: float,
    triplet: str,
    at_gamma: bool,
) -> list[Branch]:
    found: list[Branch] = []
    groups = _groups(frequencies, tolerance)
    if any(_mixed([names[k] for k in group], fractions[group]) for group in groups):
        names = [ORDER[min(level, 3)] for level, group in enumerate(groups) for _ in group]
    for group in groups:
        members = [names[k] for k in group]
        if at_gamma and sorted(members) == ["LO", "TO", "TO"]:
            merged = {triplet: list(group)}
        elif sorted(members) == ["LA", "LO"]:
            merged = {"LA": list(group)}
        else:
            merged = {name: [k for k in group if names[k] == name] for name in dict.fromkeys(members)}
        for name, indices in merged.items():
            frequency = float(np.mean(frequencies[indices]))
            found.append(Branch(name, frequency, float(np.mean(fractions[indices])), len(indices)))
    repeated = [b.name for b in found]
    counts: dict[str, int] = {}
    out = []
    for branch in found:
        name = branch.name
        if repeated.count(name) > 1:
            counts[name] = counts.get(name, 0) + 1
            name = f"{name}_{counts[name]}"
        out.append(Branch(name, branch.frequency, branch.longitudinal, branch.degeneracy))
    return out
