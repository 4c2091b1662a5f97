"""Frames whose atoms come in another order: found among the references by what happens at the sites of the crystal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlffx.data.crystal import Crystal, Match


class SiteLookup:
    """Reference frames of one supercell, ready to be searched by displacements.

    Args:
        crystal: primitive cell.
        cell: of all frames, [3, 3], A.
        references: their sites and displacements.
    """

    def __init__(self, crystal: Crystal, cell: np.ndarray, references: Sequence[Match]) -> None:
        ideal = crystal.supercell(crystal.repetitions(cell))
        ideal.set_cell(cell, scale_atoms=True)
        self.orders = [match.order for match in references]
        self.displacements = np.array([_by_site(match) for match in references])
        first = np.flatnonzero(ideal.arrays["site_type"] == 0)
        self.translations = [
            _translated(ideal.positions, ideal.positions[i] - ideal.positions[first[0]], cell) for i in first
        ]

    def find(self, match: Match, tolerance: float) -> tuple[int, np.ndarray] | None:
        """The reference that is the same structure, and the order that puts the atoms of the frame into its order.

        Which site a frame's first atom is given is arbitrary, so every lattice translation of the supercell is tried.
        """
        moved = _by_site(match)
        best: tuple[float, int, np.ndarray] | None = None
        for translated in self.translations:
            worst = np.linalg.norm(self.displacements[:, translated] - moved, axis=-1).max(axis=1)
            index = int(worst.argmin())
            if worst[index] < tolerance and (best is None or worst[index] < best[0]):
                best = (float(worst[index]), index, translated)
        if best is None:
            return None
        _, index, translated = best
        atom_at = np.empty(len(moved), dtype=int)  # site of the reference -> atom of the frame
        atom_at[translated[match.order]] = np.arange(len(moved))
        return index, atom_at[self.orders[index]]


def _by_site(match: Match) -> np.ndarray:
    """Displacements in the order of the sites of the supercell, [n_sites, 3], A."""
    by_site = np.empty_like(match.displacements)
    by_site[match.order] = match.displacements
    return by_site


def _translated(positions: np.ndarray, shift: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Site that each site becomes when the crystal is moved by a lattice vector, [n_sites]."""
    fractions = (positions[:, None] + shift - positions[None]) @ np.linalg.inv(cell)
    return np.linalg.norm((fractions - np.rint(fractions)) @ cell, axis=-1).argmin(axis=1)
