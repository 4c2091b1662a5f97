"""`python -m mlffx.data fetch` and `python -m mlffx.data inspect data=diamond [data.root=DIR]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from mlffx.data.dataset import load_dataset
from mlffx.data.fetch import DEFAULT_URL, fetch
from mlffx.data.inspect import print_report
from mlffx.data.paper import FILES, LICENCE_NOTE, fetched_directory
from mlffx.errors import UserError, nearest

TWIN_SUPERCELL = 4  # X and L are commensurate with it
CONFIG_DIRECTORY = Path(__file__).resolve().parents[2] / "conf" / "data"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 2 after a mistake the user can mend, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m mlffx.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    getting = commands.add_parser("fetch", help="bring the paper's data into the cache, verified")
    getting.add_argument("--url", default=DEFAULT_URL, help="base address or directory (default: %(default)s)")
    getting.add_argument("--to", type=Path, default=None, help=f"directory (default: {fetched_directory()})")
    getting.add_argument("--only", default="", help="only files whose path contains this, e.g. c/ or lih/")
    looking = commands.add_parser("inspect", help="describe a data set")
    looking.add_argument("settings", nargs="+", metavar="key=value", help="data=NAME or FILE.yaml, then data.KEY=VALUE")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.command == "fetch")
    try:
        if options.command == "fetch":
            run_fetch(options.to or fetched_directory(), options.url, options.only, console)
        else:
            run_inspect(read_settings(options.settings), console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def run_fetch(target: Path, url: str, only: str, console: Console) -> None:
    """Fetch with a bar a file."""
    files = {file: blob for file, blob in FILES.items() if only in file}
    if not files:
        raise UserError(f"no file contains '{only}'", f"files: {', '.join(FILES)}", "--only")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(file: str, have: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=have, total=total)

        done = fetch(target, url, files, show)
    fetched = sum(state == "fetched" for state in done.values())
    console.print(
        f"{fetched} files fetched, {len(done) - fetched} already there and verified: {target}", highlight=False
    )
    console.print(LICENCE_NOTE, highlight=False)


def run_inspect(config: dict[str, Any], console: Console) -> None:
    """Describe a data set; of a twin, also the true phonons of its levels."""
    dataset = load_dataset(config)
    print_report(dataset, console)
    if config["kind"] != "twin" or dataset.crystal is None:
        return
    from mlffx.data.twin import twin_potentials
    from mlffx.lattice.branches import labelled_frequencies
    from mlffx.lattice.force_constants import autodiff
    from mlffx.lattice.phonons import Phonons

    table = Table(title="true frequencies, cm-1", caption="no NAC", title_justify="left")
    found = {
        level: labelled_frequencies(Phonons(autodiff(potential, dataset.crystal, TWIN_SUPERCELL)))
        for level, potential in twin_potentials(config).items()
    }
    for column in ("point", "branch", *found):
        table.add_column(column, justify="left" if column in ("point", "branch") else "right")
    for label in ("GAMMA", "X", "L"):
        for branch in next(iter(found.values()))[label]:
            values = (frequencies[label].get(branch) for frequencies in found.values())
            table.add_row(label, branch, *("" if value is None else f"{value:.1f}" for value in values))
    console.print(table)


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """A data set's configuration from `data=NAME` and `data.KEY=VALUE`, as a plain dictionary.

    Raises:
        UserError: for an unknown data set or a misspelt key.
    """
    pairs = [setting.partition("=") for setting in settings]
    for key, equals, _ in pairs:
        if not equals or not (key == "data" or key.startswith("data.")):
            raise UserError(f"'{key}' is not understood", "write data=NAME and data.KEY=VALUE")
    chosen = [value for key, _, value in pairs if key == "data"]
    if len(chosen) != 1:
        raise UserError("say once which data set", f"data=NAME, {nearest('', known_sets())}", "data")
    path = Path(chosen[0]) if chosen[0].endswith((".yaml", ".yml")) else CONFIG_DIRECTORY / f"{chosen[0]}.yaml"
    if not path.is_file():
        raise UserError(f"no data set '{chosen[0]}'", nearest(chosen[0], known_sets()), "data")
    try:
        config = OmegaConf.load(path)
    except Exception as error:
        raise UserError(f"not YAML ({str(error).splitlines()[0]})", "mend the file", path) from error
    assert isinstance(config, DictConfig)
    for key, _, value in pairs:
        if key != "data":
            _override(config, key.removeprefix("data."), value)
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0], "mend the file or the override", path) from error
    return plain  # type: ignore[return-value]


def known_sets() -> list[str]:
    """Names in conf/data."""
    return sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml"))


def _override(config: DictConfig, key: str, value: str) -> None:
    """Set a key that the file has; below `levels`, `noise` and `rounding` names are free."""
    head = key.split(".")[0]
    if head not in config:
        raise UserError(f"no such key 'data.{head}'", nearest(head, map(str, config)), "data")
    try:
        OmegaConf.update(config, key, OmegaConf.create(f"value: {value}").value, merge=True)
    except Exception as error:
        raise UserError(f"cannot set it to '{value}' ({str(error).splitlines()[0]})", where=f"data.{key}") from error


if __name__ == "__main__":
    sys.exit(main())
