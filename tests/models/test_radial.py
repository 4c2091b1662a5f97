from __future__ import annotations

import math

import pytest
import torch

from mlffx.models.radial import BesselBasis, GaussianBasis, polynomial_envelope, segment_sum


@pytest.mark.parametrize("p", [3, 6])
def test_envelope_vanishes_with_two_derivatives(p: int) -> None:
    x = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    value = polynomial_envelope(x, p)
    first = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    assert value[0] == 1.0 and 0 < value[1] < 1
    assert torch.stack([value, first, second])[:, 2].abs().max() < 1e-12


def test_bessel_functions_are_spherical_waves_under_the_envelope() -> None:
    """Orthonormal on the sphere without their envelope: int_0^c r^2 e_m e_n dr = delta_mn (Gasteiger et al., eq. 7)."""
    cutoff, basis = 4.0, BesselBasis(5, 4.0)
    r = torch.linspace(1e-6, cutoff - 1e-6, 20001, dtype=torch.float64)
    waves = basis(r) / polynomial_envelope(r / cutoff).unsqueeze(-1)
    overlap = torch.einsum("r,rm,rn->mn", r**2, waves, waves) * (r[1] - r[0])
    torch.testing.assert_close(overlap[:3, :3], torch.eye(3, dtype=torch.float64), atol=1e-3, rtol=0)
    assert basis(torch.tensor([cutoff], dtype=torch.float64)).abs().max() < 1e-12


def test_gaussians_are_one_at_their_centres() -> None:
    basis = GaussianBasis(4, cutoff=4.0, start=1.0)
    values = basis(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(values.diagonal(), torch.ones(4, dtype=torch.float64))
    assert values[0, 1].item() == pytest.approx(math.exp(-0.5))


def test_segment_sum() -> None:
    out = segment_sum(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([2, 0, 2]), 4)
    assert out.flatten().tolist() == [2.0, 0.0, 5.0, 0.0]
