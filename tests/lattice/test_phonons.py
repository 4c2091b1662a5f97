"""Frequencies, densities of states and thermodynamics against analytic results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from springs import Springs, diamond, rocksalt

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.lattice import force_constants as fc
from mlffx.lattice import paths
from mlffx.lattice.branches import branch_frequencies, labelled_frequencies
from mlffx.lattice.isotopes import isotope_label, masses_of
from mlffx.lattice.nac import Nac, build_nac, consistency, isotropic, plasma_frequency
from mlffx.lattice.phonons import Phonons, reduced_mass_ratio
from mlffx.potentials.charge_aware import with_charges
from mlffx.units import AMU_A2_FS2_TO_EV, THZ_TO_CM1


def to_cm1(spring_over_mass: float) -> float:
    """sqrt(k/m) in eV/A^2/amu -> cm-1."""
    return math.sqrt(spring_over_mass / AMU_A2_FS2_TO_EV) / (2 * math.pi) * 1e3 * THZ_TO_CM1


@pytest.fixture(scope="module")
def carbon() -> Phonons:
    springs, crystal = diamond()
    return Phonons(fc.autodiff(springs, crystal, 4))


@pytest.fixture(scope="module")
def hydride() -> fc.ForceConstants:
    springs, crystal = rocksalt()
    return fc.autodiff(springs, crystal, 4)


def polar(crystal: Crystal, method: str = "gonze") -> Nac:
    return isotropic(crystal, {3: 1.0, 1: -1.0}, 3.61, "Z* = 1, eps 3.61", method)


def test_diatomic_chain():
    a, k, m, n = 4.0, 5.0, 7.0, 1.0
    crystal = Crystal(np.diag([a, 9.0, 9.5]), np.array([[0.0, 0, 0], [0.5, 0, 0]]), np.array([3, 1]))
    constants = fc.finite_displacement(Springs([(a / 2, k)]), crystal, [6, 1, 1])
    phonons = Phonons(constants, masses=[m, n])
    q = np.linspace(0, 0.5, 7)
    found = phonons.frequencies(np.stack([q, 0 * q, 0 * q], axis=1))
    plus, product = 1 / m + 1 / n, 4 * np.sin(np.pi * q) ** 2 / (m * n)
    optical = [to_cm1(k * (plus + root)) for root in np.sqrt(plus**2 - product)]
    acoustic = [to_cm1(k * max(plus - root, 0.0)) for root in np.sqrt(plus**2 - product)]
    np.testing.assert_allclose(found[:, -1], optical, rtol=1e-6)
    np.testing.assert_allclose(np.sort(found, axis=1)[1:, -2], acoustic[1:], rtol=1e-6)
    np.testing.assert_allclose(np.abs(found[:, :4]), 0, atol=0.1)  # nothing holds the chain sideways


def test_gamma_of_diamond_and_rocksalt(carbon, hydride):
    assert carbon.frequencies([0, 0, 0])[0, -1] == pytest.approx(to_cm1(8 / 3 * 20.0 / 12.011), rel=1e-6)
    mu = 1 / (1 / 6.94 + 1 / 1.008)
    assert Phonons(hydride).frequencies([0, 0, 0])[0, -1] == pytest.approx(to_cm1(2 * 4.0 / mu), rel=1e-6)
    assert np.abs(carbon.frequencies([0, 0, 0])[0, :3]).max() < 1e-3


def test_isotopes_scale_with_the_reduced_mass(hydride):
    numbers = hydride.crystal.numbers
    heavy = masses_of(numbers, {"Li": "7Li", "H": "D"})
    light = Phonons(hydride)
    ratio = light.frequencies([0, 0, 0])[0, -1] / light.with_masses(heavy, "7LiD").frequencies([0, 0, 0])[0, -1]
    assert ratio == pytest.approx(reduced_mass_ratio(light.masses, heavy), rel=1e-9)
    assert 1.30 < ratio < 1.35
    assert isotope_label(numbers, {"Li": "7Li", "H": "D"}) == "7LiD"
    assert isotope_label(numbers, {}) == "natural"
    for wrong, message in (({"H": "13C"}, "no isotope of H"), ({"He": "natural"}, "no He"), ({"H": "T5"}, "unknown")):
        with pytest.raises(UserError, match=message):
            masses_of(numbers, wrong)


@pytest.mark.parametrize("method", ["gonze", "wang"])
def test_lo_to_splitting(hydride, method):
    nac = polar(hydride.crystal, method)
    phonons = Phonons(hydride, nac=nac)
    plasma = plasma_frequency(hydride.crystal, nac, phonons.masses)
    assert plasma == pytest.approx(977, abs=1)
    for direction in ((1, 0, 0), (1, 1, 0), (0.3, -0.2, 0.7)):
        found = phonons.frequencies([0, 0, 0], nac_direction=direction)[0]
        assert found[5] ** 2 == pytest.approx(found[4] ** 2 + plasma**2, rel=1e-5)
        assert found[3] == pytest.approx(found[4], rel=1e-9)
    # Commensurate points do not feel the term; next to Gamma the LO branch goes on where the direction left it.
    np.testing.assert_allclose(
        phonons.frequencies([0.5, 0.5, 0.5]), Phonons(hydride).frequencies([0.5, 0.5, 0.5]), rtol=1e-6
    )
    along = phonons.frequencies([[0, 1e-3, 1e-3]])[0]
    assert along[5] == pytest.approx(found[5], rel=1e-3)


def test_model_charges_are_compared_with_the_table(hydride):
    nac = polar(hydride.crystal)
    assert consistency(nac, np.array([1.0, -1.0]) / math.sqrt(3.61)) == (pytest.approx(0, abs=1e-12), "")
    disagreement, message = consistency(nac, np.array([1.0, -1.0]))
    assert disagreement == pytest.approx(2.61)
    assert "q^2 = 1.000" in message and "phonons.nac=model" in message
    table, messages = build_nac("reference", hydride.crystal, "lih")
    assert table is not None and "3.61" in table.source and messages == []
    assert build_nac("none", hydride.crystal) == (None, [])
    for arguments, message in (
        (("modle", hydride.crystal), "did you mean 'model'"),
        (("model", hydride.crystal), "no charges"),
        (("reference", hydride.crystal, "diamond"), "no Born charges"),
        (("reference", hydride.crystal, "nacl"), "no reference values"),
    ):
        with pytest.raises(UserError, match=message):
            build_nac(*arguments)


def test_model_charges_interpolate_exactly():
    """Springs plus Ewald charges: with their own Born charges a small supercell gives what a larger one computes."""
    springs, crystal = rocksalt()
    charged = with_charges(springs, {"name": "fixed", "charges": {"Li": 0.5, "H": -0.5}, "cutoff": 4.0}, [1, 3])
    small, large = fc.autodiff(charged, crystal, 3), fc.autodiff(charged, crystal, 4)
    nac, messages = build_nac("model", crystal, potential=charged)
    assert nac is not None and messages == []
    q = [[0.25, 0.25, 0.0], [0.25, 0.0, 0.5], [0.25, 0.25, 0.25]]
    exact = Phonons(large).frequencies(q)
    np.testing.assert_allclose(Phonons(small, nac=nac).frequencies(q), exact, atol=0.5)
    assert np.abs(Phonons(small).frequencies(q) - exact).max() > 5  # the dipolar tail, cut by the supercell
    split = branch_frequencies(Phonons(small, nac=nac), [0, 0, 0])
    plasma = plasma_frequency(crystal, nac, masses_of(crystal.numbers))
    assert split["LO"] ** 2 == pytest.approx(split["TO"] ** 2 + plasma**2, rel=1e-5)
    _, messages = build_nac("reference", crystal, "lih", charged)
    assert "q^2 = 0.250" in messages[0]


def test_born_charges_that_do_not_sum_to_zero_leave_acoustic_modes_alone(hydride):
    born = np.array([1.1 * np.eye(3), -0.9 * np.eye(3)])
    nac = Nac(born, 3.61 * np.eye(3), "not neutral")
    assert nac.violation == pytest.approx(0.2)
    assert np.abs(Phonons(hydride, nac=nac).frequencies([0, 0, 0], nac_direction=(1, 0, 0))[0, :3]).max() < 1e-2


def test_density_of_states_counts_every_mode(hydride):
    phonons = Phonons(hydride, nac=polar(hydride.crystal))
    dos = phonons.dos(mesh=15)
    assert dos.integral() == pytest.approx(6, abs=0.05)
    for element in ("Li", "H"):
        assert np.trapezoid(dos.projected[element], dos.frequency) == pytest.approx(3, abs=0.03)
    np.testing.assert_allclose(sum(dos.projected.values()), dos.total, atol=1e-10)
    # The second moment of the projected density is the Einstein frequency Phi_ii / m, whatever the other masses are.
    onsite = phonons.force_constants.values[1, phonons.force_constants.rows[1]]
    bare = Phonons(hydride).dos(mesh=15)
    second = np.trapezoid(bare.projected["H"] * bare.frequency**2, bare.frequency) / 3
    assert math.sqrt(second) == pytest.approx(to_cm1(onsite[0, 0] / 1.008), rel=2e-3)


def test_irreducible_and_full_meshes_agree(hydride):
    irreducible = Phonons(hydride)
    full = Phonons(fc.replace(hydride, symmetrised=False))
    one, all_ = irreducible.dos(mesh=9, pitch=5.0), full.dos(mesh=9, pitch=5.0)
    np.testing.assert_allclose(one.projected["Li"], all_.projected["Li"], atol=2e-3 * all_.total.max())


def test_thermodynamics(carbon):
    thermal = carbon.thermal([0.0, 300.0, 4000.0], mesh=11)
    assert thermal.heat_capacity[0] == 0 and thermal.entropy[0] == 0
    assert thermal.free_energy[0] == pytest.approx(thermal.zero_point_energy)
    assert thermal.heat_capacity[2] == pytest.approx(3.0, rel=0.02)
    dos = carbon.dos(mesh=21)
    mean = np.trapezoid(dos.total * dos.frequency, dos.frequency) / 2 / 2  # cm-1 per atom: half a quantum each
    assert thermal.zero_point_energy == pytest.approx(mean * 0.12398419843320026, rel=0.01)


def test_bands_pass_through_the_labelled_points(carbon):
    bands = carbon.bands(21)
    assert bands.labels[0][1] == "GAMMA" and any("|" in name for _, name in bands.labels)
    assert (np.diff(bands.distance) > -1e-12).all()
    assert bands.segments[-1][1] == len(bands.distance)
    x = next(d for d, name in bands.labels if name == "X")
    at_x = bands.frequencies[np.flatnonzero(np.isclose(bands.distance, x))[0]]
    np.testing.assert_allclose(at_x, carbon.frequencies(paths.point(carbon.crystal, "X"))[0], atol=1e-6)


def test_imaginary_modes_are_listed():
    a = 3.56
    soft = Springs([(a * 3**0.5 / 4, 20.0), (a / 2**0.5, -2.0)])
    crystal = Crystal.from_prototype("diamond", ["C"], a)
    phonons = Phonons(fc.autodiff(soft, crystal, 3))
    found = phonons.imaginary(mesh=6)
    assert found and found[0]["frequency_cm1"] < -5
    assert phonons.frequencies(found[0]["q"])[0, found[0]["mode"]] == pytest.approx(found[0]["frequency_cm1"])
    assert phonons.dos(mesh=11).frequency[0] < 0


def test_primitive_cell_and_orientation_do_not_matter(carbon):
    springs, crystal = diamond()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    change = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]])
    other = Crystal(change @ crystal.cell @ turn, crystal.scaled_positions @ np.linalg.inv(change), crystal.numbers)
    phonons = Phonons(fc.autodiff(springs, other, fc.conventional_matrix(other, 2)))
    same = Phonons(fc.autodiff(springs, crystal, fc.conventional_matrix(crystal, 2)))
    for label, named in labelled_frequencies(same).items():
        assert labelled_frequencies(phonons)[label] == pytest.approx(named, abs=1e-4)
    delta = paths.to_primitive(other, (0.5, 0, 0))
    np.testing.assert_allclose(paths.from_primitive(other, delta), (0.5, 0, 0), atol=1e-9)
    assert branch_frequencies(phonons, delta) == pytest.approx(
        branch_frequencies(same, paths.to_primitive(crystal, (0.5, 0, 0))), abs=1e-4
    )


@pytest.mark.parametrize(("prototype", "species"), [("zincblende", "BN"), ("rocksalt", ["Li", "H"]), ("diamond", "C")])
def test_the_conventional_cell_of_a_cubic_crystal_lies_along_the_axes(prototype, species):
    crystal = Crystal.from_prototype(prototype, list(species), 3.6157)
    np.testing.assert_allclose(fc.conventional_matrix(crystal, 1) @ crystal.cell, 3.6157 * np.eye(3), atol=1e-12)


def test_commensurate_points_and_protocol(carbon):
    assert carbon.commensurate(paths.point(carbon.crystal, "L"))
    springs, crystal = diamond()
    flat = Phonons(fc.finite_displacement(springs, crystal, fc.conventional_matrix(crystal, (2, 2, 1))))
    assert flat.commensurate(paths.to_primitive(crystal, (1, 0, 0)))
    assert not flat.commensurate(paths.to_primitive(crystal, (0.5, 0.5, 0.5)))  # the cell of the diamond labels
    protocol = flat.protocol().to_dict()
    assert protocol["lattice_constant"] == pytest.approx(3.56)
    assert protocol["supercell_atoms"] == 32 and protocol["displacement"] == 0.01 and protocol["nac"] == "none"
    assert set(protocol["raw_violations"]) >= {"acoustic_sum_rule", "permutation", "space_group"}
    assert protocol["masses"] == [12.011, 12.011] and "phonopy" in protocol["versions"]
