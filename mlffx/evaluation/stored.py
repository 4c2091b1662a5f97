"""Evaluations read back from their files, without checkpoints: for overlays, studies, and a second look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mlffx.errors import UserError
from mlffx.evaluation.comparison import Measured, Row, branch_index, read_csv
from mlffx.evaluation.controls import Verdict
from mlffx.evaluation.measured import NOTHING, Experiment
from mlffx.evaluation.progress import frequency_table, print_evaluation
from mlffx.evaluation.spectra import Spectra, load_spectra
from mlffx.evaluation.uncertainty import Estimate
from mlffx.references.tables import Measurement
from mlffx.training.run_directory import write_atomically

ISOTOPE = "isotope:"  # before the names of their spectra in spectra.npz
MEASURED = "measured.json"


@dataclass(frozen=True)
class Run:
    """One evaluated run, read back from its `evaluation/`.

    Attributes:
        path: run directory.
        phonons: content of phonons.json.
        spectra: of the model.
        low_level: of its base, None for a direct potential.
        isotopes: isotope -> spectra of the model, where a whole dispersion was measured on another isotope.
        experiment: measured values with their places on the path; none where it was compared with nothing.
        truth: exact spectra of an analytic twin.
    """

    path: Path
    phonons: dict[str, Any]
    spectra: Spectra
    low_level: Spectra | None
    isotopes: dict[str, Spectra]
    experiment: Experiment
    truth: Spectra | None = None

    @classmethod
    def read(cls, path: Path | str) -> Run:
        """Read `path/evaluation`.

        Raises:
            UserError: when the run has not been evaluated, or by another version.
        """
        directory = Path(path) / "evaluation"
        spectra = load_spectra(directory / "spectra.npz")
        others = {k.removeprefix(ISOTOPE): s for k, s in spectra.items() if k.startswith(ISOTOPE)}
        phonons = json.loads((directory / "phonons.json").read_text())
        return cls(
            path=Path(path),
            phonons=phonons,
            spectra=spectra["model"],
            low_level=spectra.get("low_level"),
            isotopes=others,
            experiment=read_measured(directory / MEASURED),
            truth=spectra.get("exact"),
        )

    @property
    def directory(self) -> Path:
        return self.path / "evaluation"

    @property
    def verdicts(self) -> list[Verdict]:
        return [Verdict(**v) for v in self.phonons["verdicts"]]

    @property
    def labelled_cells(self) -> dict[str, Any]:
        """What `labelled_cell.labelled_cells` found; empty of an evaluation from before there was such a thing."""
        return self.phonons.get("labelled_cells") or {}

    def mode(self, label: str, branch: str) -> Estimate | None:
        """Mean and sigma of a named mode."""
        point = self.spectra.points.get(label)
        if point is None or (i := branch_index(point, branch)) is None:
            return None
        e = point.estimate()
        return Estimate(e.mean[i], e.sigma[i], e.n_members)

    def rows(self) -> list[Row]:
        """Lines of comparison.csv."""
        return read_csv(self.directory / "comparison.csv")


def show(run: Run, console: Console | None = None) -> None:
    """What `evaluate.py` printed when it was made."""
    about = run.phonons
    title = f"{about['material'].replace('_', ' ')}: {about['name']}"
    measured, form = run.experiment.harmonic, about.get("model_form_cm1")
    lacks = run.labelled_cells.get("lacks", ())
    table = frequency_table(
        run.rows(), title, about["low_level"], measured, run.truth, form, lacks, about.get("shift_notes", ())
    )
    print_evaluation(table, run.verdicts, about["warnings"], run.directory / "report.html", console)


def write_measured(experiment: Experiment, path: Path) -> None:
    """Measured values with their places on the band path, so that figures can be drawn again without the crystal."""
    content: dict[str, Any] = {"notes": experiment.notes}
    for name in ("labelled", "elsewhere", "harmonic", "lattice_constants"):
        content[name] = [asdict(m) for m in getattr(experiment, name)]
    write_atomically(path, json.dumps(content, indent=1))


def read_measured(path: Path) -> Experiment:
    """Read what `write_measured` wrote.

    Raises:
        UserError: where the evaluation was written before there was such a file.
    """
    if not path.is_file():
        if (path.parent / "phonons.json").is_file():
            return NOTHING
        raise UserError("no such evaluation", f"evaluate the run first: python evaluate.py run={path.parent.parent}")
    content = json.loads(path.read_text())
    kinds = {name: [_measured(m) for m in content[name]] for name in ("labelled", "elsewhere", "harmonic")}
    lattice = tuple(Measurement(**m) for m in content.get("lattice_constants", ()))
    return Experiment(kinds["labelled"], kinds["elsewhere"], kinds["harmonic"], content["notes"], lattice)


def _measured(values: dict[str, Any]) -> Measured:
    places: Sequence[float] = values.pop("places")
    q = values.pop("q")
    return Measured(**values, q=None if q is None else tuple(q), places=tuple(places))
