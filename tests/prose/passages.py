"""Read the passages of running text in pages of Markdown, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Passage:
    """A paragraph, list item, table cell or heading."""

    place: str
    text: str


#: What a line of Markdown begins with if it is no continuation of the line before.
_STARTS = re.compile(r"^\s*(?:#+ |[-*] |\d+\. |>|!!!|:::|\||$)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")


def of_page(path: Path, name: str) -> Iterator[Passage]:
    """Yield the passages of a Markdown page, without its code."""
    lines: list[str] = []
    began = 0
    for number, line in enumerate((*_prose_lines(path.read_text()), ""), start=1):
        if _STARTS.match(line) and lines:
            yield from _passages(f"{name}:{began}", " ".join(lines))
            lines = []
        if line.strip() and not line.lstrip().startswith(":::"):
            began = began if lines else number
            lines.append(line.strip())


def _prose_lines(text: str) -> Iterator[str]:
    """Yield each line of a page, and an empty one for each line of code or front matter."""
    fenced = False
    for line in re.sub(r"<!--.*?-->", "", text).splitlines():
        fence = line.lstrip().startswith("```")
        yield "" if fenced or fence or line.startswith("    options:") else line
        fenced ^= fence


def without_markup(text: str) -> str:
    """Return the text with "code" in place of code, and without other markup."""
    text = _CODE.sub("code", text)
    return _LINK.sub(r"\1", _IMAGE.sub(r"\1", text)).replace("**", "").replace("*", "")


def _passages(place: str, text: str) -> Iterator[Passage]:
    text = without_markup(text)
    cells = text.strip("|").split("|") if text.startswith("|") else [re.sub(_STARTS, "", text)]
    for cell in cells:
        if re.search(r"\w", cell):
            yield Passage(place, cell.strip())
