"""The settling test: forces and frozen phonons of the high level by finite differences, against what a run predicts.

The run has seen energies of other structures only. If the difference it learned came from the smoothness of its model
and not from the labels, it could not be right about the slope along random directions of displaced crystals, nor about
the curvature along single modes. Both are measured here, by the same finite differences on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlffx.evaluation.harmonic import settled
from mlffx.evaluation.members import Members
from mlffx.evaluation.settle_labels import SettleLabels
from mlffx.evaluation.uncertainty import over_members
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import energies_of_members, evaluate_atoms, in_double

SEEN = 1e-4  # A rms; a training structure this near is the same


@dataclass(frozen=True)
class Comparison:
    """One kind of quantity, forces along directions (eV/A) or frequencies (cm-1); arrays are [n].

    Attributes:
        names: `0: H3 x`, or `X TO`.
        high: true, by finite differences of labels; its noise is `high_noise`.
        low: of the labels of the low level; None for a direct potential without any.
        predicted, sigma: by the potential; sigma NaN where nothing is known.
        base: by its low-level part; None for a direct potential.
        shift, shift_noise: true high - low with the noise of the difference.
        predicted_shift, shift_sigma: potential - base, member by member. Without a base the four are those of `high`.
    """

    names: list[str]
    high: np.ndarray
    high_noise: np.ndarray
    predicted: np.ndarray
    sigma: np.ndarray
    low: np.ndarray | None
    base: np.ndarray | None
    shift: np.ndarray
    shift_noise: np.ndarray
    predicted_shift: np.ndarray
    shift_sigma: np.ndarray

    @property
    def missed(self) -> np.ndarray:
        """Predicted minus true shift."""
        return self.predicted_shift - self.shift

    @property
    def explained(self) -> float:
        """Share of the mean square shift that the prediction explains, 1 - <missed^2> / <shift^2>, noise taken off."""
        noise = float(np.mean(self.shift_noise**2))
        missed = max(float(np.mean(self.missed**2)) - noise, 0.0)
        there = float(np.mean(self.shift**2)) - noise
        return 1 - missed / there if there > 0 else float("nan")

    @property
    def recovered(self) -> float:
        """Slope of predicted against true shift, through zero: 1 when all of it is found, 0 when none is."""
        return float((self.predicted_shift * self.shift).sum() / ((self.shift**2).sum() or float("nan")))

    @property
    def z(self) -> np.ndarray:
        """(predicted - true shift) / both sigmas; empty where sigma is unknown."""
        sigma = np.sqrt(self.shift_sigma**2 + self.shift_noise**2)
        known = np.isfinite(sigma) & (sigma > 0)
        return self.missed[known] / sigma[known]

    @property
    def rms_z(self) -> float:
        return float(np.sqrt(np.mean(self.z**2))) if len(self.z) else float("nan")

    @property
    def visible(self) -> bool:
        """Whether the shift stands out of the noise of its labels."""
        return float(np.mean(self.shift**2)) > 4 * float(np.mean(self.shift_noise**2))


@dataclass(frozen=True)
class Settlement:
    """Everything the test found.

    Attributes:
        high, low: names of the levels; low None for a direct potential.
        forces, modes: the two comparisons; None without such labels.
        noise: of the energies of the high level, eV, found in the labels themselves, from `noise_from` numbers.
        difference_noise: of their difference to the low level, eV.
        truncation: largest difference between a force of the potential and its finite difference, eV/A.
        nearest: rms distance per atom from the nearest training structure, A; None where none is comparable.
        labels: behind it.
        scale: every sigma was multiplied by this.
    """

    high: str
    low: str | None
    forces: Comparison | None
    modes: Comparison | None
    noise: float
    noise_from: int
    difference_noise: float
    truncation: float
    nearest: float | None
    labels: SettleLabels
    scale: float


def settle(
    members: Members,
    bases: Members | None,
    labels: SettleLabels,
    high: str,
    low: str | None,
    trained_on: Sequence[np.ndarray] = (),
    scale: float = 1.0,
) -> Settlement:
    """Compare the labels with what a run predicts.

    Args:
        members: of the run.
        bases: their low level, one for all or one each; None for direct potentials.
        labels: of `read_settle`.
        high, low: levels; low of a delta only.
        trained_on: displacements of the training structures in the order of the ideal sites, [n_atoms, 3] each, A.
        scale: factor on every sigma of the potential (`sigma_scale`).

    Raises:
        UserError: for a level that was not labelled.
    """
    low = None if bases is None else low
    labels = labels.labelled([high, *([low] if low else [])])
    found = _Energies(
        labels.energies[high],
        None if low is None else labels.energies[low],
        energies(members, labels),
        None if bases is None else energies(bases, labels),
    )
    noise, count = labels.noise(found.high - found.total.mean(axis=0))
    shift_noise = noise if found.base is None else labels.noise(found.shift - found.predicted_shift.mean(axis=0))[0]
    return Settlement(
        high,
        low,
        _compare(_forces(labels), found, noise, shift_noise, scale) if labels.projections else None,
        _compare(_modes(labels), found, noise, shift_noise, scale) if labels.blocks else None,
        noise,
        count,
        shift_noise,
        _truncation(members.fitted[0], labels),
        _nearest(labels, trained_on),
        labels,
        scale,
    )


def energies(members: Members, labels: SettleLabels) -> np.ndarray:
    """Of every member, draws about least-squares fits placed as for force constants (`settled`): [n, n_frames], eV."""
    centres = list({id(c): c for c in members.centres}.values())
    found = energies_of_members([*members.potentials, *centres], labels.atoms)
    drawn, groups = found[: len(members.potentials)], [id(c) for c in members.centres]
    if not groups:
        return drawn
    place = {id(c): len(drawn) + k for k, c in enumerate(centres)}
    return settled(drawn, found[[place[g] for g in groups]], groups)


@dataclass(frozen=True)
class _Energies:
    """True ones [n_frames] and predicted ones [n_members, n_frames] of both levels, eV."""

    high: np.ndarray
    low: np.ndarray | None
    total: np.ndarray
    base: np.ndarray | None

    @property
    def shift(self) -> np.ndarray:
        return self.high if self.low is None else self.high - self.low

    @property
    def predicted_shift(self) -> np.ndarray:
        return self.total if self.base is None else self.total - self.base


@dataclass(frozen=True)
class _Quantity:
    """Numbers made of energies: their values [..., n] of energies [..., n_frames], and how these move them."""

    names: list[str]
    of: Callable[[np.ndarray], np.ndarray]
    sensitivity: Callable[[np.ndarray], np.ndarray]


def _forces(labels: SettleLabels) -> _Quantity:
    slopes = labels.forces(np.eye(len(labels.atoms))).T
    names = [f"{p.configuration}: {p.name}" for p in labels.projections]
    return _Quantity(names, labels.forces, lambda _: slopes)


def _modes(labels: SettleLabels) -> _Quantity:
    return _Quantity(
        [f"{b.label} {name}" for b in labels.blocks for name in b.branches],
        lambda e: np.concatenate([b.frequencies(e) for b in labels.blocks], axis=-1),
        lambda e: np.concatenate([b.sensitivity(e) for b in labels.blocks]),
    )


def _compare(quantity: _Quantity, e: _Energies, noise: float, shift_noise: float, scale: float) -> Comparison:
    high, total = quantity.of(e.high), quantity.of(e.total)
    predicted = over_members(total)
    length = np.linalg.norm(quantity.sensitivity(np.nan_to_num(e.high)), axis=1)
    if e.low is None or e.base is None:
        return Comparison(
            quantity.names, high, noise * length, predicted.mean, scale * predicted.sigma, None, None,
            high, noise * length, predicted.mean, scale * predicted.sigma,
        )  # fmt: skip
    low, base = quantity.of(e.low), quantity.of(e.base)
    moved = over_members(total - base)
    return Comparison(
        quantity.names, high, noise * length, predicted.mean, scale * predicted.sigma, low, base.mean(axis=0),
        high - low, shift_noise * length, moved.mean, scale * moved.sigma,
    )  # fmt: skip


def _truncation(potential: Potential, labels: SettleLabels) -> float:
    """How far finite differences of the potential are from its forces, eV/A."""
    if not labels.projections:
        return 0.0
    middles = []
    for p in labels.projections:
        middle = labels.atoms[p.plus].copy()
        middle.positions -= 0.5 * (labels.displacements[p.plus] - labels.displacements[p.minus])
        middles.append(middle)
    pairs = [labels.atoms[k] for p in labels.projections for k in (p.plus, p.minus)]
    found = evaluate_atoms(in_double(potential), [*middles, *pairs], forces=True)
    assert found.forces is not None
    n, worst = len(middles), 0.0
    for k, p in enumerate(labels.projections):
        unit = (labels.displacements[p.plus] - labels.displacements[p.minus]) / (2 * p.step)
        plus, minus = found.energies[n + 2 * k : n + 2 * k + 2]
        worst = max(worst, abs(float((found.forces[k] * unit).sum() + (plus - minus) / (2 * p.step))))
    return worst


def _nearest(labels: SettleLabels, trained_on: Sequence[np.ndarray]) -> float | None:
    """Smallest rms distance of an atom between displaced structures of the test and of the training set, A."""
    moved = labels.displacements - labels.displacements.mean(axis=1, keepdims=True)
    moved = moved[np.abs(moved).max(axis=(1, 2)) > SEEN]  # the perfect crystal belongs to both
    training = np.array([u for u in trained_on if u.shape == moved.shape[1:] and np.abs(u).max() > SEEN])
    if not len(training) or not len(moved):
        return None
    gaps = np.sqrt(((moved[:, None] - training[None]) ** 2).sum(axis=-1).mean(axis=-1))
    return float(gaps.min())
