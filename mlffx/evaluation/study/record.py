"""What has become of every part: `status.json`, and the same as a table for people."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table

from mlffx.evaluation.study.plan import Part
from mlffx.training.run_directory import write_atomically

State = Literal["waiting", "running", "finished", "reused", "failed", "impossible", "interrupted"]
DONE: tuple[State, ...] = ("finished", "reused")
SOME_EXPERIENCE = 20.0  # s of estimates met by real work before these are corrected


@dataclass
class Outcome:
    """Attributes:
    state: of the part; `reused` where an earlier call had done it, `impossible` where what it needs has failed.
    estimate, seconds: of time, before and after.
    reason: of a failure, in a line.
    log: what the part printed.
    time: of the last change.
    """

    state: State = "waiting"
    estimate: float = 0.0
    seconds: float | None = None
    reason: str = ""
    log: str = ""
    time: str = ""


class Record:
    """The outcomes of all parts, kept in a file that is whole at any moment.

    Args:
        parts: in the order they are done.
        path: of status.json.
    """

    def __init__(self, parts: Sequence[Part], path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, Outcome] = {part.name: Outcome(estimate=part.seconds) for part in parts}

    def set(self, name: str, state: State, seconds: float | None = None, reason: str = "", log: str = "") -> None:
        """Note a change and write the file."""
        outcome = self.outcomes[name]
        outcome.state, outcome.reason, outcome.log = state, reason, log
        outcome.seconds = None if seconds is None else round(seconds, 1)
        outcome.time = time.strftime("%Y-%m-%d %H:%M:%S")
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {name: asdict(outcome) for name, outcome in self.outcomes.items()}
        write_atomically(self.path, json.dumps(content, indent=1))

    def missing(self, needs: Sequence[str]) -> list[str]:
        """Those of the needed parts that did not succeed."""
        return [name for name in needs if self.outcomes[name].state not in DONE]

    def count(self, *states: State) -> int:
        return sum(outcome.state in states for outcome in self.outcomes.values())

    def speed(self) -> float:
        """Real over estimated seconds of what was worked on, 1 as long as there is little experience."""
        worked = [o for o in self.outcomes.values() if o.state == "finished" and o.seconds is not None]
        expected = sum(o.estimate for o in worked)
        return sum(o.seconds or 0.0 for o in worked) / expected if expected > SOME_EXPERIENCE else 1.0

    def seconds_left(self) -> float:
        """Estimate of all that is still to come."""
        return self.speed() * sum(o.estimate for o in self.outcomes.values() if o.state in ("waiting", "running"))

    def earlier_seconds(self) -> dict[str, float]:
        """What parts took in an earlier call, from the file; empty without one."""
        try:
            stored: Mapping[str, dict] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return {name: o["seconds"] for name, o in stored.items() if o.get("seconds") is not None}


def table(outcomes: Mapping[str, Outcome]) -> Table:
    """Parts that failed or are missing, and how many there are of each kind."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("part", "state", "took", "why"):
        found.add_column(head, justify="right" if head == "took" else "left", overflow="fold")
    for name, o in outcomes.items():
        style = "red" if o.state in ("failed", "impossible", "interrupted") else None
        found.add_row(name, o.state, "" if o.seconds is None else span(o.seconds), o.reason, style=style)
    return found


def span(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `1 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
