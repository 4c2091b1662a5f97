"""Between Hydra and the package: compose a configuration, explain what is wrong with it, derive that of the base."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlffx.errors import UserError, nearest

CONF = Path(__file__).resolve().parent.parent / "conf"
CONTROL = ("resume", "print", "sweep", "sweep_dir", "launcher", "search")  # keys for the entry points, not for the run
FREE = ("data.levels", "data.noise", "data.rounding", "phonons.isotopes")  # names below them are the user's


def composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose conf/<config_name>.yaml with command-line overrides.

    Raises:
        UserError: for an unknown key or group, with the nearest valid name.
    """
    try:
        if GlobalHydra.instance().is_initialized():
            return compose(config_name, opened(overrides))
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(config_name, opened(overrides))
    except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
        raise _explained(error, config_name, overrides) from error


def opened(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra wants them.

    Names that are the user's (`data.noise.high=0.003`) are marked as additions, and a data set's own file
    (`data=own.yaml`) is written out as `data=files` with its keys.
    """
    found = []
    for override in overrides:
        file = re.fullmatch(r"data=(.+\.ya?ml)", override)
        if file:
            found += _written_out(Path(file.group(1)))
        else:
            found.append(
                "++" + override if any(re.match(rf"{re.escape(key)}[.=]", override) for key in FREE) else override
            )
    return found


def _written_out(path: Path) -> list[str]:
    """Overrides that say what a data set's file says.

    Raises:
        UserError: for a file that is missing, no YAML, or not of `kind: files`.
    """
    if not path.is_file():
        raise UserError(f"no such file '{path}'", "`python -m mlffx.data collect` writes one", "data")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"not YAML ({str(error).splitlines()[0]})", "mend the file", path) from error
    if not isinstance(config, Mapping) or config.get("kind") != "files":
        raise UserError("only data sets of kind: files are taken from a file of one's own", "see conf/data", path)
    keys = [f"{'++' if key == 'levels' else ''}data.{key}={_in_hydra(value)}" for key, value in config.items()]
    return ["data=files", *keys]


def _in_hydra(value: Any) -> str:
    """A plain value in the grammar of Hydra's overrides."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {_in_hydra(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_in_hydra, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolved plain dictionary without the entry points' own keys.

    Raises:
        UserError: for a value that is still missing.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", "") or ""
        raise UserError(f"is missing ({str(error).splitlines()[0]})", f"set {key}=...", key) from error
    assert isinstance(values, dict)
    return {str(k): v for k, v in values.items() if k not in (*CONTROL, "hydra", "experiment")}


def base_overrides(overrides: Sequence[str], low: str, extra: Sequence[str]) -> list[str]:
    """Overrides that train the base of a delta: the run's own, at the low level and direct, then `base_overrides`.

    What only concerns the difference (its kind, loss, output) is left out; `extra` may name any of it again.
    """
    dropped = ("potential", "delta", "level", "run_dir", "loss", "hydra", *CONTROL)
    kept = [o for o in overrides if _group(o.lstrip("+~")) not in dropped]
    level = [f"level={low}"] if _has_level(low) else ["level=declared", f"level.name={low}"]
    given = {key_of(o) for o in extra}
    own = [o for o in [*kept, *level, "potential=direct"] if key_of(o) not in given]
    return [*own, *extra]


def _group(override: str) -> str:
    return re.split(r"[.=/]", override)[0]


def key_of(override: str) -> str:
    """`optimizer.lr` of `+optimizer.lr=1e-3`."""
    return override.lstrip("+~").split("=", 1)[0]


def _has_level(name: str) -> bool:
    return (CONF / "level" / f"{name}.yaml").is_file()


def _explained(error: Exception, config_name: str, overrides: Sequence[str]) -> UserError:
    """One line for what Hydra says in several."""
    text = " ".join(str(error).split())
    if match := re.search(r"Could not find '([^/']+)/([^']+)'", text):
        group, choice = match.groups()
        folder = CONF / group
        if folder.is_dir():
            return UserError(f"unknown {group} '{choice}'", nearest(choice, _choices(folder)), group)
    if match := re.search(r"Could not override '([^']+)'", text):
        key = str(getattr(error.__cause__, "full_key", None) or match.group(1))
        if "No match in the defaults list" in text or "/" in key:
            return UserError(f"no config group '{key}'", nearest(key, _groups()), key)
        return UserError(f"no such key '{key}'", nearest(key, _keys(config_name, overrides)), key)
    if match := re.search(r"Error merging override ([^=]+)=(.*)", text):
        return UserError(
            f"'{match.group(2)}' is of another kind than what is there", "see print=true", match.group(1).lstrip("+")
        )
    if isinstance(error, OverrideParseException):
        remedy = "write KEY=VALUE, and quotes around spaces, brackets and braces"
        return UserError(f"'{error.override}' is not understood", remedy, "command line")
    if isinstance(error, AssertionError):  # Hydra's parser at `+=`
        text = "an override without a key"
    return UserError(text, "write KEY=VALUE; see --help", "command line")


def _choices(folder: Path) -> list[str]:
    return [p.stem for p in folder.glob("*.yaml")]


def _groups() -> list[str]:
    return [p.name for p in CONF.iterdir() if p.is_dir()]


def _keys(config_name: str, overrides: Sequence[str]) -> list[str]:
    """Every dotted key of the configuration composed with only those overrides that choose groups."""
    known = [o for o in parsed(overrides) if o.key_or_group and (CONF / o.key_or_group).is_dir()]
    groups = [o.input_line for o in known if o.input_line]
    try:
        with_groups = composed(config_name, groups)
    except UserError:
        with_groups = composed(config_name, [])
    found: list[str] = []

    def walk(node: Any, path: str) -> None:
        for key in node:
            name = f"{path}.{key}" if path else str(key)
            found.append(name)
            child = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index, call-overload]
            if isinstance(child, Mapping):
                walk(node[key], name)

    walk(with_groups, "")
    return found


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra understands them: which of them are sweeps, and over what.

    Raises:
        UserError: for an override that is not understood.
    """
    try:
        return OverridesParser.create().parse_overrides(opened(overrides))
    except (HydraException, AssertionError) as error:
        raise _explained(error, "train", overrides) from error


def show(config: DictConfig) -> None:
    """Print the composed configuration as YAML."""
    print(yaml.safe_dump(plain(config), sort_keys=False), end="")
