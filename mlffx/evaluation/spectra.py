"""What an evaluation knows about the phonons of one potential: every member's frequencies, cm-1, as plain arrays.

Figures, tables and reports are made from these alone, so runs can be overlaid later without their checkpoints.
Imaginary frequencies are negative numbers everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlffx.errors import UserError
from mlffx.evaluation.uncertainty import Estimate, over_members

IMAGINARY_BELOW = -2.0  # cm-1; numerical noise of the acoustic modes at GAMMA stays above this
FORMAT_VERSION = 1


@dataclass(frozen=True)
class BandPath:
    """A path through the Brillouin zone.

    Attributes:
        q: fractional, of the primitive reciprocal lattice, [n_q, 3].
        distance: along the path, 1/A, [n_q]; does not grow across a break.
        segments: first and last+1 index of each continuous piece.
        ticks: position and label of the labelled points, in order; labels as in seekpath (GAMMA, X, "U|K").
    """

    q: np.ndarray
    distance: np.ndarray
    segments: tuple[tuple[int, int], ...]
    ticks: tuple[tuple[float, str], ...]

    def places(self, label: str) -> list[float]:
        """Where on the axis a labelled point lies; GAMMA usually more than once."""
        return [position for position, name in self.ticks if label in name.split("|")]


@dataclass(frozen=True)
class LabelledPoint:
    """Frequencies at a point with a name.

    Attributes:
        label: GAMMA, X, L, W, K.
        q: fractional, [3].
        branches: names, degenerate ones merged, [n_branches].
        frequencies: cm-1, [n_members, n_branches].
    """

    label: str
    q: np.ndarray
    branches: tuple[str, ...]
    frequencies: np.ndarray

    def estimate(self) -> Estimate:
        return over_members(self.frequencies)


@dataclass(frozen=True)
class Spectra:
    """Phonons of one potential, over its members.

    Attributes:
        name: for legends, e.g. `ccsdt delta painn`.
        points: label -> frequencies.
        path: of the bands.
        bands: cm-1, sorted at each q, [n_members, n_q, n_modes].
        grid: of the densities of states, cm-1, [n_grid].
        dos: states per cm-1 and primitive cell, integrates to 3 n_basis, [n, n_grid]; of some of many members.
        element_dos: the part of each element, [n, n_grid].
        isotope: whose masses were used.
    """

    name: str
    points: dict[str, LabelledPoint]
    path: BandPath
    bands: np.ndarray
    grid: np.ndarray
    dos: np.ndarray
    element_dos: dict[str, np.ndarray] = field(default_factory=dict)
    isotope: str = "natural"

    @property
    def n_members(self) -> int:
        return len(self.bands)

    def band_estimate(self) -> Estimate:
        return over_members(self.bands)

    def dos_estimate(self) -> Estimate:
        return over_members(self.dos)

    def imaginary(self) -> list[dict[str, Any]]:
        """Imaginary modes of the mean bands and of the labelled points: where, and how deep (negative cm-1)."""
        found: list[dict[str, Any]] = []
        for point in self.points.values():
            for branch, value in zip(point.branches, point.estimate().mean, strict=True):
                if value < IMAGINARY_BELOW:
                    found.append({"q": point.label, "branch": branch, "cm1": round(float(value), 2)})
        lowest = self.bands.mean(axis=0).min(axis=1)
        if lowest.size and lowest.min() < IMAGINARY_BELOW:
            at = int(lowest.argmin())
            n = int((lowest < IMAGINARY_BELOW).sum())
            found.append(
                {"q": [round(float(x), 4) for x in self.path.q[at]], "branch": "lowest on the path",
                 "cm1": round(float(lowest[at]), 2), "q_points": n}
            )  # fmt: skip
        return found


def save_spectra(spectra: dict[str, Spectra], path: Path) -> None:
    """Write several spectra (`model`, `low_level`) into one .npz without pickles."""
    arrays: dict[str, np.ndarray] = {}
    meta: dict[str, Any] = {"format": FORMAT_VERSION, "spectra": {}}
    for key, s in spectra.items():
        arrays |= {
            f"{key}/bands": s.bands,
            f"{key}/q": s.path.q,
            f"{key}/distance": s.path.distance,
            f"{key}/grid": s.grid,
            f"{key}/dos": s.dos,
        }
        arrays |= {f"{key}/dos/{e}": d for e, d in s.element_dos.items()}
        arrays |= {f"{key}/point/{p.label}": p.frequencies for p in s.points.values()}
        meta["spectra"][key] = {
            "name": s.name,
            "isotope": s.isotope,
            "segments": s.path.segments,
            "ticks": s.path.ticks,
            "elements": list(s.element_dos),
            "points": [{"label": p.label, "q": p.q.tolist(), "branches": p.branches} for p in s.points.values()],
        }
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]


def load_spectra(path: Path) -> dict[str, Spectra]:
    """Read what `save_spectra` wrote.

    Raises:
        UserError: for a file that is missing or of another version.
    """
    if not path.is_file():
        raise UserError(
            "no such evaluation", f"evaluate the run first: python evaluate.py run={path.parent.parent}", path
        )
    with np.load(path, allow_pickle=False) as stored:
        meta = json.loads(str(stored["meta"]))
        if meta.get("format") != FORMAT_VERSION:
            raise UserError("written by another version of mlffx", "evaluate the run again", path)
        return {key: _spectra(key, about, stored) for key, about in meta["spectra"].items()}


def _spectra(key: str, about: dict[str, Any], stored: Any) -> Spectra:
    path = BandPath(
        stored[f"{key}/q"],
        stored[f"{key}/distance"],
        tuple((int(a), int(b)) for a, b in about["segments"]),
        tuple((float(x), str(label)) for x, label in about["ticks"]),
    )
    points = {
        p["label"]: LabelledPoint(
            p["label"], np.array(p["q"]), tuple(p["branches"]), stored[f"{key}/point/{p['label']}"]
        )
        for p in about["points"]
    }
    return Spectra(
        name=about["name"],
        points=points,
        path=path,
        bands=stored[f"{key}/bands"],
        grid=stored[f"{key}/grid"],
        dos=stored[f"{key}/dos"],
        element_dos={e: stored[f"{key}/dos/{e}"] for e in about["elements"]},
        isotope=about["isotope"],
    )
