"""What a study of the dynamics of one potential found, as arrays for figures and plain numbers for tables."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.dynamics.anharmonic import Anharmonicity, EffectiveHarmonic
from mlffx.dynamics.convergence import LengthError, TimeStepError
from mlffx.dynamics.labelled import LabelledShift, labelled_shifts
from mlffx.dynamics.projection import ModeLine
from mlffx.dynamics.settings import DynamicsConfig
from mlffx.dynamics.spectrum import Spectrum, compare, moment, quantum_averages
from mlffx.dynamics.sscha import Sscha
from mlffx.dynamics.trajectory import Schedule, Trajectory
from mlffx.lattice.force_constants import ForceConstants
from mlffx.lattice.isotopes import masses_of


@dataclass(frozen=True, eq=False)
class DynamicsResult:
    """Densities of states and anharmonicity of one potential in one supercell.

    Attributes:
        config, schedule: what was asked and what was run.
        force_constants: the potential's own, in the supercell of the dynamics.
        highest_cm1: highest harmonic frequency of the supercell.
        harmonic: harmonic density of states of the supercell with the lineshape of the estimator; no noise.
        full: from MD with the potential; per primitive cell, integrates to 3 n_basis.
        harmonic_md: from MD with its own harmonic force constants and the same seeds; None where not asked for.
        difference: full - harmonic_md (or - harmonic), paired errors: what anharmonicity does to the density of states.
        trajectories: `full` and `harmonic`, memory-mapped.
        sigma_a: anharmonicity of the forces along `full`.
        modes: frequency and linewidth of the modes of the supercell.
        effective: force constants fitted along `full`, and the same with blocks left out, for errors.
        effective_fit: the fit they come from.
        sscha: temperature (K) -> self-consistent phonons.
        time_steps, lengths: what the time step and the length of the run cost; empty where not asked for.
    """

    config: DynamicsConfig
    schedule: Schedule
    force_constants: ForceConstants
    highest_cm1: float
    harmonic: Spectrum
    full: Spectrum
    harmonic_md: Spectrum | None
    difference: Spectrum
    trajectories: dict[str, Trajectory]
    sigma_a: Anharmonicity
    modes: list[ModeLine] = field(default_factory=list)
    effective: ForceConstants | None = None
    effective_fit: EffectiveHarmonic | None = None
    sscha: dict[float, Sscha] = field(default_factory=dict)
    time_steps: list[TimeStepError] = field(default_factory=list)
    lengths: list[LengthError] = field(default_factory=list)

    def shifts(self) -> list[LabelledShift]:
        """What anharmonicity does to the named modes that fit the supercell."""
        return labelled_shifts(self.modes, self.force_constants, dict(self.config.isotopes))

    def summary(self) -> dict[str, Any]:
        """Numbers for reports and tables, ready for JSON; units are in the keys."""
        crystal = self.force_constants.crystal
        masses = masses_of(crystal.numbers, dict(self.config.isotopes))
        mass = {e: float(masses[[s == e for s in crystal.primitive().symbols]][0]) for e in self.full.elements}
        spectra = {"full": self.full, "harmonic_md": self.harmonic_md, "harmonic": self.harmonic}
        temperature = self.config.quantum_temperature
        return {
            "protocol": {
                **{k: v for k, v in asdict(self.schedule).items()},
                "units": "K, fs, A; classical nuclei",
                "supercell": np.asarray(self.force_constants.matrix).tolist(),
                "supercell_atoms": int(self.force_constants.values.shape[1]),
                "isotopes": dict(self.config.isotopes),
                "resolution_cm1": self.full.resolution,
                "method": self.config.method,
                "force_constants": self.force_constants.method,
                "highest_harmonic_cm1": self.highest_cm1,
            },
            "quality": {name: quality(t) for name, t in self.trajectories.items()},
            "full_against_harmonic_md": compare(self.full, self.harmonic_md) if self.harmonic_md else None,
            "full_against_harmonic": compare(self.full, self.harmonic),
            "harmonic_md_against_harmonic": compare(self.harmonic_md, self.harmonic) if self.harmonic_md else None,
            "moments_cm1": {
                name: {str(order): s.estimate(moment(order)) for order in (1, 2)} for name, s in spectra.items() if s
            },
            f"quantum_averages_{temperature:g}K": {
                name: {e: quantum_averages(s, e, temperature, mass[e]) for e in s.elements}
                for name, s in spectra.items()
                if s
            },
            "sigma_a": {"total": [self.sigma_a.total, self.sigma_a.sigma], **self.sigma_a.elements},
            "modes": [{**asdict(line), "q": line.q.tolist()} for line in self.modes],
            "labelled_shifts_cm1": [asdict(shift) for shift in self.shifts()],
            "convergence": {
                "time_step": [asdict(error) for error in self.time_steps],
                "length": [asdict(error) for error in self.lengths],
                "units": "fs, meV/atom; ps, cm-1",
            },
            "effective_rms_force_eV_A": self.effective_fit.rms if self.effective_fit else None,
            "sscha": {
                f"{t:g}K": {"free_energy_eV": s.free_energy, "free_energy_error_eV": s.free_energy_error}
                for t, s in self.sscha.items()
            },
        }

    def save(self, folder: Path) -> None:
        """Write `dynamics.json` (the summary) and `dynamics.npz` (grid, densities and standard errors)."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "dynamics.json.part"
        partial.write_text(json.dumps(self.summary(), indent=1))
        partial.replace(folder / "dynamics.json")
        arrays: dict[str, np.ndarray] = {"grid_cm1": self.full.grid}
        spectra = {"full": self.full, "harmonic_md": self.harmonic_md, "harmonic": self.harmonic}
        for name, s in {**spectra, "difference": self.difference}.items():
            if s is not None:
                arrays |= {f"{name}/total": s.total, f"{name}/total_sigma": s.sigma()}
                arrays |= {f"{name}/{e}": s.density[e] for e in s.elements}
                arrays |= {f"{name}/{e}_sigma": s.sigma(e) for e in s.elements}
        binary = folder / "dynamics.part.npz"
        np.savez_compressed(binary, allow_pickle=False, **arrays)
        binary.replace(folder / "dynamics.npz")


def quality(trajectory: Trajectory) -> dict[str, Any]:
    """Is the run to be trusted: conserved energy, temperature reached, equipartition between elements."""
    drift, fluctuation = trajectory.energy_drift()
    temperature = trajectory.temperature()
    n = len(temperature)
    return {
        "energy_drift_meV_atom_ps": drift,
        "energy_fluctuation_meV_atom": fluctuation,
        "temperature_K": float(temperature.mean()),
        "temperature_sigma_K": float(temperature.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        "element_temperature_K": trajectory.element_temperatures(),
        "production_ps": trajectory.sample_step * len(trajectory.velocities) / 1000,
        "replicas": n,
    }
