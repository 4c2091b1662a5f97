"""The potentials behind a run directory: one, or the members of an ensemble, and where their spread comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mlffx.errors import UserError
from mlffx.potentials.base import Potential
from mlffx.potentials.build import load_potential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential

CHECKPOINT = Path("checkpoints") / "best.ckpt"


@dataclass(frozen=True)
class Members:
    """Potentials of one run that differ in seed, training set, or draw from a posterior.

    Attributes:
        potentials: what is evaluated.
        kind: `single`, `ensemble`, `posterior` or `ensemble and posterior`: where the spread comes from.
    """

    potentials: list[Potential]
    kind: str

    def low_level(self) -> list[Potential] | None:
        """The base of each delta potential, None for direct ones; a base all members share appears once."""
        bases = [base_of(p) for p in self.potentials]
        if any(b is None for b in bases):
            return None
        distinct = {fingerprint(b): b for b in bases if b is not None}
        return list(distinct.values()) if len(distinct) == 1 else [b for b in bases if b is not None]


def base_of(potential: Potential) -> Potential | None:
    """The low-level term of a delta potential; None for a direct one."""
    if isinstance(potential, SumPotential):
        return dict(potential.terms.items()).get("base")  # type: ignore[return-value]
    return potential.base if isinstance(potential, ReadoutPotential) else None


def load_members(run_dir: Path) -> list[Potential]:
    """Potentials of `run_dir/members/*/checkpoints/best.ckpt`, or the single one of `run_dir/checkpoints/best.ckpt`.

    Raises:
        UserError: for a directory that is no run, or a checkpoint that cannot be read.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise UserError("no such run directory", "train first, or check the path", f"run={run_dir}")
    folders = [f for f in (run_dir / "members").glob("*") if f.is_dir() and f.name.isdigit()]
    paths = [folder / CHECKPOINT for folder in sorted(folders, key=lambda f: int(f.name))]
    finished = [p for p in paths if p.is_file()]
    if paths and not finished:
        raise UserError("no member of the ensemble has a checkpoint", "resume=RUN_DIR finishes it", run_dir)
    if not paths and not (run_dir / CHECKPOINT).is_file():
        raise UserError("no checkpoint in this directory", "is it a run directory? has it finished an epoch?", run_dir)
    return [load_potential(p) for p in (finished or [run_dir / CHECKPOINT])]


def gather(run_dir: Path, n_samples: int = 16, seed: int = 0) -> Members:
    """Members of a run; those with a posterior (closed-form fits) are replaced by draws from it.

    Args:
        n_samples: draws in all, at least two a member.
    """
    loaded = load_members(run_dir)
    many = len(loaded) > 1
    drawn: list[Potential] = []
    for i, potential in enumerate(loaded):
        drawn += posterior(potential, max(2, n_samples // len(loaded)), seed + i)
    if drawn:
        return Members(drawn, "ensemble and posterior" if many else "posterior")
    return Members(loaded, "ensemble" if many else "single")


def posterior(potential: Potential, n: int, seed: int) -> list[Potential]:
    """Draws from the posterior of a potential that was fitted in closed form; empty for those without one."""
    sample = getattr(potential, "posterior_samples", None)
    return list(sample(n, seed)) if sample is not None else []


def fingerprint(potential: Potential) -> str:
    """Hash of every parameter: equal for potentials that are the same."""
    digest = hashlib.sha256(str(type(potential)).encode())
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
