"""Fine-tuning from the command line: where the weights begin, which of them stay, and that it pays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from small_twin import QUICK, SMALL

from mlffx.potentials.build import load_potential, save_potential
from mlffx.potentials.network import NetworkPotential
from mlffx.training.fine_tuning import network_of

FIXTURES = Path(__file__).resolve().parents[1] / "models" / "fixtures"
FEW = [o for o in QUICK if not o.startswith("trainer.max_epochs")] + ["trainer.max_epochs=2"]
STILL = ["optimizer.lr=1e-30", "scheduler=constant", "trainer.max_epochs=1"]  # weights stay where they began


@pytest.fixture
def low(train) -> Path:
    """A network trained on energies and forces of the low level."""
    epochs = [o for o in QUICK if not o.startswith("trainer.max_epochs")] + ["trainer.max_epochs=15"]
    return train(*epochs, "level=low", name="low")


def network(run: Path) -> NetworkPotential:
    found = network_of(load_potential(run / "checkpoints" / "best.ckpt"))
    assert found is not None
    return found


def parameters(run: Path) -> dict[str, torch.Tensor]:
    return dict(network(run).model.state_dict())


def error(run: Path) -> float:
    return json.loads((run / "metrics.json").read_text())["test_energy_rmse_meV_per_atom"]


def test_weights_begin_equal_and_offsets_are_those_of_the_new_level(train, low):
    tuned = train(*FEW, *STILL, "level=high", f"model.init_from={low}", name="tuned")
    before, after = parameters(low), parameters(tuned)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert network(tuned).scale == network(low).scale
    metrics = json.loads((tuned / "metrics.json").read_text())
    assert abs(metrics["test_energy_bias_meV_per_atom"]) < 30  # the levels are 11 eV an atom apart
    config = yaml.safe_load((tuned / "config.yaml").read_text())
    assert config["model"]["init_from"] == str(low)
    assert str(low / "checkpoints" / "best.ckpt") in json.loads((tuned / "environment.json").read_text())["data"]


def test_frozen_parts_stay_and_the_rest_is_trained(train, low):
    names = list(dict(network(low).model.named_parameters()))
    part = names[0].split(".")[0]
    tuned = train(*FEW, "level=high", f"model.init_from={low}", f"model.freeze=[{part}]", name="tuned")
    before, after = parameters(low), parameters(tuned)
    frozen = [n for n in names if n.split(".")[0] == part]
    assert all(torch.equal(before[n], after[n]) for n in frozen)
    assert not any(torch.equal(before[n], after[n]) for n in names if n not in frozen)


def test_it_beats_a_start_from_scratch(train, low):
    few = [*FEW, "level=high", "optimizer.lr=1e-3"]
    scratch = train(*few, name="scratch")
    tuned = train(*few, f"model.init_from={low}", name="tuned")
    assert error(tuned) < 0.5 * error(scratch)


def test_the_base_of_a_delta_begins_with_other_weights_and_is_cached_apart(train, low, capsys):
    delta = [*FEW, *STILL, "potential=delta", "level=high"]
    train(*delta, name="scratch")
    tuned = train(*delta, f"model.init_from={low}", name="tuned")
    assert "found in the cache" not in capsys.readouterr().err
    assert all(torch.equal(v, parameters(low)[k]) for k, v in parameters(tuned).items())


def test_a_checkpoint_file_and_members_of_an_ensemble(train, low):
    tuned = train(
        *FEW,
        *STILL,
        "level=high",
        f"model.init_from={low / 'checkpoints' / 'best.ckpt'}",
        "ensemble=2",
        "trainer.workers=1",
        name="tuned",
    )
    for member in "01":
        found = parameters(tuned / "members" / member)
        assert all(torch.equal(v, parameters(low)[k]) for k, v in found.items())


def test_dumped_weights_of_mace_torch(train):
    """Options left to null are those of the dump, and its isolated-atom energies give way to those of the level."""
    dump = FIXTURES / "mace_diamond.npz"
    options = ["cutoff", "n_channels", "l_max", "edge_l_max", "correlation", "n_interactions", "n_radial"]
    nulls = [f"model.{o}=null" for o in [*options, "radial_hidden", "readout_hidden"]]
    tuned = train(*SMALL, *STILL, "level=low", "model=mace", *nulls, f"model.init_from={dump}", name="tuned")
    from mlffx.models.mace_import import import_mace

    before, after = dict(import_mace(dump, [6]).model.named_parameters()), dict(network(tuned).model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k].float(), after[k]) for k in before)
    metrics = json.loads((tuned / "metrics.json").read_text())
    assert abs(metrics["test_energy_bias_meV_per_atom"]) < 100


def test_mistakes_are_one_line(complaint, low, tmp_path, train):
    out = [f"run_dir={tmp_path / 'out'}", f"cache_dir={tmp_path / 'bases'}"]
    few = [*FEW, "level=high", *out]
    start = f"model.init_from={low}"

    def told(words, *overrides):
        line = complaint(*overrides)
        assert all(word in line for word in words), line
        assert not (tmp_path / "out").exists()

    told(["model.init_from", "n_hidden", "8", "16", "set model.n_hidden=8"], *few, "model.n_hidden=16", start)
    told(["painn", "schnet", "model=painn"], *SMALL, "level=high", "model=schnet", *out, start)
    told(["neither a run directory"], *few, "model.init_from=nowhere")
    told(["model.freeze", "embeding", "embedding"], *few, start, "model.freeze=[embeding]")
    told(["init_form", "model.init_from"], *few, "model.init_form=x")
    told(["model.init_from", "a text"], *few, "model.init_from=3")
    names = {n.split(".")[0] for n, _ in network(low).model.named_parameters()}
    told(["every parameter is frozen"], *few, f"model.freeze=[{','.join(names)}]")
    told(["closed form"], *SMALL, "level=low", "model=force_constants", *out, start)
    told(["trains no network"], *few, "potential=delta", f"potential.base={low}", start)
    linear = train(*SMALL, "level=low", "model=force_constants", name="linear")
    told(["no network", "linear"], *few, f"model.init_from={linear}")
    told(["dumped weights", "painn"], *few, f"model.init_from={FIXTURES / 'mace_diamond.npz'}")


def test_other_elements_are_refused(complaint, low, tmp_path):
    potential = network(low)
    spec = potential.model_spec | {"species": [5, 6]}
    other = NetworkPotential.from_spec({"kind": "network", "model": spec})
    save_potential(other, tmp_path / "other.ckpt")
    line = complaint(*FEW, "level=high", f"run_dir={tmp_path / 'out'}", f"model.init_from={tmp_path / 'other.ckpt'}")
    assert "elements" in line


def test_charges_begin_with_those_of_the_other_run(train, complaint, tmp_path):
    ions = ["data=ionic_twin", "data.n_frames=16", "data.validation_size=4", "data.test_size=4", "logger=csv"]
    ions += ["trainer.progress=false", "model=painn", "model.n_hidden=8", "potential=charge_aware"]
    fixed = ["electrostatics=fixed", "electrostatics.charges={Li: 0.4, H: -0.4}", "electrostatics.fit=true"]
    low = train(*ions, *fixed, "level=low", "trainer.max_epochs=2", name="ions")
    tuned = train(*ions, *STILL, *fixed, "level=high", f"model.init_from={low}", name="tuned")
    charges = [
        load_potential(run / "checkpoints" / "best.ckpt").electrostatics.charges.detach() for run in (low, tuned)
    ]
    assert torch.equal(*charges)
    assert abs(float(charges[0][0])) != pytest.approx(0.4, abs=1e-5)
    out = [f"run_dir={tmp_path / 'out'}", "level=high", f"model.init_from={low}"]
    assert "electrostatics=fixed" in complaint(*ions, *out, "electrostatics=latent")
