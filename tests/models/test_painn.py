from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from cases import Case, close
from suite import ModelSuite
from torch import Tensor

from mlffx.data import keys
from mlffx.data.graph import Edges, edges_of
from mlffx.models.painn import PaiNN
from mlffx.models.radial import segment_sum


def plain_describe(model: PaiNN, graph: Any, edges: Edges) -> Tensor:
    """The equations of the paper edge by edge: every filter is a tensor of [n_edges, n_hidden]."""
    n_atoms = len(graph[keys.NUMBERS])
    s = model.embedding(model.species_index(graph))
    v = s.new_zeros(n_atoms, 3, s.shape[1])
    radial, unit, layers = model.basis(edges.lengths), edges.vectors / edges.lengths.unsqueeze(-1), []
    for message, update in zip([model.first, *model.messages], model.updates, strict=True):
        filters = torch.einsum("ek,pkf->pef", radial, message.filters)
        sent = message.neighbour(s)[edges.sender].reshape(len(radial), len(filters), -1).transpose(0, 1)
        weights = filters * sent
        if message is model.first:
            ds, dv = weights[0], unit.unsqueeze(-1) * weights[1].unsqueeze(1)
        else:
            to_scalar, to_vector, gate = sent
            ds = filters[0] * to_scalar
            dv = unit.unsqueeze(-1) * (filters[2] * to_vector).unsqueeze(1)
            dv = dv + v[edges.sender] * (filters[1] * gate).unsqueeze(1)
        s = s + segment_sum(ds, edges.receiver, n_atoms) / model.norm
        v = v + segment_sum(dv, edges.receiver, n_atoms) / model.norm
        s, v = update(s, v)
        layers.append(s)
    return torch.cat(layers, dim=-1)


class TestPaiNN(ModelSuite):
    options: ClassVar[dict[str, Any]] = {"name": "painn", "n_hidden": 16, "n_radial": 6}

    def test_equals_plain_form(self, case: Case) -> None:
        model, graph = case.potential.model, case.graph([case.atoms, case.crystal.primitive()])
        assert isinstance(model, PaiNN)
        graph[keys.POSITIONS].requires_grad_(True)
        fast, plain = model.describe(graph, edges_of(graph)), plain_describe(model, graph, edges_of(graph))
        close(fast, plain, 1e-12)
        gradients = [torch.autograd.grad((x**2).sum(), graph[keys.POSITIONS])[0] for x in (fast, plain)]
        close(gradients[0], gradients[1], 1e-11)

    @pytest.mark.parametrize("n_interactions", [1, 3])
    def test_depth(self, n_interactions: int) -> None:
        torch.manual_seed(0)
        model = PaiNN([6], n_hidden=8, n_interactions=n_interactions).double()
        case = self.make("diamond")
        graph = case.graph(case.atoms)
        close(model.describe(graph, edges_of(graph)), plain_describe(model, graph, edges_of(graph)), 1e-12)
