"""vasprun.xml and OUTCAR: numbers, lines, convergence, and what killed jobs leave."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlffx.data.dataset import load_dataset
from mlffx.data.levels import Level
from mlffx.data.read import read_frames
from mlffx.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from outputs import IonicStep, write_outcar, write_pwo, write_vasprun

FORCES = Level("dft", ("energy", "forces"))


def crystals(n: int) -> list[Atoms]:
    frames = []
    for seed in range(n):
        atoms = bulk("LiH", "rocksalt", a=4.02, cubic=True)
        atoms = atoms[np.argsort(-atoms.numbers, kind="stable")]  # VASP keeps species together
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    return frames


def steps(n: int = 3, smearing: float = 0.0) -> list[IonicStep]:
    rng = np.random.default_rng(1)
    return [IonicStep(atoms, -24.5 + 0.1 * k, rng.normal(size=(8, 3)), smearing) for k, atoms in enumerate(crystals(n))]


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun.xml.gz", "OUTCAR", "OUTCAR.HF"])
def test_numbers(tmp_path: Path, name: str) -> None:
    path, given = tmp_path / name.removesuffix(".gz"), steps()
    (write_vasprun if "xml" in name else write_outcar)(path, given)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    found = read_frames(tmp_path / name, FORCES)
    assert [f.problem for f in found] == ["", "", ""]
    digits = 8 if "xml" in name else 5  # what an OUTCAR prints of positions
    for frame, step in zip(found, given, strict=True):
        assert frame.energy == pytest.approx(step.free_energy, abs=1e-8)
        np.testing.assert_allclose(frame.forces, step.forces, atol=1e-6)
        np.testing.assert_allclose(frame.atoms.positions, step.atoms.positions, atol=5 * 10.0**-digits)
        np.testing.assert_array_equal(frame.atoms.numbers, step.atoms.numbers)
        np.testing.assert_allclose(frame.atoms.cell.array, step.atoms.cell.array, atol=1e-8)
    start = "<calculation>" if "xml" in name else "- Iteration"
    lines = path.read_text().splitlines()
    assert all(start in lines[(frame.line or 0) - 1] for frame in found)


def test_the_layout_is_one_ase_reads_the_same_from(tmp_path: Path) -> None:
    write_vasprun(tmp_path / "vasprun.xml", steps(2, smearing=-0.03))
    theirs = ase.io.read(tmp_path / "vasprun.xml", index=":")
    ours = read_frames(tmp_path / "vasprun.xml", Level("dft", ("energy", "forces"), energy_key="sigma0"))
    for image, frame in zip(theirs, ours, strict=True):
        assert frame.energy == pytest.approx(image.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(frame.forces, image.get_forces(), atol=1e-12)
        np.testing.assert_allclose(frame.atoms.positions, image.positions, atol=1e-12)


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_the_free_energy_unless_the_extrapolated_one_is_asked_for(tmp_path: Path, name: str) -> None:
    (write_vasprun if "xml" in name else write_outcar)(tmp_path / name, steps(1, smearing=-0.03))
    for key, energy in ((None, -24.5), ("free_energy", -24.5), ("sigma0", -24.53)):
        (frame,) = read_frames(tmp_path / name, Level("dft", ("energy",), energy_key=key))
        assert frame.energy == pytest.approx(energy, abs=1e-8) and frame.undeclared_forces
    with pytest.raises(UserError, match=r"no energy 'sigma'; did you mean 'sigma0'"):
        read_frames(tmp_path / name, Level("dft", ("energy",), energy_key="sigma"))
    with pytest.raises(UserError, match="VASP writes eV and A"):
        read_frames(tmp_path / name, Level("dft", ("energy",), energy_unit="Ry"))


def test_the_work_of_an_outer_pressure_is_taken_off(tmp_path: Path) -> None:
    write_vasprun(tmp_path / "vasprun.xml", steps(1))
    text = (tmp_path / "vasprun.xml").read_text()
    (tmp_path / "vasprun.xml").write_text(text.replace('"PSTRESS">      0.0', '"PSTRESS">    100.0'))
    (frame,) = read_frames(tmp_path / "vasprun.xml", FORCES)
    assert frame.energy == pytest.approx(-24.5 - 10.0 / 160.21766208 * 4.02**3, abs=1e-6)  # 100 kbar = 10 GPa


def test_an_electronic_loop_that_gave_up(tmp_path: Path) -> None:
    given = steps(3)
    given[1].loop, given[1].converged = [-24.0, -24.3, -24.4], False
    given[2].loop = [-24.0, -24.29999995, -24.3]  # all steps used, and settled with the last of them
    write_vasprun(tmp_path / "vasprun.xml", given, nelm=3)
    write_outcar(tmp_path / "OUTCAR", given)
    problem = r"its electronic loop is not converged \(NELM = 3 steps, last change 1.0e-01 eV, EDIFF = 1e-06 eV\)"
    for name, told in (("vasprun.xml", problem), ("OUTCAR", "not converged (EDIFF was not reached)")):
        found = read_frames(tmp_path / name, FORCES)
        assert [bool(f.problem) for f in found] == [False, True, False]
        assert told.replace("\\", "") in found[1].problem and np.isnan(found[1].energy)
        config = {"kind": "files", "root": str(tmp_path), "levels": {"dft": {"file": name, "labels": ["energy"]}}}
        with pytest.raises(UserError, match=rf"{name}:{found[1].line}: frame 1 of level 'dft'.*not converged"):
            load_dataset(config)
        assert len(load_dataset(config | {"bad_frames": "drop"})) == 2


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_killed_jobs(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (write_vasprun if "xml" in name else write_outcar)(path, steps(2))
    lines = path.read_text().splitlines()
    start = "<calculation>" if "xml" in name else "- Iteration"
    first, second = (i for i, line in enumerate(lines) if start in line)
    path.write_text("\n".join(lines[: second + 8]))
    whole, part = read_frames(path, FORCES)
    assert not whole.problem and "ends inside this ionic step" in part.problem and part.line == second + 1
    path.write_text("\n".join(lines[: first - 1]))
    with pytest.raises(UserError, match=rf"{name}: the file ends before its first ionic step"):
        read_frames(path, FORCES)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("<scstep>", "<scstep", r"vasprun.xml:\d+: no XML that can be read"),
        ("<c>Li</c>", "<c>Xx</c>", r"vasprun.xml:\d+: unknown element 'Xx'"),
        ("<v>       0.0", "<v>       0.0x", r"vasprun.xml:\d+: <positions> is not rows of three numbers"),
        ('<i name="e_fr_energy">', '<i name="e_fr_energy">*', r"its energy is nan"),
    ],
)
def test_damaged_files(tmp_path: Path, old: str, new: str, told: str) -> None:
    write_vasprun(tmp_path / "vasprun.xml", steps(1))
    text = (tmp_path / "vasprun.xml").read_text()
    start = text.index("initialpos") if "positions" in told else 0
    assert old in text[start:]
    (tmp_path / "vasprun.xml").write_text(text[:start] + text[start:].replace(old, new))
    if "nan" in told:
        (frame,) = read_frames(tmp_path / "vasprun.xml", FORCES)
        assert frame.problem == told
    else:
        with pytest.raises(UserError, match=told):
            read_frames(tmp_path / "vasprun.xml", FORCES)


def test_steps_of_a_machine_learned_force_field_are_no_labels(tmp_path: Path) -> None:
    write_vasprun(tmp_path / "vasprun.xml", steps(1))
    text = (tmp_path / "vasprun.xml").read_text()
    cut = text[: text.index("  <scstep>")] + text[text.rindex("</scstep>") + len("</scstep>") :]
    (tmp_path / "vasprun.xml").write_text(cut)
    (frame,) = read_frames(tmp_path / "vasprun.xml", FORCES)
    assert "no electronic steps" in frame.problem


def test_quantum_espresso_through_ase(tmp_path: Path) -> None:
    step = steps(1)[0]
    write_pwo(tmp_path / "pw.out", step.atoms, step.free_energy, step.forces)
    (frame,) = read_frames(tmp_path / "pw.out", Level("dft", ("energy", "forces"), format="espresso-out"))
    assert frame.energy == pytest.approx(step.free_energy, rel=3e-7)  # ASE reads with CODATA 2006
    np.testing.assert_allclose(frame.forces, step.forces, atol=1e-6)
    np.testing.assert_allclose(frame.atoms.positions, step.atoms.positions, atol=1e-5)
    write_pwo(tmp_path / "pw.out", step.atoms, step.free_energy, step.forces, converged=False)
    with pytest.raises(UserError, match=r"pw\.out: "):
        read_frames(tmp_path / "pw.out", Level("dft", ("energy", "forces"), format="espresso-out"))
