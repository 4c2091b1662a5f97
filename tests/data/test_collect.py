"""A tree of calculations becomes one labelled file: names, joins, convergence, units, corrections."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import units
from ase.io import read, write
from test_vasp_outputs import IonicStep, crystals

from mlffx.compose import composed, plain
from mlffx.data.__main__ import main
from mlffx.data.cc4s import read_correlation
from mlffx.data.dataset import load_dataset
from mlffx.data.tree import find
from mlffx.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from outputs import write_cc4s, write_cp2k, write_outcar, write_vasprun

N = 12  # so that 10 and 11 would come before 2 if names were sorted as text


def hf(k: int) -> float:
    return -16.0 + 0.1 * k


def ccsdt(k: int) -> float:
    return hf(k) + ccsd(k) - 0.05


def ccsd(k: int) -> float:
    return -1.4 - 0.002 * k


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """calc/K/{vasprun.xml,hf/OUTCAR,cc/cc4s.out.yaml} for K = 1 ... N."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for k, atoms in enumerate(crystals(N), start=1):
        place = tmp_path / "calc" / str(k)
        step = IonicStep(atoms, -24.5 + 0.1 * k, rng.normal(size=(8, 3)))
        write_vasprun(place / "vasprun.xml", [step])
        write_outcar(place / "hf" / "OUTCAR", [IonicStep(atoms, hf(k), rng.normal(size=(8, 3)))])
        write_cc4s(place / "cc" / "cc4s.out.yaml", -1.2, ccsd(k), -0.05)
    return tmp_path


def run(*arguments: str) -> int:
    return main(["collect", *arguments])


def dft() -> int:
    return run("calc/*/vasprun.xml", "--level", "dft", "--out", "dft.xyz", "--data", "own.yaml")


def hartree_fock() -> int:
    return run("calc/*/hf/OUTCAR", "--level", "hf", "--out", "hf.xyz", "--labels", "energy", "--data", "own.yaml")


def coupled_cluster(*more: str) -> int:
    return run("calc/*/cc/cc4s.out.yaml", "--level", "ccsdt", "--structures", "dft.xyz", "--out", "cc.xyz", *more)


def test_three_levels_of_one_tree(tree: Path, capsys: pytest.CaptureFixture) -> None:
    assert dft() == 0 and hartree_fock() == 0
    assert coupled_cluster("--reference", "hf.xyz", "--data", "own.yaml") == 0
    printed = capsys.readouterr().out
    assert "12 structures with energy and forces: dft.xyz" in printed and "12 structures with energy: cc.xyz" in printed
    dataset = load_dataset(plain(composed("train", ["data=own.yaml"]))["data"])
    assert dataset.low == "dft" and len(dataset) == N and dataset.crystal is not None
    np.testing.assert_allclose(dataset.energies["dft"], [-24.5 + 0.1 * k for k in range(1, N + 1)], atol=1e-8)
    np.testing.assert_allclose(dataset.energies["ccsdt"], [ccsdt(k) for k in range(1, N + 1)], atol=1e-6)
    assert "hf" in dataset.forces or dataset.levels["hf"].labels == ("energy",)
    # the block that was printed last is the file
    assert yaml.safe_load(printed[printed.rindex("# own.yaml") :]) == yaml.safe_load(Path("own.yaml").read_text())


def test_the_data_file_trains_from_any_directory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dft() == 0
    elsewhere = tree / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    overrides = ["data=../own.yaml", "level=declared", "level.name=dft", "data.train_size=5", "data.name=other"]
    config = plain(composed("train", overrides))["data"]
    assert config["train_size"] == 5 and config["name"] == "other" and len(load_dataset(config)) == N
    with pytest.raises(UserError, match=r"no such file 'own\.yaml'"):
        composed("train", ["data=own.yaml"])
    (elsewhere / "bad.yaml").write_text("kind: twin\n")
    with pytest.raises(UserError, match="kind: files"):
        composed("train", ["data=bad.yaml"])


def test_what_is_not_converged_is_named_and_left_out_only_on_demand(tree: Path, capsys: pytest.CaptureFixture) -> None:
    write_cc4s(Path("calc/3/cc/cc4s.out.yaml"), -1.2, -1.4, -0.05, converged=False)
    write_cc4s(Path("calc/7/cc/cc4s.out.yaml"), -1.2, -1.4, None)
    assert dft() == 0 and hartree_fock() == 0
    assert coupled_cluster("--reference", "hf.xyz") == 2
    out, err = capsys.readouterr()
    assert "'7': it has no ccsdt energy" in out
    assert "error: calc/3/cc/cc4s.out.yaml:" in err and "not converged (convergenceReached: 0)" in err
    assert "(2 of 12 calculations cannot be used)" in err and len(err.splitlines()) == 1
    assert not Path("cc.xyz").exists()
    assert coupled_cluster("--reference", "hf.xyz", "--bad-frames", "drop") == 0
    assert "10 structures with energy, 2 left out" in capsys.readouterr().out
    names = [str(image.info["name"]) for image in read("cc.xyz", ":")]
    assert names == [str(k) for k in range(1, N + 1) if k not in (3, 7)]


def test_an_unconverged_dft_calculation(tree: Path, capsys: pytest.CaptureFixture) -> None:
    step = IonicStep(crystals(1)[0], -24.5, np.zeros((8, 3)), loop=[-24.0, -24.5])
    write_vasprun(Path("calc/5/vasprun.xml"), [step], nelm=2)
    Path("calc/6/vasprun.xml").write_text("<?xml version='1.0'?>\n<modeling>\n")
    assert dft() == 2
    assert "calc/5/vasprun.xml:" in (err := capsys.readouterr().err) and "NELM = 2" in err and "2 of 12" in err
    assert run("calc/*/vasprun.xml", "--level", "dft", "--out", "dft.xyz", "--bad-frames", "drop") == 0
    assert len(read("dft.xyz", ":")) == N - 2
    assert hartree_fock() == 0 and coupled_cluster("--reference", "hf.xyz") == 2
    assert "'5': dft.xyz has no structure of its name" in capsys.readouterr().err
    assert coupled_cluster("--reference", "hf.xyz", "--bad-frames", "drop") == 0
    assert [image.info["name"] for image in read("cc.xyz", ":")][3:6] == [4, 7, 8]


def test_correlation_needs_what_it_stands_on(tree: Path, capsys: pytest.CaptureFixture) -> None:
    assert dft() == 0
    assert coupled_cluster() == 2
    assert "--reference: Cc4s writes correlation energies" in capsys.readouterr().err
    assert coupled_cluster("--reference", "none") == 0
    energies = [image.get_potential_energy() for image in read("cc.xyz", ":")]
    np.testing.assert_allclose(energies, [ccsd(k) - 0.05 for k in range(1, N + 1)], atol=1e-6)
    assert run("calc/*/cc/*.yaml", "--level", "ccsdt", "--out", "cc.xyz", "--reference", "none") == 2
    assert "--structures: cc4s output has no structures" in capsys.readouterr().err


def test_structures_beside_the_outputs(tree: Path, capsys: pytest.CaptureFixture) -> None:
    for k, atoms in enumerate(crystals(N), start=1):
        write(f"calc/{k}/POSCAR", atoms, format="vasp", direct=True)
    given = ("calc/*/cc/cc4s.out.yaml", "--level", "mp2", "--reference", "none", "--out", "mp2.xyz")
    assert run(*given, "--structures", "../POSCAR") == 0
    for image, atoms in zip(read("mp2.xyz", ":"), crystals(N), strict=True):
        np.testing.assert_allclose(image.positions, atoms.positions, atol=1e-7)
        assert image.get_potential_energy() == pytest.approx(-1.2, abs=1e-6)
    assert run(*given, "--structures", "POSCAR") == 2
    assert "calc/1/cc/POSCAR: no such file" in capsys.readouterr().err


def test_hartree_fock_of_another_structure(tree: Path, capsys: pytest.CaptureFixture) -> None:
    atoms = crystals(4)[3]
    atoms.positions[2, 0] += 0.05
    write_outcar(Path("calc/4/hf/OUTCAR"), [IonicStep(atoms, hf(4), np.zeros((8, 3)))])
    assert dft() == 0 and hartree_fock() == 0
    assert "no frame of 'dft' has this geometry" in capsys.readouterr().out  # told when the set is put together
    assert coupled_cluster("--reference", "hf.xyz") == 2
    assert "'4': its structure is 0.0" in (err := capsys.readouterr().err) and "off that of its Hartree-Fock" in err


def test_names_keep_their_zeros(tree: Path) -> None:
    for k in range(1, N + 1):
        Path(f"calc/{k}").rename(f"calc/{k:03d}")
    assert dft() == 0 and hartree_fock() == 0 and coupled_cluster("--reference", "hf.xyz") == 0
    energies = [image.get_potential_energy() for image in read("cc.xyz", ":")]
    np.testing.assert_allclose(energies, [ccsdt(k) for k in range(1, N + 1)], atol=1e-6)


def test_names_that_do_not_meet(tree: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("calc/*/vasprun.xml", "--level", "dft", "--out", "dft.xyz") == 0
    assert (
        run(
            "*/*/cc/cc4s.out.yaml", "--level", "mp2", "--reference", "none", "--structures", "dft.xyz", "--out", "m.xyz"
        )
        == 2
    )
    told = "dft.xyz: its structures have the names '1', '2', '3', '4', '5'..., the outputs 'calc/1', 'calc/2',"
    assert told in capsys.readouterr().err


def test_molecular_dynamics_in_one_file(tmp_path: Path) -> None:
    steps = [IonicStep(atoms, -24.5, np.zeros((8, 3))) for atoms in crystals(3)]
    write_vasprun(tmp_path / "md" / "vasprun.xml", steps)
    out = tmp_path / "dft.xyz"
    assert run(str(tmp_path / "md" / "vasprun.xml"), "--level", "dft", "--out", str(out)) == 0
    assert [image.info["name"] for image in read(out, ":")] == ["md#0", "md#1", "md#2"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a/*/x.out", ["1", "2", "10"]),
        ("*/*/x.out", ["a/1", "a/2", "a/10"]),
        ("./a/[12]/x.*", ["1/out", "2/out"]),
        ("**/x.out", ["a/1", "a/2", "a/10"]),
        ("a/?/*.out", ["1/x", "2/x"]),
    ],
)
def test_names_are_what_the_wildcards_stand_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for k in (1, 2, 10):
        (tmp_path / "a" / str(k)).mkdir(parents=True)
        (tmp_path / "a" / str(k) / "x.out").touch()
    assert [name for name, _ in find([pattern])] == names
    files = [str(path) for _, path in find([pattern])]
    assert {path for _, path in find([str(tmp_path / pattern)])} == {tmp_path / file for file in files}
    if len(names) == 3:  # a shell that expanded the pattern
        assert [name for name, _ in find(files)] == ["1", "2", "10"]


def test_patterns_that_find_nothing_or_the_same_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file is found"):
        find([str(tmp_path / "*")])
    for place in ("a/1", "b/1"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "x").touch()
    with pytest.raises(UserError, match="same name '1'"):
        find([str(tmp_path / "a/*/x"), str(tmp_path / "b/*/x")])


def test_energies_and_corrections_of_cc4s(tmp_path: Path) -> None:
    path = tmp_path / "cc4s.out.yaml"
    write_cc4s(path, -24.0, -25.0, -0.8, basis_set=(-6.5, -5.3, -0.2), finite_size=-1.1)
    cases = {
        ("mp2", ()): -24.0,
        ("ccsd", ()): -25.0,
        ("ccsdt", ()): -25.8,
        ("mp2", ("basis_set",)): -30.5,
        ("ccsd", ("basis_set",)): -30.3,
        ("ccsdt", ("basis_set",)): -31.3,
        ("ccsdt", ("basis_set", "finite_size")): -32.4,
    }
    for (method, corrections), energy in cases.items():
        found = read_correlation(path, method, corrections)
        assert found.energy == pytest.approx(energy, abs=2e-6), (method, corrections)
        assert not set(found.left_out) & set(corrections)
    assert read_correlation(path, "ccsd").left_out == pytest.approx({"basis_set": -5.3, "finite_size": -1.1}, abs=1e-6)
    with pytest.raises(UserError, match="no finite_size correction of mp2"):
        read_correlation(path, "mp2", ("finite_size",))


def test_units_of_cc4s(tmp_path: Path) -> None:
    path = tmp_path / "cc4s.out.yaml"
    write_cc4s(path, -1.0, -1.1, None, unit="1")  # Hartree
    assert read_correlation(path, "ccsd").energy == pytest.approx(-1.1 * units.Hartree, abs=1e-10)
    write_cc4s(path, -1.0, -1.1, None, unit="inf")  # as one version wrote
    line = path.read_text().splitlines().index("      energy:") + 2
    with pytest.raises(UserError, match=rf"cc4s.out.yaml:{line}: its unit 'inf' is no unit; .*--energy-unit"):
        read_correlation(path, "ccsd")
    assert read_correlation(path, "ccsd", unit="eV").energy == -1.1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("method: Ccsd", "method: Drccd", r"yaml:\d+: its coupled-cluster method is Drccd, not Ccsd"),
        ("    correlation: -1.1", "    correlation: nan", r"yaml:\d+: its energy 'nan\d+' is not a number"),
        ("steps:", "stepz:", "no output of Cc4s"),
        ("name: Read", "name: [Read", r"yaml:\d+: no YAML"),
    ],
)
def test_damaged_cc4s_files(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "cc4s.out.yaml"
    write_cc4s(path, -1.0, -1.1, -0.1)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=told):
        read_correlation(path, "ccsdt")


def test_cc4s_output_is_no_level_of_its_own(tmp_path: Path) -> None:
    write_cc4s(tmp_path / "cc4s.out.yaml", -1.0, -1.1, -0.1)
    with pytest.raises(UserError, match=r"cc4s\.out\.yaml: Cc4s output has no structures; .*collect"):
        load_dataset({"kind": "files", "root": str(tmp_path), "levels": {"ccsd": {"file": "cc4s.out.yaml"}}})


def test_truncated_and_dry_cc4s_files(tmp_path: Path) -> None:
    path = tmp_path / "cc4s.out.yaml"
    write_cc4s(path, -1.0, -1.1, -0.1)
    text = path.read_text()
    path.write_text(text[: text.index("  2:")])
    assert "did not get that far" in read_correlation(path, "ccsd").problem
    path.write_text(text.replace("dryRanks: 0", "dryRanks: 48"))
    assert "dry run" in read_correlation(path, "ccsd").problem


@pytest.mark.parametrize("modern", [True, False])
def test_cp2k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, modern: bool) -> None:
    monkeypatch.chdir(tmp_path)
    forces = np.random.default_rng(0).normal(size=(2, 8, 3))
    for k, atoms in enumerate(crystals(2)):
        write_cp2k(tmp_path / str(k) / "cp2k.out", -20.0 - k, forces[k], atoms.get_chemical_symbols(), modern)
        write(tmp_path / str(k) / "structure.cif", atoms)
    given = ("*/cp2k.out", "--format", "cp2k", "--level", "rpa", "--structures", "structure.cif", "--out", "rpa.xyz")
    assert run(*given, "--labels", "energy,forces") == 0
    for k, image in enumerate(read("rpa.xyz", ":")):
        assert image.get_potential_energy() == pytest.approx(-20.0 - k, abs=1e-9)
        np.testing.assert_allclose(image.get_forces(), forces[k], atol=1e-6)
    text = Path("1/cp2k.out").read_text()
    Path("1/cp2k.out").write_text(text.replace("SCF run converged in", "SCF run NOT converged. Steps:"))
    Path("0/cp2k.out").write_text(text[:100])
    assert run(*given) == 2
    out, err = capsys.readouterr()
    assert "did the job finish?" in out and "not converged (line 2)" in out
    assert "2 of 2 calculations cannot be used" in err
