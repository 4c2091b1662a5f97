"""Labels by PySCF: the engine on cells of seconds, and label.py with kills, failures and the reader of data sets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

pytest.importorskip("pyscf", reason="labels need PySCF: pip install 'mlffx[labels]'")

from mlffx.data.assemble import load_files
from mlffx.errors import UserError
from mlffx.labels.engine import labels_of, mesh_integrals
from mlffx.labels.journal import Journal
from mlffx.labels.method import LEVELS, Method, checked_levels
from mlffx.labels.run import label

CHECKOUT = Path(__file__).resolve().parents[2]
SMALL = Method(basis="gth-szv", precision=1e-6, auxiliary_beta=2.5)
SETTINGS = {
    "name": "small",
    "method": {"basis": "gth-szv", "precision": 1e-6, "auxiliary_beta": 2.5},
    "levels": ["dft", "hf"],
    "workers": 1,
    "progress": False,
}


def hydrogen(distance: float = 0.78, box: float = 3.2) -> Atoms:
    return Atoms("H2", [[0.3, 0.2, 0.1], [0.3, 0.2, 0.1 + distance]], cell=[box] * 3, pbc=True)


def write_molecules(path: Path, distances: list[float]) -> Path:
    import ase.io

    ase.io.write(path, [hydrogen(d) for d in distances], format="extxyz")
    return path


def settings_for(tmp_path: Path, distances: list[float], **changes) -> dict:
    file = write_molecules(tmp_path / "molecules.xyz", distances)
    return SETTINGS | {"structures": {"kind": "file", "file": str(file)}, "output": str(tmp_path / "out")} | changes


def test_two_electrons_are_solved_exactly_by_ccsd():
    found = labels_of(hydrogen(), SMALL)
    assert list(found.energies) == list(LEVELS) and not found.unconverged
    assert found.energies["ccsd"] < found.energies["mp2"] < found.energies["hf"]
    assert found.energies["ccsdt"] == pytest.approx(found.energies["ccsd"], abs=1e-8)  # no triples in two electrons


def test_levels_that_are_not_asked_for_are_not_returned():
    found = labels_of(hydrogen(), SMALL, ("mp2",))
    assert list(found.energies) == ["mp2"] and not found.forces


def test_forces_are_the_derivative_of_the_energy():
    step, found = 5e-3, labels_of(hydrogen(), SMALL, ("dft",))
    energies = []
    for sign in (1, -1):
        moved = hydrogen()
        moved.positions[1, 2] += sign * step
        energies.append(labels_of(moved, SMALL, ("dft",), forces=False).energies["dft"])
    slope = -(energies[0] - energies[1]) / (2 * step)
    assert found.forces["dft"][1, 2] == pytest.approx(slope, abs=2e-3)
    assert np.abs(found.forces["dft"].sum(axis=0)).max() < 1e-3


def test_energy_does_not_depend_on_where_the_molecule_is():
    moved = hydrogen()
    moved.positions += [0.37, 0.11, 0.53]
    here, there = (labels_of(a, SMALL, forces=False).energies for a in (hydrogen(), moved))
    for level in LEVELS:
        assert there[level] == pytest.approx(here[level], abs=1e-4)  # eV: the egg-box of the grids


def test_integrals_of_the_mesh_are_those_that_fitting_approaches():
    exact = labels_of(hydrogen(), replace(SMALL, fitting="fft", mesh=45), LEVELS, forces=False)
    fitted = labels_of(hydrogen(), replace(SMALL, auxiliary_beta=1.8, mesh=45), LEVELS, forces=False)
    assert not exact.unconverged
    for level in LEVELS:
        assert exact.energies[level] == pytest.approx(fitted.energies[level], abs=0.02)  # eV, the error of the fit


@pytest.mark.parametrize("mesh", [[11, 13, 15], [12, 10, 14]])
def test_integrals_of_the_mesh_are_those_of_pyscf(mesh):
    from pyscf.pbc import df, gto

    cell = gto.M(a=[[3, 0, 0.4], [0, 3.2, 0], [0.1, 0, 3.4]], unit="A", atom="Li 0 0 0; H 1.6 0.1 0", mesh=mesh,
                 basis="gth-szv", pseudo="gth-pade", precision=1e-6, verbose=0)  # fmt: skip
    np.testing.assert_allclose(mesh_integrals(cell), df.FFTDF(cell).get_ao_eri(compact=True), atol=1e-12)


def test_unconverged_levels_are_marked_and_stop_what_builds_on_them():
    found = labels_of(hydrogen(), replace(SMALL, ccsd_cycles=1), LEVELS, forces=False)
    assert found.unconverged == ["ccsd", "ccsdt"] and list(found.energies) == ["dft", "hf", "mp2"]
    found = labels_of(hydrogen(), replace(SMALL, scf_cycles=1), ("hf", "mp2"))
    assert found.unconverged == ["hf", "mp2"] and not found.energies


def test_a_label_is_known_by_all_that_decides_it(tmp_path):
    journal, atoms = Journal(tmp_path), hydrogen()
    key = journal.key(atoms, SMALL, LEVELS, True)
    assert key == journal.key(atoms.copy(), replace(SMALL, memory=77), LEVELS, True)
    for other in (
        journal.key(hydrogen(0.79), SMALL, LEVELS, True),
        journal.key(atoms, replace(SMALL, precision=1e-7), LEVELS, True),
        journal.key(atoms, SMALL, ("hf",), True),
    ):
        assert other != key
    (tmp_path / f"{key}.json").write_text('{"energies": {"hf"')  # killed while it was written by something else
    assert journal.read(key) is None


def test_labels_go_through_the_reader_and_are_found_again(tmp_path, capsys):
    distances = [0.74, 0.78, 0.82]
    settings = settings_for(tmp_path, distances)
    done = label(settings, "test")
    assert done.structures == 3 and not done.left_out
    record = json.loads((tmp_path / "out" / "small.json").read_text())
    assert record["versions"]["pyscf"] and record["settings"]["method"]["basis"] == "gth-szv"
    levels = {
        "dft": {
            "file": "small.xyz",
            "energy_key": "energy_dft",
            "forces_key": "forces_dft",
            "labels": ["energy", "forces"],
        },
        "hf": {"file": "small.xyz", "energy_key": "energy_hf"},
    }
    dataset = load_files({"root": str(tmp_path / "out"), "levels": levels, "crystal": None})
    for index, distance in enumerate(distances):
        direct = labels_of(hydrogen(distance), SMALL, ("dft", "hf"))
        assert dataset.energies["hf"][index] == pytest.approx(direct.energies["hf"], abs=1e-6)
        assert dataset.forces["dft"][index] == pytest.approx(direct.forces["dft"], abs=1e-6)

    capsys.readouterr()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "finished").iterdir()}
    longer = settings_for(tmp_path, [*distances, 0.86])
    assert label(longer | {"collect": True}).structures == 3
    more = label(longer, "test")
    assert more.structures == 4 and "3 of 4 are there already" in capsys.readouterr().err
    assert all(p.stat().st_mtime_ns == time_ for p, time_ in before.items())


def test_unconverged_structures_are_left_out_by_name(tmp_path):
    method = SETTINGS["method"] | {"scf_cycles": 1}
    settings = settings_for(tmp_path, [0.78], method=method, levels=["hf"])
    with pytest.raises(UserError, match=r"no structure could be labelled .*file_0000: not converged"):
        label(settings)


def test_a_structure_the_engine_cannot_take_does_not_stop_the_others(tmp_path, capsys):
    import ase.io

    settings = settings_for(tmp_path, [0.78])
    odd = Atoms("H3", [[0, 0, 0], [0, 0, 0.8], [0, 0, 1.6]], cell=[3.2] * 3, pbc=True)
    ase.io.write(settings["structures"]["file"], [hydrogen(), odd], format="extxyz")
    done = label(settings)
    assert done.structures == 1 and list(done.left_out) == ["file_0001"]
    assert "1 left out: file_0001" in capsys.readouterr().out


@pytest.mark.slow
def test_terminated_labels_go_on_where_they_stopped(tmp_path):
    file = write_molecules(tmp_path / "molecules.xyz", list(np.linspace(0.7, 0.9, 4)))
    command = [sys.executable, "label.py", "structures=file", f"structures.file={file}", "name=small", "workers=1"]
    command += [f"output={tmp_path / 'out'}", "method.basis=gth-szv", "method.precision=1e-6", "levels=[dft,hf]"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.PIPE, text=True)
    finished = tmp_path / "out" / "finished"
    limit = time.monotonic() + 120
    while not list(finished.glob("*.json")) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "the same command goes on" in said and "Traceback" not in said
    first = len(list(finished.glob("*.json")))
    assert 1 <= first < 4 and not (tmp_path / "out" / "small.xyz").exists()
    again = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert f"{first} of 4 are there already" in again.stderr and "4 structures labelled" in again.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"levels": ["ccsd(t)"]}, "unknown level 'ccsd.t.'; did you mean"),
        ({"levels": []}, "no level is asked for"),
        ({"method": {"basis": "gth-dvz"}}, "gth-dvz"),
        ({"method": {"functional": "b3lyp"}}, "unknown functional 'b3lyp'"),
        ({"method": {"precision": 1.0}}, "method.precision: 1 is no threshold"),
        ({"method": {"bassis": "gth-szv"}}, "did you mean 'basis'"),
        ({"workers": -1}, "workers"),
        ({"structures": {"kind": "file", "file": "missing.xyz"}}, "no such file 'missing.xyz'"),
        ({"structures": {"kind": "termal"}}, "did you mean 'thermal'"),
        ({"structures": {"kind": "displaced", "cuont": 3}}, "did you mean 'count'"),
        ({"structures": {"kind": "displaced", "count": 3}}, "crystal: is missing"),
    ],
)
def test_mistakes_are_told_in_one_line_before_work_starts(tmp_path, change, said):
    with pytest.raises(UserError, match=said) as told:
        label(settings_for(tmp_path, [0.78]) | change)
    assert "\n" not in str(told.value) and not (tmp_path / "out" / "finished").exists()


def test_levels_come_in_the_order_they_build_on_each_other():
    assert checked_levels(["ccsdt", "dft"]) == ("dft", "ccsdt") and checked_levels("hf") == ("hf",)
