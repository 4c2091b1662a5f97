"""Error of the phonons against the number of labels, for labels chosen at random, by amplitude, and by doubt.

    python benchmarks/active_learning.py [--data ionic_twin|diamond_twin|FILE.yaml] [--repetitions 20] [--out DIR]

The model is the linear one (symmetry-adapted force constants on the difference of the levels), so a round costs
milliseconds. On twins the truth is exact and every repetition has label noise of its own; on labelled files the pool is
a random 80 % of the labels in every repetition, and the truth is the fit to all of them. Written: a figure with the
median and the middle 68 % of the repetitions, and the numbers.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from mlffx.active.linear import STRATEGIES, LinearProblem, rounds
from mlffx.command_line import AGAIN, run_checked
from mlffx.data.__main__ import read_settings
from mlffx.data.dataset import LabelledSet
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.figures.active import active_curves
from mlffx.evaluation.figures.style import save
from mlffx.lattice import ForceConstants, Phonons, finite_displacement
from mlffx.lattice.paths import labelled_points
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task, prepare

SIZES = (12, 16, 20, 30, 40, 60, 80, 120, 160)
SMALL_CELL = {"repetitions": [1, 1, 1], "n_frames": 200, "max_temperature": 300}  # of the rocksalt twin: 8 atoms
SHARE = 0.8  # of the labels of files, in each repetition


@dataclass(frozen=True)
class Study:
    """What is repeated.

    Attributes:
        problem: features and force constants of the pool.
        energies: differences of the levels, [n_pool], eV.
        noise: added in every repetition, eV a structure; 0 where labels carry their own.
        base: force constants of the low level.
        truth: frequencies at the q-points, [n_q, n_modes], cm-1.
        qpoints: labelled ones that fit the supercell of the structures.
        name: for people.
    """

    problem: LinearProblem
    energies: np.ndarray
    noise: float
    base: ForceConstants
    truth: np.ndarray
    qpoints: np.ndarray
    name: str

    def errors(self, strategy: str, sizes: list[int], seed: int) -> list[float]:
        """Rms error of the frequencies at each size, cm-1."""
        rng = np.random.default_rng(seed)
        problem, energies = self.problem, self.energies
        if self.noise:
            energies = energies + self.noise * rng.normal(size=len(energies))
        else:
            problem, energies = (
                problem.only(part := np.sort(rng.permutation(len(energies))[: pool_size(self)])),
                energies[part],
            )
        found = rounds(problem, energies, strategy, sizes, seed)
        return [
            float(np.sqrt(np.mean((problem.frequencies(fit, self.base, self.qpoints) - self.truth) ** 2)))
            for _, fit in found
        ]


def pool_size(study: Study) -> int:
    """Structures to choose from in one repetition."""
    return len(study.energies) if study.noise else int(SHARE * len(study.energies))


def study(data: dict[str, Any], level: str, noise: float) -> Study:
    """Features, base and truth of a data set."""
    settings = {
        "data": data,
        "level": {"name": level},
        "potential": {"kind": "delta"},
        "model": {"name": "force_constants"},
    }
    task = prepare(TrainSettings.read(settings))
    dataset, crystal = task.dataset, task.dataset.crystal
    if crystal is None:
        raise UserError("the ideal crystal is needed", "declare data.crystal", "data.crystal")
    matrix = crystal.repetitions(dataset.atoms[0].cell.array)
    frames = np.flatnonzero(np.isfinite(task.energies))
    problem = LinearProblem.of(task, frames, matrix)
    points = np.array(
        [q for q in labelled_points(crystal).values() if np.abs(matrix @ q - np.rint(matrix @ q)).max() < 1e-6]
    )
    energies = task.energies[frames]
    if data["kind"] == "twin":
        exact = {k: finite_displacement(p, crystal, matrix) for k, p in twin_potentials(data).items()}
        base, truth = exact[str(data["low"])], Phonons(exact[level]).frequencies(points)
    else:
        base, noise = low_constants(dataset, task, problem), 0.0
        truth = problem.frequencies(problem.fit(np.arange(len(frames)), energies), base, points)
    return Study(problem, energies, noise, base, truth, points, str(data.get("name")))


def low_constants(dataset: LabelledSet, task: Task, problem: LinearProblem) -> ForceConstants:
    """Force constants of the low level, by least squares on its energies and forces."""
    from mlffx.training.closed_form import fit_force_constants

    low = {
        "data": {},
        "level": {"name": dataset.low},
        "potential": {"kind": "direct"},
        "model": {"name": "force_constants"},
    }
    settings = TrainSettings.read(low)
    own = Task(dataset, task.split, dataset.energies[dataset.low], dataset.forces.get(dataset.low), None)
    potential, _ = fit_force_constants(settings, own, np.arange(len(dataset)), {})
    return finite_displacement(potential, problem.template.crystal, problem.template.matrix)


def main() -> None:
    """Repeat, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ionic_twin", help="name in conf/data, or a file like those")
    parser.add_argument("--level", default=None, help="high level (twins: high)")
    parser.add_argument("--noise", type=float, default=None, help="eV a structure, on twins (1e-4 for 8 atoms, 3e-3)")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/active_learning"))
    options = parser.parse_args()
    data = read_settings([f"data={options.data}"])
    if options.data == "ionic_twin":
        data |= SMALL_CELL
    noise = options.noise or (1e-4 if options.data == "ionic_twin" else 3e-3)
    found = study(data, options.level or ("high" if data["kind"] == "twin" else "ccsdt"), noise)
    sizes = [n for n in SIZES if n <= pool_size(found)]
    errors = {
        strategy: np.array(
            [
                found.errors(strategy, sizes, r)
                for r in track(range(options.repetitions), f"{strategy:<12}", transient=True)
            ]
        )
        for strategy in STRATEGIES
    }
    low = float(np.sqrt(np.mean((Phonons(found.base).frequencies(found.qpoints) - found.truth) ** 2)))
    print(f"{found.name}: rms error of the frequencies, cm-1, median of {options.repetitions} (low level: {low:.1f})")
    print("labels      " + "".join(f"{n:>8}" for n in sizes))
    for strategy, values in errors.items():
        print(f"{strategy:<12}" + "".join(f"{v:8.2f}" for v in np.median(values, axis=0)))
    paths = save(active_curves(sizes, errors, found.name.replace("_", " ")), options.out / f"active_{found.name}")
    content = {"sizes": sizes, "low_cm1": low, "errors_cm1": {k: v.tolist() for k, v in errors.items()}}
    (options.out / f"active_{found.name}.json").write_text(json.dumps(content))
    print(f"figure: {paths[1]}")


if __name__ == "__main__":
    run_checked(main, AGAIN)
