"""The run directory: where everything a run leaves behind is, and what it says of itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from mlffx.errors import UserError
from mlffx.files import write_atomically as write_atomically
from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential

PACKAGES = (
    "mlffx",
    "torch",
    "pytorch-lightning",
    "torch-geometric",
    "e3nn",
    "ase",
    "phonopy",
    "symfc",
    "numpy",
    "scipy",
)


MEMBERS = "members"


class RunDirectory:
    """Paths and small files of one run.

    ```
    config.yaml  environment.json  status.json  metrics.csv  metrics.json
    checkpoints/best.ckpt, last.ckpt         (one member)
    members/0/..., members/1/...             (an ensemble; each laid out like a run of its own)
    ```
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def fit(self) -> Path:
        return self.path / "fit.json"

    def members(self, n: int) -> list[RunDirectory]:
        """Directories of the members; the run itself where there is one only."""
        return [self] if n == 1 else [RunDirectory(self.path / MEMBERS / str(k)) for k in range(n)]

    def start(
        self,
        config: Mapping[str, Any],
        hashes: Mapping[str, str],
        base_config: Mapping[str, Any] | None = None,
        base_run: Path | None = None,
    ) -> None:
        """Create the directory with config.yaml, environment.json and, for a delta that trains its base, base.yaml.

        Raises:
            UserError: when it cannot be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the run directory ({error.strerror})", "set run_dir=...", self.path
            ) from error
        about = environment(hashes) | {"base": base_run and str(base_run.resolve())}
        write_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False))
        write_atomically(self.path / "environment.json", json.dumps(about, indent=1))
        if base_config is not None:
            write_atomically(self.path / "base.yaml", yaml.safe_dump(dict(base_config), sort_keys=False))

    def set_status(self, state: str, **details: Any) -> None:
        """status.json: `running`, `finished`, `interrupted` or `failed`, and since when."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        write_atomically(self.path / "status.json", json.dumps({"state": state, "time": stamp, **details}, indent=1))

    def set_member_finished(self) -> None:
        """For a member of an ensemble. A run of one member is finished when its metrics are written, and not before."""
        if self.path.parent.name == MEMBERS:
            self.set_status("finished")

    def set_status_of(self, error: BaseException) -> None:
        """status.json of a run that an error or a signal ended; traceback.txt for what is no mistake of the user's."""
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        reason = str(error) or type(error).__name__
        with contextlib.suppress(UserError):  # a full disk may be the very reason
            self.set_status(state, reason=" ".join(reason.split()))
            if not isinstance(error, UserError | KeyboardInterrupt | SystemExit):
                lines = traceback.format_exception(type(error), error, error.__traceback__)
                write_atomically(self.path / "traceback.txt", "".join(lines))

    def status(self) -> str:
        """State of the run, `absent` where there is none."""
        try:
            return json.loads((self.path / "status.json").read_text())["state"]
        except (OSError, ValueError, KeyError):
            return "absent"

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        write_atomically(self.path / "metrics.json", json.dumps(dict(metrics), indent=1))

    def write_fit(self, fit: Mapping[str, Any]) -> None:
        """fit.json: what least squares says of itself."""
        write_atomically(self.fit, json.dumps(dict(fit), indent=1))

    def read_metrics(self) -> dict[str, Any]:
        return json.loads((self.path / "metrics.json").read_text())

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            UserError: when this is no run directory.
        """
        try:
            return yaml.safe_load(self.config.read_text())
        except FileNotFoundError as error:
            raise UserError(
                "no run directory (no config.yaml)", "give the directory train.py wrote", self.path
            ) from error
        except yaml.YAMLError as error:
            raise UserError("unreadable config.yaml", "restore it or train again", self.config) from error


def environment(hashes: Mapping[str, str]) -> dict[str, Any]:
    """Versions, commit, machine and data hashes."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "versions": versions,
        "commit": _commit(),
        "data": dict(hashes),
    }


def _commit() -> str | None:
    """Commit of the checkout this code runs from, with a mark if it was changed."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "") if head.returncode == 0 else None


def fingerprint(config: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """Short hash of what decides the result of a run: its configuration and its data."""
    text = json.dumps([config, dict(hashes)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


WITHOUT_EFFECT = {  # on the weights; may differ from one session of a run to the next
    "": ("run_dir", "cache_dir", "logger", "wandb"),
    "trainer": ("progress", "workers", "threads", "devices", "num_nodes", "strategy", "accelerator"),
}


def refuse_mixing(run: RunDirectory, config: Mapping[str, Any]) -> None:
    """Whether a configuration may be trained in a directory: a new one, or that of the same run, unfinished.

    Raises:
        UserError: for a finished run, and for a run of another configuration.
    """
    if run.status() == "finished":
        raise UserError("this run is finished", "evaluate it, or set another run_dir", run.path)
    if run.status() == "absent" or not run.config.is_file():
        return
    stored, wanted = _decisive(run.read_config()), _decisive(config)
    if differing := sorted(k for k in stored.keys() | wanted.keys() if stored.get(k) != wanted.get(k)):
        raise UserError(
            f"an unfinished run of another configuration is here ({', '.join(differing[:4])} differ)",
            f"resume={run.path} finishes it; take another run_dir, or remove it, for a new one",
            run.path,
        )


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and values that decide the weights."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            ignored = WITHOUT_EFFECT.get(key, ())
            found |= (
                {f"{key}.{k}": v for k, v in value.items() if k not in ignored}
                if key not in ("wandb", "logger")
                else {}
            )
        elif key not in WITHOUT_EFFECT[""]:
            found[key] = value
    return found


def load_members(path: Path | str) -> list[Potential]:
    """Trained potentials of a run: of `members/*`, or the single one of the run itself.

    Raises:
        UserError: for a directory that is no run, or a checkpoint that cannot be read.
    """
    run = RunDirectory(path)
    if not run.path.is_dir():
        raise UserError("no such run directory", "train first, or check the path", f"run={path}")
    folders = [f for f in (run.path / "members").glob("*") if f.is_dir() and f.name.isdigit()]
    members = [RunDirectory(f).best for f in sorted(folders, key=lambda f: int(f.name))]
    finished = [p for p in members if p.is_file()]
    if members and not finished:
        raise UserError("no member of the ensemble has a checkpoint", "resume=RUN_DIR finishes it", path)
    if not members and not run.best.is_file():
        raise UserError("no checkpoint in this directory", "is it a run directory? has it finished an epoch?", path)
    return [load_potential(p) for p in (finished or [run.best])]
