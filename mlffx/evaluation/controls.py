"""Controls: questions a referee asks, each answered by numbers and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from mlffx.evaluation.figures.energies import EnergyResiduals
from mlffx.evaluation.spectra import Spectra
from mlffx.evaluation.uncertainty import Estimate, combine, z_scores

Word = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """Answer of one control.

    Attributes:
        name: of the control, as on the command line.
        title: the question, for people.
        word: pass, fail, or inconclusive.
        statement: one sentence with the numbers that decided.
        numbers: the same numbers for programs.
    """

    name: str
    title: str
    word: Word
    statement: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def shuffled_differences(
    shift: Estimate, real_shift: float, n_sigma: float = 2.0, real_sigma: float = float("nan"), mode: str = ""
) -> Verdict:
    """Differences given to the wrong structures must shift nothing.

    Args:
        shift: of the watched mode with shuffled labels, over several shuffles, cm-1; sigma is that of one shuffle.
        real_shift: with the labels in order, cm-1.
        n_sigma: how far from zero still counts as zero.
        real_sigma: of the shift with the labels in order; a shift within it proves nothing, shuffled or not.
        mode: `label branch` that was watched.
    """
    mean, sigma = float(shift.mean), float(shift.sigma)
    n = max(shift.n_members, 1)
    numbers: dict[str, Any] = {"shuffled_shift_cm1": mean, "sigma_cm1": sigma, "real_shift_cm1": real_shift}
    numbers |= {"shuffles": n, "real_sigma_cm1": real_sigma if np.isfinite(real_sigma) else None, "mode": mode}
    title = "Shuffled differences shift nothing"
    if not np.isfinite(sigma):
        return Verdict("shuffled", title, "inconclusive", "one shuffle has no sigma: run at least three", numbers)
    shown = round(mean, 1) + 0.0  # no -0.0
    in_order = f"{real_shift:+.1f}" + (f" ± {real_sigma:.1f}" if np.isfinite(real_sigma) else "")
    statement = f"shuffled {shown:+.1f} ± {sigma:.1f} cm⁻¹ over {n} shuffles, in order {in_order} cm⁻¹"
    statement += f" ({mode.replace('_', ' ')})" if mode else ""
    if abs(mean) > n_sigma * max(sigma, 1.0):
        return Verdict("shuffled", title, "fail", statement, numbers)
    told_apart = abs(real_shift) > n_sigma * max(sigma, float(np.nan_to_num(real_sigma)))
    return Verdict("shuffled", title, "pass" if told_apart else "inconclusive", statement, numbers)


def force_recovery(
    predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], trained_with_forces: float | None = None
) -> Verdict:
    """A network that saw energies only, judged by forces it never saw.

    Args:
        predicted, true: forces of held-out structures, [n_atoms, 3] each, eV/A.
        trained_with_forces: mean absolute error, eV/A, of the same architecture trained on forces.
    """
    p, t = np.concatenate([f.ravel() for f in predicted]), np.concatenate([f.ravel() for f in true])
    mae, scale = float(np.abs(p - t).mean()), float(np.sqrt(np.mean(t**2)))
    relative = float(np.sqrt(np.mean((p - t) ** 2)) / scale)
    correlation = float(np.corrcoef(p, t)[0, 1])
    numbers = {
        "mae_meV_per_A": 1e3 * mae,
        "rms_force_meV_per_A": 1e3 * scale,
        "relative_rms_error": relative,
        "correlation": correlation,
        "mae_with_forces_meV_per_A": None if trained_with_forces is None else 1e3 * trained_with_forces,
    }
    statement = (
        f"forces never trained on: {1e3 * mae:.0f} meV/Å ({100 * relative:.0f} % of their rms), r = {correlation:.4f}"
    )
    if trained_with_forces is not None:
        statement += f"; with forces {1e3 * trained_with_forces:.0f} meV/Å"
    word: Word = "pass" if relative < 0.1 else "inconclusive" if relative < 0.3 else "fail"
    return Verdict("forces", "Energies alone recover the forces", word, statement, numbers)


def cheap_base_forces(
    name: str,
    base: Sequence[np.ndarray],
    composed: Sequence[np.ndarray],
    alone: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
) -> Verdict:
    """A difference learned from energies above a cheap base: are the composed forces those of the expensive level?

    Args:
        name: of the base.
        base, composed, alone: forces of held-out structures, [n_atoms, 3] each, eV/A, by the base, by base and
            difference, and by the same fit without a base.
        true: forces of the level, never trained on.
    """
    t = np.concatenate([f.ravel() for f in true])
    scale = float(np.sqrt(np.mean(t**2)))
    rms = {
        key: float(np.sqrt(np.mean((np.concatenate([f.ravel() for f in found]) - t) ** 2)))
        for key, found in (("base", base), ("composed", composed), ("alone", alone))
    }
    numbers = {"base_name": name, "rms_force_meV_per_A": 1e3 * scale}
    numbers |= {f"{key}_rms_error_meV_per_A": 1e3 * value for key, value in rms.items()}
    relative = rms["composed"] / scale
    statement = (
        f"{name} alone is off by {1e3 * rms['base']:.0f} meV/Å, with the difference by {1e3 * rms['composed']:.0f} "
        f"({100 * relative:.0f} % of the rms force), the same fit without a base by {1e3 * rms['alone']:.0f}"
    )
    better = rms["composed"] < rms["base"]
    word: Word = "pass" if better and relative < 0.1 else "inconclusive" if better and relative < 0.3 else "fail"
    return Verdict("cheap_base", "Energies above a cheap base recover the forces", word, statement, numbers)


def agreement(name_a: str, a: Estimate, name_b: str, b: Estimate, n_sigma: float = 2.0) -> Verdict:
    """Two fits of the same labels (linear fit and network) must agree within their combined uncertainty.

    Args:
        a, b: the watched modes, [n_modes], cm-1.
    """
    difference = np.atleast_1d(np.asarray(a.mean) - np.asarray(b.mean))
    sigma = np.atleast_1d(combine(a.sigma, b.sigma))
    numbers = {"difference_cm1": difference.tolist(), "sigma_cm1": [None if np.isnan(s) else float(s) for s in sigma]}
    title = f"{name_a} and {name_b} agree"
    worst = int(np.abs(difference).argmax())
    if np.isnan(sigma).any():
        statement = f"largest difference {difference[worst]:+.1f} cm⁻¹; without sigma nothing can be said"
        return Verdict("agreement", title, "inconclusive", statement, numbers)
    z = np.abs(difference) / np.maximum(sigma, 1e-9)
    worst = int(z.argmax())
    statement = f"{difference[worst]:+.1f} ± {sigma[worst]:.1f} cm⁻¹ at the mode where they differ most"
    word: Word = "pass" if z[worst] <= n_sigma else "fail"
    if word == "pass" and sigma[worst] > 25:
        word, statement = "inconclusive", statement + "; the error bars are too wide to disagree"
    return Verdict("agreement", title, word, statement, numbers | {"z": z.tolist()})


def size_dependence(sizes: Sequence[int], frequencies: Sequence[Estimate]) -> Verdict:
    """The frequency must have settled with the number of labels: the two largest sizes agree.

    Args:
        sizes: numbers of training labels.
        frequencies: of the watched mode at each size, cm-1.
    """
    order = np.argsort(sizes)
    mean = np.array([float(frequencies[i].mean) for i in order])
    sigma = np.array([float(frequencies[i].sigma) for i in order])
    ordered = [int(sizes[i]) for i in order]
    numbers = {"sizes": ordered, "cm1": mean.tolist(), "sigma_cm1": [None if np.isnan(s) else s for s in sigma]}
    title = "The result has settled with training size"
    if len(ordered) < 2:
        return Verdict("size", title, "inconclusive", "one training size says nothing", numbers)
    change = float(mean[-1] - mean[-2])
    bar = float(combine(sigma[-1], sigma[-2]))
    statement = f"{ordered[-2]} → {ordered[-1]} labels: {change:+.1f} cm⁻¹"
    if np.isnan(bar):
        return Verdict("size", title, "inconclusive", statement + ", without sigma", numbers)
    word: Word = "pass" if abs(change) <= 2 * bar else "fail"
    return Verdict("size", title, word, f"{statement}, ± {bar:.1f}", numbers)


def residual_trend(data: EnergyResiduals) -> Verdict:
    """Held-out residuals must not grow with the displacement amplitude: a missing anharmonic term would make them."""
    use = data.held_out if data.held_out.any() else np.ones_like(data.held_out)
    x, r = data.amplitude[use], np.abs(data.residual[use])
    rms = float(np.sqrt(np.mean(data.residual[use] ** 2)))
    title = "Residuals do not grow with amplitude"
    if len(r) < 8:
        return Verdict(
            "residuals", title, "inconclusive", f"{len(r)} structures are too few", {"rms_meV_per_atom": rms}
        )
    rho, p = stats.spearmanr(x, r)
    numbers = {"rank_correlation": float(rho), "p": float(p), "rms_meV_per_atom": rms, "noise_meV_per_atom": data.noise}
    statement = f"rank correlation {rho:+.2f} (p = {p:.2g}), rms {rms:.3f} meV/atom"
    if data.noise:
        statement += f", label noise {data.noise:.3f}"
    at_floor = data.noise is not None and rms <= 1.3 * data.noise
    word: Word = "pass" if at_floor or rho <= 0 or p > 0.05 else "fail" if p < 0.01 else "inconclusive"
    if word == "pass" and not at_floor and len(r) < 20:
        word = "inconclusive"
    return Verdict("residuals", title, word, statement, numbers)


def truth_recovered(model: Spectra, truth: Spectra, tolerance: float = 0.02, n_sigma: float = 2.0) -> Verdict:
    """On an analytic twin: true phonons within the tolerance, and inside the error bars.

    Args:
        tolerance: relative, of every labelled frequency.
        n_sigma: 95 % of the true values should lie within this many sigma.
    """
    values, sigmas, truths, names = [], [], [], []
    for label, point in model.points.items():
        if label not in truth.points:
            continue
        estimate, exact = point.estimate(), truth.points[label]
        for i, branch in enumerate(point.branches):
            if branch in exact.branches:
                values.append(float(estimate.mean[i]))
                sigmas.append(float(estimate.sigma[i]))
                truths.append(float(exact.frequencies[:, exact.branches.index(branch)].mean()))
                names.append(f"{label} {branch}")
    relative = np.abs(np.array(values) - truths) / np.abs(truths)
    worst = int(relative.argmax())
    z = z_scores(np.array(values), np.array(sigmas), np.array(truths))
    inside = float((np.abs(z) <= n_sigma).mean()) if len(z) else float("nan")
    numbers = {
        "largest_relative_error": float(relative[worst]),
        "at": names[worst],
        "within_2_sigma": None if np.isnan(inside) else inside,
        "modes": len(values),
        "largest_error_cm1": float(np.abs(np.array(values) - truths).max()),
    }
    title = "The twin's true phonons are recovered"
    statement = f"largest error {100 * relative[worst]:.2f} % ({names[worst]})"
    if relative[worst] > tolerance:
        return Verdict("truth", title, "fail", statement, numbers)
    if np.isnan(inside):
        return Verdict("truth", title, "inconclusive", statement + "; no error bars to check", numbers)
    statement += f"; {100 * inside:.0f} % of {len(z)} true frequencies within 2 sigma"
    return Verdict("truth", title, "pass" if inside >= 0.85 else "fail", statement, numbers)
