"""What a researcher wants to know about a data set before training on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from mlffx.data.dataset import LabelledSet
from mlffx.data.noise import NoiseEstimate, estimate_noise, rounding_step
from mlffx.units import KB_EV


@dataclass(frozen=True)
class Temperatures:
    """Effective classical temperature of the colder, middle and hotter tenth of the frames, K, and how it was found."""

    cold: float
    middle: float
    hot: float
    method: str


def effective_temperature(dataset: LabelledSet) -> Temperatures | None:
    """Temperature at which a classical crystal would show these displacements.

    With forces of the low level: the generalised equipartition theorem, <-sum_i u_i . F_i> = (3 N - 3) kB T, exact for
    any potential and averaged over the frames of a tenth. Without forces: the harmonic energy, E - E_0 =
    (3 N - 3) kB T / 2, where the coldest tenth extrapolates to E_0 at zero amplitude. None without displacements.
    """
    displacements = dataset.displacements()
    if displacements is None:
        return None
    freedom = (3 * dataset.n_atoms - 3) * KB_EV
    amplitudes = dataset.amplitudes()
    if dataset.low in dataset.forces:
        forces = dataset.forces[dataset.low]
        values = -np.array([(u * f).sum() for u, f in zip(displacements, forces, strict=True)]) / freedom
        method = "from forces . displacements (equipartition)"
    else:
        per_atom = dataset.energies[dataset.low] / dataset.n_atoms
        square = amplitudes**2
        coldest = np.argsort(amplitudes)[: max(len(dataset) // 10, min(len(dataset), 5))]
        rises = np.ptp(square[coldest]) > 0
        zero = np.polyfit(square[coldest], per_atom[coldest], 1)[1] if rises else per_atom.min()
        values = 2 * (per_atom - zero) * dataset.n_atoms / freedom
        method = "from harmonic energies"
    ranked = values[np.argsort(amplitudes)]
    tenth = max(len(ranked) // 10, 1)
    middle = ranked[(len(ranked) - tenth) // 2 :][:tenth]
    return Temperatures(float(ranked[:tenth].mean()), float(middle.mean()), float(ranked[-tenth:].mean()), method)


def print_report(dataset: LabelledSet, console: Console) -> None:
    """Tables of frames, levels and differences, then everything that was dropped or noticed."""
    console.print(_overview(dataset))
    console.print(_levels(dataset))
    differences = _differences(dataset)
    if differences is not None:
        console.print(differences)
    dropped = [note for note in dataset.notes if note.dropped]
    noticed = [note for note in dataset.notes if not note.dropped]
    for title, notes in ((f"dropped ({len(dropped)})", dropped), (f"noticed ({len(noticed)})", noticed)):
        if notes:
            console.print(f"[bold]{title}[/bold]")
            for note in notes:
                console.print(f"  {note}", markup=False, highlight=False)
    if dataset.source:
        console.print(dataset.source, markup=False, highlight=False)


def _overview(dataset: LabelledSet) -> Table:
    table = Table(title=f"{dataset.name}: {len(dataset)} structures", show_header=False, title_justify="left")
    sizes = sorted(set(dataset.n_atoms.tolist()))
    first = dataset.atoms[0]
    table.add_row("atoms", f"{', '.join(map(str, sizes))} ({first.symbols})")
    table.add_row("cell", " x ".join(f"{length:.5f}" for length in first.cell.lengths()) + " A")
    if dataset.crystal is not None:
        matrix = dataset.crystal.repetitions(first.cell.array)
        cells = round(abs(np.linalg.det(matrix)))
        table.add_row(
            "crystal", f"{dataset.crystal.n_basis} atoms in the primitive cell, {cells} primitive cells in a structure"
        )
    amplitudes = dataset.amplitudes()
    table.add_row("rms displacement", f"{amplitudes.min():.4f} to {amplitudes.max():.4f} A (drift removed)")
    heat = effective_temperature(dataset)
    if heat is not None:
        table.add_row(
            "effective temperature",
            f"{heat.cold:.0f} / {heat.middle:.0f} / {heat.hot:.0f} K, coldest / middle / hottest tenth, {heat.method}",
        )
    return table


def _levels(dataset: LabelledSet) -> Table:
    table = Table(title="levels", title_justify="left")
    for column in (
        "level",
        "labels",
        "frames",
        "lowest, eV/cell",
        "range, meV/atom",
        "precision, eV",
        "largest force, eV/A",
        "",
    ):
        table.add_column(column, justify="left" if column in ("level", "labels", "") else "right")
    for name, level in dataset.levels.items():
        if name not in dataset.energies:
            table.add_row(name, " ".join(level.labels), "-", "", "", "", "", f"{level.description} (file not there)")
            continue
        energies = dataset.energies[name]
        known = np.isfinite(energies)
        per_atom = (energies / dataset.n_atoms)[known]
        step = rounding_step(energies)
        force = max((float(np.nanmax(np.abs(f))) for f in dataset.forces.get(name, [])), default=None)
        table.add_row(
            name,
            " ".join(level.labels),
            str(int(known.sum())),
            f"{energies[known].min():.4f}",
            f"{np.ptp(per_atom) * 1e3:.1f}",
            f"{step:g}" if step is not None else "full",
            f"{force:.2f}" if force is not None else "",
            level.description,
        )
    return table


def _differences(dataset: LabelledSet) -> Table | None:
    others = [name for name in dataset.energies if name != dataset.low]
    if not others:
        return None
    table = Table(title=f"differences to {dataset.low}", title_justify="left")
    for column in (
        "level",
        "mean, eV/atom",
        "std, meV/atom",
        "std, meV/cell",
        "noise, meV/atom",
        "noise, meV/cell",
        "outliers",
    ):
        table.add_column(column, justify="left" if column == "level" else "right")
    for name in others:
        difference = dataset.difference(name, dataset.low)
        per_atom = (difference / dataset.n_atoms)[np.isfinite(difference)]
        noise = estimate_noise(dataset, name, dataset.low)
        table.add_row(
            name,
            f"{per_atom.mean():.4f}",
            f"{per_atom.std() * 1e3:.2f}",
            f"{np.nanstd(difference) * 1e3:.1f}",
            *_noise_cells(noise, dataset),
        )
    table.caption = (
        "noise: at most this much, whole set / colder half; scatter about a robust fit of smooth functions of distances"
        " and angles. outliers: frames beyond 5 of it"
    )
    return table


def _noise_cells(noise: NoiseEstimate | None, dataset: LabelledSet) -> tuple[str, str, str]:
    if noise is None:
        return "too few labels", "", ""
    n_atoms = float(dataset.n_atoms[0])
    outliers = noise.outliers()
    shown = ", ".join(map(str, outliers[:4])) + (f" and {len(outliers) - 4} more" if len(outliers) > 4 else "")
    return (
        f"{noise.sigma / n_atoms * 1e3:.3f} / {noise.cold / n_atoms * 1e3:.3f}",
        f"{noise.sigma * 1e3:.1f} / {noise.cold * 1e3:.1f}",
        shown or "none",
    )
