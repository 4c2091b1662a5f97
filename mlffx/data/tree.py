"""Files of a directory tree found by patterns, each with a name from its place in the tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mlffx.errors import UserError

_WILD = re.compile(r"[*?\[]")


def find(patterns: Sequence[str]) -> list[tuple[str, Path]]:
    """Files and their names, in natural order (2 before 10).

    The name is what the wildcards stand for, `01/cc` for `calc/01/cc/out` found by `calc/*/*/out`; of files given one
    by one (as a shell does with unquoted wildcards) the parts of their paths that differ, of a single file its
    directory's name.

    Raises:
        UserError: when a pattern finds nothing, or two files have one name.
    """
    found: list[tuple[str, Path]] = []
    plain = [pattern for pattern in patterns if not _WILD.search(pattern)]
    for pattern in patterns:
        if pattern in plain:
            continue
        matches = [path for path in _glob(pattern) if path.is_file()]
        if not matches:
            raise UserError("no file is found", "check the pattern, and quote it", pattern)
        expression = _expression(pattern)
        for path in matches:
            match = expression.fullmatch(str(path))
            parts = [part for part in match.groups() if part] if match else [path.parent.name]
            found.append(("/".join(part.strip("/") for part in parts), path))
    found += _names_of([Path(p) for p in plain])
    seen: dict[str, Path] = {}
    for name, path in found:
        if name in seen:
            raise UserError(f"it has the same name '{name}' as {seen[name]}", "collect them one after the other", path)
        seen[name] = path
    return sorted(found, key=lambda item: _natural(item[0]))


def _glob(pattern: str) -> list[Path]:
    path = Path(pattern)
    anchor = Path(path.anchor) if path.is_absolute() else Path()
    relative = path.relative_to(anchor) if path.is_absolute() else path
    return sorted(anchor.glob(str(relative)))


def _expression(pattern: str) -> re.Pattern[str]:
    """Regular expression whose groups are what the wildcards stand for."""
    out = ""
    for token in re.findall(r"\*\*/?|\*|\?|\[[^\]]*\]|[^*?\[]+", str(pattern)):
        if token.startswith("**"):
            out += "(.*/)?" if token.endswith("/") else "(.*)"
        elif token in "*?":
            out += "([^/]*)" if token == "*" else "([^/])"
        elif token.startswith("["):
            out += "(" + token.replace("[!", "[^") + ")"
        else:
            out += re.escape(token)
    return re.compile(re.sub(r"^(\\\./)+", "", out))


def _names_of(paths: list[Path]) -> list[tuple[str, Path]]:
    """Names of files given one by one: the parts of their paths that differ."""
    for path in paths:
        if not path.is_file():
            raise UserError("no such file", "check the path", path)
    if len(paths) < 2:
        return [(path.absolute().parent.name, path) for path in paths]
    parts = [path.parts for path in paths]
    shortest = min(len(p) for p in parts)
    head = next((i for i in range(shortest) if len({p[i] for p in parts}) > 1), 0)
    tail = next((i for i in range(shortest) if len({p[-1 - i] for p in parts}) > 1), 0)
    return [("/".join(p[head : len(p) - tail]), path) for p, path in zip(parts, paths, strict=True)]


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
