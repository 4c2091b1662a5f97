"""Short references for the lean equivariant operations, written with e3nn's general ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from e3nn import o3

from mlffx.data.graph import Edges
from mlffx.models.convolution import Convolution, SpeciesConvolution
from mlffx.models.radial import segment_sum


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def e3nn_convolution(
    convolution: Convolution | SpeciesConvolution, weights: torch.Tensor, x: torch.Tensor, edges: Edges, l_max: int
) -> list[torch.Tensor]:
    """The same sums by e3nn's tensor product, edge by edge; per path [n_atoms, m3, channels]."""
    c = x.shape[2]
    y = o3.spherical_harmonics(list(range(l_max + 1)), edges.vectors, True, "component")
    irreps_in = list(dict.fromkeys(path[0] for path in convolution.paths))
    starts, out = (
        dict(zip(irreps_in, torch.tensor([0, *[ir.dim for ir in irreps_in]]).cumsum(0).tolist(), strict=False)),
        [],
    )
    for k, (a, b, ir) in enumerate(convolution.paths):
        with default_dtype(torch.float64):  # e3nn keeps its constants in the default type
            product = o3.TensorProduct(
                f"{c}x{o3.Irrep(*a)}",
                f"1x{o3.Irrep(*b)}",
                f"{c}x{o3.Irrep(*ir)}",
                [(0, 0, 0, "uvu", True)],
                shared_weights=False,
                internal_weights=False,
            )
        features = x[edges.sender, starts[a] : starts[a] + a.dim].transpose(1, 2).flatten(1)
        message = product(features, y[:, b.l**2 : (b.l + 1) ** 2], weights[:, k * c : (k + 1) * c])
        out.append(segment_sum(message, edges.receiver, len(x)).unflatten(1, (c, ir.dim)).transpose(1, 2))
    return out
