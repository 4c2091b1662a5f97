"""How good the labels are: rounding, and what no smooth energy surface explains in a difference of two levels.

The noise of a difference is estimated without a potential. The difference is fitted, robustly, by some 44 smooth
functions of the structure: sums over the pairs of each shell of powers of the change of distance, and sums over angles.
What is left, residual / sqrt(1 - leverage), is taken as noise. It is an upper bound, because it contains what the
functions cannot describe. That grows with the displacements A, as A^2 or faster, and the noise does not: the floor is
what var = floor^2 + b A^4 leaves at A = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from vesin import NeighborList

from mlffx.data.crystal import Crystal
from mlffx.data.dataset import LabelledSet

MAD_TO_SIGMA = 1.4826  # of a normal distribution
N_SHELLS = 5
HIGHEST_POWERS = (4, 3, 2, 2, 2)  # of the change of distance, by shell
CLIP = 4.0  # robust standard deviations
FLOOR_ITERATIONS = 20
TUKEY = 4.685  # residuals beyond this many sigma count nothing (95 % efficiency for normal noise)


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise of the labels of one difference, per cell.

    Attributes:
        sigma: robust standard deviation of the residuals, eV per cell.
        cold, hot: the same from the colder and from the hotter half of the frames.
        floor: the part of sigma that does not grow with the displacements, eV per cell.
        residuals: residual / sqrt(1 - leverage), whose variance is that of the noise, [n_frames], eV per cell,
            NaN where there is no label.
        is_hot: [n_frames], frames of the hotter half.
        n_parameters: of the fit.
    """

    sigma: float
    cold: float
    hot: float
    floor: float
    is_hot: np.ndarray
    residuals: np.ndarray
    n_parameters: int

    def outliers(self, factor: float = 5.0) -> np.ndarray:
        """Frames whose residual exceeds `factor` times that of their half, where the fit may be worse."""
        usual = np.where(self.is_hot, max(self.hot, self.sigma), self.sigma)
        return np.flatnonzero(np.abs(np.nan_to_num(self.residuals)) > factor * usual)


def rounding_step(energies: np.ndarray) -> float | None:
    """Coarsest power of ten (1e-8 ... 0.1 eV) of which all energies are multiples; None when there is none."""
    values = energies[np.isfinite(energies)]
    for decimals in range(1, 9):
        scaled = values * 10.0**decimals
        if len(values) > 2 and np.abs(scaled - np.rint(scaled)).max() < 1e-4:
            return 10.0**-decimals
    return None


def estimate_noise(dataset: LabelledSet, high: str, low: str | None) -> NoiseEstimate | None:
    """Noise of E(high) - E(low), or of E(high) where low is None; None without a crystal, or with fewer than twice as
    many labels as parameters."""
    if dataset.crystal is None or dataset.matches is None:
        return None
    used = dataset.indices([name for name in (high, low) if name is not None])
    sizes = dataset.n_atoms[used]
    if len(used) == 0 or np.any(sizes != sizes[0]):
        return None
    design = smooth_functions(dataset, used)
    if len(used) < 2 * design.shape[1]:
        return None
    energies = dataset.energies[high] if low is None else dataset.difference(high, low)
    scatter = robust_residuals(design, energies[used])
    residuals = np.full(len(dataset), np.nan)
    residuals[used] = scatter
    amplitudes = dataset.amplitudes()
    is_hot = amplitudes > np.median(amplitudes[used])
    hot = is_hot[used]
    floor = noise_floor(scatter, amplitudes[used])
    return NoiseEstimate(
        _sigma(scatter), _sigma(scatter[~hot]), _sigma(scatter[hot]), floor, is_hot, residuals, design.shape[1]
    )


def noise_floor(scatter: np.ndarray, amplitudes: np.ndarray) -> float:
    """Part of the standard deviation that does not grow with the amplitude: floor of var = floor^2 + b amplitude^4.

    Args:
        scatter: residuals, [n]; those beyond CLIP robust standard deviations count as if they lay there.
        amplitudes: rms displacements, [n], A.
    """
    centred = scatter - np.median(scatter)
    squares = np.minimum(centred**2, (CLIP * _sigma(scatter)) ** 2)
    columns = np.column_stack([np.ones(len(squares)), (amplitudes / amplitudes.max()) ** 4])
    weights = np.ones(len(squares))  # the scatter of a square is proportional to its mean
    found = np.zeros(2)
    for _ in range(FLOOR_ITERATIONS):
        found, _ = nnls(columns * weights[:, None], squares * weights)
        expected = columns @ found
        weights = 1 / np.maximum(expected, 1e-3 * np.median(expected) + 1e-300)
        weights /= weights.max()
    return float(np.sqrt(found[0]))


def smooth_functions(dataset: LabelledSet, frames: np.ndarray) -> np.ndarray:
    """A constant and sums over shells of smooth functions of the change of distances, [n_frames, n_functions]."""
    assert dataset.crystal is not None and dataset.matches is not None
    first, cell = dataset.matches[frames[0]], dataset.atoms[frames[0]].cell.array
    i, j, vectors = _pairs(first.sites, cell, dataset.crystal)
    lengths = np.linalg.norm(vectors, axis=1)
    shells = _shells(dataset.atoms[frames[0]].numbers, i, j, lengths)
    rows = []
    for frame in frames:
        u = _in_order_of(dataset, frame, frames[0])
        moved = vectors + u[j] - u[i]
        changes = np.linalg.norm(moved, axis=1) - lengths
        row = [1.0]
        for members, highest in zip(shells, HIGHEST_POWERS, strict=False):
            row += [float((changes[members] ** power).sum()) for power in range(1, highest + 1)]
        rows.append(row + _angular(moved, changes, i, shells[:2], len(u)))
    return np.array(rows)


def _angular(
    vectors: np.ndarray, changes: np.ndarray, i: np.ndarray, shells: list[np.ndarray], n_atoms: int
) -> list[float]:
    """Sums over atoms of the scalar products of the moments sum_j x^n r^ and sum_j x^n r^ r^ of their nearest shells.

    They are sums over pairs of neighbours of 1, cos and cos^2 of the angle between them, times their stretches.
    """
    moments: list[list[np.ndarray]] = [[], []]
    for members, highest in zip(shells, (2, 1), strict=False):
        unit = vectors[members] / np.linalg.norm(vectors[members], axis=1)[:, None]
        for power in range(highest + 1):
            weighted = changes[members, None] ** power * unit
            for rank, terms in enumerate((weighted, (weighted[:, :, None] * unit[:, None]).reshape(-1, 9))):
                total = np.zeros((n_atoms, terms.shape[1]))
                np.add.at(total, i[members], terms)
                moments[rank].append(total)
    return [float((a * b).sum()) for group in moments for k, a in enumerate(group) for b in group[k:]]


def robust_residuals(design: np.ndarray, values: np.ndarray, iterations: int = 30) -> np.ndarray:
    """Residuals / sqrt(1 - leverage) of a least-squares fit reweighted by Tukey's biweight.

    Args:
        design: [n, p]; the first column is constant.
        values: [n].
    """
    scale = design[:, 1:].std(axis=0)
    matrix = np.column_stack(
        [np.ones(len(design)), (design[:, 1:] - design[:, 1:].mean(axis=0)) / np.where(scale > 0, scale, 1)]
    )
    weights = np.ones(len(values))
    scatter = values - values.mean()
    for _ in range(iterations):
        root = np.sqrt(weights)[:, None]
        inverse = np.linalg.pinv((root * matrix).T @ (root * matrix), rcond=1e-12, hermitian=True)
        residuals = values - matrix @ (inverse @ (matrix.T @ (weights * values)))
        leverage = weights * np.einsum("np,pq,nq->n", matrix, inverse, matrix)
        scatter = residuals / np.sqrt(np.clip(1 - leverage, 0.1, None))
        sigma = _sigma(residuals)
        if sigma == 0:
            break
        weights = np.clip(1 - (residuals / (TUKEY * sigma)) ** 2, 0, None) ** 2
    return scatter


def _sigma(values: np.ndarray) -> float:
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def _pairs(sites: np.ndarray, cell: np.ndarray, crystal: Crystal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs i, j of the ideal structure within the first shells, and their vectors."""
    reach = 1.3 * (abs(np.linalg.det(crystal.cell)) / crystal.n_basis * N_SHELLS * 3) ** (1 / 3)
    i, j, vectors = NeighborList(cutoff=reach, full_list=True).compute(
        points=sites, box=cell, periodic=True, quantities="ijD"
    )
    return i.astype(int), j.astype(int), vectors


def _shells(numbers: np.ndarray, i: np.ndarray, j: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Indices of the pairs of each shell, nearest first; one shell a pair of elements and a length."""
    low, high = np.minimum(numbers[i], numbers[j]), np.maximum(numbers[i], numbers[j])
    keys = [(round(float(d), 3), int(a), int(b)) for d, a, b in zip(lengths, low, high, strict=True)]
    lookup: dict[tuple[float, int, int], list[int]] = {}
    for index, key in enumerate(keys):
        lookup.setdefault(key, []).append(index)
    return [np.array(lookup[key]) for key in sorted(lookup)[:N_SHELLS]]


def _in_order_of(dataset: LabelledSet, frame: int, reference: int) -> np.ndarray:
    """Displacements of a frame, its atoms put in the order of the sites of a reference frame."""
    assert dataset.matches is not None
    match, target = dataset.matches[frame], dataset.matches[reference]
    by_site = np.empty_like(match.displacements)
    by_site[match.order] = match.displacements
    return by_site[target.order]
