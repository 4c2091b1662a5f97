"""From the files of several levels to one labelled set: check every frame, match by geometry, tell what was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlffx.data.align import duplicates, partners
from mlffx.data.checks import (
    MATCH_TOLERANCE,
    Reading,
    check_structures,
    check_units,
    refuse_repeated_forces,
    usable,
)
from mlffx.data.crystal import Crystal, Match
from mlffx.data.dataset import LabelledSet
from mlffx.data.levels import Level, Note, parse_levels
from mlffx.data.noise import rounding_step
from mlffx.data.paper import FILES, LICENCE_NOTE, find_root, git_blob_id
from mlffx.data.read import Frame, read_frames
from mlffx.data.reorder import SiteLookup
from mlffx.errors import UserError, nearest

CHECKOUT = Path(__file__).resolve().parents[2]


def load_paper(config: Mapping[str, Any]) -> LabelledSet:
    """The released labels of the paper (`kind: paper`), from `root` or wherever a copy is found."""
    levels = parse_levels(config.get("levels") or {})
    low = low_level(config, levels)
    needed = levels[low].file
    assert needed is not None
    reading = _reading(config, levels, low, find_root(config.get("root"), needed))
    dataset = _assemble(config, reading)
    for file, blob in reading.hashes.items():
        if FILES.get(file, blob) != blob:
            dataset.notes.append(
                Note("", f"is not the published file (git blob {blob[:10]} for {FILES[file][:10]})", file)
            )
    dataset.source = LICENCE_NOTE
    return dataset


def load_files(config: Mapping[str, Any]) -> LabelledSet:
    """The user's own files (`kind: files`), relative to `root`."""
    levels = parse_levels(config.get("levels") or {})
    low = low_level(config, levels)
    root = files_root(config.get("root"))
    dataset = _assemble(config, _reading(config, levels, low, root))
    dataset.source = f"files in {config.get('root') or '.'}"
    return dataset


def files_root(root: str | Path | None) -> Path:
    """Directory of the user's files, or of a set shipped with the checkout (`data/...`), from any current directory.

    Raises:
        UserError: when it is neither here nor in the checkout.
    """
    here = Path(root or ".")
    if here.is_dir():
        return here
    if (CHECKOUT / here).is_dir():
        return CHECKOUT / here
    raise UserError(f"no such directory '{here}'", "file names are relative to it", "data.root")


def low_level(config: Mapping[str, Any], levels: dict[str, Level]) -> str:
    """The level that defines the structures: `low`, else the first with forces, else the first.

    Raises:
        UserError: when `low` is not declared, or a level has no file.
    """
    low = config.get("low")
    if low is not None and low not in levels:
        raise UserError(f"no level '{low}' is declared", nearest(low, levels), "data.low")
    for name, level in levels.items():
        if level.file is None:
            raise UserError("a level needs a file", f"set data.levels.{name}.file", f"data.levels.{name}")
    return str(low or next((name for name, level in levels.items() if "forces" in level.labels), next(iter(levels))))


def _reading(config: Mapping[str, Any], levels: dict[str, Level], low: str, root: Path) -> Reading:
    policy = str(config.get("bad_frames") or "refuse")
    if policy not in ("refuse", "drop"):
        raise UserError(f"unknown choice '{policy}'", nearest(policy, ("refuse", "drop")), "data.bad_frames")
    match = str(config.get("match") or "geometry")
    if match not in ("geometry", "index"):
        raise UserError(f"unknown choice '{match}'", nearest(match, ("geometry", "index")), "data.match")
    tolerance = float(config.get("tolerance") or MATCH_TOLERANCE)
    return Reading(root, policy, levels, low, tolerance, match == "index")


def _assemble(config: Mapping[str, Any], reading: Reading) -> LabelledSet:
    low, crystal_config = reading.low, config.get("crystal")
    frames = _read_low(reading)
    crystal = _crystal(crystal_config, frames)
    frames, matches = _match_sites(reading, frames, crystal)
    if not frames:
        raise UserError(f"no usable frame of level '{low}' is left", "see data.bad_frames", reading.path(low))
    atoms, sites = _unwrap(frames, matches, crystal)
    energies = {low: np.array([frame.energy for frame in frames])}
    forces = {low: _forces(frames)} if "forces" in reading.levels[low].labels else {}
    for name in reading.levels:
        if name == low:
            continue
        partner = _read_other(reading, name, frames, crystal, matches)
        if partner is None:
            continue
        energies[name] = np.array([f.energy if f is not None else np.nan for f in partner])
        if "forces" in reading.levels[name].labels:
            empty = [np.full((len(a), 3), np.nan) for a in atoms]
            forces[name] = [
                e if f is None or f.forces is None else f.forces for f, e in zip(partner, empty, strict=True)
            ]
            refuse_repeated_forces(reading, name, forces[name], forces.get(low))
    for name, values in energies.items():
        step = rounding_step(values)
        if step is not None and step >= 1e-4:
            reading.note(
                name, f"energies are rounded to {step * 1e3:g} meV per cell: {step * 1e3 / 12**0.5:.2g} meV of noise"
            )
    return LabelledSet(
        str(config.get("name") or "files"),
        low,
        atoms,
        crystal,
        sites,
        reading.levels,
        energies,
        forces,
        reading.notes,
        reading.hashes,
    )


def _read_low(reading: Reading) -> list[Frame]:
    """Usable, distinct frames of the level that defines the structures."""
    low = reading.low
    frames = usable(reading, low, _read(reading, low))
    for frame in frames:
        if not frame.atoms.pbc.all() or abs(frame.atoms.cell.volume) < 1e-3:
            raise UserError("the structure is not periodic", "phonons need a periodic cell", reading.where(low, frame))
    repeated = duplicates([frame.atoms for frame in frames])
    for later, first in repeated.items():
        gap = frames[later].energy - frames[first].energy
        reading.note(
            low,
            f"dropped, repeats frame {frames[first].index} (energies differ by {gap * 1e3:.3g} meV)",
            frames[later],
            dropped=True,
        )
    return [frame for i, frame in enumerate(frames) if i not in repeated]


def _read(reading: Reading, name: str) -> list[Frame]:
    path = reading.path(name)
    frames = read_frames(path, reading.levels[name])
    reading.hashes[str(reading.levels[name].file)] = git_blob_id(path)
    ignored = sum(frame.undeclared_forces for frame in frames)
    if ignored:
        reading.note(name, f"the column of forces in {ignored} frames is not a label of this level: not read")
    return frames


def _read_other(
    reading: Reading, name: str, low_frames: list[Frame], crystal: Crystal | None, low_matches: list[Match] | None
) -> list[Frame | None] | None:
    """The frame of level `name` for every low-level frame (None where it has none); None when its file is not there."""
    if not reading.path(name).is_file():
        reading.note(name, "the file is not there: the level cannot be used")
        return None
    frames = _read(reading, name)
    any_order = crystal is not None and not reading.by_index
    check_structures(reading, name, frames, low_frames, any_order)
    if reading.by_index:
        if len(frames) != len(low_frames):
            raise UserError(
                f"{len(frames)} frames cannot be paired by index with {len(low_frames)} of '{reading.low}'",
                "set data.match=geometry",
                reading.path(name),
            )
        partner = np.arange(len(frames))
    else:
        partner = partners([f.atoms for f in frames], [f.atoms for f in low_frames], reading.tolerance)
        if crystal is not None and low_matches is not None:
            _find_reordered(reading, name, frames, partner, low_frames, crystal, low_matches)
    for frame in (f for f, p in zip(frames, partner, strict=True) if p < 0):
        also = f"; {frame.problem}" if frame.problem else ""
        reading.note(name, f"dropped, no frame of '{reading.low}' has this geometry{also}", frame, dropped=True)
    used = usable(reading, name, [f for f, p in zip(frames, partner, strict=True) if p >= 0])
    if not used:
        raise UserError(
            f"none of its {len(frames)} frames has the geometry of a frame of '{reading.low}'",
            f"are both files of the same structures, within {reading.tolerance:g} A?",
            reading.path(name),
        )
    out: list[Frame | None] = [None] * len(low_frames)
    for frame in used:
        place = int(partner[frame.index])
        earlier = out[place]
        if earlier is not None:
            gap = frame.energy - earlier.energy
            reason = f"dropped, repeats frame {earlier.index} (energies differ by {gap * 1e3:.3g} meV)"
            reading.note(name, reason, frame, dropped=True)
            continue
        out[place] = frame
    absent = [i for i, f in enumerate(out) if f is None]
    if absent:
        reading.note(
            name, f"no label for {len(absent)} of {len(out)} structures (first: {low_frames[absent[0]].index})"
        )
    check_units(reading, name, out, low_frames)
    return out


def _find_reordered(
    reading: Reading,
    name: str,
    frames: list[Frame],
    partner: np.ndarray,
    low_frames: list[Frame],
    crystal: Crystal,
    low_matches: list[Match],
) -> None:
    """Give frames whose atoms are in another order their partner, and put their atoms into its order."""
    cell = low_frames[0].atoms.cell.array
    lost = [frame for frame in frames if partner[frame.index] < 0]
    if not lost or any(np.abs(f.atoms.cell.array - cell).max() > 1e-3 for f in low_frames):
        return
    lookup, reordered = SiteLookup(crystal, cell, low_matches), 0
    for frame in lost:
        try:
            found = lookup.find(crystal.match(frame.atoms), reading.tolerance)
        except UserError:  # no displaced crystal at all: it stays without a partner
            continue
        if found is not None:
            partner[frame.index], order = found
            frame.atoms = frame.atoms[order]
            frame.forces = None if frame.forces is None else frame.forces[order]
            reordered += 1
    if reordered:
        reading.note(name, f"the atoms of {reordered} frames are in another order: put into that of '{reading.low}'")


def _crystal(config: Any, frames: list[Frame]) -> Crystal | None:
    """`null`: none; `auto`: from the lowest frame; a mapping: prototype, species and cubic lattice constant a."""
    if config is None or not frames:
        return None
    if config == "auto":
        return Crystal.from_displaced(min(frames, key=lambda f: f.energy / len(f.atoms)).atoms)
    if not isinstance(config, Mapping) or set(config) != {"prototype", "species", "a"}:
        raise UserError(f"'{config}' is not understood", "give null, auto, or prototype, species and a", "data.crystal")
    return Crystal.from_spec(config)


def _match_sites(
    reading: Reading, frames: list[Frame], crystal: Crystal | None
) -> tuple[list[Frame], list[Match] | None]:
    if crystal is None:
        return frames, None
    kept, matches = [], []
    for frame in frames:
        try:
            matches.append(crystal.match(frame.atoms))
            kept.append(frame)
        except UserError as error:
            if "matched" not in error.what:  # another cell or other species: not one frame's accident
                raise UserError(error.what, error.remedy, reading.where(reading.low, frame)) from error
            reading.bad(reading.low, frame, error.what)
    largest = max((_moved(m, matches[0], f) for m, f in zip(matches, kept, strict=True)), default=0.0)
    if largest > 0.01:
        reading.note(reading.low, f"the crystal drifts as a whole by up to {largest:.2f} A: removed from displacements")
    return kept, matches


def _moved(match: Match, first: Match, frame: Frame) -> float:
    """Drift since the first frame, modulo the supercell, A."""
    fractions = (match.drift - first.drift) @ np.linalg.inv(frame.atoms.cell.array)
    return float(np.linalg.norm((fractions - np.rint(fractions)) @ frame.atoms.cell.array))


def _unwrap(
    frames: list[Frame], matches: list[Match] | None, crystal: Crystal | None
) -> tuple[list[Atoms], list[Match] | None]:
    """Move every atom by lattice vectors next to its site in the ideal supercell plus the drift."""
    if matches is None or crystal is None:
        return [frame.atoms for frame in frames], None
    atoms, moved = [], []
    for frame, match in zip(frames, matches, strict=True):
        ideal = crystal.supercell(crystal.repetitions(frame.atoms.cell.array))
        ideal.set_cell(frame.atoms.cell, scale_atoms=True)
        match = replace(match, sites=ideal.positions[match.order] + match.drift)
        atoms.append(Atoms(frame.atoms.numbers, match.sites + match.displacements, cell=frame.atoms.cell, pbc=True))
        moved.append(match)
    return atoms, moved


def _forces(frames: list[Frame]) -> list[np.ndarray]:
    return [frame.forces for frame in frames if frame.forces is not None]
