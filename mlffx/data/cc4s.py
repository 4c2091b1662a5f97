"""Energies from the YAML that Cc4s writes (`cc4s.out.yaml`), checked for convergence and with their units.

Cc4s lists its steps with what went in and what came out. Energies are correlation energies: what they stand on, the
Hartree-Fock energy, is known to the code that made the orbitals. `unit` is that of the energies, in Hartree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ase import units

from mlffx.data.levels import ENERGY_UNITS
from mlffx.errors import UserError, nearest

METHODS = ("mp2", "ccsd", "ccsdt")
CORRECTIONS = ("basis_set", "finite_size")
_LINE = "\0line"  # no key of Cc4s
_RERUN = "run Cc4s again"


@dataclass(frozen=True)
class Correlation:
    """A correlation energy.

    Attributes:
        energy: eV, with the corrections asked for.
        left_out: corrections that the file has and that are not in it, name -> eV.
        problem: why it cannot be used, else "".
        line: of the step it comes from, from 1.
    """

    energy: float
    left_out: dict[str, float]
    problem: str
    line: int


class _LineLoader(yaml.SafeLoader):
    """Every mapping also knows the line it starts at."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        return {**super().construct_mapping(node, deep), _LINE: node.start_mark.line + 1}


def read_correlation(path: Path, method: str, corrections: Sequence[str] = (), unit: str | None = None) -> Correlation:
    """The correlation energy of a Cc4s output.

    Args:
        path: `cc4s.out.yaml`.
        method: `mp2`, `ccsd` or `ccsdt`, the last being CCSD(T).
        corrections: to add, of `basis_set` and `finite_size`, as Cc4s estimated them.
        unit: of all its energies where the file's own is to be overruled, a name of `levels.ENERGY_UNITS`.

    Raises:
        UserError: for an unreadable file, another method, an unusable unit, or a correction that is not there.
    """
    for name in corrections:
        if name not in CORRECTIONS:
            raise UserError(f"unknown correction '{name}'", nearest(name, CORRECTIONS), "corrections")
    if method not in METHODS:
        raise UserError(f"Cc4s has no energy '{method}'", nearest(method, METHODS), "energy")
    output = _load(path)
    steps = _steps(output, path)
    problem = "" if not _dry(output) else "it is a dry run: nothing was calculated"
    parts = [_second_order(steps)] if method == "mp2" else [_ccsd(steps, path)]
    if method == "ccsdt":
        parts.append(_out(steps, ("PerturbativeTriples", "PerturbativeTriplesReference"), "correlation"))
    present = [part for part in parts if part is not None]
    line = present[-1].line if present else 1
    if len(present) < len(parts) and not problem:
        problem = f"it has no {method} energy: the calculation did not get that far"
    if not problem and any(not part.converged for part in present):
        problem = "the amplitudes are not converged (convergenceReached: 0)"
    if problem:
        return Correlation(math.nan, {}, problem, line)
    energy = sum(part.value(unit, path) for part in present)
    found = {name: _correction(name, method, steps, unit, path) for name in CORRECTIONS}
    for name in corrections:
        if found[name] is None:
            raise UserError(f"no {name} correction of {method}", f"leave it out or {_RERUN} with it", path)
        energy += found[name] or 0.0
    left_out = {name: value for name, value in found.items() if value is not None and name not in corrections}
    return Correlation(energy, left_out, "", line)


@dataclass(frozen=True)
class _Energy:
    """An entry of `out.energy` of a step, as written."""

    raw: Any
    unit: Any
    line: int
    converged: bool = True

    def value(self, unit: str | None, path: Path) -> float:
        """eV."""
        where = f"{path}:{self.line}"
        number, factor = _float(self.raw), _float(self.unit)
        if not math.isfinite(number):
            raise UserError(f"its energy '{self.raw}' is not a number", _RERUN, where)
        if unit is not None:
            return number * ENERGY_UNITS[unit]
        if not math.isfinite(factor) or factor <= 0:  # some versions wrote 'inf'
            raise UserError(f"its unit '{self.unit}' is no unit", "say which it is: --energy-unit eV or Ha", where)
        return number * factor * units.Hartree


def _load(path: Path) -> Mapping[str, Any]:
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8", errors="replace"), _LineLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise UserError(f"no YAML ({error.problem})", "copy the file again", f"{path}:{line}") from error
    except yaml.YAMLError as error:
        raise UserError(f"no YAML ({error})", "copy the file again", path) from error
    if not isinstance(loaded, Mapping) or not isinstance(loaded.get("steps"), Mapping | list):
        raise UserError("no output of Cc4s: it has no 'steps'", "give its cc4s.out.yaml, not its input", path)
    return loaded


def _steps(output: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    """Steps in the order they ran; the file has them in that of their keys as text: 0, 1, 10, 2."""
    steps = output["steps"]
    ordered = (
        steps
        if isinstance(steps, list)
        else [steps[k] for k in sorted((k for k in steps if k != _LINE), key=lambda k: int(k))]
    )
    for step in ordered:
        if not isinstance(step, Mapping) or "name" not in step:
            raise UserError("a step has no name", "is the file truncated? copy it again", path)
    return ordered


def _dry(output: Mapping[str, Any]) -> bool:
    environment = output.get("executionEnvironment") or output
    return any(_float(environment.get(key, 0)) > 0 for key in ("dryRun", "dryRanks", "dry run only"))


def _out(steps: list[Mapping[str, Any]], names: Sequence[str], *keys: str) -> _Energy | None:
    """The last step of one of these names that has one of these energies."""
    for step in reversed(steps):
        out = step.get("out") or {}
        energy = out.get("energy") or {}
        for key in keys:
            if step["name"] in names and key in energy:
                converged = bool(_float(out.get("convergenceReached", 1)))
                return _Energy(energy[key], energy.get("unit", math.nan), energy[_LINE], converged)
    return None


def _ccsd(steps: list[Mapping[str, Any]], path: Path) -> _Energy | None:
    found = _out(steps, ("CoupledCluster",), "correlation")
    if found is None:
        return None
    step = next(s for s in reversed(steps) if s["name"] == "CoupledCluster")
    method = (step.get("in") or {}).get("method", "Ccsd")
    kind = method.get("type", "Ccsd") if isinstance(method, Mapping) else method
    if not str(kind).startswith("Ccsd") or str(kind).startswith("Ccsdt"):
        raise UserError(f"its coupled-cluster method is {kind}, not Ccsd", _RERUN, f"{path}:{step[_LINE]}")
    return found


def _second_order(steps: list[Mapping[str, Any]]) -> _Energy | None:
    """From its own algorithm, else as the first iteration of coupled cluster, which needs no convergence."""
    own = _out(steps, ("SecondOrderPerturbationTheory",), "correlation")
    by_the_way = _out(steps, ("CoupledCluster",), "secondOrder")
    if own is None and by_the_way is not None:
        return _Energy(by_the_way.raw, by_the_way.unit, by_the_way.line)
    return own


def _correction(name: str, method: str, steps: list[Mapping[str, Any]], unit: str | None, path: Path) -> float | None:
    """eV, or None where Cc4s has not estimated it for this method."""
    if name == "finite_size":
        parts = [_out(steps, ("FiniteSizeCorrection",), "correction")] if method != "mp2" else [None]
    else:
        parts = [_out(steps, ("BasisSetCorrection",), "secondOrderCorrection" if method == "mp2" else "correction")]
        if method == "ccsdt":  # what (T*) adds to (T)
            star = ("starCorrection", "starCorrelation")
            triples = _out(steps, ("PerturbativeTriples", "PerturbativeTriplesReference"), *star)
            parts += [triples] if triples is not None else []
    present = [part for part in parts if part is not None]
    return sum(part.value(unit, path) for part in present) if len(present) == len(parts) else None


def _float(value: Any) -> float:
    """YAML 1.1 takes `1e-05` for text; what is no number at all is NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
