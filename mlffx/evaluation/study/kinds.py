"""Do different kinds of potential, fitted to the same labels, give the same phonons?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from mlffx.evaluation.overlay import modes_of
from mlffx.evaluation.stored import Run
from mlffx.evaluation.uncertainty import combine

LABELS = ("GAMMA", "X", "L")
BY_CHANCE = 0.05  # how often the worst of all modes of two kinds that agree may lie beyond the limit
WIDE = 25.0  # cm-1; a mean combined sigma above this could not tell a disagreement that matters


@dataclass(frozen=True)
class Agreement:
    """Two kinds of potential at one level.

    Attributes:
        level, first, second: which.
        word: `agree`, `disagree`, or `cannot tell` where error bars are missing or too wide.
        mean: of the absolute differences over the modes at GAMMA, X and L, cm-1.
        sigma: mean of their combined sigmas.
        worst: name of the mode with the largest difference in units of sigma; its difference and sigma, cm-1.
        limit: of |difference| / sigma for that mode, from the number of modes.
    """

    level: str
    first: str
    second: str
    word: str
    mean: float
    sigma: float
    worst: tuple[str, float, float]
    limit: float


def agreements(level: str, kinds: Mapping[str, Run]) -> list[Agreement]:
    """Every pair of kinds.

    Both see the same labels, so the noise these share cancels in part: the combined sigma is rather too large, and a
    disagreement is one.
    """
    return [_agreement(level, (a, kinds[a]), (b, kinds[b])) for a, b in combinations(kinds, 2)]


def _agreement(level: str, first: tuple[str, Run], second: tuple[str, Run]) -> Agreement:
    names, differences, sigmas = [], [], []
    for label, branch in modes_of([first[1]], LABELS):
        a, b = first[1].mode(label, branch), second[1].mode(label, branch)
        if a is None or b is None or (label == "GAMMA" and branch[:2] in ("TA", "LA")):
            continue
        names.append(f"{label} {branch}")
        differences.append(float(a.mean - b.mean))
        sigmas.append(float(combine(a.sigma, b.sigma)) if np.isfinite([a.sigma, b.sigma]).all() else np.nan)
    d, s = np.array(differences), np.array(sigmas)
    limit = beyond(len(d))
    if np.isnan(s).any():
        i = int(np.abs(d).argmax())
        return Agreement(level, first[0], second[0], "cannot tell", _mean(d), np.nan, (names[i], d[i], s[i]), limit)
    z = np.abs(d) / np.maximum(s, 1e-9)
    i = int(z.argmax())
    word = "disagree" if z[i] > limit else "cannot tell" if s.mean() > WIDE else "agree"
    return Agreement(level, first[0], second[0], word, _mean(d), float(s.mean()), (names[i], d[i], s[i]), limit)


def beyond(n_modes: int) -> float:
    """|z| that the largest of n independent normal deviations exceeds in 5 % of all cases (Bonferroni): 2.8 for 10."""
    return float(stats.norm.ppf(1 - BY_CHANCE / (2 * max(n_modes, 1))))


def _mean(differences: Sequence[float] | np.ndarray) -> float:
    return float(np.abs(differences).mean())
