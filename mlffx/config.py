"""Typed settings from plain mappings: unknown keys are refused with the nearest valid one, types are checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mlffx.errors import UserError, nearest

T = TypeVar("T")
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    Sequence: "a list",
    dict: "keys and values",
    Mapping: "keys and values",
}


def read_settings(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from a mapping.

    Args:
        cls: dataclass; its annotations are the schema, nested dataclasses are read in turn.
        values: plain mapping.
        where: config path of the mapping (`trainer`), used in messages.

    Raises:
        UserError: names the key, what is wrong with it and the nearest valid key.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise UserError(f"no such key '{key}'", nearest(key, fields), _join(where, key))
    ready = {}
    for key, field in fields.items():
        if key in values:
            ready[key] = checked(values[key], hints[key], _join(where, key))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError("is missing", f"set {_join(where, key)}=...", _join(where, key))
    return cls(**ready)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)


def checked(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of the annotated type `hint`; whole numbers are good for numbers, entries are checked in turn.

    Raises:
        UserError: that says what is wanted at `where`.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [a for a in arguments if a is not type(None)]
        for choice in choices:
            try:
                return checked(value, choice, where)
            except UserError:
                if choice is choices[-1]:
                    raise
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(f"'{value}' is not possible", nearest(value, map(str, arguments)), where)
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise UserError(f"needs keys and values, not '{value}'", where=where)
        return read_settings(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = origin or hint
    if expected is Any:
        return value
    if expected in (dict, Mapping) and isinstance(value, Mapping):
        return {k: checked(v, arguments[1], _join(where, k)) for k, v in value.items()} if arguments else dict(value)
    if expected is Sequence and isinstance(value, Sequence) and not isinstance(value, str):
        return [checked(v, arguments[0], where) for v in value]
    if (
        not isinstance(value, expected)
        or expected is Sequence
        or (expected in (int, float) and isinstance(value, bool))
    ):
        raise UserError(f"'{value}' is not {_WORDS.get(expected, expected.__name__)}", where=where)
    return value
