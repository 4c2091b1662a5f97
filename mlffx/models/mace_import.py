"""Models of mace-torch as potentials of mlffx: `benchmarks/dump_mace.py` writes them where mace-torch is installed.

Weights are copied where both sides define the same parameter and transformed where they differ: columns of the radial
network are reordered, 3j symbols that e3nn has changed the sign of are compensated, and the weights of the symmetric
contraction are expressed in our linearly independent polynomials, which span the same functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from mlffx.errors import UserError
from mlffx.models.convolution import SILU_SCALE, PathLinear
from mlffx.models.irreps import Irrep, natural
from mlffx.models.mace import MACE
from mlffx.models.symmetric_contraction import SymmetricContraction, equivariant_polynomials, monomials
from mlffx.potentials.network import NetworkPotential

SUPPORTED: dict[str, set[Any]] = {
    "class": {"ScaleShiftMACE", "MACE"},
    "radial_basis": {"BesselBasis"},
    "distance_transform": {"NoneType"},
    "apply_cutoff": {True},
    "interaction_first": {"RealAgnosticResidualInteractionBlock", "RealAgnosticInteractionBlock"},
    "interaction": {"RealAgnosticResidualInteractionBlock", "RealAgnosticInteractionBlock"},
    "gate": {"silu"},
    "pair_repulsion": {False},
}


def import_mace(path: str | Path, species: Sequence[int] | None = None) -> NetworkPotential:
    """The potential that a dumped mace-torch model describes, float64.

    Args:
        path: what `benchmarks/dump_mace.py` wrote.
        species: atomic numbers to keep of a model of many elements; None keeps all.

    Raises:
        UserError: for a file of another kind, a variant of MACE that mlffx does not have, or elements it does not know.
    """
    arrays, spec = _read(Path(path))
    numbers = sorted(spec["atomic_numbers"])
    keep = numbers if species is None else sorted(int(z) for z in species)
    if unknown := [z for z in keep if z not in numbers]:
        raise UserError(f"the model does not know the elements {unknown}", f"it knows {numbers}", path)
    rows = torch.tensor([spec["atomic_numbers"].index(z) for z in keep])
    options = _options(spec, keep, path)
    potential = NetworkPotential(
        MACE(**{k: v for k, v in options.items() if k != "name"}), torch.zeros(len(keep)), 1.0, options
    ).set_precision(torch.float64)
    assert isinstance(potential, NetworkPotential)
    with torch.no_grad():
        _fill(potential, _State(arrays, rows, len(numbers), spec))
    return potential.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with np.load(path) as stored:
            spec = json.loads(str(stored["spec"]))
            return {k: torch.as_tensor(stored[k]) for k in stored.files if k != "spec"}, spec
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            "not a dumped MACE model", "write it with benchmarks/dump_mace.py where mace-torch is installed", path
        ) from error


def _options(spec: Mapping[str, Any], species: list[int], where: object) -> dict[str, Any]:
    """Options of our MACE for a dumped one, or a UserError that says what is not supported."""
    for key, valid in SUPPORTED.items():
        if spec[key] not in valid:
            raise UserError(f"mlffx has no MACE with {key} {spec[key]}", f"valid: {sorted(map(str, valid))}", where)
    hidden = _parse(spec["hidden_irreps"])
    layers = len(spec["interaction_irreps"])
    if layers == 1:
        raise UserError("mlffx's MACE of one layer has a readout of its own, unlike mace-torch's", where=where)
    if spec["interaction"] != "RealAgnosticResidualInteractionBlock":
        raise UserError("mlffx has no MACE whose later layers are not residual", where=where)
    if [ir for _, ir in hidden] != natural(len(hidden) - 1) or len({n for n, _ in hidden}) > 1:
        raise UserError(f"hidden irreps {spec['hidden_irreps']} are not of the form Nx0e + Nx1o + ...", where=where)
    if len(spec["heads"]) > 1 or len(set(spec["correlation"])) > 1:
        raise UserError("models of several heads or several correlations are not supported", where=where)
    return {
        "name": "mace",
        "species": species,
        "cutoff": spec["cutoff"],
        "n_channels": hidden[0][0],
        "l_max": len(hidden) - 1,
        "edge_l_max": len(_parse(spec["edge_irreps"])) - 1,
        "correlation": spec["correlation"][0],
        "n_interactions": layers,
        "n_radial": spec["n_radial"],
        "envelope_power": spec["envelope_power"],
        "radial_hidden": spec["radial_hidden"],
        "readout_hidden": _parse(spec["readout_irreps"])[0][0],
        "mean_neighbours": spec["mean_neighbours"],
        "self_connection": "residual" if "Residual" in spec["interaction_first"] else "message",
    }


def _parse(irreps: str) -> list[tuple[int, Irrep]]:
    found = re.findall(r"(\d+)x(\d+)([eo])", irreps)
    return [(int(n), Irrep(int(l), 1 if p == "e" else -1)) for n, l, p in found]


class _State:
    """Arrays of the dump, with the elements that are kept."""

    def __init__(self, arrays: dict[str, Tensor], rows: Tensor, n_elements: int, spec: Mapping[str, Any]) -> None:
        self.arrays, self.rows, self.n_elements, self.spec = arrays, rows, n_elements, spec
        # products of weights and the number of elements in their normalisation differ when elements are dropped
        self.species_scale = (len(rows) / n_elements) ** 0.5
        self.activation = float(spec["activation_scale"]) / SILU_SCALE

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[f"state/{name}"]

    def sign(self, path: tuple[Irrep, Irrep, Irrep]) -> float:
        """+1 or -1: whether the 3j symbol of the dump has the sign of ours."""
        theirs = self.arrays.get(f"w3j/{path[0].l}_{path[1].l}_{path[2].l}")
        ours = o3.wigner_3j(path[0].l, path[1].l, path[2].l, dtype=torch.float64)
        return 1.0 if theirs is None else float(torch.sign((theirs * ours).sum()))


def _fill(potential: NetworkPotential, state: _State) -> None:
    """Copy every parameter, offsets and scale."""
    model = potential.model
    assert isinstance(model, MACE)
    c = model.n_channels
    scale = state.arrays.get("state/scale_shift.scale", torch.ones(())).reshape(-1)[0]
    shift = state.arrays.get("state/scale_shift.shift", torch.zeros(())).reshape(-1)[0]
    energies = state["atomic_energies_fn.atomic_energies"].reshape(-1)[state.rows]
    potential.scale.copy_(scale)  # type: ignore[operator]
    potential.offsets.copy_(energies + shift)  # type: ignore[operator]
    model.embedding.copy_(state["node_embedding.linear.weight"].reshape(-1, c)[state.rows] * state.species_scale)
    for k, layer in enumerate([model.first, *model.layers]):
        _fill_layer(layer, f"interactions.{k}", f"products.{k}", c, state)
    for k in range(len(model.layers)):
        model.linear_readouts[k].copy_(state[f"readouts.{k}.linear.weight"][:c])
    last = f"readouts.{len(model.layers)}"
    model.readout_in.copy_(state[f"{last}.linear_1.weight"].reshape(model.readout_in.shape))
    model.readout_out.copy_(state[f"{last}.linear_2.weight"] * state.activation)


def _fill_layer(layer: Any, interaction: str, product: str, c: int, state: _State) -> None:
    layer.up.weight.copy_(state[f"{interaction}.linear_up.weight"].reshape(layer.up.weight.shape))
    factor = 1.0
    for k, weight in enumerate(layer.radial.weights):
        weight.copy_(state[f"{interaction}.conv_tp_weights.layer{k}.weight"] * factor)
        factor = state.activation
    last = state[f"{interaction}.conv_tp_weights.layer{len(layer.radial.weights)}.weight"] * factor
    # mace-torch orders paths by output irrep, then as they were found; ours are in the order found
    paths = layer.convolution.paths
    theirs = sorted(range(len(paths)), key=lambda p: paths[p][2].l)
    ours = layer.convolution.weight.view(len(last), len(paths), c)
    for column, p in enumerate(theirs):
        ours[:, p] = last[:, column * c : (column + 1) * c] * state.sign(paths[p])
    _fill_mixing(layer.mix, state[f"{interaction}.linear.weight"])
    skip = state[f"{interaction}.skip_tp.weight"].reshape(len(layer.skip.sizes), c, state.n_elements, c)
    layer.skip.weight.copy_(skip.transpose(1, 2)[:, state.rows] * state.species_scale)
    layer.out.weight.copy_(state[f"{product}.linear.weight"].reshape(layer.out.weight.shape))
    _fill_contraction(layer.contraction, f"{product}.symmetric_contractions.contractions", state)


def _fill_mixing(mixing: PathLinear, flat: Tensor) -> None:
    for weight, part in zip(mixing.weights, flat.split([w.numel() for w in mixing.weights]), strict=True):
        weight.copy_(part.reshape(weight.shape))


def _fill_contraction(contraction: SymmetricContraction, name: str, state: _State) -> None:
    """Express (coupling tensors of the dump) x (weights of the dump) in our polynomials,
    by least squares with no residual.
    """
    start = 0
    for ir, degree, n_basis in contraction.terms:
        k = contraction.irreps_out.index(ir)
        tensor = state.arrays.get(f"state/{name}.{k}.U_matrix_{degree}")
        if tensor is None:  # written once for all layers
            first = re.sub(r"products\.\d+", "products.0", name)
            tensor = state[f"{first}.{k}.U_matrix_{degree}"]
        tensor = tensor.reshape(ir.dim, *[contraction.n_in] * degree, -1)
        highest = degree == contraction.correlation
        weights = state[
            f"{name}.{k}.weights_max" if highest else f"{name}.{k}.weights.{contraction.correlation - degree - 1}"
        ]
        theirs = _collect(tensor, contraction.n_in, degree)  # [m, q, paths]
        basis = equivariant_polynomials(contraction.irreps_in, degree)[ir]  # [b, m, q]
        matrix = torch.linalg.lstsq(basis.flatten(1).T, theirs.flatten(0, 1)).solution  # [b, paths]
        residual = (basis.flatten(1).T @ matrix - theirs.flatten(0, 1)).abs().max()
        if residual > 1e-9:
            raise UserError(f"coupling tensors of degree {degree} to {ir} are no polynomials of ours ({residual:.1e})")
        rows = torch.einsum("bp,zpc->zbc", matrix, weights[state.rows])
        contraction.weight[:, start : start + n_basis] = rows
        start += n_basis


def _collect(tensor: Tensor, n: int, degree: int) -> Tensor:
    """Coupling tensor [m, n, ..., n, paths] -> coefficients of monomials [m, n_monomials, paths]."""
    position = {m: i for i, m in enumerate(monomials(n, degree))}
    index = torch.cartesian_prod(*[torch.arange(n)] * degree).reshape(-1, degree).sort(dim=1).values
    target = torch.tensor([position[tuple(i)] for i in index.tolist()])
    flat = tensor.reshape(tensor.shape[0], -1, tensor.shape[-1])
    return flat.new_zeros(tensor.shape[0], len(position), tensor.shape[-1]).index_add(1, target, flat)
