"""The command line of train.py."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
import yaml

from mlffx.compose import CONF, base_overrides, composed, opened, plain
from mlffx.errors import UserError, nearest
from mlffx.provenance import help_text, naming_sources, show

FLAGS = (
    "-h",
    "--help",
    "-m",
    "--multirun",
    "-c",
    "--cfg",
    "--resolve",
    "--info",
    "--hydra-help",
)  # the rest is KEY=VALUE


def entry_point(arguments: list[str]) -> None:
    """Run train.py with these arguments.

    Raises:
        UserError: for anything a user can mend, before work starts.
    """
    overrides = [a for a in arguments if not a.startswith("-")]
    flags = [a for a in arguments if a.startswith("-")]
    if not flags:
        resume = next((o.split("=", 1)[1] for o in overrides if o.startswith("resume=")), None)
        if resume not in (None, "null"):
            return _resume(Path(resume), [o for o in overrides if not o.startswith("resume=")])
        config = composed("train", overrides)  # mistakes are told here, in one line
        return show(config, "train", overrides) if config.get("print") else _run(plain(config), overrides)
    if flags[0] in ("-h", "--help"):
        print(help_text("train"), end="")
        return None
    if unknown := [f for f in flags if f.split("=")[0] not in FLAGS]:
        raise UserError(f"unknown option '{unknown[0]}'", nearest(unknown[0], FLAGS), "command line")
    if "-m" in flags or "--multirun" in flags:
        from mlffx.sweeps.entry import sweep

        return sweep(overrides)
    sys.argv[1:] = opened(arguments)
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(_shown)()
    return None


def _shown(config: object) -> None:
    """Nothing more to do: the flag (--help, --cfg, --info) has shown what was asked for."""


def _run(values: dict, overrides: list[str]) -> None:
    from mlffx.training.train import train

    with naming_sources("train", overrides):
        train(values, base_config(values, overrides))


def base_config(values: dict, overrides: list[str]) -> dict | None:
    """Configuration of the base of a delta, with that of the base's own base (a ladder) under `base`."""
    potential = values["potential"]
    if potential["kind"] != "delta" or potential.get("base", "train") != "train":
        return None
    low = potential.get("low") or values["data"].get("low") or _low_level(values["data"])
    below = base_overrides(overrides, low, potential.get("base_overrides") or [])
    config = plain(composed("train", below))
    nested = base_config(config, below)
    return config if nested is None else config | {"base": nested}


def _low_level(data: dict) -> str:
    """Of files that do not name it."""
    from mlffx.data.assemble import low_level
    from mlffx.data.levels import parse_levels

    return low_level(data, parse_levels(data.get("levels") or {}))


def _resume(path: Path, others: list[str]) -> None:
    """Go on with an unfinished run; its own configuration decides, others may not be changed."""
    from mlffx.training.run_directory import RunDirectory
    from mlffx.training.train import train

    if others:
        raise UserError("a run is resumed as it is", f"leave out {' '.join(others)}", "resume")
    run = RunDirectory(path)
    values = run.read_config()
    stored = run.path / "base.yaml"
    base = yaml.safe_load(stored.read_text()) if stored.is_file() else None
    train(values, base, directory=path)
