"""Extended XYZ as it is found in the wild."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlffx.data.levels import Level
from mlffx.data.read import read_frames

CELL = 'Lattice="4 0 0 0 4 0 0 0 4"'


def read(tmp_path: Path, text: str, **options: object):  # type: ignore[no-untyped-def]
    path = tmp_path / "x.xyz"
    path.write_text(text)
    return read_frames(path, Level("dft", **({"labels": ("energy",)} | options)))  # type: ignore[arg-type]


def test_what_ase_writes(tmp_path: Path) -> None:
    frames = []
    for seed in range(3):
        atoms = bulk("LiH", "rocksalt", a=4.02, cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.info["config_type"] = "a b c"
        forces = np.random.default_rng(seed).normal(size=(8, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-200.5 - seed, forces=forces)
        frames.append(atoms)
    write(tmp_path / "a.extxyz", frames)
    found = read_frames(tmp_path / "a.extxyz", Level("dft", ("energy", "forces")))
    for atoms, frame in zip(frames, found, strict=True):
        assert frame.energy == atoms.get_potential_energy()
        assert frame.line == 2 + 10 * frame.index
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-8)
        np.testing.assert_allclose(frame.atoms.positions, atoms.positions, atol=1e-8)
        np.testing.assert_array_equal(frame.atoms.numbers, atoms.numbers)


@pytest.mark.parametrize(
    ("comment", "key", "energy"),
    [
        (f"{CELL} energy=-1.5", None, -1.5),
        (f'energy="-1.5" {CELL}', None, -1.5),
        (f'{CELL} note="energy=7 is not meant" energy=-1.5e0', None, -1.5),
        (f"{CELL} energy=7 rpa_energy=-1.5", "rpa_energy", -1.5),
        (f"{CELL} pbc='T T T' matrix=[[1, 0], [0, 1]] energy=-1.5", None, -1.5),
    ],
)
def test_comment_lines(tmp_path: Path, comment: str, key: str | None, energy: float) -> None:
    (frame,) = read(tmp_path, f"1\n{comment}\nC 0 0 0\n", energy_key=key)
    assert frame.energy == energy and not frame.problem
    np.testing.assert_array_equal(frame.atoms.cell.lengths(), [4, 4, 4])


@pytest.mark.parametrize("comment", ['energy= pbc="T T T"', 'pbc="T T T" energy=', 'energy=""'])
def test_empty_energy_is_a_problem_of_its_frame_alone(tmp_path: Path, comment: str) -> None:
    text = f"1\n{CELL} {comment}\nC 0 0 0\n1\n{CELL} energy=-2\nC 0 0 0\n"
    first, second = read(tmp_path, text)
    assert np.isnan(first.energy) and first.problem == "its 'energy=' is empty"
    assert second.energy == -2.0 and not second.problem


def test_columns_in_another_order_and_blank_lines(tmp_path: Path) -> None:
    text = f"1\n{CELL} Properties=id:I:1:forces:R:3:species:S:1:pos:R:3 energy=1\n7 .1 .2 .3 Li 1 2 3\n\n\n"
    (frame,) = read(tmp_path, text, labels=("energy", "forces"))
    np.testing.assert_array_equal(frame.forces, [[0.1, 0.2, 0.3]])
    np.testing.assert_array_equal(frame.atoms.positions, [[1, 2, 3]])
    assert frame.atoms.symbols[0] == "Li"


def test_declared_forces_that_are_not_there(tmp_path: Path) -> None:
    (frame,) = read(tmp_path, f"1\n{CELL} energy=1\nC 0 0 0\n", labels=("energy", "forces"))
    assert frame.problem == "it has no forces, which the level declares"


def test_undeclared_forces_are_not_read(tmp_path: Path) -> None:
    text = f"1\n{CELL} Properties=species:S:1:pos:R:3:forces:R:3 energy=1\nC 0 0 0 1 1 1\n"
    (frame,) = read(tmp_path, text)
    assert frame.forces is None and frame.undeclared_forces
