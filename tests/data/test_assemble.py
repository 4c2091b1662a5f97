"""Files of several levels become one set: matched by geometry, units converted, everything dropped is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlffx.data.dataset import load_dataset
from mlffx.data.paper import git_blob_id
from mlffx.errors import UserError


def reasons(dataset: Any, dropped: bool | None = None) -> list[str]:
    return [str(note) for note in dataset.notes if dropped is None or note.dropped == dropped]


def test_labels_and_displacements(files: Any) -> None:
    dataset = load_dataset(files.config())
    assert len(dataset) == 12 and dataset.low == "dft" and dataset.species == [6]
    np.testing.assert_allclose(dataset.energies["dft"], files.low)
    np.testing.assert_allclose(dataset.difference("ccsdt", "dft"), files.high - files.low)
    np.testing.assert_allclose(dataset.forces["dft"], files.forces, atol=1e-8)
    assert list(dataset.forces) == ["dft"]
    assert dataset.matches is not None and dataset.crystal is not None
    for match, force, atoms in zip(dataset.matches, dataset.forces["dft"], dataset.atoms, strict=True):
        np.testing.assert_allclose(-10 * match.displacements, force, atol=1e-6)  # forces were written as -10 u
        np.testing.assert_allclose(atoms.positions, match.sites + match.displacements, atol=1e-12)
    expected = [np.sqrt((f**2).sum(axis=1).mean()) / 10 for f in files.forces]
    np.testing.assert_allclose(dataset.amplitudes(), expected, atol=1e-7)


def test_drift_rounding_and_ignored_forces_are_told(files: Any) -> None:
    said = "\n".join(reasons(load_dataset(files.config())))
    assert "dft.xyz: dft: the crystal drifts as a whole by up to 1.10 A: removed from displacements" in said
    assert "ccsdt.xyz: ccsdt: energies are rounded to 1 meV per cell: 0.29 meV of noise" in said
    assert "ccsdt.xyz: ccsdt: the column of forces in 12 frames is not a label of this level: not read" in said


def test_files_are_named_by_their_git_blob(files: Any) -> None:
    dataset = load_dataset(files.config())
    assert dataset.hashes == {name: git_blob_id(files.root / name) for name in ("dft.xyz", "ccsdt.xyz")}
    (files.root / "known").write_text("hello\n")
    assert git_blob_id(files.root / "known") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_matched_by_geometry_not_by_index(files: Any) -> None:
    order = np.random.default_rng(0).permutation(12)
    moved = []
    for index in order:  # shuffled, drifted, wrapped otherwise
        atoms = files.frames[index].copy()
        atoms.positions += [0.3, -1.2, 0.7]
        atoms.positions[::2] += atoms.cell.array[1]
        moved.append(atoms)
    files.write_level("ccsdt.xyz", moved, files.high[order], files.forces)
    dataset = load_dataset(files.config())
    np.testing.assert_allclose(dataset.energies["ccsdt"], files.high)


def test_atoms_in_another_order_are_put_right(files: Any) -> None:
    rng = np.random.default_rng(1)
    frames, forces = [], []
    for atoms, force in zip(files.frames, files.forces, strict=True):
        shuffle = rng.permutation(8)
        moved = atoms[shuffle]
        moved.positions += rng.normal(scale=2.0, size=3)
        moved.wrap()
        frames.append(moved)
        forces.append(1.1 * force[shuffle])
    files.write_level("ccsdt.xyz", frames[::-1], files.high[::-1], forces[::-1])
    config = files.config()
    config["levels"]["ccsdt"]["labels"] = ["energy", "forces"]
    dataset = load_dataset(config)
    np.testing.assert_allclose(dataset.energies["ccsdt"], files.high)
    np.testing.assert_allclose(dataset.forces["ccsdt"], 1.1 * np.array(files.forces), atol=1e-7)
    assert "ccsdt.xyz: ccsdt: the atoms of 12 frames are in another order: put into that of 'dft'" in reasons(dataset)
    with pytest.raises(UserError, match=r"none of its 12 frames has the geometry"):
        load_dataset(config | {"crystal": None})


def test_missing_extra_and_repeated_frames(files: Any) -> None:
    stranger = files.frames[0].copy()
    stranger.rattle(0.2, seed=1)
    frames = [*files.frames[2:], stranger, files.frames[5]]
    energies = np.array([*files.high[2:], -156.0, files.high[5] + 0.5])
    files.write_level("ccsdt.xyz", frames, energies, [np.zeros((8, 3))] * 12)
    lines = files.lines("ccsdt.xyz")
    lines[10 * 10 + 1] = lines[10 * 10 + 1].replace(
        "energy=-156.000000", "energy="
    )  # as the last LiH frames of the paper
    files.write("ccsdt.xyz", lines)
    dataset = load_dataset(files.config())
    assert np.isnan(dataset.energies["ccsdt"][:2]).all()
    np.testing.assert_allclose(dataset.energies["ccsdt"][2:], files.high[2:])
    assert list(dataset.indices(["dft", "ccsdt"])) == list(range(2, 12))
    assert reasons(dataset, dropped=True) == [
        "ccsdt.xyz:102: ccsdt: frame 10: dropped, no frame of 'dft' has this geometry; its 'energy=' is empty",
        "ccsdt.xyz:112: ccsdt: frame 11: dropped, repeats frame 3 (energies differ by 500 meV)",
    ]
    assert "ccsdt.xyz: ccsdt: no label for 2 of 12 structures (first: 0)" in reasons(dataset, dropped=False)


def test_duplicates_of_the_low_level_are_dropped(files: Any) -> None:
    files.write_level(
        "dft.xyz",
        [*files.frames, files.frames[3]],
        np.append(files.low, files.low[3]),
        [*files.forces, files.forces[3]],
    )
    dataset = load_dataset(files.config())
    assert len(dataset) == 12
    assert reasons(dataset, dropped=True) == [
        "dft.xyz:122: dft: frame 12: dropped, repeats frame 3 (energies differ by 0 meV)"
    ]


def test_bad_frames_can_be_dropped(files: Any) -> None:
    files.edit("dft.xyz", 22, "energy=-", "energy=NaN  ")
    files.edit("ccsdt.xyz", 52, "energy=", "enrgy=")
    dataset = load_dataset(files.config(bad_frames="drop"))
    assert len(dataset) == 11
    np.testing.assert_allclose(dataset.energies["dft"], np.delete(files.low, 2))
    assert np.flatnonzero(np.isnan(dataset.energies["ccsdt"])).tolist() == [4]
    dropped = reasons(dataset, dropped=True)
    assert "dft.xyz:22: dft: frame 2: dropped, its energy is nan" in dropped
    assert "ccsdt.xyz:52: ccsdt: frame 5: dropped, it has no 'energy=' (it has enrgy)" in dropped


def test_declared_keys_units_and_formats(files: Any) -> None:
    images = []
    for atoms, energy, force in zip(files.frames, files.low, files.forces, strict=True):
        image = Atoms(atoms.numbers, atoms.positions / units.Bohr, cell=atoms.cell.array / units.Bohr, pbc=True)
        image.calc = SinglePointCalculator(
            image, energy=energy / units.Hartree, forces=force / units.Hartree * units.Bohr
        )
        image.info["rpa_kcal"] = energy * 1.1 / (units.kcal / units.mol)
        images.append(image)
    write(files.root / "all.traj", images)
    dataset = load_dataset(
        files.config(
            levels={
                "dft": {"file": "all.traj", "labels": ["energy", "forces"], "energy_unit": "Ha", "length_unit": "bohr"},
                "rpa": {
                    "file": "all.traj",
                    "energy_key": "rpa_kcal",
                    "energy_unit": "kcal/mol",
                    "length_unit": "bohr",
                    "format": "traj",
                },
            }
        )
    )
    np.testing.assert_allclose(dataset.energies["dft"], files.low)
    np.testing.assert_allclose(dataset.forces["dft"], files.forces, atol=1e-9)
    np.testing.assert_allclose(dataset.energies["rpa"], files.low * 1.1)
    np.testing.assert_allclose(dataset.atoms[0].cell.array, files.frames[0].cell.array)


def test_format_ase_cannot_read_is_told(files: Any) -> None:
    (files.root / "x.json").write_text("{")
    config = files.config(levels={"dft": {"file": "x.json"}})
    with pytest.raises(UserError, match=r"x.json: ASE cannot read it \(.*\); set data.levels.dft.format or convert it"):
        load_dataset(config)


def test_wrong_unit_is_noticed(files: Any) -> None:
    config = files.config()
    config["levels"]["ccsdt"]["energy_unit"] = "kcal/mol"
    said = "\n".join(reasons(load_dataset(config)))
    assert "ccsdt: its energies change 0.0455 times as much as those of 'dft': check energy_unit" in said


def test_by_index_when_asked(files: Any) -> None:
    relaxed = [atoms.copy() for atoms in files.frames]
    for number, atoms in enumerate(relaxed):
        atoms.rattle(0.01, seed=number)
    files.write_level("ccsdt.xyz", relaxed, files.high, files.forces)
    dataset = load_dataset(files.config(match="index"))
    np.testing.assert_allclose(dataset.energies["ccsdt"], files.high)
    files.write_level("ccsdt.xyz", relaxed[:5], files.high[:5], files.forces[:5])
    with pytest.raises(
        UserError, match=r"5 frames cannot be paired by index with 12 of 'dft'; set data.match=geometry"
    ):
        load_dataset(files.config(match="index"))


def test_crystal_found_by_symmetry_or_done_without(files: Any) -> None:
    declared, found, without = (
        load_dataset(files.config(crystal=crystal))
        for crystal in ({"prototype": "diamond", "species": ["C"], "a": 3.56}, "auto", None)
    )
    assert found.crystal is not None and found.crystal.n_basis == 2
    np.testing.assert_allclose(found.amplitudes(), declared.amplitudes(), atol=1e-6)
    assert without.crystal is None and without.matches is None
    assert np.corrcoef(without.amplitudes(), declared.amplitudes())[0, 1] > 0.95


def test_amplitudes_of_unlike_structures_are_zero(files: Any) -> None:
    frames = [files.frames[0], files.frames[1].repeat((2, 1, 1))]
    forces = [files.forces[0], np.tile(files.forces[1], (2, 1))]
    files.write_level("dft.xyz", frames, np.array([-72.0, -144.0]), forces)
    dataset = load_dataset(
        files.config(crystal=None, levels={"dft": {"file": "dft.xyz", "labels": ["energy", "forces"]}})
    )
    assert dataset.n_atoms.tolist() == [8, 16]
    assert dataset.amplitudes().tolist() == [0, 0]
