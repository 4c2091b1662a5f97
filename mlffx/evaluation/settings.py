"""The schema of conf/evaluate.yaml: every key evaluate.py reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlffx.compose import composed, plain
from mlffx.config import read_settings
from mlffx.errors import UserError, nearest
from mlffx.references.tables import materials


@dataclass(frozen=True)
class EvaluateSettings:
    """The schema of conf/evaluate.yaml."""

    phonons: dict[str, Any]
    dynamics: dict[str, Any] = field(default_factory=dict)
    run: str | None = None
    runs: list[str] = field(default_factory=list)
    reference: str = "auto"
    samples: int = 16
    sigma_scale: float | None = None
    controls: Any = "none"
    settle: str | None = None
    output: str | None = None
    force: bool = False
    progress: bool = True
    preset: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"{self.samples} draws", "give at least 1", "samples")
        if self.reference not in (*materials(), "auto", "none"):
            choices = [*materials(), "auto", "none"]
            raise UserError(
                f"no reference values for '{self.reference}'", nearest(self.reference, choices), "reference"
            )
        if self.sigma_scale is not None and self.sigma_scale <= 0:
            raise UserError(f"{self.sigma_scale:g} is not positive", "1 gives the bare spread", "sigma_scale")

    @classmethod
    def compose(cls, overrides: Sequence[str]) -> EvaluateSettings:
        """As after these overrides on the command line of evaluate.py.

        Raises:
            UserError: for a mistake in any of them.
        """
        return read_settings(cls, plain(composed("evaluate", overrides)), "")
