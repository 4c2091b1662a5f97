"""Named builders with options checked against the builder's own signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from mlffx.config import checked
from mlffx.errors import UserError, nearest

T = TypeVar("T")
Builder = TypeVar("Builder", bound=Callable[..., Any])
_PLAIN = (bool, int, float, str, list, dict)


class Registry(Generic[T]):
    """Maps the names used on the command line (`model=painn`) to classes.

    Args:
        group: the config group, used in error messages (`model`).
    """

    def __init__(self, group: str) -> None:
        self.group = group
        self._builders: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Decorator of a class or function: make `name` buildable; also sets its attribute `name`."""

        def add(builder: Builder) -> Builder:
            self._builders[name] = builder
            builder.name = name  # type: ignore[attr-defined]
            return builder

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._builders))

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self._builders:
            raise UserError(f"unknown {self.group} '{name}'", nearest(name, self._builders), self.group)
        return self._builders[name]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Options the builder of `name` accepts."""
        return dict(inspect.signature(self[name]).parameters)

    def build(self, name: str, **options: Any) -> T:
        """Build `name`.

        Raises:
            UserError: for an unknown name, an unknown option, a missing one or one of another type.
        """
        valid = self.options(name)
        for key in options:
            if key not in valid:
                where = f"{self.group}.{key}"
                raise UserError(f"{self.group} '{name}' has no option '{key}'", nearest(key, valid), where)
        missing = [k for k, p in valid.items() if p.default is p.empty and k not in options]
        if missing:
            raise UserError(f"{self.group} '{name}' needs {', '.join(missing)}", where=self.group)
        builder: Any = self[name]
        hints = typing.get_type_hints(builder.__init__ if inspect.isclass(builder) else builder)
        for key, value in options.items():
            if value is None or isinstance(value, _PLAIN):  # what configurations hold; the rest comes from the package
                checked(value, hints.get(key, Any), f"{self.group}.{key}")
        return builder(**options)
