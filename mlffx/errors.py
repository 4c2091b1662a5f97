"""The one exception for mistakes a user can mend; entry points print it as a single line and exit with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_NAMES = 20  # a longer list is no help in one line


class UserError(Exception):
    """A mistake in the input, told in one line: `where: what is wrong; what to do`.

    Args:
        what: what is wrong, with the offending value.
        remedy: what to do about it.
        where: file, line, config key or level the mistake is in.
    """

    def __init__(self, what: str, remedy: str = "", where: object = "") -> None:
        self.what, self.remedy, self.where = what, remedy, str(where)
        line = (f"{self.where}: " if self.where else "") + what + (f"; {remedy}" if remedy else "")
        super().__init__(" ".join(line.split()))


def nearest(name: object, valid: Iterable[str]) -> str:
    """Remedy for a misspelt name: `did you mean 'painn'? valid: ...`."""
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    shown = sorted(names if len(names) <= MOST_NAMES else difflib.get_close_matches(str(name), names, n=8, cutoff=0.0))
    listing = ("valid: " if len(shown) == len(names) else "among the valid: ") + ", ".join(shown)
    listing = listing if names else "none are valid here"
    return (f"did you mean '{close[0]}'? " if close else "") + listing
