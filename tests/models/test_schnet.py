from __future__ import annotations

from typing import Any, ClassVar

import torch
from cases import Case, close
from suite import ModelSuite
from torch import Tensor

from mlffx.data.graph import Edges, edges_of
from mlffx.models.radial import polynomial_envelope, segment_sum
from mlffx.models.schnet import SchNet


def plain_describe(model: SchNet, graph: Any, edges: Edges) -> Tensor:
    """The equations of the paper edge by edge."""
    s = model.embedding(model.species_index(graph))
    envelope, layers = polynomial_envelope(edges.lengths / model.cutoff).unsqueeze(-1), []
    for block in model.convolutions:
        filters = block.filter_out(block.filter_in(model.basis(edges.lengths))) * envelope  # type: ignore[operator]
        messages = block.before(s)[edges.sender] * filters  # type: ignore[operator]
        s = s + block.after(segment_sum(messages, edges.receiver, len(s)) / model.norm)  # type: ignore[operator]
        layers.append(s)
    return torch.cat(layers, dim=-1)


class TestSchNet(ModelSuite):
    options: ClassVar[dict[str, Any]] = {"name": "schnet", "n_hidden": 16, "n_radial": 10, "n_filter": 8}
    training_steps: ClassVar[int] = 120  # a smooth function of distances only: energies alone teach it slowly

    def test_equals_plain_form(self, case: Case) -> None:
        model, graph = case.potential.model, case.graph([case.atoms, case.crystal.primitive()])
        assert isinstance(model, SchNet)
        close(model.describe(graph, edges_of(graph)), plain_describe(model, graph, edges_of(graph)), 1e-12)
