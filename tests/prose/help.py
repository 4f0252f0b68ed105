"""Read the passages of the help of a command and of the commands below it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from tests.prose.passages import Passage, without_markup
from tests.prose.sources import paragraphs


def of_command(command: click.Command, name: str) -> Iterator[Passage]:
    """Yield the paragraphs of a command's description and epilog, and the help of its options."""
    texts = [("--help", command.help), ("--help", command.epilog)]
    texts += [
        (each.opts[0], each.help) for each in command.params if isinstance(each, click.Option)
    ]
    for option, text in texts:
        for _, paragraph in paragraphs((text or "").splitlines()):
            yield Passage(f"{name} {option}", without_markup(paragraph))
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            yield from of_command(each, f"{name} {below}")
