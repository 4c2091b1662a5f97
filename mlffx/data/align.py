"""Which frames of two files are the same structure: by geometry, never by index.

Two structures are the same when their atoms, in the same order, coincide within a tolerance after a rigid translation
and modulo lattice vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

_N_PROJECTED = 8


def partners(frames: Sequence[Atoms], references: Sequence[Atoms], tolerance: float) -> np.ndarray:
    """Index of the reference that is the same structure as each frame, the closest where several are; -1 for none.

    Args:
        frames, references: structures.
        tolerance: largest distance of any atom, A.

    Returns:
        [n_frames] integers.
    """
    found = np.full(len(frames), -1)
    for composition, members in _by_composition(frames).items():
        candidates = _by_composition(references).get(composition, [])
        if not candidates:
            continue
        radius = 8 * np.pi * tolerance * np.sqrt(len(composition)) / _shortest([references[i] for i in candidates])
        tree = cKDTree(_fingerprints([references[i] for i in candidates]))
        near = tree.query_ball_point(_fingerprints([frames[i] for i in members]), r=radius)
        for member, hits in zip(members, near, strict=True):
            distances = [largest_distance(frames[member], references[candidates[hit]]) for hit in hits]
            if distances and min(distances) < tolerance:
                found[member] = candidates[hits[int(np.argmin(distances))]]
    return found


def largest_distance(a: Atoms, b: Atoms) -> float:
    """How far the worst atom of `a` is from its image in `b`, mean displacement removed, A; inf for other cells."""
    cell = b.cell.array
    if np.abs(a.cell.array - cell).max() > 1e-3:
        return float("inf")
    difference = a.positions - b.positions
    fractions = (difference - difference[0]) @ np.linalg.inv(cell)
    difference = (fractions - np.rint(fractions)) @ cell
    return float(np.linalg.norm(difference - difference.mean(axis=0), axis=1).max())


def duplicates(frames: Sequence[Atoms], tolerance: float = 1e-5) -> dict[int, int]:
    """Frames that repeat an earlier one of the same list: index -> index of the first occurrence."""
    first: dict[int, int] = {}
    for members in _by_composition(frames).values():
        prints = _fingerprints([frames[i] for i in members])
        for a, b in sorted(cKDTree(prints).query_pairs(8 * np.pi * tolerance * np.sqrt(len(frames[members[0]])))):
            a, b = members[a], members[b]
            if b not in first and largest_distance(frames[a], frames[b]) < tolerance:
                first[b] = first.get(a, a)
    return first


def _by_composition(frames: Sequence[Atoms]) -> dict[tuple[int, ...], list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, atoms in enumerate(frames):
        groups.setdefault(tuple(atoms.numbers), []).append(index)
    return groups


def _shortest(frames: Sequence[Atoms]) -> float:
    return min(1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0).max() for atoms in frames)


def _fingerprints(frames: Sequence[Atoms]) -> np.ndarray:
    """Few smooth numbers that neither a rigid translation nor wrapping changes: [n_frames, _N_PROJECTED].

    Cosine and sine of the phases 2 pi (f_i - f_0) of all atoms, projected onto random directions of unit variance over
    sqrt(_N_PROJECTED), which keeps distances up to a factor near one.
    """
    phases = []
    for atoms in frames:
        fractions = atoms.positions @ np.linalg.inv(atoms.cell.array)
        phases.append(2 * np.pi * (fractions - fractions[0]).ravel())
    features = np.concatenate([np.cos(phases), np.sin(phases)], axis=1)
    directions = np.random.default_rng(0).normal(size=(features.shape[1], _N_PROJECTED)) / np.sqrt(_N_PROJECTED)
    return features @ directions
