"""The potentials behind a run directory: one, or the members of an ensemble, and where their spread comes from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from mlffx.potentials.base import Potential
from mlffx.potentials.readout import ReadoutPotential
from mlffx.potentials.sum import SumPotential
from mlffx.training.run_directory import load_members


@dataclass(frozen=True)
class Members:
    """Potentials of one run that differ in seed, training set, or draw from a posterior.

    Attributes:
        potentials: what is evaluated.
        kind: `single`, `ensemble`, `posterior` or `ensemble and posterior`: where the spread comes from.
        centres: for draws, the fitted potential each of them was drawn about; else empty.
    """

    potentials: list[Potential]
    kind: str
    centres: list[Potential] = field(default_factory=list)

    @property
    def fitted(self) -> list[Potential]:
        """The potentials as they were fitted, without the draws about them."""
        return list({id(c): c for c in self.centres}.values()) or self.potentials

    def low_level(self) -> Members | None:
        """The base of each delta potential, None for direct ones; a base all members share appears once."""
        bases, centres = [base_of(p) for p in self.potentials], [base_of(c) for c in self.centres]
        if any(b is None for b in bases):
            return None
        found = [b for b in bases if b is not None]
        if len({fingerprint(b) for b in found}) == 1:
            return Members(found[:1], "single")
        return Members(found, self.kind, [c for c in centres if c is not None])


def base_of(potential: Potential) -> Potential | None:
    """The low-level term of a delta potential; None for a direct one."""
    if isinstance(potential, SumPotential):
        return dict(potential.terms.items()).get("base")  # type: ignore[return-value]
    return potential.base if isinstance(potential, ReadoutPotential) else None


def gather(run_dir: Path, n_samples: int = 16, seed: int = 0, resampled: bool = False) -> Members:
    """Members of a run; those with a posterior (closed-form fits) are replaced by draws from it.

    Args:
        n_samples: draws in all, at least four a member.
        resampled: the members saw different samples of the training set: their spread holds the noise of the labels
            already, and draws would count it twice.
    """
    loaded = load_members(run_dir)
    many = len(loaded) > 1
    if not (many and resampled):
        drawn: list[Potential] = []
        centres: list[Potential] = []
        for i, potential in enumerate(loaded):
            samples = potential.posterior_samples(max(4, n_samples // len(loaded)), seed + i)
            drawn += samples
            centres += [potential] * len(samples)
        if drawn:
            return Members(drawn, "ensemble and posterior" if many else "posterior", centres)
    return Members(loaded, "ensemble" if many else "single")


def fingerprint(potential: Potential) -> str:
    """Hash of what a potential is and of every parameter: equal for potentials that are the same."""
    try:
        what = json.dumps(potential.spec(), sort_keys=True, default=str)
    except NotImplementedError:  # a calculator of another package: the same only if it is the same object
        what = f"{type(potential)} {id(potential)}"
    digest = hashlib.sha256(what.encode())
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
