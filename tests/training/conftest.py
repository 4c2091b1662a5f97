"""The command line, run in this process: the real entry points on a small analytic twin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlffx.command_line import run_checked
from mlffx.evaluation.entry import entry_point as evaluate_entry
from mlffx.training.entry import entry_point as train_entry


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train with overrides; returns the run directory."""

    def run(*overrides: str, name: str = "run") -> Path:
        out = tmp_path / name
        arguments = [*overrides, f"run_dir={out}", f"cache_dir={tmp_path / 'bases'}"]
        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        train_entry(arguments)
        return out

    return run


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The one line an entry point says of a mistake; fails if it works, exits with 0 or says more than a line."""

    def run(*arguments: str, program: str = "train") -> str:
        entry = train_entry if program == "train" else evaluate_entry
        monkeypatch.setattr("sys.argv", [f"{program}.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run_checked(lambda: entry(list(arguments)))
        assert stopped.value.code == 2
        said = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in said if line.startswith("error: ")]
        assert len(errors) == 1, said
        assert said[-1] == errors[0]
        return errors[0]

    return run
