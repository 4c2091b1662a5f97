"""What `make demo` takes: the analytic twin is always at hand, other labels say why they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlffx.demo import JOBS, at_hand


def test_the_twin_is_always_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFFX_DATA_ROOT", str(tmp_path))
    diamond, twin = JOBS
    assert at_hand(twin) is None
    missing = at_hand(diamond)
    assert missing is not None and str(tmp_path) in missing
