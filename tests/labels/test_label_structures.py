"""Structures to label: ladders, thermal displacements, frozen phonons. No electronic structure here."""

from __future__ import annotations

import numpy as np
import pytest

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.labels.engine import Label
from mlffx.labels.structures import Site, build_structures, ladder
from mlffx.labels.write import write_extxyz
from mlffx.lattice.force_constants import conventional_matrix, finite_displacement
from mlffx.lattice.phonons import Phonons
from mlffx.potentials.batched import evaluate_atoms, in_double
from mlffx.potentials.build import build_potential
from mlffx.units import KB_EV, THZ_TO_CM1

SPRING = {
    "kind": "analytic",
    "depth": 2.68,
    "steepness": 1.673,
    "bond": 1.593,
    "angle": 1.62,
    "stretch": 1.016,
    "tail": 1.18,
    "tail_centre": 1.656,
}


@pytest.fixture(scope="module")
def potential():
    return in_double(build_potential(SPRING))


@pytest.fixture(scope="module")
def site(potential):
    crystal = Crystal.from_prototype("diamond", ["C"], 3.56)

    def forces(structures):
        return evaluate_atoms(potential, [atoms for _, atoms in structures], forces=True).forces

    return Site(crystal, conventional_matrix(crystal, 1), forces)


def test_any_first_part_of_a_ladder_covers_it():
    for count in (10, 20, 55, 160):
        filled, _ = np.histogram([ladder(i) for i in range(count)], bins=5, range=(0, 1))
        assert filled.min() >= 0.7 * count / 5 and ladder(0) == 0


@pytest.mark.parametrize("kind", ["thermal", "displaced"])
def test_a_longer_set_begins_with_the_shorter(site, kind):
    short, long = (build_structures({"kind": kind, "count": n}, site) for n in (3, 6))
    for a, b in zip(short, long, strict=False):
        assert np.array_equal(a.positions, b.positions) and a.info == b.info
    assert site.crystal.match(short[0]).displacements == pytest.approx(0.0, abs=1e-12)


def test_every_mode_holds_half_kt(site, potential):
    """Harmonic energy of the structures over kT/2, averaged, is the number of modes: 24 - 3."""
    frames = build_structures({"kind": "thermal", "count": 300, "temperature": 40.0}, site)
    energies = evaluate_atoms(potential, frames, forces=False).energies
    kelvin = np.array([atoms.info["temperature"] for atoms in frames])
    warm = kelvin > 0.5  # the temperature in the file has three digits
    modes = (energies - energies[0])[warm] / (0.5 * KB_EV * kelvin[warm])
    assert modes.mean() == pytest.approx(21, abs=4 * np.sqrt(2 * 21 / warm.sum()))


@pytest.mark.parametrize("label", ["GAMMA", "X"])
def test_frozen_modes_have_the_curvature_of_the_phonons(site, potential, label):
    """M w^2 = d2E/dA2 along each pattern, at a point inside and at the border of the Brillouin zone."""
    step = 0.01
    options = {"kind": "frozen", "qpoints": [label], "amplitudes": [-step, step]}
    frames = build_structures(options, site)
    energies = evaluate_atoms(potential, frames, forces=False).energies
    exact = Phonons(finite_displacement(potential, site.crystal, site.matrix))
    for k in range(1, len(frames), 2):
        pattern = site.crystal.match(frames[k + 1]).displacements / step
        mass = 12.011 * (pattern**2).sum() * 103.6426965638
        omega = np.sqrt((energies[k] + energies[k + 1] - 2 * energies[0]) / step**2 / mass)
        assert np.linalg.norm(pattern, axis=1).max() == pytest.approx(1, abs=1e-6)
        wanted = frames[k].info["frequency_dft"]
        assert omega * 1e3 * THZ_TO_CM1 / (2 * np.pi) == pytest.approx(wanted, rel=5e-3)
    assert exact.n_modes * 2 - (6 if label == "GAMMA" else 0) == len(frames) - 1


def test_a_point_the_supercell_does_not_repeat_is_refused(site):
    with pytest.raises(UserError, match="does not repeat L"):
        build_structures({"kind": "frozen", "qpoints": ["L"]}, site)


def test_what_came_with_a_structure_stays_with_it(site, tmp_path):
    import ase.io

    (atoms,) = build_structures({"kind": "displaced", "count": 1}, site)
    atoms.info = {"name": "one", "settle": "force", "settle_block": "X TA TO", "settle_configuration": 3, "width": 0.5}
    ase.io.write(tmp_path / "in.xyz", [atoms], format="extxyz")
    (found,) = build_structures({"kind": "file", "file": str(tmp_path / "in.xyz")}, site)
    write_extxyz(tmp_path / "out.xyz", [("one", found, Label({"dft": -1.5}))], ("dft",))
    assert ase.io.read(tmp_path / "out.xyz").info == atoms.info | {"energy_dft": -1.5}


def test_names_in_a_file_must_differ(site, tmp_path):
    import ase.io

    frames = build_structures({"kind": "displaced", "count": 2}, site)
    for atoms in frames:
        atoms.info["name"] = "same"
    ase.io.write(tmp_path / "two.xyz", frames, format="extxyz")
    with pytest.raises(UserError, match="same name"):
        build_structures({"kind": "file", "file": str(tmp_path / "two.xyz")}, site)
