"""Where values come from, what --help tells, and the file a mistake is in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlffx import provenance
from mlffx.command_line import run_checked
from mlffx.provenance import help_text, sources
from mlffx.training.entry import entry_point

ROOT = Path(__file__).resolve().parents[2]


def test_the_last_one_to_set_a_value_is_its_source():
    found = sources("train", ["experiment=diamond_delta", "level=hf", "model.cutoff=3.5", "+data.noise.hf=0.1"])
    assert found["data.crystal.a"] == "conf/data/diamond.yaml"
    assert found["level.name"] == "conf/level/hf.yaml"
    assert found["trainer.max_epochs"] == "conf/experiment/diamond_delta.yaml"
    assert found["trainer.batch_size"] == "conf/trainer/cpu.yaml"
    assert found["model.cutoff"] == found["data.noise.hf"] == "command line"
    assert found["wandb.mode"] == "conf/train.yaml"


def test_files_made_from_other_files():
    found = sources("train", ["data=diamond_twin_b", "experiment=lih_ladder", "data=diamond_twin_b"])
    assert found["data.sampling_seed"] == "conf/data/diamond_twin_b.yaml"
    assert found["potential.low"] == "conf/experiment/lih_ladder.yaml"
    assert found["electrostatics.fit"] == "conf/experiment/lih_direct.yaml"


def test_a_data_set_of_ones_own_is_a_source(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("kind: files\nname: own\nlevels: {dft: {file: dft.xyz}}\n")
    found = sources("train", [f"data={own}", "level=declared", "level.name=dft"])
    assert found["data.levels.dft.file"] == str(own)
    assert found["data.tolerance"] == "conf/data/files.yaml"


def test_print_shows_valid_yaml_with_a_source_for_every_value(capsys):
    arguments = ["experiment=twin_delta", "seed=3", "print=true"]
    entry_point(arguments)
    shown = capsys.readouterr().out
    values = yaml.safe_load(shown)
    assert values["seed"] == 3
    assert values["potential"]["kind"] == "delta"
    for line in shown.splitlines():
        assert line.endswith(":") or " # conf/" in line or " # command line" in line, line


def test_help_knows_the_groups_of_training_only(capsys):
    text = help_text("train")
    for group in ("data", "model", "trainer", "experiment"):
        assert f"\n  {group}" in text
    assert "phonons" not in text.split("Groups")[1].split("Ten overrides")[0]
    assert "dynamics" not in text.split("Groups")[1].split("Ten overrides")[0]
    entry_point(["--help"])
    assert capsys.readouterr().out == text


def test_an_unknown_key_in_a_file_is_told_with_the_file(tmp_path, monkeypatch, capsys):
    """A trainer file of one's own with a misspelt key, beside the others."""
    import shutil

    conf = tmp_path / "conf"
    shutil.copytree(provenance.CONF, conf)
    mine = (conf / "trainer" / "cpu.yaml").read_text().replace("max_epochs", "max_epoch")
    (conf / "trainer" / "mine.yaml").write_text(mine)
    for module in ("mlffx.compose", "mlffx.provenance"):
        monkeypatch.setattr(f"{module}.CONF", conf)
    with pytest.raises(SystemExit):
        run_checked(lambda: entry_point(["data=diamond_twin", "level=low", "trainer=mine"]))
    line = capsys.readouterr().err
    assert "trainer.max_epoch (set in conf/trainer/mine.yaml)" in line
    assert "did you mean 'max_epochs'" in line


@pytest.mark.slow
def test_a_pipe_that_is_closed_early_is_no_mistake():
    command = f"{sys.executable} {ROOT / 'train.py'} data=diamond_twin print=true | head -1"
    said = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert "error" not in said.stderr
