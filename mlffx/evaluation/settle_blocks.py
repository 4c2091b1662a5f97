"""Frozen phonons of the settling test: energies along coupled patterns, combined to force constants and frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlffx.errors import UserError
from mlffx.evaluation.settle_structures import BLOCK, BRANCHES, KIND, POINT, RAY
from mlffx.units import AMU_A2_FS2_TO_EV, THZ_TO_CM1

TO_CM1 = 1e3 * THZ_TO_CM1 / (2 * np.pi)  # 1/fs -> cm-1
SAME = 1e-6  # A; displacements closer than this are the same


@dataclass(frozen=True)
class FrozenBlock:
    """Energies along coupled patterns; their force constants and masses give the frequencies.

    Attributes:
        label: q-point.
        branches: by ascending frequency.
        curvatures: weights of the energies in each ray's d2E/dA2 at A = 0, [n_rays, n_frames].
        combinations: each ray in the independent patterns, [n_rays, n_patterns]; amplitudes in A.
        masses: of the patterns, rigid motion taken out, [n_patterns, n_patterns], amu.
        curved: the same weights for the fourth order, [n_rays, n_frames]; zero rows with a single amplitude.
    """

    label: str
    branches: tuple[str, ...]
    curvatures: np.ndarray
    combinations: np.ndarray
    masses: np.ndarray
    curved: np.ndarray

    def matrix(self, energies: np.ndarray) -> np.ndarray:
        """Force constants of the patterns, [..., n_patterns, n_patterns], eV/A^2, from energies [..., n_frames]."""
        return _symmetric(energies @ (_solver(self.combinations) @ self.curvatures).T, self.combinations.shape[1])

    def frequencies(self, energies: np.ndarray) -> np.ndarray:
        """cm-1, ascending, imaginary negative, [..., n_patterns]."""
        root = np.linalg.inv(np.linalg.cholesky(self.masses * AMU_A2_FS2_TO_EV))
        squares = np.linalg.eigvalsh(root @ self.matrix(np.asarray(energies)) @ root.T)
        return np.sign(squares) * np.sqrt(np.abs(squares)) * TO_CM1

    def sensitivity(self, energies: np.ndarray) -> np.ndarray:
        """d(frequency)/d(energy) of every frame, [n_patterns, n_frames], cm-1/eV, to first order."""
        root = np.linalg.inv(np.linalg.cholesky(self.masses * AMU_A2_FS2_TO_EV))
        squares, vectors = np.linalg.eigh(root @ self.matrix(np.asarray(energies)) @ root.T)
        motion = (root.T @ vectors).T  # v with v M v = 1
        n = self.combinations.shape[1]
        weights = _solver(self.combinations) @ self.curvatures  # [entries, frames]
        change = np.array([[v[i] * v[j] * (1 if i == j else 2) for i, j in _entries(n)] for v in motion])
        return change @ weights * (TO_CM1 / (2 * np.sqrt(np.abs(squares)) + 1e-12))[:, None]


def frozen_blocks(
    infos: Sequence[Mapping[str, Any]], u: np.ndarray, masses: np.ndarray, path: str
) -> tuple[list[FrozenBlock], list[tuple[int, int]]]:
    """Blocks all of whose rays are there, and pairs of frames that symmetry makes equal.

    Args:
        infos: of the frames.
        u: their displacements from the ideal sites, [n_frames, n_atoms, 3], A.
        masses: of the atoms, amu.
        path: where the frames come from, for messages.

    Raises:
        UserError: for modes without the perfect crystal, from which their energies count.
    """
    reference = next((k for k, info in enumerate(infos) if info[KIND] == "reference"), None)
    groups: dict[str, dict[str, list[int]]] = {}
    for k, info in enumerate(infos):
        if info[KIND] == "mode":
            groups.setdefault(str(info[BLOCK]), {}).setdefault(str(info[RAY]), []).append(k)
    if groups and reference is None:
        raise UserError("the perfect crystal is missing", f"label the frame with {KIND}=reference", path)
    found, equal = [], []
    for rays in groups.values():
        first = infos[next(iter(rays.values()))[0]]
        branches = tuple(str(first[BRANCHES]).split())
        n = len(branches)
        if len(rays) < n * (n + 1) // 2:
            continue  # cut short: its force constants are not determined
        curvatures, curved, patterns = [], [], []
        for members in rays.values():
            pattern, amplitudes = _line(u, members)
            second, fourth = _even_weights(amplitudes, members, int(reference or 0), len(infos))
            patterns.append(pattern)
            curvatures.append(second)
            curved.append(fourth)
            equal += [(a, b) for i, a in enumerate(members) for b in members[:i] if _opposite(u[a], u[b])]
        flat = np.array([p.reshape(-1) for p in patterns])
        independent = flat[:n]
        combinations = np.linalg.lstsq(independent.T, flat.T, rcond=None)[0].T
        found.append(
            FrozenBlock(
                str(first[POINT]),
                branches,
                np.array(curvatures),
                combinations,
                _pattern_masses(independent, masses),
                np.array(curved),
            )
        )
    return found, equal


def _line(u: np.ndarray, members: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Common pattern of the frames of a ray, largest displacement 1, and the signed amplitude of each, A."""
    longest = members[int(np.argmax([np.abs(u[k]).max() for k in members]))]
    pattern = u[longest] / np.linalg.norm(u[longest], axis=1).max()
    return pattern, np.array([float((u[k] * pattern).sum() / (pattern**2).sum()) for k in members])


def _even_weights(
    amplitudes: np.ndarray, members: Sequence[int], reference: int, n_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the energies in the second and fourth derivative, from a fit of even orders to E(A) - E(0).

    The mean over +A and -A, where both are there, has no odd orders. Two amplitudes give both derivatives exactly, one
    the second alone.
    """
    sizes = np.unique(np.round(np.abs(amplitudes), 6))
    orders = [2, 4][: len(sizes)]
    scale = sizes.max()
    design = np.stack([(sizes / scale) ** order for order in orders], axis=1)
    solver = np.linalg.pinv(design)
    means = np.zeros((len(sizes), n_frames))
    for row, size in zip(means, sizes, strict=True):
        own = [k for k, a in zip(members, amplitudes, strict=True) if abs(abs(a) - size) < 1e-5]
        row[own] = 1 / len(own)
        row[reference] = -1.0
    weights = solver @ means
    fourth = 24 * weights[1] / scale**4 if len(orders) > 1 else np.zeros(n_frames)
    return 2 * weights[0] / scale**2, fourth


def _pattern_masses(patterns: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """M_ab = sum_i m_i p_ai.p_bi after the centre of mass has been brought to rest, amu."""
    p = patterns.reshape(len(patterns), -1, 3)
    at_rest = p - (masses[None, :, None] * p).sum(axis=1, keepdims=True) / masses.sum()
    return np.einsum("i,aix,bix->ab", masses, at_rest, at_rest)


def _opposite(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a + b).max() < SAME)


def _entries(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i, n)]


def _solver(combinations: np.ndarray) -> np.ndarray:
    """Curvatures of the rays, c K c, to the independent entries of K, [n_entries, n_rays]."""
    n = combinations.shape[1]
    rows = [[c[i] * c[j] * (1 if i == j else 2) for i, j in _entries(n)] for c in combinations]
    return np.linalg.pinv(np.array(rows))


def _symmetric(entries: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros((*entries.shape[:-1], n, n))
    for k, (i, j) in enumerate(_entries(n)):
        out[..., i, j] = out[..., j, i] = entries[..., k]
    return out
