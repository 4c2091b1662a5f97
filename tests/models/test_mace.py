"""MACE: the shared suite, equality with mace-torch on dumped models,
and the lean operations against short references.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3
from reference import default_dtype
from suite import ModelSuite

from mlffx.data import keys
from mlffx.data.graph import batch_graphs, build_graph
from mlffx.errors import UserError
from mlffx.models import build_model
from mlffx.models.irreps import Irrep, dimension, natural, slices
from mlffx.models.mace_import import import_mace
from mlffx.models.symmetric_contraction import SymmetricContraction, equivariant_polynomials, monomials
from mlffx.potentials.base import evaluate
from mlffx.potentials.network import NetworkPotential

FIXTURES = Path(__file__).parent / "fixtures"


class TestMACE(ModelSuite):
    options: ClassVar[dict[str, Any]] = {
        "name": "mace",
        "cutoff": 3.5,
        "n_channels": 4,
        "edge_l_max": 2,
        "n_radial": 6,
        "radial_hidden": [12],
        "readout_hidden": 8,
    }
    learning_rate: ClassVar[float] = 2e-2  # weights of unit variance, scaled in use: steps are relative to one


@pytest.mark.parametrize(
    "special", [{"l_max": 0}, {"l_max": 2}, {"n_interactions": 1}, {"self_connection": "message"}], ids=str
)
def test_other_sizes(special: dict[str, Any]) -> None:
    class Other(TestMACE):
        options: ClassVar[dict[str, Any]] = TestMACE.options | special

    suite = Other()
    case = suite.make("rocksalt")
    suite.test_rotation_and_reflection(case)
    suite.test_every_parameter_gets_a_gradient(case)


@pytest.mark.parametrize("name", ["mace", "nequip"])
def test_atoms_without_neighbours(name: str) -> None:
    """An atom alone in a batch with a pair feels nothing and has the energy it has alone."""
    model = build_model({"name": name, "n_channels": 4}, species=[1, 3]).double()
    pair = Atoms("LiH", positions=[[0, 0, 0], [1.6, 0, 0]], cell=np.eye(3) * 20, pbc=True)
    apart = Atoms("LiH", positions=[[0, 0, 0], [10, 10, 10]], cell=np.eye(3) * 20, pbc=True)
    potential = NetworkPotential(model, torch.zeros(2, dtype=torch.float64), 1.0, {"name": name})
    out = evaluate(potential, batch_graphs([build_graph(atoms, 4.0) for atoms in (pair, apart)]))
    alone = evaluate(potential, batch_graphs([build_graph(apart, 4.0)]))
    assert out[keys.FORCES][:2].abs().max() > 1e-6 and not out[keys.FORCES][2:].any()
    torch.testing.assert_close(out[keys.ENERGY][1:], alone[keys.ENERGY])


def frame(stored: Any, i: int) -> Atoms:
    part = {name: stored[f"frames/{i}/{name}"] for name in ("numbers", "positions", "cell")}
    return Atoms(part["numbers"], positions=part["positions"], cell=part["cell"], pbc=True)


@pytest.mark.parametrize("name", ["mace_diamond", "mace_lih", "mace_lih_plain_first"])
def test_equals_mace_torch(name: str) -> None:
    """Energies and forces that mace-torch 0.3.16 gave for the same weights; single and as one batch."""
    potential = import_mace(FIXTURES / f"{name}.npz")
    with np.load(FIXTURES / f"{name}.npz") as stored:
        frames = [frame(stored, i) for i in range(2)]
        energies = torch.as_tensor(np.stack([stored[f"frames/{i}/energy"] for i in range(2)]))
        forces = torch.as_tensor(np.concatenate([stored[f"frames/{i}/forces"] for i in range(2)]))
        own = json.loads(str(stored["spec"]))["atomic_numbers"]
    out = evaluate(potential, batch_graphs([build_graph(atoms, potential.cutoff) for atoms in frames]))
    assert potential.model.species == own
    interaction = (
        energies - len(frames[0]) * potential.offsets.mean()
    ).abs()  # what is left without the atoms' energies
    assert ((out[keys.ENERGY] - energies).abs() < 1e-10 * interaction).all()
    assert (out[keys.FORCES] - forces).abs().max() < 1e-10 * forces.abs().max()


def test_import_refuses_what_is_no_dump(tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"dump_mace\.py"):
        import_mace(tmp_path / "model.npz")


def test_import_refuses_unknown_variants(tmp_path: Path) -> None:
    with np.load(FIXTURES / "mace_lih.npz") as stored:
        arrays = {k: stored[k] for k in stored.files}
    spec = json.loads(str(arrays["spec"]))
    arrays["spec"] = np.array(json.dumps(spec | {"pair_repulsion": True}))
    np.savez(tmp_path / "zbl.npz", **arrays)
    with pytest.raises(UserError, match="pair_repulsion"):
        import_mace(tmp_path / "zbl.npz")
    with pytest.raises(UserError, match=r"elements \[6\]"):
        import_mace(FIXTURES / "mace_lih.npz", species=[6])


def test_import_of_some_elements() -> None:
    """A model of two elements cut down to one gives the same energies for that element."""
    lithium = Atoms("Li2", positions=[[0, 0, 0], [1.6, 1.5, 1.7]], cell=np.eye(3) * 3.3, pbc=True)
    energies = []
    for species in (None, [3]):
        potential = import_mace(FIXTURES / "mace_lih.npz", species)
        graph = batch_graphs([build_graph(lithium, potential.cutoff)])
        energies.append(evaluate(potential, graph, forces=False)[keys.ENERGY].item())
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_polynomials_are_equivariant_and_independent(degree: int) -> None:
    irreps = tuple(natural(2))
    with default_dtype(torch.float64):
        rotation = o3.rand_matrix()
        wigner = {(l, p): o3.Irrep(l, p).D_from_matrix(rotation) for l in range(7) for p in (1, -1)}
    turn = torch.block_diag(*[wigner[ir] for ir in irreps])
    x = torch.randn(7, dimension(irreps), dtype=torch.float64)

    def values(basis: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        powers = torch.stack([y[:, list(m)].prod(dim=1) for m in monomials(y.shape[1], degree)], dim=1)
        return torch.einsum("bmq,nq->nbm", basis, powers)

    for ir, basis in equivariant_polynomials(irreps, degree).items():
        torch.testing.assert_close(values(basis, x @ turn.T), values(basis, x) @ wigner[ir].T)
        assert torch.linalg.matrix_rank(basis.flatten(1)) == len(basis)


def test_number_of_polynomials() -> None:
    """Invariants of degree 2 of 0e+1o+2e+3o: the four squared norms; of degree 3: the eight natural-parity triples."""
    assert len(equivariant_polynomials(tuple(natural(3)), 2)[Irrep(0, 1)]) == 4
    triples = {
        tuple(sorted((a, b, c)))
        for a in range(4)
        for b in range(4)
        for c in range(abs(a - b), min(a + b, 3) + 1)
        if (a + b + c) % 2 == 0
    }
    assert len(equivariant_polynomials(tuple(natural(3)), 3)[Irrep(0, 1)]) == len(triples)


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
@pytest.mark.parametrize("n_species", [1, 2])
def test_contraction_equals_reference(correlation: int, n_species: int) -> None:
    """Against the sum of weighted polynomials, written out monomial by monomial."""
    torch.manual_seed(0)
    irreps_in, irreps_out = natural(1), natural(1)
    lean = SymmetricContraction(irreps_in, irreps_out, correlation, 3, n_species).double()
    x, species = torch.randn(6, dimension(irreps_in), 3, dtype=torch.float64), torch.arange(6) % n_species
    expected, start = torch.zeros(6, dimension(irreps_out), 3, dtype=torch.float64), 0
    for ir, degree, n in lean.terms:
        basis = equivariant_polynomials(tuple(irreps_in), degree)[ir]
        powers = torch.stack([x[:, list(m)].prod(dim=1) for m in monomials(x.shape[1], degree)], dim=1)
        weight = lean.weight[species, start : start + n]
        expected[:, slices(irreps_out)[irreps_out.index(ir)]] += torch.einsum("bmq,nqc,nbc->nmc", basis, powers, weight)
        start += n
    assert start == lean.weight.shape[1]
    torch.testing.assert_close(lean(x, species), expected)
