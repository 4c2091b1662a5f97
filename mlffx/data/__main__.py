"""`python -m mlffx.data`: fetch the paper's data, inspect a data set, collect calculations into one.

python -m mlffx.data fetch
python -m mlffx.data inspect data=diamond
python -m mlffx.data collect 'calc/*/vasprun.xml' --level dft --out dft.xyz --data own.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn, track
from rich.table import Table

from mlffx.command_line import AGAIN, exit_status
from mlffx.data.cc4s import CORRECTIONS
from mlffx.data.collect import POLICIES, Request, collect, refuse_problems
from mlffx.data.dataset import load_dataset
from mlffx.data.declaration import declared, written
from mlffx.data.fetch import DEFAULT_URL, fetch
from mlffx.data.inspect import print_report
from mlffx.data.levels import ENERGY_UNITS
from mlffx.data.paper import FILES, LICENCE_NOTE, fetched_directory
from mlffx.errors import UserError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

MOST_PROBLEMS = 20  # of calculations, printed
TWIN_SUPERCELL = 4  # X and L are commensurate with it
CONFIG_DIRECTORY = Path(__file__).resolve().parents[2] / "conf" / "data"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status (mlffx/command_line.py)."""
    parser = argparse.ArgumentParser(
        prog="python -m mlffx.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    getting = commands.add_parser("fetch", help="bring the paper's data into the cache, verified")
    getting.add_argument("--url", default=DEFAULT_URL, help="base address or directory (default: %(default)s)")
    getting.add_argument("--to", type=Path, default=None, help=f"directory (default: {fetched_directory()})")
    getting.add_argument("--only", default="", help="only files whose path contains this, e.g. c/ or lih/")
    looking = commands.add_parser("inspect", help="describe a data set")
    looking.add_argument("settings", nargs="+", metavar="key=value", help="data=NAME or FILE.yaml, then data.KEY=VALUE")
    _collect_options(commands.add_parser("collect", help="gather a tree of calculations into one labelled file"))
    options = parser.parse_args(arguments)
    return exit_status(lambda: _run(options), AGAIN)


def _run(options: argparse.Namespace) -> None:
    console = Console(stderr=options.command == "fetch")
    if options.command == "fetch":
        run_fetch(options.to or fetched_directory(), options.url, options.only, console)
    elif options.command == "collect":
        run_collect(options, console)
    else:
        run_inspect(read_settings(options.settings), console)


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


def _collect_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("patterns", nargs="+", metavar="PATTERN", help="outputs, e.g. 'calc/*/vasprun.xml' (quoted)")
    add("--level", required=True, help="name of the level of theory, e.g. dft or ccsdt")
    add("--out", type=Path, required=True, help="labelled file to write, e.g. dft.xyz")
    add("--data", type=Path, help="configuration to make or to add the level to; train with data=FILE.yaml")
    add("--format", help="cc4s, cp2k, or ASE's name of a format (default: by the file's name)")
    add("--labels", default="", help="energy or energy,forces (default: forces where the files have them)")
    add(
        "--energy",
        help="VASP: free_energy (default, the forces are its derivatives) or sigma0; Cc4s: mp2, ccsd, ccsdt (default:"
        " the level); else a key of ASE's results",
    )
    add("--energy-unit", choices=list(ENERGY_UNITS), help="where the file does not say, or not rightly")
    add("--structures", help="of outputs without: a collected file, or a file beside each output (POSCAR)")
    add(
        "--reference",
        help="Cc4s: collected Hartree-Fock energies (hf.xyz) to add the correlation to; none: leave it bare",
    )
    flags = ", ".join(name.replace("_", "-") for name in CORRECTIONS)
    add("--corrections", default="", help=f"Cc4s: {flags}, as it estimated them (default: none)")
    add(
        "--bad-frames", choices=POLICIES, default="refuse", help="unconverged or unfinished ones (default: %(default)s)"
    )


def run_collect(options: argparse.Namespace, console: Console) -> None:
    """Collect, write, and print the configuration that uses it."""
    if options.out.suffix not in (".xyz", ".extxyz"):
        raise UserError(f"'{options.out}' is no extended XYZ file", "end its name in .xyz", "--out")
    request = Request(
        patterns=options.patterns,
        level=options.level,
        format=options.format,
        labels=tuple(filter(None, options.labels.split(","))),
        energy=options.energy,
        unit=options.energy_unit,
        structures=options.structures,
        reference=options.reference,
        corrections=tuple(filter(None, options.corrections.replace("-", "_").split(","))),
        bad_frames=options.bad_frames,
    )
    found = collect(request, lambda files: track(files, "reading", console=console, disable=not console.is_terminal))
    more = len(found.problems) - MOST_PROBLEMS
    for line in [*found.problems[:MOST_PROBLEMS], *([f"... and {more} more"] if more > 0 else []), *found.notes]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    refuse_problems(found, request)
    config = declared(options.data, options.level, options.out, found.labels)
    found.write(options.out)
    if options.data is not None:
        options.data.parent.mkdir(parents=True, exist_ok=True)
        options.data.write_text(written(config), encoding="utf-8")
        for note in load_dataset(config).notes:  # what does not fit together is told now
            console.print(str(note), markup=False, highlight=False, soft_wrap=True)
    dropped = f", {len(found.problems)} left out" if found.problems else ""
    console.print(
        f"{len(found.names)} structures with {' and '.join(found.labels)}{dropped}: {options.out}", highlight=False
    )
    console.print(f"\n# {options.data or 'a file NAME.yaml for data=NAME.yaml'}", highlight=False)
    console.print(written(config), markup=False, highlight=False, soft_wrap=True, end="")


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
    from omegaconf import DictConfig, OmegaConf  # for the command line alone: the package `data` does without
    from omegaconf.errors import OmegaConfBaseException

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
    from omegaconf import OmegaConf

    head = key.split(".")[0]
    if head not in config:
        raise UserError(f"no such key 'data.{head}'", nearest(head, map(str, config)), "data")
    try:
        OmegaConf.update(config, key, OmegaConf.create(f"value: {value}").value, merge=True)
    except Exception as error:
        raise UserError(f"cannot set it to '{value}' ({str(error).splitlines()[0]})", where=f"data.{key}") from error


if __name__ == "__main__":
    sys.exit(main())
