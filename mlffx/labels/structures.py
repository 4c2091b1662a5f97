"""Structures worth a label: a ladder of thermal or random displacements, snapshots, frozen phonons, or those of a file.

Amplitudes follow the golden-ratio sequence and every structure has a random stream of its own: any first part of a set
covers the ladder evenly, and a longer set begins with the shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.registry import Registry
from mlffx.units import KB_EV

GOLDEN = (np.sqrt(5) - 1) / 2
SOFTEST = 0.05  # eV/A^2; softer directions of the force constants move as if they were this stiff
STRUCTURES: Registry[list[Atoms]] = Registry("structures")

Forces = Callable[[Sequence[tuple[str, Atoms]]], list[np.ndarray]]


@dataclass(frozen=True)
class Site:
    """Where structures come from.

    Attributes:
        crystal: primitive cell; None where only a file is read.
        matrix: supercell in rows of the primitive cell.
        forces: labels structures at the level `dft` and returns their forces, for force constants of our own.
    """

    crystal: Crystal | None
    matrix: np.ndarray | None
    forces: Forces

    def supercell(self) -> tuple[Crystal, Atoms]:
        """Crystal and its ideal supercell.

        Raises:
            UserError: when no crystal is declared.
        """
        if self.crystal is None or self.matrix is None:
            raise UserError("is missing", "give crystal.prototype, crystal.species and crystal.a", "crystal")
        return self.crystal, self.crystal.supercell(self.matrix)


def build_structures(config: Mapping[str, Any], site: Site) -> list[Atoms]:
    """Structures as the configuration asks for them; `info` holds their `name` and what made them.

    Raises:
        UserError: for options that do not fit, or files and runs that cannot be used.
    """
    options = dict(config)
    kind = str(options.pop("kind", ""))
    frames = STRUCTURES.build(kind, site=site, **options)
    if not frames:
        raise UserError("no structure is asked for", "raise structures.count", "structures")
    for index, atoms in enumerate(frames):
        atoms.info.setdefault("name", f"{kind}_{index:04d}")
        if kind != "file":
            atoms.wrap()
    return frames


@STRUCTURES.register("thermal")
def thermal(
    site: Site,
    count: int = 160,
    temperature: float = 400.0,
    seed: int = 0,
    displacement: float = 0.03,
    force_constants: str | None = None,
) -> list[Atoms]:
    """The perfect crystal, then displacements drawn from the classical harmonic crystal at rising temperatures.

    u = sum_k sqrt(kT / lambda_k) xi_k v_k with the eigenpairs of the force constants of the cell: every mode holds
    kT/2, whatever the masses. The root of T follows the ladder, so amplitudes are spread evenly up to `temperature`.

    Args:
        site: crystal and supercell.
        count: structures, the perfect one included.
        temperature: K, of the largest amplitudes.
        seed: of the displacements.
        displacement: A, for force constants of our own (level `dft`).
        force_constants: a run directory or phonopy_params.yaml to take them from; null: from DFT forces of our own.
    """
    _at_least(count, 1, "structures.count")
    _at_least(temperature, 1.0, "structures.temperature")
    _, ideal = site.supercell()
    stiffness, directions = np.linalg.eigh(_full_force_constants(site, displacement, force_constants))
    movable = np.abs(stiffness) > 1e-6 * stiffness.max()  # without the three translations
    stiffness, directions = np.maximum(stiffness[movable], SOFTEST), directions[:, movable]
    frames = []
    for index in range(count):
        amplitude = ladder(index)
        kelvin = temperature * amplitude**2
        draws = np.random.default_rng([seed, index]).normal(size=len(stiffness))
        moved = ideal.copy()
        del moved.arrays["site_type"]
        moved.positions += (directions @ (np.sqrt(KB_EV * kelvin / stiffness) * draws)).reshape(-1, 3)
        moved.info.update(temperature=round(float(kelvin), 3))
        frames.append(moved)
    return frames


@STRUCTURES.register("displaced")
def displaced(site: Site, count: int = 160, amplitude: float = 0.1, seed: int = 0) -> list[Atoms]:
    """The perfect crystal, then Gaussian displacements of every coordinate, up to a width of `amplitude` A."""
    _at_least(count, 1, "structures.count")
    _at_least(amplitude, 1e-4, "structures.amplitude")
    _, ideal = site.supercell()
    frames = []
    for index in range(count):
        width = amplitude * ladder(index)
        moved = ideal.copy()
        del moved.arrays["site_type"]
        moved.positions += width * np.random.default_rng([seed, index]).normal(size=moved.positions.shape)
        moved.info.update(amplitude=round(float(width), 5))
        frames.append(moved)
    return frames


@STRUCTURES.register("file")
def from_file(site: Site, file: str, count: int | None = None) -> list[Atoms]:
    """The structures of a file of any format ASE reads, named by `name` in their info where they have one."""
    import ase.io

    path = Path(file)
    if not path.is_file():
        raise UserError(f"no such file '{file}'", "give structures.file=FILE", "structures.file")
    try:
        images = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise what they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"ASE cannot read it ({reason})", "extended XYZ is safest", path) from error
    frames = []
    for image in images[:count]:
        atoms = Atoms(image.numbers, image.positions, cell=image.cell, pbc=image.pbc)
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in image.info.items()}
        atoms.info.update({k: v for k, v in plain.items() if isinstance(v, (str, int, float))})
        frames.append(atoms)
    names = [atoms.info["name"] for atoms in frames if "name" in atoms.info]
    if len(set(names)) < len(names):
        raise UserError("two structures have the same name", "name each differently, or none", path)
    return frames


@STRUCTURES.register("md")
def snapshots(
    site: Site, run: str, count: int = 100, temperature: float = 300.0, seed: int = 0, steps: int = 60
) -> list[Atoms]:
    """Snapshots of Langevin dynamics with a trained potential, `steps` of 1.5 fs apart, heated up to `temperature`."""
    from mlffx.data.twin import thermal_frames
    from mlffx.potentials.batched import in_double
    from mlffx.training.run_directory import load_members

    _at_least(count, 1, "structures.count")
    _, ideal = site.supercell()
    del ideal.arrays["site_type"]
    potential = in_double(load_members(run)[0])
    ramp = np.linspace(temperature / count, temperature, count)
    frames = thermal_frames(potential, ideal, ramp, np.random.default_rng(seed), steps_per_frame=steps)
    for frame, kelvin in zip(frames, ramp, strict=True):
        frame.info.update(temperature=round(float(kelvin), 3))
    return frames


@STRUCTURES.register("frozen")
def frozen(
    site: Site,
    qpoints: list | None = None,
    amplitudes: list | None = None,
    displacement: float = 0.03,
    force_constants: str | None = None,
) -> list[Atoms]:
    """The perfect crystal, then each mode at each q-point frozen in, for frequencies from energies.

    Args:
        site: crystal and supercell.
        qpoints: names of points that the supercell repeats, `[GAMMA, X]`.
        amplitudes: largest displacement of an atom, A, each with its sign.
        displacement, force_constants: as in `thermal`, for the eigenvectors.
    """
    from mlffx.lattice.isotopes import masses_of
    from mlffx.lattice.paths import cartesian, point
    from mlffx.lattice.phonons import Phonons

    crystal, ideal = site.supercell()
    phonons = Phonons(_force_constants(site, displacement, force_constants))
    masses, type_ = masses_of(crystal.numbers), ideal.arrays["site_type"]
    perfect = ideal.copy()
    del perfect.arrays["site_type"]
    perfect.info.update(name="perfect")
    frames = [perfect]
    for label in qpoints or ["GAMMA"]:
        q = point(crystal, str(label))
        wave = 2 * np.pi * cartesian(crystal, q)
        turns = ideal.cell.array @ wave / (2 * np.pi)
        if np.abs(turns - np.rint(turns)).max() > 1e-6:
            raise UserError(f"the supercell does not repeat {label}", "choose another or a larger supercell", "qpoints")
        modes = phonons.modes(q)
        for mode in range(3 if str(label) == "GAMMA" else 0, phonons.n_modes):
            vector = modes.eigenvectors[0, mode] / np.sqrt(masses)[:, None]
            # phonopy's phases are those of the atoms, not of their cells
            wanted = vector[type_] * np.exp(1j * ideal.positions @ wave)[:, None]
            pattern = max(np.real(wanted), np.imag(wanted), key=lambda part: float(np.abs(part).max()))
            pattern = pattern / np.linalg.norm(pattern, axis=1).max()
            for amplitude in amplitudes or [-0.04, 0.04]:
                moved = perfect.copy()
                moved.positions += float(amplitude) * pattern
                moved.info.update(
                    name=f"{label}_{mode + 1}_{float(amplitude):+g}",
                    qpoint=str(label),
                    mode=mode + 1,
                    amplitude=float(amplitude),
                    frequency_dft=round(float(modes.frequencies[0, mode]), 3),
                )
                frames.append(moved)
    return frames


def ladder(index: int) -> float:
    """Share of the largest amplitude of structure `index`: 0 for the first, then evenly spread over (0, 1)."""
    return float((index * GOLDEN) % 1.0)


def _force_constants(site: Site, displacement: float, source: str | None) -> Any:
    """Of a run, of a phonopy file, or of our own DFT forces."""
    from mlffx.lattice import phonopy_api
    from mlffx.lattice.force_constants import autodiff, finish, load_force_constants

    crystal, _ = site.supercell()
    assert site.matrix is not None
    if source and Path(source).is_file():
        return load_force_constants(Path(source)).interpolated(site.matrix)
    if source:
        from mlffx.training.run_directory import load_members

        return autodiff(load_members(source)[0], crystal, site.matrix)
    if not 0.001 <= displacement <= 0.1:
        raise UserError(f"{displacement:g} A", "take one between 0.001 and 0.1 A", "structures.displacement")
    geometry = phonopy_api.geometry(crystal, site.matrix)
    cells = phonopy_api.displaced_supercells(geometry, displacement)
    forces = site.forces([(f"displaced_{index:02d}", cell) for index, cell in enumerate(cells)])
    values = phonopy_api.solve(geometry, displacement, forces)
    return finish(geometry, values, crystal, "finite_displacement", True, displacement)


def _full_force_constants(site: Site, displacement: float, source: str | None) -> np.ndarray:
    """[3 n_atoms, 3 n_atoms], eV/A^2, in the order of `Crystal.supercell`."""
    constants = _force_constants(site, displacement, source)
    crystal, ideal = site.supercell()
    order = crystal.match(constants.supercell()).order  # of each of its atoms in ours
    full = np.empty((len(ideal), len(ideal), 3, 3))
    full[np.ix_(order, order)] = constants.full()
    matrix = full.transpose(0, 2, 1, 3).reshape(3 * len(ideal), -1)
    return 0.5 * (matrix + matrix.T)


def _at_least(value: float, smallest: float, key: str) -> None:
    if value < smallest:
        raise UserError(f"{value:g}", f"give at least {smallest:g}", key)
