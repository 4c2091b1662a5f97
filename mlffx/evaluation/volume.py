"""What the measured lattice constant does to the frequencies of labels at another one: a column beside experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlffx.errors import UserError
from mlffx.evaluation.comparison import Row
from mlffx.evaluation.harmonic import PhononSettings, Track, constants, mean_constants
from mlffx.evaluation.members import Members
from mlffx.lattice.force_constants import ForceConstants
from mlffx.lattice.phonons import Phonons, lattice_constant
from mlffx.lattice.volume import at_scale, frequency_shifts
from mlffx.references.tables import COMPOSITIONS, Measurement

SAME = 1e-4  # A; lattice constants closer than this are one, the last digit of tables


@dataclass(frozen=True)
class VolumeShift:
    """Named modes at the measured lattice constant minus those at that of the labels.

    Attributes:
        isotope: composition the frequencies and `measured` are for.
        labels, measured: lattice constants, A.
        temperature: of the measurement, K.
        shifts: label -> branch -> cm-1, of the mean of the fitted potentials; without a sigma.
    """

    isotope: str
    labels: float
    measured: float
    temperature: float | None
    shifts: dict[str, dict[str, float]]


def volume_shifts(
    members: Members,
    average: Phonons,
    isotopes: Mapping[str, Phonons],
    measured: Sequence[Measurement],
    settings: PhononSettings,
    track: Track,
) -> tuple[list[VolumeShift], list[str]]:
    """Force constants of the fitted potentials, once more at every measured lattice constant that is another one.

    Born charges and dielectric tensor are taken not to change; the volume in the non-analytical term does.

    Args:
        average: of the mean force constants at the lattice constant of the labels.
        isotopes: composition -> the same with its masses.
        measured: lattice constants.

    Returns:
        One entry a composition, and what to tell where the potential knows no other volume.
    """
    a = lattice_constant(average.force_constants)
    found = {name: lattice_constant_of(name, measured) for name in isotopes} if settings.volume else {}
    wanted = {name: m for name, m in found.items() if m is not None and abs(m.value - a) > SAME}
    solved: dict[float, ForceConstants] = {}
    try:
        for value in dict.fromkeys(m.value for m in wanted.values()):
            crystal, fits = average.crystal.scaled(value / a), members.fitted
            there = [constants(at_scale(p, value / a), crystal, settings) for p in track(fits, f"a = {value:g} A")]
            solved[value] = mean_constants(there)
    except UserError as reason:
        return [], [f"no column +volume: {reason}"]
    return [
        VolumeShift(
            name,
            a,
            m.value,
            m.temperature,
            frequency_shifts(isotopes[name], Phonons(solved[m.value], isotopes[name].masses, isotopes[name].nac, name)),
        )
        for name, m in wanted.items()
    ], []


def lattice_constant_of(isotope: str, measured: Sequence[Measurement]) -> Measurement | None:
    """Of this composition, or of one that leaves more elements natural (LiD for 7LiD); None where none is measured."""
    own = COMPOSITIONS.get(isotope, {}).items()
    fitting = [m for m in measured if COMPOSITIONS.get(m.isotope, {}).items() <= own]
    return max(fitting, key=lambda m: len(COMPOSITIONS.get(m.isotope, {})), default=None)


def with_volume(rows: Sequence[Row], shifts: Sequence[VolumeShift]) -> list[Row]:
    """The rows with `volume_shift_cm1` where it is known."""
    known = {s.isotope: s.shifts for s in shifts}
    return [replace(r, volume_shift_cm1=known.get(r.isotope, {}).get(r.q_label, {}).get(r.branch)) for r in rows]


def with_anharmonic(rows: Sequence[Row], shifts: Sequence[Any], isotope: str) -> list[Row]:
    """The rows of one composition with `anharmonic_shift_cm1`, where dynamics gave one (`LabelledShift`)."""
    known = {(isotope, s.label, s.branch): float(s.shift) for s in shifts}
    return [replace(r, anharmonic_shift_cm1=known.get((r.isotope, r.q_label, r.branch))) for r in rows]


def shift_notes(shifts: Sequence[VolumeShift], anharmonic: float | None) -> list[str]:
    """Captions of the columns +anharmonic and +volume; each adds to the one on its left.

    Args:
        anharmonic: temperature of the dynamics behind the anharmonic shifts, K; None without any.
    """
    notes = [] if anharmonic is None else [f"+anharmonic: line of classical dynamics, {anharmonic:g} K"]
    places: dict[tuple[float, float | None], list[str]] = {}
    for s in shifts:
        places.setdefault((s.measured, s.temperature), []).append(s.isotope)
    measured = [
        f"{a:g} Å ({', '.join(names)}{'' if kelvin is None else f', {kelvin:g} K'})"
        for (a, kelvin), names in places.items()
    ]
    if measured:
        notes.append(
            f"+volume: from a = {shifts[0].labels:.4f} Å of the labels to the measured {', '.join(measured)}; "
            "extrapolated: the potential saw one volume; shift of the mean potential, without a sigma"
        )
    return notes
