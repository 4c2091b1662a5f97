"""Charge-aware against short-range force constants at equal cutoff, on the ionic twin whose phonons are exact.

    python benchmarks/ionic_twin.py [--train 300] [--cutoff 4.1] [--out FILE.json]

Both are fitted to the energies of the twin alone (no forces, no charges): rigid ions by one fitted charge per element,
ions whose charge flows by latent charges. Printed: leave-one-out and held-out errors, charges, frequencies at GAMMA, X
and L with their errors, and the error of energies in a larger supercell than trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import yaml

from mlffx.data.crystal import Crystal
from mlffx.data.dataset import LabelledSet, load_dataset
from mlffx.data.graph import build_graph
from mlffx.data.twin import twin_potentials
from mlffx.lattice import Nac, Phonons, autodiff, conventional_matrix, labelled_frequencies
from mlffx.models import build_model
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import evaluate_atoms
from mlffx.potentials.born import charged_terms, model_born_charges
from mlffx.potentials.charge_aware import ChargeAwarePotential, with_charges
from mlffx.potentials.charged_fit import fit_charged
from mlffx.potentials.network import NetworkPotential

CONFIG = Path(__file__).parents[1] / "conf" / "data" / "ionic_twin.yaml"
START = {"Li": 0.4, "H": -0.4}
CHARGES = {
    "short-range": {"low": {"name": "none"}, "high": {"name": "none"}},
    "charge-aware": {
        "low": {"name": "fixed", "charges": START, "fit": True},
        "high": {"name": "latent", "charges": START, "n_hidden": 0, "sigma": 0.0},
    },
}
ANHARMONIC = 3.0  # A; second neighbours feel third and fourth order
LARGER = 3  # conventional cells along each axis of the supercell that nothing was trained on


def fit(
    data: LabelledSet, level: str, charges: dict, cutoff: float, train: np.ndarray
) -> tuple[ChargeAwarePotential, float]:
    """The potential and its leave-one-out error, meV/atom."""
    assert data.crystal is not None and data.matches is not None
    spec = {"name": "force_constants", "species": data.species, "crystal": data.crystal.to_arrays(), "cutoff": cutoff}
    spec["anharmonic_cutoff"] = ANHARMONIC
    network = NetworkPotential(build_model(spec), torch.zeros(len(data.species)), 1.0, spec)
    potential = with_charges(network, charges, data.species)
    graphs = [
        build_graph(data.atoms[k], potential.cutoff, data.matches[k].sites, data.matches[k].site_type) for k in train
    ]
    found = fit_charged(potential, graphs, data.energies[level][train])
    return potential, 1e3 * float(np.sqrt(np.mean((found.linear.leave_one_out / data.n_atoms[train]) ** 2)))


def phonons(potential: Potential, crystal: Crystal) -> dict[str, dict[str, float]]:
    """Frequencies, cm-1, in the cell of the frames; with the potential's own non-analytical term if it has charges."""
    nac = None
    if charged_terms(potential):
        born, dielectric, _ = model_born_charges(potential, crystal)
        nac = Nac(born, dielectric, "model")
    return labelled_frequencies(Phonons(autodiff(potential, crystal, conventional_matrix(crystal, 2)), nac=nac))


def larger_supercell(truth: Potential, potential: Potential, crystal: Crystal, amplitude: float = 0.03) -> float:
    """Error of energy differences in a larger supercell over their spread."""
    ideal, rng = crystal.supercell(conventional_matrix(crystal, LARGER)), np.random.default_rng(1)
    frames = []
    for _ in range(16):
        moved = ideal.copy()
        moved.positions += amplitude * rng.normal(size=ideal.positions.shape)
        frames.append(moved)
    exact, found = (evaluate_atoms(p, frames, forces=False).energies for p in (truth, potential))
    return float((found - exact).std() / exact.std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--cutoff", type=float, default=4.1, help="of the second order, A")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = yaml.safe_load(CONFIG.read_text())
    data = load_dataset(config)
    order = np.random.default_rng(0).permutation(len(data))
    train, test = order[: options.train], order[options.train :]
    results: dict = {}
    for level, truth in twin_potentials(config).items():
        exact = phonons(truth, data.crystal)
        charge = float(np.abs(model_born_charges(truth, data.crystal)[0]).max())
        print(f"\n{level}: Born charge {charge:.4f} e, exact frequencies, cm-1")
        for kind, charges in CHARGES.items():
            potential, error = fit(data, level, charges[level], options.cutoff, train)
            held_out = evaluate_atoms(potential, [data.atoms[k] for k in test], forces=False).energies
            row = {
                "leave_one_out_meV_per_atom": error,
                "held_out_meV_per_atom": 1e3
                * float(np.sqrt(np.mean(((held_out - data.energies[level][test]) / data.n_atoms[test]) ** 2))),
                "larger_supercell_relative_error": larger_supercell(truth, potential, data.crystal),
                "frequencies_cm1": phonons(potential, data.crystal),
            }
            if charged_terms(potential):
                row["born_charge_e"] = float(np.abs(model_born_charges(potential, data.crystal)[0]).max())
            results[f"{level}/{kind}"] = row
            print(
                f"  {kind:<13} leave-one-out {error:.4f}, held out {row['held_out_meV_per_atom']:.4f} meV/atom; "
                f"{LARGER}x{LARGER}x{LARGER} cells off by {100 * row['larger_supercell_relative_error']:.1f} %; "
                f"Born charge {row.get('born_charge_e', float('nan')):.4f} e"
            )
            for label in ("GAMMA", "X", "L"):
                shown = []
                for branch, value in exact[label].items():
                    found = row["frequencies_cm1"][label].get(branch)
                    shown.append(
                        f"{branch} {value:.0f} "
                        + ("missing" if found is None else f"{100 * (found / value - 1):+.1f} %")
                    )
                print(f"    {label:<6}" + "   ".join(shown), flush=True)
        results[f"{level}/exact"] = {"frequencies_cm1": exact, "born_charge_e": charge}
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
