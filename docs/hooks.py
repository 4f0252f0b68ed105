"""Build hooks of the site: pages from outside `docs/`, links that leave it, and generated tables.

Every page links to files by their place in the repository, so that links also work on a code host.
A link to a file outside of `docs/` leads to its page of the site, or else to a copy of the file.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs import tables  # noqa: E402

#: Pages whose text is elsewhere in the repository, by their place in the site.
MOUNTED = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "sample.md": "examples/packages/README.md",
    "benchmarks/method.md": "benchmarks/README.md",
    "benchmarks/results.md": "benchmarks/results/bench.md",
    "model-card.md": "rerankq_bundled_model/rerank-tiny-en/README.md",
    "operations/redis-users.md": "deploy/README.md",
}
#: Titles of mounted pages that begin without one.
TITLES = {"benchmarks/results.md": "Results"}
#: The site's folder for copies of other files.
COPIES = "repository"

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
LOADED_FROM_ELSEWHERE = re.compile(
    r"<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)=\"?https?://[^>]*"
)
GENERATED = re.compile(r"<!-- generated: (\w+) -->")


def on_files(files: Files, config: Any) -> Files:
    """Add the mounted pages, and the files of the repository that pages link to."""
    for place, source in MOUNTED.items():
        text = (ROOT / source).read_text()
        if place in TITLES:
            text = f"# {TITLES[place]}\n\n{text}"
        files.append(File.generated(config, place, content=text))
    linked = {target for page in files.documentation_pages() for target in _outside(page)}
    for target in sorted(linked):
        files.append(File.generated(config, _place(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the pages of their files, and insert the generated tables."""
    place = page.file.src_uri

    def lead(link: re.Match[str]) -> str:
        before, target, anchor, after = link.groups()
        if "://" in target:
            return link[0]
        here = posixpath.dirname(place) or "."
        there = posixpath.relpath(_place(_resolve(place, target)), here)
        return f"{before}{there}{anchor or ''}{after}"

    return GENERATED.sub(lambda name: tables.GENERATED[name[1]](), LINK.sub(lead, markdown))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that loads anything from elsewhere."""
    if found := LOADED_FROM_ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[0]}")
    return output


def _outside(page: File) -> set[str]:
    """Return the files that a page links to and that are no part of the site otherwise."""
    targets = (link[2] for link in LINK.finditer(page.content_string) if "://" not in link[2])
    resolved = (_resolve(page.src_uri, target) for target in targets)
    return {each for each in resolved if _place(each).startswith(f"{COPIES}/")}


def _resolve(place: str, target: str) -> str:
    """Return the path in the repository that a link of the page at `place` names."""
    source = MOUNTED.get(place, f"docs/{place}")
    path = posixpath.normpath(PurePosixPath(source).parent / target)
    if not (ROOT / path).is_file():
        return f"docs/{os.fspath(posixpath.normpath(PurePosixPath(place).parent / target))}"
    return path


def _place(path: str) -> str:
    """Return where a file of the repository is in the site."""
    for place, source in MOUNTED.items():
        if path == source:
            return place
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.endswith(".png"):
        return f"{COPIES}/{path}"
    # As text, a browser shows the file; and a name that begins with a dot would be left out.
    return f"{COPIES}/{path.lstrip('.')}.txt"
