"""Where each value of a composed configuration comes from: a file of conf/, one of the user's, or the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from mlffx.compose import CONF, CONTROL, composed, opened, parsed, plain
from mlffx.errors import UserError

COMMAND_LINE = "command line"
COMMENT_COLUMN = 48
GLOBAL = "# @package _global_"


def sources(config_name: str, overrides: Sequence[str]) -> dict[str, str]:
    """`{"optimizer.lr": "conf/optimizer/adamw.yaml"}`: of every key that a file or the command line sets, the last one.

    Raises:
        UserError: for a configuration that cannot be composed.
    """
    composed(config_name, overrides)  # mistakes are told there
    found: dict[str, str] = {}
    choices = _choices(config_name, overrides)
    for entry in _read(CONF / f"{config_name}.yaml").get("defaults", []):
        if entry == "_self_":
            _enter(_read(CONF / f"{config_name}.yaml"), "", CONF / f"{config_name}.yaml", found)
        elif isinstance(entry, Mapping):
            group = next(iter(entry))
            choice = choices.get(str(group))
            if choice is not None and not str(group).startswith("override"):
                _from_group(str(group), str(choice), found)
    for override in overrides:
        if override.startswith("data=") and override.endswith((".yaml", ".yml")):
            _enter(_read(Path(override.removeprefix("data="))), "data", Path(override.removeprefix("data=")), found)
    for given in parsed([o for o in overrides if not o.startswith("data=") or "." not in o]):
        key = str(given.key_or_group)
        if not (CONF / key).is_dir():
            for known in [k for k in found if k.startswith(f"{key}.")]:
                del found[known]
            found[key] = COMMAND_LINE
    return found


def source_of(key: str, found: Mapping[str, str]) -> str | None:
    """Of a key, or of the nearest one above it that was set as a whole."""
    while key:
        if key in found:
            return found[key]
        key = key.rpartition(".")[0]
    return None


@contextlib.contextmanager
def naming_sources(config_name: str, overrides: Sequence[str]) -> Iterator[None]:
    """Adds to a mistake in a key which file has set it.

    Raises:
        UserError: the one from inside, with the file.
    """
    try:
        yield
    except UserError as error:
        where = None
        with contextlib.suppress(UserError):
            where = source_of(error.where, sources(config_name, overrides))
        if where in (None, COMMAND_LINE):
            raise
        raise UserError(error.what, error.remedy, f"{error.where} (set in {where})") from error


def show(config: DictConfig, config_name: str, overrides: Sequence[str]) -> None:
    """Print a composed configuration as YAML, with the source of every value behind it."""
    found = sources(config_name, overrides)
    for line, key in _lines(plain(config), "", 0):
        origin = source_of(key, found) if key else None
        print(f"{line:<{COMMENT_COLUMN}} # {origin}" if origin else line)


def groups(config_name: str) -> dict[str, list[str]]:
    """Groups a configuration is composed of, and the choices of each."""
    names = [
        str(key)
        for entry in _read(CONF / f"{config_name}.yaml").get("defaults", [])
        if isinstance(entry, Mapping)
        for key in entry
        if not str(key).startswith("override")
    ]
    return {name: sorted(p.stem for p in (CONF / name).glob("*.yaml")) for name in names}


def help_text(config_name: str) -> str:
    """What --help prints: the template of the configuration, with its own groups only."""
    about = _read(CONF / f"{config_name}.yaml")["hydra"]["help"]
    width = max(map(len, groups(config_name)))
    listing = "".join(f"  {name:<{width}}  {' '.join(found)}\n" for name, found in groups(config_name).items())
    text = about["template"].replace("${hydra.help.header}", about["header"])
    return text.replace("$APP_CONFIG_GROUPS", listing).rstrip() + "\n"


def _choices(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Group -> chosen file, presets and the command line taken into account."""

    def chosen() -> dict[str, Any]:
        config = compose(config_name, opened(overrides), return_hydra_config=True)
        return dict(config.hydra.runtime.choices)

    if GlobalHydra.instance().is_initialized():
        return chosen()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return chosen()


def _from_group(group: str, choice: str, found: dict[str, str]) -> None:
    """Keys of a file of a group, those of the files it is made from first."""
    path = CONF / group / f"{choice}.yaml"
    values = _read(path)
    for entry in values.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            _from_group(group, entry, found)
    package = "" if path.read_text(encoding="utf-8").startswith(GLOBAL) else group
    _enter(values, package, path, found)


def _enter(values: Mapping[str, Any], prefix: str, path: Path, found: dict[str, str]) -> None:
    name = str(path.relative_to(CONF.parent)) if path.is_relative_to(CONF) else str(path)
    for key, value in values.items():
        if prefix == "" and key in ("defaults", "hydra"):
            continue
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            _enter(value, dotted, path, found)
        elif key != "defaults":
            found[dotted] = name


def _lines(values: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the dotted key whose value it holds (none for the heads of nested ones)."""
    for key, value in values.items():
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if not prefix and key in CONTROL:
            continue
        if isinstance(value, Mapping) and value:
            yield "  " * depth + f"{key}:", ""
            yield from _lines(value, dotted, depth + 1)
        else:
            text = yaml.safe_dump({key: value}, default_flow_style=True, width=10**6, allow_unicode=True).strip()
            yield "  " * depth + text[1:-1], dotted


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
