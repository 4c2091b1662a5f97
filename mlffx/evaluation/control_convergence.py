"""Control: are displacement, supercell and mesh of the evaluation fine enough?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlffx.evaluation.control_context import Context, estimates, modes
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.figures import style
from mlffx.evaluation.figures.convergence import phonon_convergence
from mlffx.evaluation.harmonic import PhononSettings, constants
from mlffx.lattice.branches import labelled_frequencies
from mlffx.lattice.commensurate import held_points
from mlffx.lattice.convergence import Convergence, displacement_convergence, mesh_convergence, supercell_convergence
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.batched import in_double
from mlffx.potentials.calculator import CalculatorPotential

FIGURE = "convergence"
TITLE = "Displacement, supercell and mesh are converged"
REPEATS = (1, 2, 4)  # conventional cells; GAMMA, X, L, W and K of a cubic face-centred lattice all fit the last
DISPLACEMENTS = (0.003, 0.01, 0.03, 0.1)  # A
MESHES = (5, 9, 13, 21, 31)
TOLERANCE = {"displacement": 1.0, "supercell": 1.0, "mesh": 0.1}  # cm-1, cm-1, meV/atom
UNITS = {"displacement": "cm⁻¹", "supercell": "cm⁻¹", "mesh": "meV/atom"}


def convergence(c: Context) -> Verdict:
    """Phonons of the first member at several settings; those of the evaluation must be as good as their sigma."""
    potential = in_double(c.members.fitted[0])
    matrix = c.phonons.matrix(c.crystal)
    studies = []
    if not any(isinstance(m, CalculatorPotential) for m in potential.modules()):  # no second derivatives
        asked = sorted({*DISPLACEMENTS, c.phonons.displacement})
        studies.append(displacement_convergence(potential, c.crystal, matrix, asked))
    own = constants(potential, c.crystal, c.phonons)
    largest = supercell_convergence(potential, c.crystal, REPEATS, c.nac)
    studies.append(largest)
    mesh = int(np.max(c.phonons.mesh))
    studies.append(mesh_convergence(Phonons(own, nac=c.nac), sorted({*MESHES, mesh})))
    used = {"displacement": c.phonons.displacement, "mesh": float(mesh)} | _conventional(c.phonons)
    style.save(phonon_convergence(studies, used), c.directory / FIGURE)
    wanted = modes(c.model, list(c.model.points))
    sigma = dict(zip([f"{p} {b}" for p, b in wanted], estimates(c.model, wanted).sigma.tolist(), strict=True))
    found = labelled_frequencies(Phonons(own, nac=c.nac))
    here = {f"{label} {b}": f for label, named in found.items() for b, f in named.items()}
    missing = [label for label, held in held_points(c.crystal, [matrix]).items() if not held]
    return judged(studies, used, sigma, here, missing)


def judged(
    studies: list[Convergence],
    used: dict[str, float],
    sigma: dict[str, float],
    here: dict[str, float],
    interpolated: Sequence[str] = (),
) -> Verdict:
    """Each setting against its tolerance; the supercell need not be better than the sigma of each mode.

    Args:
        studies: of the settings; used: setting -> value of the evaluation.
        sigma: `label branch` -> cm-1, NaN or missing where unknown.
        here: `label branch` -> cm-1 in the supercell of the evaluation, which may be none of those tried.
        interpolated: labelled points this supercell does not hold.
    """
    numbers: dict[str, dict] = {}
    said, failed = [], False
    for study in studies:
        name = study.setting
        errors = dict(zip(study.values, study.errors(), strict=True))
        if name == "supercell":
            off = {mode: abs(here[mode] - best) for mode, best in study.best.items() if mode in here}
            allowed = {mode: max(TOLERANCE[name], float(np.nan_to_num(sigma.get(mode, 0.0)))) for mode in off}
            mode = max(off, key=lambda m: off[m] / allowed[m])
            error, tolerance = off[mode], allowed[mode]
            where = mode.replace("_", " ")
            text = f"supercell: {error:.2g} {UNITS[name]} at {where} (σ {sigma.get(mode, float('nan')):.2g})"
            if error > tolerance and mode.split(" ")[0] in interpolated:
                text += ", which this supercell does not hold and interpolates: phonons=converged holds it"
        else:
            error, tolerance = float(errors[used[name]]), TOLERANCE[name]
            text = f"{name} {used[name]:g}: {error:.2g} {UNITS[name]}"
        numbers[name] = {"values": study.values, "largest_deviation": [float(e) for e in errors.values()]}
        numbers[name] |= {"error_here": error, "tolerance": tolerance, "unit": UNITS[name].replace("⁻¹", "-1")}
        said.append(text)
        failed |= error > tolerance
    return Verdict("convergence", TITLE, "fail" if failed else "pass", "from the limit, " + "; ".join(said), numbers)


def _conventional(phonons: PhononSettings) -> dict[str, float]:
    """The supercell on the axis of conventional cells, where it is one of them."""
    array = np.asarray(phonons.supercell)
    if array.ndim < 2 and len(set(array.ravel().tolist())) == 1 and int(array.ravel()[0]) in REPEATS:
        return {"supercell": float(array.ravel()[0])}
    return {}
