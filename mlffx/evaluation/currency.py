"""Is an evaluation still current? What it was made from, written beside it, and what has changed since."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import mlffx
from mlffx.evaluation.control_runs import chosen
from mlffx.evaluation.harmonic import PhononSettings
from mlffx.evaluation.settle_control import settle_labels
from mlffx.training.run_directory import RunDirectory, write_atomically

FILE = "made_from.json"
PRODUCTS = ("phonons.json", "comparison.csv", "spectra.npz", "measured.json", "report.html")
CODE = (".py", ".yaml", ".csv", ".j2", ".css", ".js")  # what the numbers and the page depend on
APART = (  # what no evaluation of a run depends on
    *("evaluation/study", "evaluation/templates/study", "sweeps", "active", "labels"),
    *("command_line.py", "compose.py", "demo.py"),
)


def ingredients(
    run: Path | str,
    phonons: PhononSettings,
    reference: str,
    samples: int,
    sigma_scale: float | None,
    settle: Path | str | None = None,
) -> dict[str, Any]:
    """Everything the harmonic part of an evaluation depends on, as plain values with names for people.

    Checkpoints and code are told by hashes of their content, so that a copy of a run is as current as the run.
    """
    directory, labels = RunDirectory(run), settle_labels(run, settle)
    checkpoints = [directory.best, *sorted((directory.path / "members").glob("*/checkpoints/best.ckpt"))]
    found = {str(p.relative_to(directory.path)): file_hash(p) for p in checkpoints if p.is_file()}
    return _plain(
        {
            "mlffx": mlffx.__version__,
            "code": code_hash(),
            "config.yaml": file_hash(directory.config) if directory.config.is_file() else None,
            "checkpoints": found,
            "phonons": asdict(phonons),
            "nac": file_hash(Path(phonons.nac)) if Path(phonons.nac).is_file() else None,
            "reference": reference,
            "samples": samples,
            "sigma_scale": sigma_scale,
            "settle": None if labels is None else file_hash(labels),
        }
    )


def stamp(
    directory: Path, made_from: Mapping[str, Any], controls: Sequence[str], dynamics: Mapping[str, Any], seconds: float
) -> None:
    """Write down what the evaluation in `directory` was made from, once all of its files are there."""
    extra = {"controls": list(controls), "dynamics": _wanted(dynamics), "seconds": round(seconds, 1)}
    content = {**made_from, **_plain(extra), "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_atomically(directory / FILE, json.dumps(content, indent=1))


def outdated(
    directory: Path, made_from: Mapping[str, Any], controls: str | Sequence[str] = (), dynamics: Any = None
) -> str | None:
    """Why the evaluation in `directory` has to be made (again); None where it is current.

    One with more controls than asked for, or with dynamics where none is asked for, is current too.

    Args:
        made_from: `ingredients` of now.
        controls, dynamics: as given to `evaluate`.
    """
    stored = read(directory)
    if not stored or any(not (directory / name).is_file() for name in PRODUCTS):
        return "it was not made yet"
    for name, value in made_from.items():
        if stored.get(name) != value:
            return _told(name, stored.get(name), value)
    if missing := [name for name in chosen(controls) if name not in stored.get("controls", [])]:
        return f"without the controls {', '.join(missing)}"
    wanted = _plain(_wanted(dynamics))
    if wanted and stored.get("dynamics") != wanted:
        return _told("dynamics", stored.get("dynamics"), wanted) if stored.get("dynamics") else "without dynamics"
    return None


def read(directory: Path) -> dict[str, Any]:
    """What an evaluation was made from; empty where nothing says so."""
    try:
        return json.loads((directory / FILE).read_text())
    except (OSError, ValueError):
        return {}


@cache
def code_hash() -> str:
    """Hash of the package's own files: another answer, another evaluation."""
    root, digest = Path(mlffx.__file__).parent, hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in CODE):
        name = path.relative_to(root).as_posix()
        if not name.startswith(APART):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Short hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _wanted(dynamics: Any) -> dict[str, Any]:
    """Settings of the dynamics that decide about its result; empty where there is none."""
    if not dynamics or not dynamics.get("enabled", True):
        return {}
    return {k: v for k, v in dynamics.items() if k not in ("enabled", "progress", "resume", "max_hours")}


def _told(name: str, old: Any, new: Any) -> str:
    """`phonons.mesh was 15, is 21`: the first difference, short."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return _told(f"{name}.{key}", old.get(key), new.get(key))
    if "code" in name or "checkpoint" in name or name == "config.yaml":
        return f"{name} changed"
    return f"{name} was {old}, is {new}"


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value, default=str))
