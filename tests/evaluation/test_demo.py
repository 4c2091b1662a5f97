"""What `make demo` takes is in the checkout, and composes."""

from __future__ import annotations

from mlffx.compose import composed, plain
from mlffx.data.dataset import load_dataset
from mlffx.demo import ROOT, commands


def test_the_demo_trains_on_what_is_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # from any directory, and without the data of others
    monkeypatch.setenv("MLFFX_DATA_ROOT", str(tmp_path))
    train, evaluate = commands("runs/demo")
    config = plain(composed("train", train[1:]))
    data = load_dataset(config["data"])
    assert {"dft", "ccsdt"} <= set(data.energies) and "dft" in data.forces and len(data.atoms) >= 100
    assert (ROOT / config["data"]["root"] / config["data"]["settle"]).is_file()
    assert composed("evaluate", evaluate[1:])["run"] == "runs/demo"
