"""Read the passages of source code: the docstrings and comments of Python, the comments of Lua."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.prose.passages import Passage, without_markup

#: The first words of a docstring of a function that state no action. Properties may begin so.
_NO_VERB = re.compile(
    r"(?:an?|the|number|whether|what|which|who|where|how|of|those|there)\b"
    r"|(?:returns|yields|raises|gives|says|tells)\b",
    re.IGNORECASE,
)
#: The first words of a docstring that is a clause without a subject.
_NO_SUBJECT = re.compile(r"(?:whether|what|which|who|whoever|where|how|of)\b", re.IGNORECASE)
_ITEM = re.compile(r"^\s*[-*x+] ")
_TOOL = re.compile(r"#\s*(?:noqa|type:|pragma|fmt:|!)")


def docstrings(path: Path, name: str) -> Iterator[Passage]:
    """Yield the paragraphs and list items of the docstrings of a Python file."""
    for node in _documented(path):
        first = node.body[0].lineno
        text = ast.get_docstring(node) or ""
        for number, paragraph in paragraphs(text.splitlines()):
            yield Passage(f"{name}:{first + number}", without_markup(paragraph))


def openings(path: Path, name: str) -> Iterator[str]:
    """Yield a fault for each docstring of a function that does not begin with a verb.

    Docstrings of modules, classes and properties may also begin with the name of a thing.
    """
    for node in _documented(path):
        opening = (ast.get_docstring(node) or "").splitlines()[0]
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        line = 1 if isinstance(node, ast.Module) else node.lineno
        if is_function and not _is_property(node):
            if opening[0].islower() or _NO_VERB.match(opening):
                yield f"{name}:{line}: begin with a verb, such as Return: {opening}"
        elif _NO_SUBJECT.match(opening):
            yield f"{name}:{line}: begin with a verb or the name of a thing: {opening}"


def comments(path: Path, name: str) -> Iterator[Passage]:
    """Yield the comments of a Python file; consecutive lines are one passage."""
    lines: list[str] = []
    began, last = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT and not _TOOL.match(token.string):
            row, column = token.start
            if lines and (row - 1, column) != last:
                yield Passage(f"{name}:{began}", without_markup(" ".join(lines)))
                lines = []
            began, last = (began if lines else row), (row, column)
            lines.append(token.string.lstrip("#: ").partition("  # ")[0])
    if lines:
        yield Passage(f"{name}:{began}", without_markup(" ".join(lines)))


def lua_comments(path: Path, name: str) -> Iterator[Passage]:
    """Yield the paragraphs of the comments of a Lua file."""
    prose = [
        line.removeprefix("--").strip()
        if line.startswith("--") and not line.startswith("-- uses:")
        else ""
        for line in path.read_text().splitlines()
    ]
    for number, paragraph in paragraphs(prose):
        yield Passage(f"{name}:{number + 1}", without_markup(paragraph))


#: Nodes that may hold definitions. Expressions hold none, and are most of a file.
_STATEMENT = (ast.stmt, ast.excepthandler, ast.match_case)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(path: Path) -> Iterator[_Documented]:
    statements: list[ast.AST] = [ast.parse(path.read_text())]
    while statements:
        node = statements.pop(0)
        statements += [each for each in ast.iter_child_nodes(node) if isinstance(each, _STATEMENT)]
        if isinstance(node, _Documented) and ast.get_docstring(node):
            yield node


def _is_property(node: _Documented) -> bool:
    decorators = [] if isinstance(node, ast.Module) else node.decorator_list
    return any("property" in ast.unparse(each) for each in decorators)


def paragraphs(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the first line's number, from 0, and the text of each paragraph and list item.

    Indented paragraphs, and those that click must not wrap, are code or tables, and left out.
    """
    found: list[str] = []
    began = 0
    for number, line in enumerate([*lines, ""]):
        if found and (not line.strip() or _ITEM.match(line)):
            if not found[0].startswith(("    ", "\b")):
                yield began, inspect.cleandoc("\n".join(found)).replace("\n", " ")
            found = []
        if line.strip():
            began = began if found else number
            found.append(_ITEM.sub("", line) if not found else line)
