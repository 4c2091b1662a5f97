"""Mistakes a user makes on the command line: each is one line that names the key and the remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

TWIN = ["data=diamond_twin", "data.n_frames=12", "data.validation_size=2", "data.test_size=2"]

MISTAKES = {
    "misspelt key": (["modle=painn"], ["modle", "model"]),
    "misspelt nested key": (["trainer.max_epoch=3"], ["trainer.max_epoch", "trainer.max_epochs"]),
    "unknown architecture": (["model=pain"], ["pain", "painn"]),
    "unknown option of a model": (["+model.n_hiden=3"], ["n_hiden", "n_hidden"]),
    "unknown level": (["level=ccsdtq"], ["ccsdtq", "ccsdt"]),
    "a level the data set does not have": (["level=ccsd"], ["ccsd", "high"]),
    "forces of a level without forces": (["level=high", "loss=energy_forces"], ["high", "no forces", "low"]),
    "a delta from a level to itself": (["potential=delta", "level=low"], ["low", "potential=direct"]),
    "a cutoff of 50 A": (["model.cutoff=50"], ["cutoff", "50", "below"]),
    "a negative cutoff": (["model.cutoff=-1"], ["cutoff", "not positive"]),
    "an empty training set": (["data.train_size=0"], ["train_size", "empty"]),
    "more frames than there are": (["data.train_size=500"], ["train_size", "500", "at most"]),
    "nothing left to train on": (["data.test_size=10"], ["test", "none"]),
    "text for a number": (["trainer.max_epochs=many"], ["trainer.max_epochs", "whole number"]),
    "no epochs": (["trainer.max_epochs=0"], ["max_epochs"]),
    "no members": (["ensemble=0"], ["ensemble"]),
    "an unknown way of fitting": (["potential=delta", "level=high", "delta.fit=readot"], ["fit", "readout"]),
    "a base that is nothing": (["potential=delta", "level=high", "potential.base=nowhere"], ["nowhere", "base"]),
    "an unknown optimizer": (["optimizer.name=sgdd"], ["optimizer.name", "sgdd"]),
    "broken override syntax": (["seed"], ["seed", "KEY=VALUE"]),
    "an override without a key": (["=3"], ["command line"]),
    "a fraction of a channel": (["model.n_hidden=1.5"], ["model.n_hidden", "whole number"]),
    "a misspelt unit deep in a level": (["data.levels.low.energy_unit=Hartree"], ["energy_unit", "Hartree", "Ha"]),
    "a misspelt key of a level": (["data.levels={low: {lables: [energy]}}"], ["data.levels.low", "labels"]),
    "a level that is a number": (["data.levels.low=3"], ["data.levels.low", "3"]),
    "no channels": (["model.n_hidden=0"], ["model.n_hidden", "at least 1"]),
    "noise of a level that is not there": (["data.noise.hgih=0.1"], ["data.noise.hgih", "high"]),
    "noise that is a text": (["data.noise.low=much"], ["data.noise.low", "much", "number"]),
    "a lattice constant that is a text": (["data.crystal.a=long"], ["data.crystal.a", "long", "number"]),
    "a parameter that is a text": (["data.potentials.low.depth=deep"], ["data.potentials.low.depth", "deep", "number"]),
    "one repetition": (["data.repetitions=2"], ["data.repetitions", "a list"]),
    "a text for a count": (["data.n_frames=some"], ["data.n_frames", "whole number"]),
    "one wrong value of a sweep": (["-m", "model=painn,pain"], ["pain", "painn"]),
    "an option that is none": (["--hepl"], ["--hepl", "--help"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, complaint, tmp_path):
    arguments, wanted = MISTAKES[name]
    level = [] if any(a.startswith("level=") for a in arguments) else ["level=low"]
    line = complaint(*TWIN, *level, *arguments, f"run_dir={tmp_path / 'run'}", f"cache_dir={tmp_path / 'bases'}")
    for word in wanted:
        assert word in line, line
    assert not (tmp_path / "run").exists(), "a mistake must not leave half a run behind"


def test_a_missing_data_root_says_how_to_get_the_data(complaint, tmp_path):
    line = complaint("data=diamond", f"data.root={tmp_path / 'nowhere'}", f"run_dir={tmp_path / 'run'}")
    assert "nowhere" in line


def test_a_truncated_file_is_named_with_its_line(complaint, tmp_path, paper_data):
    root = tmp_path / "data"
    (root / "c").mkdir(parents=True)
    text = (paper_data / "c" / "200221forcc.xyz").read_text()
    (root / "c" / "200221forcc.xyz").write_text(text[: len(text) // 2])
    for name in ("200221forcc_ccsd.xyz", "200221forcc_ccsdt.xyz", "200221forcc_hfe.xyz"):
        shutil.copy(paper_data / "c" / name, root / "c" / name)
    line = complaint("data=diamond", f"data.root={root}", f"run_dir={tmp_path / 'run'}")
    assert "200221forcc.xyz" in line


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a file"])
def test_an_unreadable_checkpoint(complaint, tmp_path, content):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").write_bytes(content)
    (run / "config.yaml").write_text("ensemble: 1\n")
    line = complaint(f"run={run}", program="evaluate")
    assert "config" in line or "checkpoint" in line or "missing" in line


def test_evaluating_nothing(complaint, tmp_path):
    assert "run=RUN_DIR" in complaint("samples=3", program="evaluate")
    assert "no run directory" in complaint(f"run={tmp_path / 'gone'}", program="evaluate")
    assert "at least 1" in complaint("run=x", "samples=-1", program="evaluate")
    assert "phonons.supercell" in complaint("run=x", "phonons.supercell=[a,b]", program="evaluate")
    assert "phonons.displacement" in complaint("run=x", "phonons.displacment=0.1", program="evaluate")


def test_resuming_what_is_no_run(complaint, tmp_path):
    assert "config.yaml" in complaint(f"resume={tmp_path}")


def test_a_run_directory_that_cannot_be_written(complaint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = complaint(*TWIN, "level=low", "model=force_constants", f"run_dir={Path(tmp_path) / 'file' / 'run'}")
    assert "run_dir" in line
