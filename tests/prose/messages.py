"""Read the passages that a program prints: its messages, log lines, descriptions and help texts.

Messages are built in many places, so every string of three words or more counts, except for
docstrings and SQL. Expressions of f-strings and placeholders are replaced by "code".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.prose.passages import Passage, without_markup
from tests.prose.sources import paragraphs

_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-+ #0-9.]*[a-zA-Z]|%%|\{[\w.!:]*\}")
_THREE_WORDS = re.compile(r"(?:[a-z]{2,}\W*\s\W*){2}[a-z]{2,}", re.IGNORECASE)
_SQL = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA|WITH)\b")


def of_python(path: Path, name: str) -> Iterator[Passage]:
    """Yield the paragraphs of the messages of a Python file."""
    for line, text in _strings(ast.parse(path.read_text())):
        message = _PLACEHOLDER.sub("code", text)
        if _THREE_WORDS.search(message) and not _SQL.match(message):
            for _, paragraph in paragraphs(message.splitlines()):
                yield Passage(f"{name}:{line}", without_markup(paragraph))


def _strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string below a node of the syntax tree."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        yield node.lineno, "".join(_part(each) for each in node.values)
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_docstring and not (
            isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
        ):
            yield from _strings(child)


def _part(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "code"
