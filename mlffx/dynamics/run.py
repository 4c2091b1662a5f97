"""The whole study: force constants, dynamics of the potential and of its harmonic crystal, what they differ in."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mlffx.config import read_settings
from mlffx.data.crystal import Crystal
from mlffx.dynamics.anharmonic import EffectiveHarmonic, anharmonicity, effective_force_constants
from mlffx.dynamics.convergence import TimeStepError, length_errors, time_step_errors
from mlffx.dynamics.modes import commensurate_spectrum, mode_groups, normal_modes
from mlffx.dynamics.production import fingerprint, finished, run_trajectory
from mlffx.dynamics.projection import mode_lines, mode_spectrum
from mlffx.dynamics.result import DynamicsResult
from mlffx.dynamics.settings import PRECISIONS, DynamicsConfig, estimate_cost
from mlffx.dynamics.spectrum import Spectrum, difference
from mlffx.dynamics.sscha import Sscha, load_sscha, run_sscha, save_sscha
from mlffx.dynamics.trajectory import Schedule, Trajectory
from mlffx.dynamics.vdos import segment_length, velocity_spectrum
from mlffx.errors import UserError
from mlffx.lattice.force_constants import ForceConstants, finite_displacement
from mlffx.lattice.isotopes import masses_of
from mlffx.potentials.base import Potential
from mlffx.potentials.batched import device_of
from mlffx.potentials.harmonic import HarmonicPotential

LOG = logging.getLogger(__name__)
IMAGINARY = -5.0  # cm-1
Report = Callable[[int, int], None]


def run_dynamics(
    potential: Potential,
    crystal: Crystal,
    config: DynamicsConfig | Mapping[str, Any],
    out_dir: Path | str,
    force_constants: ForceConstants | None = None,
) -> DynamicsResult:
    """Densities of states from molecular dynamics against the potential's own harmonic ones, and measures of
    anharmonicity.

    Interrupted runs continue where their last checkpoint is; finished trajectories in `out_dir` are read, not repeated.

    Args:
        potential: any potential.
        crystal: primitive cell.
        config: settings, see `DynamicsConfig`.
        out_dir: gets `full/`, `harmonic/` (trajectories), `dynamics.json` and `dynamics.npz`.
        force_constants: those of the potential in the supercell of `config`; computed where None.

    Raises:
        UserError: for settings that cannot work, an unstable crystal, or a run longer than `max_hours`.
    """
    config = config if isinstance(config, DynamicsConfig) else read_settings(DynamicsConfig, config, "dynamics")
    out_dir = Path(out_dir)
    constants = force_constants or finite_displacement(potential, crystal, config.matrix(crystal))
    _same_supercell(constants, config.matrix(crystal))
    supercell, full_constants = constants.supercell(), constants.full()
    masses = masses_of(crystal.numbers, dict(config.isotopes))[supercell.arrays["site_type"]]
    frequencies, _ = normal_modes(full_constants, masses)
    if np.sort(frequencies)[0] < IMAGINARY:
        LOG.warning("the harmonic crystal is unstable (%.0f cm-1 imaginary): no harmonic dynamics", -frequencies.min())
    stable = bool(np.sort(frequencies)[0] >= IMAGINARY)
    schedule = config.schedule(float(frequencies.max()))
    runs: dict[str, Potential] = {"full": _cast(potential, config.precision)}
    if config.harmonic_md and stable:
        harmonic = HarmonicPotential(full_constants, supercell.positions, supercell.cell.array)
        runs["harmonic"] = harmonic.to(device_of(potential))
    temperatures = [float(t) for t in config.sscha_temperatures]
    _announce(runs, supercell, masses, schedule, config, out_dir)
    trajectories = {}
    with _bars(config.progress) as bar:
        for name, engine in runs.items():
            trajectories[name] = run_trajectory(
                engine, supercell, masses, schedule, out_dir / name, config.resume, bar(f"dynamics ({name})")
            )
        sscha = {t: _sscha(runs["full"], constants, t, config, out_dir, bar(f"SSCHA {t:g} K")) for t in temperatures}
    counts = {e: float(sum(s == e for s in crystal.primitive().symbols)) for e in set(crystal.primitive().symbols)}

    groups = mode_groups(full_constants, supercell, crystal, masses) if stable else []

    def spectrum(trajectory: Trajectory) -> Spectrum:
        if config.method == "modes" and groups:
            found = mode_spectrum(trajectory, groups, config.resolution_cm1, config.n_bootstrap, config.seed)
        else:
            method = "welch" if config.method == "modes" else config.method
            found = velocity_spectrum(trajectory, config.resolution_cm1, method, config.n_bootstrap, config.seed)
        return found.counted_as(counts)

    main = trajectories["full"]
    seen = spectrum(main)
    length = segment_length(config.resolution_cm1, main.sample_step, len(main.velocities))
    expected = commensurate_spectrum(full_constants, masses, supercell.numbers, length, main.sample_step).counted_as(
        counts
    )
    own = spectrum(trajectories["harmonic"]) if "harmonic" in trajectories else None
    fit = effective_force_constants(supercell, main.displacements, main.forces) if config.effective else None
    result = DynamicsResult(
        config=config,
        schedule=schedule,
        force_constants=constants,
        highest_cm1=float(frequencies.max()),
        harmonic=expected,
        full=seen,
        harmonic_md=own,
        difference=difference(seen, own or expected),
        trajectories=trajectories,
        sigma_a=anharmonicity(main.displacements, main.forces, full_constants, supercell.numbers),
        modes=mode_lines(main, groups, config.resolution_cm1) if config.mode_lines else [],
        effective=_effective(constants, fit, config.temperature),
        effective_fit=fit,
        sscha=sscha,
        time_steps=_time_steps(runs["full"], supercell, masses, schedule, config, out_dir),
        lengths=length_errors(main, _coarse(config, main), groups or None) if config.convergence else [],
    )
    result.save(out_dir)
    return result


def _coarse(config: DynamicsConfig, run: Trajectory) -> float:
    """Resolution, cm-1, that a quarter of the run can give: parts of it are compared at one resolution."""
    needed = segment_length(config.resolution_cm1, run.sample_step, len(run.velocities))
    return config.resolution_cm1 * max(1.0, 4.05 * needed / len(run.velocities))


def _time_steps(
    potential: Potential,
    supercell: Atoms,
    masses: np.ndarray,
    schedule: Schedule,
    config: DynamicsConfig,
    folder: Path,
) -> list[TimeStepError]:
    """Short runs at twice, once and half the time step; from the file of an earlier call where they were the same."""
    if not config.convergence:
        return []
    path = folder / "time_steps.json"
    steps = [2 * schedule.time_step, schedule.time_step, 0.5 * schedule.time_step]
    stamp = f"{fingerprint(potential, supercell, masses)} {steps} {config.temperature} {config.seed}"
    if config.resume and path.is_file() and (stored := json.loads(path.read_text()))["stamp"] == stamp:
        return [TimeStepError(**entry) for entry in stored["errors"]]
    found = time_step_errors(potential, supercell, masses, steps, config.temperature, seed=config.seed)
    partial = path.with_name("time_steps.json.part")
    partial.write_text(json.dumps({"stamp": stamp, "errors": [asdict(error) for error in found]}))
    partial.replace(path)
    return found


def _sscha(
    potential: Potential,
    constants: ForceConstants,
    temperature: float,
    config: DynamicsConfig,
    folder: Path,
    report: Report,
) -> Sscha:
    """Self-consistent phonons, from the file of an earlier call where it was the same calculation."""
    path = folder / f"sscha_{temperature:g}K.npz"
    masses = masses_of(constants.crystal.numbers, dict(config.isotopes))
    effort = (config.sscha_snapshots, config.sscha_iterations, config.seed)
    stamp = f"{fingerprint(potential, constants.supercell(), masses)} {effort}"
    found = load_sscha(path, stamp, constants) if config.resume else None
    if found is None:
        found = run_sscha(
            potential,
            constants.crystal,
            constants.matrix,
            temperature,
            config.sscha_snapshots,
            config.sscha_iterations,
            isotopes=dict(config.isotopes),
            start=constants,
            seed=config.seed,
            report=report,
        )
        save_sscha(found, path, stamp)
    return found


def _same_supercell(constants: ForceConstants, matrix: np.ndarray) -> None:
    if not np.array_equal(np.asarray(constants.matrix), matrix):
        raise UserError(
            f"force constants of the supercell {np.asarray(constants.matrix).tolist()}, dynamics in {matrix.tolist()}",
            "use one supercell for both",
            "dynamics.supercell",
        )


def _cast(potential: Potential, precision: str | None) -> Potential:
    return potential if precision is None else copy.deepcopy(potential).set_precision(PRECISIONS[precision])


def _effective(constants: ForceConstants, fit: EffectiveHarmonic | None, temperature: float) -> ForceConstants | None:
    if fit is None:
        return None
    values = fit.force_constants[constants.rows]
    return replace(constants, values=values, method=f"effective {temperature:g} K", displacement=None, raw={})


def _announce(
    runs: Mapping[str, Potential],
    supercell: Atoms,
    masses: np.ndarray,
    schedule: Schedule,
    config: DynamicsConfig,
    out_dir: Path,
) -> None:
    """Say what is going to be run and how long it takes; refuse what is longer than allowed."""
    for name, engine in runs.items():
        if config.resume and finished(out_dir / name, engine, supercell, masses, schedule):
            LOG.info("dynamics (%s): finished before, read from %s", name, out_dir / name)
            continue
        cost = estimate_cost(engine, supercell, schedule)
        LOG.info(
            "dynamics (%s): %d steps of %g fs, %d replicas of %d atoms, %s",
            *(name, schedule.total_steps, schedule.time_step, schedule.n_replicas, len(supercell), cost),
        )
        if cost.seconds > 3600 * config.max_hours:
            raise UserError(
                f"the dynamics would take {cost}",
                f"shorten production_ps, use fewer replicas, or raise dynamics.max_hours (now {config.max_hours:g})",
                "dynamics",
            )


@contextmanager
def _bars(show: bool) -> Iterator[Callable[[str], Report]]:
    """Progress bars on the terminal: `bar(name)` gives the function a run reports to."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not show) as progress:

        def bar(name: str) -> Report:
            task: list[Any] = []

            def report(done: int, total: int) -> None:
                if not task:
                    task.append(progress.add_task(name, total=total))
                progress.update(task[0], completed=done)

            return report

        yield bar
