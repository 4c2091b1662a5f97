"""The report names what a researcher has to know, and the configuration files of the house can be loaded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from mlffx.data.__main__ import CONFIG_DIRECTORY, known_sets, main, read_settings
from mlffx.data.dataset import load_dataset
from mlffx.data.inspect import print_report
from mlffx.data.levels import parse_levels
from mlffx.data.paper import fetched_directory, find_root
from mlffx.errors import UserError


def report(dataset: Any) -> str:
    written = io.StringIO()
    print_report(dataset, Console(width=200, file=written))
    return written.getvalue()


def test_report_of_files(files: Any) -> None:
    files.edit("ccsdt.xyz", 52, "energy=", "enrgy=")
    text = report(load_dataset(files.config(bad_frames="drop")))
    for expected in (
        "small: 12 structures",
        "8 (C8)",
        "3.56000 x 3.56000 x 3.56000 A",
        "2 atoms in the primitive cell, 4 primitive cells in a structure",
        "from forces . displacements (equipartition)",
        "energy forces",
        "0.001",
        "differences to dft",
        "too few labels",
        "dropped (1)",
        "ccsdt.xyz:52: ccsdt: frame 5: dropped, it has no 'energy='",
        "the crystal drifts as a whole by up to 1.10 A",
    ):
        assert expected in text


def test_report_without_a_crystal_or_a_second_level(files: Any) -> None:
    config = files.config(crystal=None, levels={"mp2": {"file": "ccsdt.xyz"}})
    text = report(load_dataset(config))
    assert "differences" not in text and "from harmonic energies" in text


def test_inspect_from_a_file_of_ones_own(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = files.root / "mine.yaml"
    config.write_text(yaml.safe_dump(files.config(root=None)))
    assert main(["inspect", f"data={config}", f"data.root={files.root}", "data.levels.ccsdt.description=good"]) == 0
    out = capsys.readouterr().out
    assert "small: 12 structures" in out
    assert main(["inspect", f"data={config}", f"data.root={files.root}", "data.levels.ccsdt.fil=x"]) == 2
    assert "data.levels.ccsdt.fil: unknown key 'fil'; did you mean 'file'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", known_sets())
def test_configuration_files_declare_checked_levels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFFX_DATA_ROOT", raising=False)
    config = read_settings([f"data={name}"])
    if name == "files":
        with pytest.raises(UserError, match=r"data.levels: no level of theory is declared"):
            load_dataset(config)
    else:
        levels = parse_levels(config["levels"])
        assert levels[config["low"]].labels == ("energy", "forces")
        assert all(level.labels == ("energy",) for other, level in levels.items() if other != config["low"])


def test_levels_of_the_command_line_are_those_of_the_data() -> None:
    named = {path.stem for path in (CONFIG_DIRECTORY.parent / "level").glob("*.yaml")} - {"declared"}
    declared = {
        level for name in ("diamond", "lih", "diamond_twin") for level in read_settings([f"data={name}"])["levels"]
    }
    assert named == declared


def test_levels_on_the_command_line(files: Any) -> None:
    levels = "{dft: {file: dft.xyz, labels: [energy, forces]}, ccsdt: {file: ccsdt.xyz}}"
    config = read_settings(["data=files", f"data.root={files.root}", f"data.levels={levels}"])
    assert len(load_dataset(config).indices(["dft", "ccsdt"])) == 12


def test_twin_tells_its_true_phonons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFFX_CACHE", str(tmp_path))
    assert main(["inspect", "data=diamond_twin", "data.n_frames=12", "data.repetitions=[1,1,1]"]) == 0
    out = capsys.readouterr().out
    assert "diamond_twin: 12 structures" in out
    assert ["GAMMA", "LTO", "1299.0", "1367.9"] in [line.replace("│", " ").split() for line in out.splitlines()]


def test_data_found_where_it_was_fetched_or_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFFX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    needed = Path("c/not-in-any-copy.xyz")
    with pytest.raises(
        UserError, match=r"data.root: the paper's data \(c/not-in.*\) is not on this machine; run `python -m"
    ):
        find_root(None, needed)
    fetched = fetched_directory() / needed
    fetched.parent.mkdir(parents=True)
    fetched.write_text("")
    assert find_root(None, needed) == fetched_directory()
    assert find_root("", needed) == fetched_directory()


def test_root_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFFX_DATA_ROOT", str(tmp_path / "here"))
    config = read_settings(["data=diamond"])
    assert config["root"] == str(tmp_path / "here")
    with pytest.raises(
        UserError, match=r"data.root: no such directory '.*here'; run `python -m mlffx.data fetch`, or set"
    ):
        load_dataset(config)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError, match=r"data.root: '.*here' holds no c/200221forcc.xyz; run"):
        load_dataset(config)
