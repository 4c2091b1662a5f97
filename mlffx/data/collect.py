"""A directory tree of calculations gathered into one file of labelled structures, with the configuration to use it.

Every calculation gets a name from its place in the tree: what the wildcards of the pattern stand for. Outputs without
structures (Cc4s, CP2K) find theirs by that name, and so do Hartree-Fock energies under correlation energies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlffx.data import cc4s, cp2k, partners
from mlffx.data.levels import ENERGY_UNITS, LABELS, Level
from mlffx.data.read import Frame, read_frames
from mlffx.data.tree import find
from mlffx.errors import UserError, nearest

ENERGY_ONLY = ("cc4s", "cp2k")  # formats of outputs that have no structures
POLICIES = ("refuse", "drop")


@dataclass(frozen=True)
class Request:
    """What to collect.

    Attributes:
        patterns: files or glob patterns with `*`, `?`, `[...]`, `**`.
        level: name of the level of theory.
        format: `cc4s`, `cp2k`, or ASE's name of a format; None: by the name of the file.
        labels: `energy`, `forces`; empty: forces where the first file has them.
        energy: which of the energies of a file: `free_energy` or `sigma0` (VASP), `mp2`, `ccsd` or `ccsdt` (Cc4s),
            another key of ASE's results; None: the default of the format, for Cc4s the level's name.
        unit: of the energies where the file does not say (ASE) or says something useless (Cc4s).
        structures: collected file, or a file beside each output that ASE reads (`POSCAR`, `../POSCAR`).
        reference: collected file of Hartree-Fock energies, to which correlation energies are added; `none`: to nothing.
        corrections: of `cc4s.CORRECTIONS`, added.
        bad_frames: `refuse` or `drop` calculations that cannot be used.
    """

    patterns: Sequence[str]
    level: str
    format: str | None = None
    labels: tuple[str, ...] = ()
    energy: str | None = None
    unit: str | None = None
    structures: str | None = None
    reference: str | None = None
    corrections: tuple[str, ...] = ()
    bad_frames: str = "refuse"


@dataclass
class Collected:
    """What was found.

    Attributes:
        labels: of the level.
        names, sources, atoms, energies, forces: one a kept calculation; eV, eV/A.
        problems: of those left out, with file and line.
        notes: what should be known.
    """

    labels: tuple[str, ...]
    names: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    atoms: list[Atoms] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    forces: list[np.ndarray | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, source: Path, atoms: Atoms, energy: float, forces: np.ndarray | None) -> None:
        self.names.append(name)
        self.sources.append(str(source))
        self.atoms.append(atoms)
        self.energies.append(energy)
        self.forces.append(forces)

    def write(self, path: Path) -> None:
        """Extended XYZ, whole or not at all."""
        images = []
        for name, source, atoms, energy, forces in zip(
            self.names, self.sources, self.atoms, self.energies, self.forces, strict=True
        ):
            image = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
            image.info.update(name=name, source=source)
            image.calc = SinglePointCalculator(image, energy=energy, forces=forces)
            images.append(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        ase.io.write(partial, images, format="extxyz")
        partial.replace(path)


def collect(
    request: Request, progress: Callable[[Iterable[tuple[str, Path]]], Iterable[tuple[str, Path]]] = iter
) -> Collected:
    """Read all calculations.

    Args:
        request: what to read.
        progress: wraps the loop over files.

    Raises:
        UserError: for options that do not fit. What is wrong with single files is in `problems`.
    """
    _check(request)
    files = find(request.patterns)
    if _format(request, files[0][1]) in ENERGY_ONLY:
        found = _collect_energies(request, files, progress)
    else:
        found = _collect_frames(request, files, progress)
    return found


def refuse_problems(found: Collected, request: Request) -> None:
    """Stop for calculations that cannot be used, unless they are to be dropped and others are left.

    Raises:
        UserError: with the first of them, file and line.
    """
    if found.problems and (request.bad_frames == "refuse" or not found.names):
        total = len(found.problems) + len(found.names)
        raise UserError(
            f"{found.problems[0]} ({len(found.problems)} of {total} calculations cannot be used)",
            "run them again, or leave them out with --bad-frames drop",
        )


def _check(request: Request) -> None:
    for value, valid, where in (
        *((label, LABELS, "--labels") for label in request.labels),
        *((name, cc4s.CORRECTIONS, "--corrections") for name in request.corrections),
        *([(request.unit, ENERGY_UNITS, "--energy-unit")] if request.unit else []),
        (request.bad_frames, POLICIES, "--bad-frames"),
    ):
        if value not in valid:
            raise UserError(f"unknown choice '{value}'", nearest(value, valid), where)


def _format(request: Request, path: Path) -> str | None:
    if request.format is None and path.suffix in (".yaml", ".yml"):
        return "cc4s"
    return request.format


def _collect_frames(request: Request, files: list[tuple[str, Path]], progress: Callable) -> Collected:
    """From files that hold structures."""
    for value, option in ((request.structures, "--structures"), (request.reference, "--reference")):
        if value is not None:
            raise UserError("these files have structures and total energies of their own", "leave it out", option)
    labels = request.labels or _labels_of(request, [path for _, path in files])
    level = Level(
        request.level, labels, energy_key=request.energy, energy_unit=request.unit or "eV", format=request.format
    )
    found = Collected(labels)
    for name, path in progress(files):
        try:
            frames = read_frames(path, level)
        except UserError as error:
            found.problems.append(_problem_of(path, error))
            continue
        for frame in frames:
            own = name if len(frames) == 1 else f"{name}#{frame.index}"
            if frame.problem:
                found.problems.append(f"{_where(path, frame)}: '{own}': {frame.problem}")
            else:
                found.add(own, path, frame.atoms, frame.energy, frame.forces)
    return found


def _problem_of(path: Path, error: UserError) -> str:
    """What is wrong with one file; a mistake in what was asked for stays an error."""
    if not error.where.startswith(str(path)):
        raise error
    return str(error)


def _labels_of(request: Request, paths: list[Path]) -> tuple[str, ...]:
    """Energy, and forces where the first file that can be read has them."""
    level = Level(request.level, ("energy",), energy_key=request.energy, format=request.format)
    for path in paths:
        try:
            frames = read_frames(path, level)
        except UserError as error:
            _problem_of(path, error)
            continue
        return ("energy", "forces") if any(frame.undeclared_forces for frame in frames) else ("energy",)
    return ("energy",)


def _where(path: Path, frame: Frame) -> str:
    return f"{path}:{frame.line}" if frame.line is not None else f"{path}, frame {frame.index}"


def _collect_energies(request: Request, files: list[tuple[str, Path]], progress: Callable) -> Collected:
    """From outputs without structures, which are found by name."""
    kind = _format(request, files[0][1])
    if request.structures is None:
        raise UserError(
            f"{kind} output has no structures",
            "name a collected file (dft.xyz) or one beside each output (POSCAR)",
            "--structures",
        )
    method = request.energy or request.level
    reference = partners.references(request.reference) if kind == "cc4s" else {}
    structures = partners.structures(request.structures, files)
    found = Collected(request.labels or ("energy",))
    left_out: dict[str, list[float]] = {}
    for name, path in progress(files):
        try:
            if kind == "cc4s":
                correlation = cc4s.read_correlation(path, method, request.corrections, request.unit)
                energy, forces, problem, line = correlation.energy, None, correlation.problem, correlation.line
                for correction, value in correlation.left_out.items():
                    left_out.setdefault(correction, []).append(value)
            else:
                total = cp2k.read_total(path)
                energy, forces, problem, line = total.energy, total.forces, total.problem, total.line
        except UserError as error:
            found.problems.append(_problem_of(path, error))
            continue
        if not problem and "forces" in found.labels and forces is None:
            problem = "it has no forces, which --labels asks for"
        if not problem and reference and name not in reference:
            problem = f"{request.reference} has no Hartree-Fock energy for it"
        if not problem and name not in structures:
            problem = f"{request.structures} has no structure of its name"
        if not problem and reference:
            problem = partners.differs(structures[name], reference[name].atoms)
        if problem:
            found.problems.append(f"{path}:{line}: '{name}': {problem}")
            continue
        atoms = structures[name]
        if forces is not None and len(forces) != len(atoms):
            raise UserError(
                f"it has {len(forces)} forces and its structure {len(atoms)} atoms", "check --structures", path
            )
        energy += reference[name].energy if reference else 0.0
        found.add(name, path, atoms, energy, forces if "forces" in found.labels else None)
    for correction, values in left_out.items():
        flag = correction.replace("_", "-")
        found.notes.append(
            f"{len(values)} outputs have a {flag} correction, {np.mean(values):.4f} +- {np.std(values):.4f} eV:"
            f" not added (--corrections {flag})"
        )
    return found
