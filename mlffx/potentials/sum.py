"""Sums of potentials: a delta potential is base + difference, and so are its forces, stress and force constants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data

from mlffx.data import keys
from mlffx.data.graph import Edges
from mlffx.potentials.base import Potential


class SumPotential(Potential):
    """E = sum of the terms; PARTS carries each of them by name.

    Args:
        terms: name -> potential, e.g. {"base": dft, "delta": difference}. Terms may themselves be sums (ladders).
    """

    def __init__(self, terms: dict[str, Potential]) -> None:
        super().__init__()
        self.terms: nn.ModuleDict = nn.ModuleDict(terms)
        self.cutoff = max(term.cutoff for term in terms.values())
        self.crystal = next((t.crystal for t in terms.values() if t.crystal is not None), None)

    def _potentials(self) -> Iterable[tuple[str, Potential]]:
        return self.terms.items()  # type: ignore[return-value]

    def forward(self, graph: Data, edges: Edges) -> dict[str, Any]:
        results = {name: term(graph, edges.within(term.cutoff)) for name, term in self._potentials()}
        parts = {name: result[keys.ENERGY] for name, result in results.items()}
        out = dict(results[next(reversed(results))])  # charges and the like: those of the last term
        features = [result[keys.FEATURES].to(torch.float64) for result in results.values() if keys.FEATURES in result]
        if features:
            out[keys.FEATURES] = torch.cat(features, dim=-1)
        return out | {keys.ENERGY: sum(parts.values()), keys.PARTS: parts}

    def feature_sizes(self) -> list[int]:
        return [size for _, term in self._potentials() for size in term.feature_sizes()]

    def only_sums(self) -> list[bool]:
        return [alike for _, term in self._potentials() for alike in term.only_sums()]

    def posterior_samples(self, n: int, seed: int) -> list[Potential]:
        drawn = {name: term.posterior_samples(n, seed + k) for k, (name, term) in enumerate(self._potentials())}
        if not any(drawn.values()):
            return []
        return [
            SumPotential({name: drawn[name][i] if drawn[name] else term for name, term in self._potentials()})
            for i in range(n)
        ]

    def set_precision(self, dtype: Any) -> Potential:
        for _, term in self._potentials():
            term.set_precision(dtype)
        return self

    def spec(self) -> dict[str, Any]:
        return {"kind": "sum", "terms": {name: term.spec() for name, term in self._potentials()}}
