"""Radial functions shared by the architectures: smooth envelopes and bases on [0, cutoff)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def polynomial_envelope(x: Tensor, p: int = 6) -> Tensor:
    """u(x) of Gasteiger et al. (2020), eq. 8: 1 at x=0, zero with its first and second derivatives at x=1.

    Args:
        x: r / cutoff, any shape, below 1.
    """
    xp = x**p
    return 1 - xp * (0.5 * (p + 1) * (p + 2) - x * (p * (p + 2) - x * (0.5 * p * (p + 1))))


class BesselBasis(nn.Module):
    """sqrt(2/c) sin(n pi r / c) / r times the polynomial envelope, n = 1 ... n_radial (Gasteiger et al., 2020).

    Args:
        n_radial: number of functions.
        cutoff: A.
        envelope_power: p of the envelope.
    """

    def __init__(self, n_radial: int, cutoff: float, envelope_power: int = 6) -> None:
        super().__init__()
        self.cutoff, self.power, self.n_radial = cutoff, envelope_power, n_radial

    def forward(self, lengths: Tensor) -> Tensor:
        """[n_edges] in A -> [n_edges, n_radial]."""
        x = (lengths / self.cutoff).clamp(max=1.0).unsqueeze(-1)
        frequencies = torch.arange(1, self.n_radial + 1, dtype=x.dtype, device=x.device) * math.pi
        waves = torch.sin(x * frequencies) / x
        return math.sqrt(2.0 / self.cutoff) / self.cutoff * waves * polynomial_envelope(x, self.power)


class GaussianBasis(nn.Module):
    """exp(-(r - mu_n)^2 / (2 d^2)) with centres mu_n from `start` to the cutoff, d apart (Schuett et al., 2017).

    Not zero at the cutoff: what is made of it is multiplied by `polynomial_envelope`.
    """

    def __init__(self, n_radial: int, cutoff: float, start: float = 0.0) -> None:
        super().__init__()
        self.spacing = (cutoff - start) / (n_radial - 1)
        self.start, self.n_radial = start, n_radial

    def forward(self, lengths: Tensor) -> Tensor:
        """[n_edges] in A -> [n_edges, n_radial]."""
        order = torch.arange(self.n_radial, dtype=lengths.dtype, device=lengths.device)
        return torch.exp(-0.5 * ((lengths - self.start).unsqueeze(-1) / self.spacing - order) ** 2)


def segment_sum(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum rows of `values` [n_edges, ...] that share an index: [n, ...]."""
    return values.new_zeros((n, *values.shape[1:])).index_add(0, index, values)
