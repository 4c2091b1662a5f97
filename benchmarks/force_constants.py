"""Force constants three ways: one batch of displaced cells, automatic differentiation, one cell at a time through ASE.

    python benchmarks/force_constants.py [--repeats 3] [--supercells 2 3] [--model painn] [--threads 1]

The potential is an untrained network (its cost does not depend on the weights) of diamond, float64. `one at a time` is
the field's common way: phonopy makes the displaced cells, an ASE calculator evaluates them one by one, and phonopy's
projector symmetrises. `first` starts without remembered symmetry of the supercell, `next` is a further member of an
ensemble in the same supercell. Times on shared machines: compare ratios only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from mlffx.data.crystal import Crystal
from mlffx.lattice import phonopy_api
from mlffx.lattice.force_constants import ForceConstants, autodiff, conventional_matrix, finite_displacement
from mlffx.models.base import build_model
from mlffx.potentials.ase_calculator import MlffxCalculator
from mlffx.potentials.network import NetworkPotential


def one_at_a_time(potential: NetworkPotential, crystal: Crystal, matrix: np.ndarray) -> np.ndarray:
    """Compact force constants by phonopy and an ASE calculator, without batches, [n_basis, n_supercell, 3, 3]."""
    calculator = MlffxCalculator(potential, skin=0.0)
    forces = []
    cell = phonopy_api.geometry(crystal, matrix)
    for atoms in phonopy_api.displaced_supercells(cell, 0.01):
        atoms.calc = calculator
        forces.append(atoms.get_forces())
    ph = phonopy_api.lattice(crystal, matrix, [12.011] * crystal.n_basis)
    phonopy_api.set_force_constants(ph, phonopy_api.solve(cell, 0.01, forces))
    ph.symmetrize_force_constants(use_symfc_projector=True)
    return np.array(ph.force_constants)


def timed(work: Callable[[], ForceConstants | np.ndarray], repeats: int) -> tuple[float, float, np.ndarray]:
    """Median seconds of the first and of the next call, and the force constants."""
    first: list[float] = []
    following: list[float] = []
    values = np.zeros(0)
    for _ in range(repeats):
        phonopy_api._geometry.cache_clear()
        for seconds in (first, following):
            start = time.perf_counter()
            found = work()
            seconds.append(time.perf_counter() - start)
            values = found.values if isinstance(found, ForceConstants) else found
    return statistics.median(first), statistics.median(following), values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--supercells", type=int, nargs="+", default=[2, 3], help="conventional cells along each axis")
    parser.add_argument("--model", default="painn")
    parser.add_argument("--cutoff", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    crystal = Crystal.from_prototype("diamond", ["C"], 3.5607)
    spec = {"name": options.model, "species": [6], "cutoff": options.cutoff}
    potential = NetworkPotential(build_model(spec), torch.zeros(1), 1.0, spec)
    potential = potential.set_precision(torch.float64).to(options.device)  # type: ignore[assignment]
    print(f"{options.model}, cutoff {options.cutoff} A, {options.threads} thread(s), {options.device}: seconds (ratio)")
    print(f"{'atoms':>6}  {'method':<20} {'first':>14} {'next':>14}   |against autodiff|, eV/A^2")
    for repeats in options.supercells:
        matrix = conventional_matrix(crystal, repeats)
        methods = {
            "one at a time": lambda m=matrix: one_at_a_time(potential, crystal, m),
            "batch, +-d": lambda m=matrix: finite_displacement(potential, crystal, m, extrapolate=False),
            "batch, +-d and +-2d": lambda m=matrix: finite_displacement(potential, crystal, m),
            "autodiff": lambda m=matrix: autodiff(potential, crystal, m),
        }
        found = {name: timed(work, options.repeats) for name, work in methods.items()}
        slow, exact = found["one at a time"], found["autodiff"][2]
        for name, (first, following, values) in found.items():
            times = f"{first:>7.2f} ({first / slow[0]:.2f}) {following:>7.2f} ({following / slow[1]:.2f})"
            print(f"{exact.shape[1]:>6}  {name:<20} {times}   {np.abs(values - exact).max():.1e}")


if __name__ == "__main__":
    main()
