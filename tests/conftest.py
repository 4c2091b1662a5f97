"""What every test may need: the paper's data where it is at hand, and one thread a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


def paper_data_root() -> Path | None:
    """A local copy of the paper's data: MLFFX_DATA_ROOT, or beside the checkout."""
    declared = os.environ.get("MLFFX_DATA_ROOT")
    for place in ([Path(declared)] if declared else []) + [ROOT.parent / "shared" / "data" / "MLphononsdata"]:
        if (place / "c" / "200221forcc.xyz").is_file():
            return place
    return None


@pytest.fixture(scope="session")
def paper_data() -> Path:
    """Root of the paper's data, or a skip that says how to get it."""
    root = paper_data_root()
    if root is None:
        pytest.skip("the paper's data is not here: `python -m mlffx.data fetch`, or set MLFFX_DATA_ROOT")
    return root
