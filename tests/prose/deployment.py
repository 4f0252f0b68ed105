"""Read the passages of shell scripts and of YAML and JSON files, such as alerts and dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.prose.passages import Passage, without_markup
from tests.prose.sources import paragraphs

_COMMENT = re.compile(r"#+ (?!.*\S {2,}\S)(.*)")
_ECHO = re.compile(r"""\becho (?:-\w+ )?(["'])(.*?)(?<!\\)\1""")
_VARIABLE = re.compile(r"\$\{[^}]*\}|\$\w+|\{\{.*?\}\}")
#: The keys of alerts and dashboards whose values people read.
_SHOWN = ("description", "summary", "title")


def comments(path: Path, name: str) -> Iterator[Passage]:
    """Yield the paragraphs of the lines that are comments, beginning with #.

    Rows of tables are left out.
    """
    lines = map(_COMMENT.match, map(str.strip, path.read_text().splitlines()))
    prose = [line[1] if line else "" for line in lines]
    for number, paragraph in paragraphs(prose):
        yield Passage(f"{name}:{number + 1}", without_markup(paragraph))


def echoes(path: Path, name: str) -> Iterator[Passage]:
    """Yield what a shell script prints."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        for found in _ECHO.finditer(line):
            yield Passage(f"{name}:{number}", _VARIABLE.sub("code", found[2]))


def shown_values(path: Path, name: str) -> Iterator[Passage]:
    """Yield the titles and descriptions of a YAML or JSON file."""
    for document in yaml.compose_all(path.read_text()):
        yield from _shown_values(document, name)


def _shown_values(node: yaml.Node, name: str) -> Iterator[Passage]:
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _shown_values(each, name)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(value, yaml.ScalarNode) and key.value in _SHOWN:
                text = _VARIABLE.sub("code", " ".join(value.value.split()))
                yield Passage(f"{name}:{value.start_mark.line + 1}", without_markup(text))
            yield from _shown_values(value, name)
