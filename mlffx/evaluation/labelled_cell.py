"""Labelled q-points that the cells of the labels do not hold, and what a reader must know of the modes there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlffx.data.crystal import Crystal
from mlffx.errors import UserError
from mlffx.evaluation.figures.style import greek
from mlffx.lattice.commensurate import held_points
from mlffx.training.task import Task

MARK = "†"


def labelled_cells(task: Task, crystal: Crystal) -> dict[str, Any]:
    """Cells of the structures that were fitted: `atoms` of each, labelled points it `holds` and `lacks`.

    Empty where the structures are no supercells of the crystal, so that nothing is known.
    """
    found: dict[tuple[int, ...], Any] = {}
    atoms = set()
    try:
        for k in [*task.split.train, *task.split.validation]:
            structure = task.dataset.atoms[int(k)]
            matrix = crystal.repetitions(structure.cell.array)
            found[tuple(matrix.ravel().tolist())] = matrix
            atoms.add(len(structure))
    except UserError:
        return {}
    held = held_points(crystal, list(found.values()))
    return {
        "atoms": sorted(atoms),
        "holds": [label for label, fits in held.items() if fits],
        "lacks": [label for label, fits in held.items() if not fits],
    }


def note(cells: Mapping[str, Any], shown: Sequence[str]) -> str:
    """The line below a table whose modes at points that the cells lack are marked; empty where none is.

    Args:
        cells: as `labelled_cells` gives it.
        shown: labelled points in the table.
    """
    lacking = lacks(cells, shown)
    if not lacking:
        return ""
    sizes = " and ".join(f"{n}" for n in cells["atoms"])
    return (
        f"{MARK} {_listed(lacking)}: not held by the cell of the labels ({sizes} atoms), which holds "
        f"{_listed(cells['holds'])}. Labels fix a mode as it is only where exp(2πi q·R) = 1 for every lattice vector R "
        "of their cell; elsewhere the potential interpolates, which is right where force constants have decayed within "
        "the cell and rests on the form of the model where they have not."
    )


def supercell_note(lacking: Sequence[str], atoms: int) -> str:
    """The line on points that the supercell of the phonons does not hold; empty where it holds all.

    Args:
        lacking: those points.
        atoms: of the supercell.
    """
    if not lacking:
        return ""
    return (
        f"{_listed(lacking)}: not held by the supercell of these phonons ({atoms} atoms) and interpolated from its "
        "force constants; the control convergence measures what that costs, phonons=converged does without."
    )


def notes_of(cells: Mapping[str, Mapping[str, Any]], shown: Sequence[str]) -> list[str]:
    """`note` of several runs, by name: one line where their labels have the same cells, else one a run."""
    said = {name: text for name, found in cells.items() if (text := note(found, shown))}
    if len(said) == len(cells) and len(set(said.values())) == 1:
        return [next(iter(said.values()))]
    return [f"{name}: {text}" for name, text in said.items()]


def lacked_by_any(cells: Iterable[Mapping[str, Any]], shown: Sequence[str]) -> list[str]:
    """Labelled points among those shown that the cells of some run do not hold."""
    return list(dict.fromkeys(label for found in cells for label in lacks(found, shown)))


def lacks(cells: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """Labelled points among those shown that the cells do not hold."""
    return [label for label in cells.get("lacks", ()) if label in shown]


def marked(lines: Sequence[Sequence[str]], lacking: Sequence[str]) -> list[list[str]]:
    """Lines of a table whose first cell is `L TA`, those at points that are lacking as `L TA †`."""
    names = {greek(label) for label in lacking}
    return [[f"{line[0]} {MARK}" if line[0].split(" ")[0] in names else line[0], *line[1:]] for line in lines]


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(greek(label) for label in labels)
