"""Sweeps run as users run them, in this process; their jobs have processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlffx.command_line import run_checked
from mlffx.training.entry import entry_point


@pytest.fixture
def sweep(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run `train.py -m` with these overrides in tmp_path/sweep; returns exit status and what was said."""

    def run(*overrides: str, name: str = "sweep") -> tuple[int, str]:
        places = [f"sweep_dir={tmp_path / name}", f"cache_dir={tmp_path / 'bases'}"]
        arguments = [
            "-m",
            *overrides,
            *[p for p in places if not any(o.startswith(p.split("=")[0]) for o in overrides)],
        ]
        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        status = 0
        try:
            run_checked(lambda: entry_point(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
        said = capfd.readouterr()
        return status, said.out + said.err

    return run
