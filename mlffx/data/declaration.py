"""The configuration of a data set of collected files: a file like those of conf/data, a level added at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlffx.data.levels import parse_levels
from mlffx.errors import UserError

_NEW: dict[str, Any] = {"crystal": "auto", "low": None, "levels": {}, "validation_size": 0.1, "test_size": 0.1}


def declared(path: Path | None, level: str, file: Path, labels: Sequence[str]) -> dict[str, Any]:
    """The configuration in `path`, or a new one, with this level in it.

    Args:
        path: configuration to add to, if it exists; names the data set.
        level: its name; one of this name is replaced.
        file: of its labels.
        labels: that it has.

    Raises:
        UserError: when the file is no configuration of declared files.
    """
    if path is not None and path.is_file():
        config = _load(path)
    else:
        name = path.stem if path is not None else file.stem
        config = {"kind": "files", "name": name, "root": str(file.absolute().parent), **_NEW}
    levels = dict(config.get("levels") or {})
    relative = os.path.relpath(file.absolute(), Path(config.get("root") or ".").absolute())
    levels[level] = {"file": relative, "labels": list(labels)}
    parse_levels(levels)
    return {**config, "levels": levels}


def written(config: Mapping[str, Any]) -> str:
    """As YAML, a level a line."""
    top = {key: value for key, value in config.items() if key != "levels"}
    lines = ["levels:"] + [
        f"  {name}: {yaml.safe_dump(spec, default_flow_style=True, width=1000, sort_keys=False).strip()}"
        for name, spec in config["levels"].items()
    ]
    return yaml.safe_dump(top, sort_keys=False) + "\n".join(lines) + "\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"not YAML ({str(error).splitlines()[0]})", "mend the file", path) from error
    if not isinstance(config, dict) or config.get("kind") != "files":
        raise UserError(
            "no data set of declared files (kind: files)", "give a new file or one written by collect", path
        )
    return config
