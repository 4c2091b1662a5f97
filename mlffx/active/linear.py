"""Rounds of active learning for force constants by least squares: everything is in closed form, so rounds cost nothing.

The features of all structures are computed once. A round fits the labels it has, takes the factors of the fit's
posterior (`selection`), chooses a batch, and fits again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlffx.active.selection import choose
from mlffx.data.splits import stratified_order
from mlffx.errors import UserError, nearest
from mlffx.lattice.force_constants import ForceConstants, finite_displacement
from mlffx.lattice.isotopes import masses_of
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.linear_fit import LinearFit, energy_design, fit_linear
from mlffx.training.closed_form import linear_model
from mlffx.training.task import Task

STRATEGIES = ("random", "stratified", "energy", "phonons")
FIRST = 10  # labels before anything can be chosen by what is known


@dataclass(frozen=True)
class LinearProblem:
    """A pool of structures, their features, and the force constants behind each feature.

    Attributes:
        features: [n_pool, n_features].
        n_atoms: [n_pool].
        amplitudes: rms displacements, [n_pool], A.
        template: force constants in the supercell of the structures; its values are those of the last feature.
        constants: force constants of each feature, [n_features, *template.values.shape], eV/A^2 per unit.
    """

    features: np.ndarray
    n_atoms: np.ndarray
    amplitudes: np.ndarray
    template: ForceConstants
    constants: np.ndarray

    @classmethod
    def of(
        cls, task: Task, frames: np.ndarray, matrix: np.ndarray, options: Mapping[str, Any] | None = None
    ) -> LinearProblem:
        """Features of the frames and force constants of the features.

        Args:
            task: with an ideal crystal.
            frames: the pool.
            matrix: supercell in which force constants are compared, primitive rows.
            options: of the model, as in conf/model/force_constants.yaml.
        """
        potential = linear_model(task, options or {})
        model: Any = potential.model
        crystal = task.dataset.crystal
        assert crystal is not None
        features = energy_design(model.describe, task.graphs(model.cutoff, frames))
        found = []
        for k in range(model.harmonic.n):
            model.coefficients.data.zero_()[k] = 1.0
            found.append(finite_displacement(potential, crystal, matrix, extrapolate=False))
        constants = np.zeros((model.n_features, *found[0].values.shape))
        constants[: len(found)] = [fc.values for fc in found]
        amplitudes = task.dataset.amplitudes()[frames]
        return cls(features, task.dataset.n_atoms[frames].astype(float), amplitudes, found[0], constants)

    def only(self, part: np.ndarray) -> LinearProblem:
        """The same for a part of the pool."""
        return replace(self, features=self.features[part], n_atoms=self.n_atoms[part], amplitudes=self.amplitudes[part])

    def fit(self, labelled: Sequence[int] | np.ndarray, energies: np.ndarray) -> LinearFit:
        """Least squares on some structures of the pool; energies [n_pool], eV."""
        chosen = np.asarray(labelled)
        return fit_linear(self.features[chosen], energies[chosen], self.n_atoms[chosen], robust=False)

    def difference(self, fit: LinearFit) -> np.ndarray:
        """Force constants the fit found, as `template.values`, eV/A^2."""
        return np.einsum("k,k...->...", fit.coefficients, self.constants)

    def frequencies(self, fit: LinearFit, base: ForceConstants, qpoints: np.ndarray) -> np.ndarray:
        """[n_q, n_modes], cm-1, on top of the force constants of the low level in the same supercell."""
        return Phonons(replace(base, values=base.values + self.difference(fit))).frequencies(qpoints)

    @property
    def targets(self) -> np.ndarray:
        """Mass-weighted force constants by feature, [n_entries, n_features]: what frequencies are made of."""
        masses = masses_of(self.template.crystal.numbers)
        columns = masses[self.template.supercell().arrays["site_type"]]
        weight = 1 / np.sqrt(masses[:, None] * columns[None])
        weighted = self.constants * weight[None, :, :, None, None]
        return weighted.reshape(len(weighted), -1).T


def rounds(
    problem: LinearProblem, energies: np.ndarray, strategy: str, sizes: Sequence[int], seed: int
) -> Iterator[tuple[np.ndarray, LinearFit]]:
    """Labelled structures and their fit at each size; a larger set holds the smaller ones.

    Args:
        energies: labels of the whole pool, [n_pool], eV; only those that were chosen are looked at.
        strategy: `random`; `stratified` evenly over amplitudes; `energy` or `phonons`: what reduces the doubt about
            energies or force constants, after the first `FIRST`, which are stratified.
        sizes: ascending.
        seed: of the order.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"unknown strategy '{strategy}'", nearest(strategy, STRATEGIES), "strategy")
    if strategy in ("random", "stratified"):
        order = (
            np.random.default_rng(seed).permutation(len(energies))
            if strategy == "random"
            else stratified_order(problem.amplitudes, seed)
        )
        for size in sizes:
            yield order[:size], problem.fit(order[:size], energies)
        return
    chosen = stratified_order(problem.amplitudes, seed)[: min(FIRST, sizes[0])]
    for size in sizes:
        if size > len(chosen):
            chosen = np.concatenate([chosen, _next(problem, energies, chosen, size - len(chosen), strategy)])
        yield chosen, problem.fit(chosen, energies)


def _next(problem: LinearProblem, energies: np.ndarray, chosen: np.ndarray, n: int, strategy: str) -> np.ndarray:
    fit = problem.fit(chosen, energies)
    rest = np.setdiff1d(np.arange(len(energies)), chosen)
    spread = fit.spread
    # The unknown offset is a coefficient like any other: features count from the mean of what is labelled.
    pool = (problem.features[rest] - problem.features[chosen].mean(axis=0)) @ spread
    targets = problem.targets @ spread if strategy == "phonons" else None
    return rest[choose(pool, n, max(fit.noise, 1e-6), targets)]
