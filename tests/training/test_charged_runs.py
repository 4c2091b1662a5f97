"""Runs whose potential carries charges, from the command line to a file that loads."""

import json

import pytest

from mlffx.potentials.build import load_potential
from mlffx.potentials.charge_aware import ChargeAwarePotential

IONS = [
    "data=ionic_twin",
    "data.n_frames=24",
    "data.validation_size=4",
    "data.test_size=4",
    "logger=csv",
    "trainer.progress=false",
    "potential=charge_aware",
    "electrostatics=fixed",
    "electrostatics.charges={Li: 0.4, H: -0.4}",
    "electrostatics.fit=true",
]


def charged(run) -> ChargeAwarePotential:
    potential = load_potential(next(run.rglob("best.ckpt")))
    assert isinstance(potential, ChargeAwarePotential)
    return potential


def test_force_constants_with_charges_are_fitted_in_closed_form(train):
    run = train(*IONS, "level=low", "model=force_constants", "model.cutoff=3.6", "model.angle_orders=[]")
    charges = charged(run).electrostatics.charges
    assert charges.abs().max().item() == pytest.approx(0.52, rel=0.05)  # 16 frames with forces
    assert json.loads(next(run.rglob("metrics.json")).read_text())


def test_a_network_starts_where_the_labels_are(train):
    """Without centred offsets the first epochs would be tens of eV off: the Coulomb energy of the rest."""
    run = train(*IONS, "level=low", "model=painn", "model.n_hidden=8", "model.cutoff=3.0", "trainer.max_epochs=2")
    assert charged(run).electrostatics.charges.abs().max().item() == pytest.approx(0.4, abs=0.1)
    metrics = json.loads(next(run.rglob("metrics.json")).read_text())
    assert metrics["test_energy_rmse_meV_per_atom"] < 50


def test_charges_that_do_not_fit_the_data_are_told_before_work_starts(complaint):
    arguments = [a for a in IONS if not a.startswith("electrostatics.charges")]
    assert "need a charge for each element" in complaint(*arguments, "level=low", "model=force_constants")
    assert "no element 'Na'" in complaint(
        *arguments, "level=low", "electrostatics.charges={Na: 1, H: -1}", "model=painn"
    )
