"""Structures of the settling test: finite displacements whose energies are forces and frozen phonons of a level.

    python -m mlffx.evaluation.settle_structures data=boron_nitride --like-labels --out settle.xyz

Label them with any method that gives energies; docs/settle.md says how steps and amplitudes were chosen. Every frame
says in its info what it is for, in the keys named below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlffx.command_line import AGAIN, run_checked
from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice.force_constants import conventional_matrix
from mlffx.lattice.frozen_patterns import blocks

KIND = "settle"  # reference, mode or force
POINT, BLOCK, BRANCHES, RAY = "settle_point", "settle_block", "settle_branches", "settle_ray"
CONFIGURATION, DIRECTION = "settle_configuration", "settle_direction"
AXES = "xyz"


@dataclass(frozen=True)
class Plan:
    """How many structures, and how far apart.

    Attributes:
        amplitudes: largest atomic displacement along the rays of the modes, A; two, to take the fourth order out.
        full: amplitudes of configurations with every component of the force, rms displacement of an atom, A.
        projected: those of configurations with the force along a few random directions.
        directions: of each of these.
        step: of single components, A: +step and -step.
        random_step: length of a step along a random direction of all coordinates, A.
        seed: of configurations and directions.
    """

    amplitudes: tuple[float, ...] = (0.05, 0.10)
    full: tuple[float, ...] = (0.12,)
    projected: tuple[float, ...] = (0.06, 0.09, 0.12, 0.15, 0.18, 0.21)
    directions: int = 2
    step: float = 0.05
    random_step: float = 0.08
    seed: int = 20261122

    def scaled(self, largest: float) -> Plan:
        """The same with every length in proportion, so that no configuration is displaced by more than `largest`, A."""
        factor = largest / max((*self.full, *self.projected))
        return replace(
            self,
            amplitudes=tuple(factor * a for a in self.amplitudes),
            full=tuple(factor * a for a in self.full),
            projected=tuple(factor * a for a in self.projected),
            step=factor * self.step,
            random_step=factor * self.random_step,
        )


def settle_structures(
    crystal: Crystal, supercell: Atoms, plan: Plan | None = None, labelled: np.ndarray | None = None
) -> list[Atoms]:
    """All structures, those that say most first: a run of labels that is cut short still answers something.

    Args:
        crystal: primitive.
        supercell: ideal, as of `Crystal.supercell`.
        labelled: displacements of labelled structures, [n, n_atoms, 3], A; the configurations of `projected` are then
            mixtures (u_a + u_b) / sqrt(2) of two of them, which have their covariance and are none of them, and the
            amplitudes of the plan say only how many.
    """
    plan = plan or Plan()
    rng = np.random.default_rng(plan.seed)
    ideal = Atoms(supercell.numbers, supercell.positions, cell=supercell.cell, pbc=True)
    frames = [_frame(ideal, np.zeros((len(ideal), 3)), {KIND: "reference"}), *_modes(crystal, supercell, ideal, plan)]
    full = [_random(rng, len(ideal), a) for a in plan.full]
    for number, amplitude in enumerate(plan.projected, start=len(full)):
        start = _random(rng, len(ideal), amplitude) if labelled is None else _mixture(rng, labelled)
        for k in range(plan.directions):
            direction = _random(rng, len(ideal), 1.0)
            direction /= np.linalg.norm(direction)
            frames += _pair(ideal, start, direction * plan.random_step, number, f"random {k + 1}")
    for number, start in enumerate(full):
        for atom in range(len(ideal)):
            for axis in range(3):
                move = np.zeros_like(start)
                move[atom, axis] = plan.step
                frames += _pair(ideal, start, move, number, f"{ideal.symbols[atom]}{atom} {AXES[axis]}")
    return frames


def _modes(crystal: Crystal, supercell: Atoms, ideal: Atoms, plan: Plan) -> list[Atoms]:
    """Every ray at every amplitude; both signs where they differ, and once a block where they do not, to see noise."""
    frames = []
    for block in blocks(crystal, supercell):
        name = f"{block.label} {' '.join(block.branches)}"
        for ray in block.rays:
            info = {KIND: "mode", POINT: block.label, BLOCK: name, BRANCHES: " ".join(block.branches), RAY: ray.name}
            twins = not ray.even or ray is block.rays[-1]
            for amplitude in plan.amplitudes:
                signs = (1, -1) if not ray.even or (twins and amplitude == max(plan.amplitudes)) else (1,)
                frames += [_frame(ideal, sign * amplitude * ray.pattern, info) for sign in signs]
    return frames


def _pair(ideal: Atoms, start: np.ndarray, move: np.ndarray, number: int, direction: str) -> list[Atoms]:
    info = {KIND: "force", CONFIGURATION: number, DIRECTION: direction}
    return [_frame(ideal, start + sign * move, info) for sign in (1, -1)]


def _frame(ideal: Atoms, displacements: np.ndarray, info: dict[str, Any]) -> Atoms:
    frame = ideal.copy()
    frame.positions += displacements
    frame.info.update(info)
    return frame


def _random(rng: np.random.Generator, n: int, amplitude: float) -> np.ndarray:
    """Displacements [n, 3] without drift whose rms (of atoms, not components) is the amplitude, A."""
    u = rng.normal(size=(n, 3))
    u -= u.mean(axis=0)
    return u * amplitude / np.sqrt((u**2).sum(axis=1).mean())


def _mixture(rng: np.random.Generator, labelled: np.ndarray) -> np.ndarray:
    """Of two of the displaced structures, without drift, [n, 3]."""
    first, second = labelled[rng.choice(len(labelled), size=2, replace=False)]
    u = (first + second) / np.sqrt(2)
    return u - u.mean(axis=0)


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    from mlffx.data.__main__ import read_settings  # needs omegaconf, which nothing else here does

    defaults = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m mlffx.evaluation.settle_structures", description=__doc__.splitlines()[0]
    )
    parser.add_argument("data", nargs="+", help="data=NAME of conf/data, and data.KEY=VALUE; its crystal is taken")
    parser.add_argument("--cells", type=int, default=1, help="conventional cells along each axis (1)")
    parser.add_argument("--out", type=Path, required=True, help="extended XYZ to write")
    parser.add_argument(
        "--amplitudes", type=float, nargs="+", default=list(defaults.amplitudes), help="A, of the modes"
    )
    parser.add_argument("--full", type=float, nargs="*", default=list(defaults.full), help="A, rms, every component")
    parser.add_argument("--projected", type=float, nargs="*", default=list(defaults.projected), help="A, rms")
    parser.add_argument("--directions", type=int, default=defaults.directions)
    parser.add_argument("--step", type=float, default=defaults.step, help="A, of single components")
    parser.add_argument("--random-step", type=float, default=defaults.random_step, help="A, of random directions")
    parser.add_argument("--largest", type=float, help="A, rms, of the configurations; all lengths in proportion (0.21)")
    parser.add_argument(
        "--like-labels", action="store_true", help="configurations with the displacements of the labelled structures"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args(arguments)
    settings = read_settings(options.data)
    spec = settings.get("crystal")
    if not isinstance(spec, dict):
        raise UserError("the ideal crystal is needed", "declare prototype, species and a", "data.crystal")
    crystal = Crystal.from_prototype(spec["prototype"], list(spec["species"]), spec["a"])
    plan = Plan(
        tuple(options.amplitudes),
        tuple(options.full),
        tuple(options.projected),
        options.directions,
        options.step,
        options.random_step,
        options.seed,
    )
    plan = plan if options.largest is None else plan.scaled(options.largest)
    supercell = crystal.supercell(conventional_matrix(crystal, options.cells))
    labelled = _labelled(settings, len(supercell)) if options.like_labels else None
    frames = settle_structures(crystal, supercell, plan, labelled)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(options.out, frames, format="extxyz")
    kinds = [str(f.info[KIND]) for f in frames]
    counts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
    print(f"{options.out}: {len(frames)} structures of {len(supercell)} atoms ({counts})")


def _labelled(settings: Mapping[str, Any], n_atoms: int) -> np.ndarray:
    """Displacements of the structures of a data set in the order of the ideal cell, [n, n_atoms, 3], A.

    Raises:
        UserError: when its structures have another number of atoms.
    """
    from mlffx.data.dataset import load_dataset

    matches = load_dataset(settings).matches or []
    if not matches or any(len(match.order) != n_atoms for match in matches):
        raise UserError(f"the labelled structures do not have {n_atoms} atoms", "give their cell", "--cells")
    return np.array([match.displacements[np.argsort(match.order)] for match in matches])


if __name__ == "__main__":
    run_checked(lambda: main(sys.argv[1:]), AGAIN)
