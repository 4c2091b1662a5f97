"""Fine-tuning: a network that begins with the weights of another run, and parts of it that keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mlffx.data.paper import git_blob_id
from mlffx.errors import UserError, nearest
from mlffx.models.base import MODELS
from mlffx.models.mace_import import import_mace
from mlffx.models.nequip_import import import_nequip
from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential
from mlffx.potentials.charge_aware import ChargeAwarePotential
from mlffx.potentials.network import NetworkPotential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential
from mlffx.training.closed_form import LINEAR_MODELS, is_linear
from mlffx.training.run_directory import RunDirectory, load_members
from mlffx.training.settings import StartSettings, TrainSettings

KEY = "model.init_from"
DUMPS = ".npz"  # what benchmarks/dump_mace.py and dump_nequip.py write
FIRST = ("delta", "network")  # of the terms of a sum: what its run has learned, not what it stands on


def load_start(settings: TrainSettings, species: list[int], member: int = 0) -> Potential | None:
    """The potential whose network a member begins with; None where it begins at random.

    Architecture, options and statistics of the data (mean number of neighbours...) are those of the network, and so is
    its scale: its weights mean nothing without them.

    Args:
        settings: of the run; options of the model that are null are taken from the network.
        species: atomic numbers in the data.
        member: members of an ensemble begin with those of the other run in turn.

    Raises:
        UserError: for what is neither a run nor a file of weights, without a network, or with a different one.
    """
    if settings.start.init_from is None:
        return None
    path = Path(settings.start.init_from)
    if path.is_dir():
        members = load_members(path)
        start: Potential = members[member % len(members)]
    elif not path.is_file():
        raise UserError(f"'{path}' is neither a run directory nor a file", "check the path", KEY)
    elif path.suffix == DUMPS:
        start = _read_dump(path, str(settings.model["name"]), species)
    else:
        start = load_potential(path)
    network = network_of(start)
    if network is None:
        raise UserError(f"there is no network in {path}", "take a run of model=painn or another network", KEY)
    _check_same(network.model_spec, settings.model, species, path)
    return start


def _read_dump(path: Path, architecture: str, species: list[int]) -> Potential:
    if architecture == "mace":
        return import_mace(path, species)
    if architecture == "nequip":
        return import_nequip(path)
    raise UserError(f"{path} cannot be the start of a {architecture}", "dumped weights are of mace or nequip", KEY)


def network_of(potential: nn.Module) -> NetworkPotential | None:
    """The network in a potential: of a delta that it has learned, else that of its base."""
    if isinstance(potential, NetworkPotential):
        return None if potential.model.name in LINEAR_MODELS else potential
    if isinstance(potential, ChargeAwarePotential):
        return network_of(potential.short_range)
    if isinstance(potential, ReadoutPotential):
        return network_of(potential.base)
    if isinstance(potential, SumPotential):
        terms = dict(potential.terms.items())
        for name in sorted(terms, key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST)):
            if (found := network_of(terms[name])) is not None:
                return found
    return None


def _check_same(have: Mapping[str, Any], asked: Mapping[str, Any], species: list[int], path: Path) -> None:
    """Refuse a network that is not what the run asks for; the remedy lists every option that differs."""
    if have["name"] != asked["name"]:
        raise UserError(f"{path} is a {have['name']}, not a {asked['name']}", f"set model={have['name']}", KEY)
    valid = MODELS.options(asked["name"])
    different = {}
    for option, value in asked.items():
        if option == "name" or value is None:
            continue
        if option not in valid:
            raise UserError(
                f"model '{asked['name']}' has no option '{option}'", nearest(option, valid), f"model.{option}"
            )
        stored = have.get(option, valid[option].default)
        if _plain(stored) != _plain(value):
            different[option] = (stored, value)
    if different:
        option, (stored, value) = next(iter(different.items()))
        remedy = "set " + " ".join(f"model.{k}={_written(v)}" for k, (v, _) in different.items())
        raise UserError(f"{option} is {_written(stored)} in {path}, here {_written(value)}", remedy, KEY)
    if (known := sorted(have["species"])) != sorted(species):
        raise UserError(f"{path} knows the elements {known}, the data has {sorted(species)}", "take other weights", KEY)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _written(value: Any) -> str:
    """As the command line takes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(_plain(value)).replace(" ", "")


def take_charges(learned: Potential, start: Potential) -> None:
    """Begin with the charges of the start too, where both have charges.

    Raises:
        UserError: for charge models that differ: the network was trained on what the other one left over.
    """
    if not isinstance(start, ChargeAwarePotential) or not isinstance(learned, ChargeAwarePotential):
        return
    ours, theirs = learned.electrostatics, start.electrostatics
    if ours.name != theirs.name:
        raise UserError(f"its charges are '{theirs.name}', not '{ours.name}'", f"set electrostatics={theirs.name}", KEY)
    stored, own = theirs.state_dict(), ours.state_dict()
    for name, tensor in own.items():
        if name not in stored or stored[name].shape != tensor.shape:
            raise UserError(f"its charge model has another {name}", "take the electrostatics of that run", KEY)
    ours.load_state_dict(stored)


def freeze(learned: Potential, model: nn.Module, prefixes: Sequence[str]) -> None:
    """Keep parameters of the model from being trained.

    Args:
        learned: all that is trained, the model and possibly charges.
        model: the architecture.
        prefixes: whole names of parameters, or their beginnings up to a dot (`layers.0`).

    Raises:
        UserError: for a prefix no parameter has, or when nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    beginnings = {".".join(name.split(".")[:k]) for name in parameters for k in range(1, name.count(".") + 2)}
    for prefix in prefixes:
        if prefix not in beginnings:
            raise UserError(f"no parameter begins with '{prefix}'", nearest(prefix, beginnings), "model.freeze")
        for name, parameter in parameters.items():
            if name == prefix or name.startswith(f"{prefix}."):
                parameter.requires_grad_(False)
    if prefixes and not any(p.requires_grad for p in learned.parameters()):
        raise UserError("every parameter is frozen", "leave one to train", "model.freeze")


def refuse_start_without_network(settings: TrainSettings) -> None:
    """Refuse model.init_from and model.freeze in a run that trains no network.

    Raises:
        UserError: for closed-form fits; the base that such a delta trains may well begin with other weights.
    """
    key = KEY if settings.start.init_from is not None else "model.freeze"
    remedy = "leave it out, or take a network such as model=painn"
    if is_linear(settings):
        raise UserError(f"{settings.model['name']} is fitted in closed form and starts from nothing", remedy, key)
    if settings.potential.kind == "delta" and settings.delta.fit == "readout" and settings.potential.base != "train":
        remedy = "leave it out, or take potential=direct or delta.fit=network"
        raise UserError("a readout on a base that is there trains no network", remedy, key)


def start_hashes(start: StartSettings) -> dict[str, str]:
    """Files of weights a run begins with -> their hashes, for environment.json and the cache of bases."""
    if start.init_from is None:
        return {}
    path = Path(start.init_from)
    if path.is_dir():
        run = RunDirectory(path)
        files = [f for f in (run.best, *sorted(run.path.glob("members/*/checkpoints/best.ckpt"))) if f.is_file()]
    else:
        files = [path] if path.is_file() else []
    return {str(f): git_blob_id(f) for f in files}
