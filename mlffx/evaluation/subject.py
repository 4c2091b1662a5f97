"""The subject of an evaluation: the names, crystal, measurements, truth and labels that belong to a run."""

from __future__ import annotations

from dataclasses import replace

from mlffx.data.crystal import Crystal
from mlffx.data.levels import level_name
from mlffx.data.noise import estimate_noise
from mlffx.data.twin import twin_potentials
from mlffx.errors import UserError
from mlffx.evaluation.figures.energies import EnergyResiduals
from mlffx.evaluation.harmonic import PhononSettings, force_constants, spectra
from mlffx.evaluation.labels import residuals
from mlffx.evaluation.measured import NOTHING, Experiment, experiment, known_material, masses_for
from mlffx.evaluation.members import Members
from mlffx.evaluation.progress import Tracker
from mlffx.evaluation.spectra import Spectra
from mlffx.lattice.nac import Nac, build_nac
from mlffx.potentials.base import Potential
from mlffx.potentials.born import charged_terms
from mlffx.training.settings import TrainSettings
from mlffx.training.task import Task


def run_name(settings: TrainSettings) -> str:
    """Name of a run in legends: level, potential, fit, model."""
    parts = [level_name(settings.level.name.upper())]
    potential = settings.potential
    parts.append(potential.kind.replace("_", "-"))
    model = str(settings.model["name"]).replace("_", " ")
    if potential.kind == "delta" and model != "force constants":
        parts.append(f"({model}, {settings.delta.fit})")
    else:
        parts.append(f"({model})")
    return " ".join(parts)


def crystal_of(task: Task, members: Members) -> Crystal:
    """The ideal crystal: of the data set, or of the potential."""
    crystal = task.dataset.crystal or next((p.crystal for p in members.potentials if p.crystal is not None), None)
    if crystal is None:
        raise UserError("phonons need the ideal crystal", "declare data.crystal", "data.crystal")
    return crystal


def material_of(settings: TrainSettings) -> str:
    """Name of the data set."""
    return str(settings.data.get("name") or settings.data.get("kind"))


def experiment_for(wanted: str, data_name: str, crystal: Crystal) -> Experiment:
    """Measured values of the table asked for: `auto` takes that of the data set's name, `none` nothing."""
    material = known_material(data_name) if wanted == "auto" else None if wanted in ("none", "None", "") else wanted
    return NOTHING if material is None else experiment(material, crystal)


def other_isotopes(measured: Experiment, isotope: str, settings: PhononSettings) -> dict[str, PhononSettings]:
    """Settings with the masses of measurements on other isotopes; the force constants are the same."""
    return {name: replace(settings, isotopes=masses_for(name)) for name in measured.isotopes() if name != isotope}


def exact_spectra(settings: TrainSettings, crystal: Crystal, phonons: PhononSettings, track: Tracker) -> Spectra | None:
    """Exact phonons of the level, known for analytic twins."""
    if settings.data.get("kind") != "twin":
        return None
    exact = twin_potentials(settings.data)[settings.level.name]
    nac = own_nac(exact, crystal, phonons)
    return spectra("exact", force_constants(Members([exact], "single"), crystal, phonons, track), phonons, track, nac)


def own_nac(potential: Potential, crystal: Crystal, phonons: PhononSettings) -> Nac | None:
    """The non-analytical term of a potential's own charges; None without charges or with phonons.nac=none."""
    if phonons.nac == "none" or not charged_terms(potential):
        return None
    return build_nac("model", crystal, potential=potential, method=phonons.nac_method)[0]


def energy_residuals(
    members: Members, bases: Members | None, task: Task, settings: TrainSettings, track: Tracker
) -> EnergyResiduals:
    """Residuals of the energies beside the noise of their labels."""
    noise = None
    if task.low is not None:
        estimate = estimate_noise(task.dataset, settings.level.name, task.low)
        noise = None if estimate is None else estimate.sigma
    low = None if bases is None else bases.fitted
    return residuals(list(track(members.fitted, "energies")), low, task.dataset, task.energies, task.split, noise)
