"""q-points: labelled points and paths of the primitive cell, and coordinates in units of the conventional cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seekpath

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError, nearest
from mlffx.lattice.symmetry import space_group

LABELLED = ("GAMMA", "X", "L", "W", "K")

# Cubic F lattice, units of 2 pi / a: the points of the literature, so that X is (1, 0, 0) whatever the primitive cell.
FACE_CENTRED = {
    "GAMMA": (0.0, 0.0, 0.0),
    "X": (1.0, 0.0, 0.0),
    "L": (0.5, 0.5, 0.5),
    "W": (1.0, 0.5, 0.0),
    "K": (0.75, 0.75, 0.0),
    "U": (1.0, 0.25, 0.25),
}


@dataclass(frozen=True)
class Path:
    """Segments of a band structure.

    Attributes:
        segments: q-points of each, [n_i, 3], fractions of the reciprocal primitive cell.
        ends: labels at both ends of each segment.
    """

    segments: list[np.ndarray]
    ends: list[tuple[str, str]]


def band_path(crystal: Crystal, points_per_segment: int = 51) -> Path:
    """Path of Hinuma et al. (Comput. Mater. Sci. 128, 140, 2017) by seekpath, in the crystal's own primitive cell.

    Segments get points in proportion to their length, the longest `points_per_segment`.
    """
    found = seekpath.get_path_orig_cell((crystal.cell, crystal.scaled_positions, crystal.numbers))
    points = {name: np.array(q) for name, q in found["point_coords"].items()}
    reciprocal = np.linalg.inv(crystal.cell).T
    lengths = [float(np.linalg.norm((points[b] - points[a]) @ reciprocal)) for a, b in found["path"]]
    segments = []
    for (start, end), length in zip(found["path"], lengths, strict=True):
        n = max(3, round(points_per_segment * length / max(lengths)))
        segments.append(np.linspace(points[start], points[end], n))
    return Path(segments, [(a, b) for a, b in found["path"]])


def labelled_points(crystal: Crystal) -> dict[str, np.ndarray]:
    """GAMMA, X, L, W, K where the lattice has them: label -> q [3], fractions of the reciprocal primitive cell."""
    if is_face_centred_cubic(crystal):
        return {name: to_primitive(crystal, FACE_CENTRED[name]) for name in LABELLED}
    found = seekpath.get_path_orig_cell((crystal.cell, crystal.scaled_positions, crystal.numbers))["point_coords"]
    return {name: np.array(found[name]) for name in LABELLED if name in found}


def point(crystal: Crystal, label: str) -> np.ndarray:
    """q of a label, [3], fractions of the reciprocal primitive cell."""
    known = labelled_points(crystal)
    if label not in known:
        raise UserError(f"no point '{label}' in this lattice", nearest(label, known), "phonons")
    return known[label]


def to_conventional(crystal: Crystal) -> np.ndarray:
    """Matrix C with conventional cell rows = C @ primitive cell rows, [3, 3]."""
    # spglib: primitive columns = conventional columns @ transformation_matrix
    group = space_group(crystal)
    matrix = np.linalg.inv(group.transformation_matrix.T)
    edges = matrix @ crystal.cell
    along = np.abs(edges).argmax(axis=0)  # row along x, y, z
    ordered = edges[along]
    if group.number < 195 or np.abs(ordered - np.diag(np.diag(ordered))).max() > 1e-6 * np.abs(edges).max():
        return matrix
    # edges of a cubic crystal in the order and sense of x, y, z: spglib may turn those of zincblende
    return matrix[along] * np.sign(np.diag(ordered))[:, None]


def to_primitive(crystal: Crystal, q_conventional: Sequence[float] | np.ndarray) -> np.ndarray:
    """q in units of the conventional reciprocal cell (2 pi / a for cubic crystals) -> fractions of the primitive one.

    Args:
        q_conventional: [..., 3], as experiments print it: X of diamond is (1, 0, 0).
    """
    return np.asarray(q_conventional, dtype=float) @ np.linalg.inv(to_conventional(crystal)).T


def from_primitive(crystal: Crystal, q: Sequence[float] | np.ndarray) -> np.ndarray:
    """Inverse of `to_primitive`."""
    return np.asarray(q, dtype=float) @ to_conventional(crystal).T


def cartesian(crystal: Crystal, q: Sequence[float] | np.ndarray) -> np.ndarray:
    """Fractions of the reciprocal primitive cell -> Cartesian wave vector without 2 pi, [..., 3], 1/A."""
    return np.asarray(q, dtype=float) @ np.linalg.inv(crystal.cell).T


def is_face_centred_cubic(crystal: Crystal) -> bool:
    group = space_group(crystal)
    return group.number >= 195 and group.international.startswith("F")
