"""The tables hold what the papers say, and refuse what is incomplete."""

from __future__ import annotations

import pytest
import yaml

from mlffx.errors import UserError
from mlffx.lattice.isotopes import masses_of
from mlffx.references import COMPOSITIONS, materials, read_reference, reference
from mlffx.units import THZ_TO_CM1


def test_diamond_experiment():
    table = reference("diamond")
    raman = table.one(quantity="frequency", label="GAMMA", kind="experiment", temperature=300)
    assert (raman.value, raman.sigma, raman.grade, raman.isotope) == (1332.5, 0.5, "A", "natural")
    assert raman.q == (0.0, 0.0, 0.0) and "Solin" in raman.source
    neutron = table.select(kind="experiment", method="neutron scattering", label="X")
    assert {m.branch: m.value for m in neutron} == {"TA": 807, "TO": 1072, "LA": 1184}
    assert neutron[0].sigma == pytest.approx(0.015 * 807) and neutron[0].q == (1.0, 0.0, 0.0)
    shift, harmonic = table.one(quantity="anharmonic_shift"), table.one(quantity="harmonic_frequency")
    assert harmonic.value == pytest.approx(raman.value + shift.value)
    assert {m.label: m.value for m in table.select(quantity="elastic_constant")} == {
        "c11": 1080.4,
        "c12": 127,
        "c44": 576.6,
    }
    assert {m.value for m in table.baseline("ccsdt") if m.label == "GAMMA"} == {1345, 1363, 1368}
    assert {m.level for m in table.select(kind="calculation", quantity="frequency")} == {"LDA", "PBE"}


def test_lithium_hydride_and_the_shell_model():
    table = reference("lih")
    assert table.one(quantity="epsilon_inf", isotope="natural").value == 3.61
    assert sum(m.value for m in table.select(quantity="born_charge")) == 0
    model = table.frequencies("7LiD", kinds=("model_of_experiment",))
    assert "model" in model[0].method
    x = {m.branch: m.value for m in model if m.q == (1.0, 0.0, 0.0)}
    assert x == pytest.approx({"TA": 289, "LA": 397, "TO": 590, "LO": 671}, abs=1)
    point = {m.branch: m.value for m in model if m.label == "L"}
    assert point == pytest.approx({"TA": 248, "LA": 582, "TO": 531, "LO": 686}, abs=1)
    assert next(m.value for m in model if m.label == "GAMMA" and m.branch == "LO") == pytest.approx(24.47 * THZ_TO_CM1)
    assert {m.branch for m in model if m.label == "K"} == {f"mode_{k}" for k in range(1, 7)}
    assert all(0.03 <= m.sigma / m.value <= 0.05 for m in model)
    assert table.isotopes() == ["natural", "LiD", "7LiD", "7LiH"]


@pytest.mark.parametrize("material", materials())
def test_every_record_is_complete(material):
    table = reference(material)
    numbers = {"diamond": [6, 6], "lih": [3, 1], "boron_nitride": [5, 7]}[material]
    for m in table.measurements:
        assert m.source and m.method and m.grade in "ABC"
        if m.kind == "experiment" and m.quantity == "frequency":
            assert m.sigma and m.temperature is not None and m.q is not None
        assert len(masses_of(numbers, COMPOSITIONS[m.isotope])) == 2


def test_selection_mistakes_have_remedies():
    with pytest.raises(UserError, match="did you mean 'diamond'"):
        reference("diamont")
    with pytest.raises(UserError, match="did you mean 'quantity'"):
        reference("diamond").select(quantty="frequency")
    with pytest.raises(UserError, match="records of diamond fit"):
        reference("diamond").one(quantity="frequency")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"branch": "XY"}, "a frequency needs"),
        ({"value": -3}, "a frequency needs"),
        ({"value": "many"}, "give numbers"),
        ({"sigma": None}, "without an uncertainty"),
        ({"temperature": None}, "without a temperature"),
        ({"source": "nobody"}, "not declared"),
        ({"isotope": "3He"}, "unknown isotope"),
        ({"sgima": 1}, "unknown key 'sgima'"),
        ({"grade": "Z"}, "unknown grade"),
    ],
)
def test_wrong_entries_are_refused(tmp_path, change, message):
    entry = {"label": "X", "branch": "TA", "value": 800, "sigma": 8}
    group = {"kind": "experiment", "quantity": "frequency", "unit": "cm-1", "source": "s", "method": "m", "grade": "A"}
    content = {
        "material": "test",
        "structure": {"prototype": "diamond", "species": ["C"]},
        "points": {"X": [1, 0, 0]},
        "sources": {"s": "A. Author (1999)"},
        "sets": [group | {"temperature": 300, "values": [entry]}],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(content))
    assert read_reference(path).measurements[0].value == 800
    entry.update(change)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        read_reference(path)
