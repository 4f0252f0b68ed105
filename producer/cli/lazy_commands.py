"""Commands that are imported on first use, so that each starts without the modules of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands of a group by name; `modules` defines each under its own name."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._found: dict[str, Any] = dict(modules)

    def __getitem__(self, name: str) -> click.Command:
        found = self._found[name]
        if isinstance(found, str):
            found = self._found[name] = getattr(import_module(found), name)
        command: click.Command = found
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
