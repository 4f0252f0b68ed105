"""Reads what people have on disk: BEIR and TSV collections, TREC runs, qrels, request lines.

Each reader gives one item a line, with the line's number. A line that is wrong raises
`InvalidInput` as `file:line: what`, or is counted and passed over if `BadLines` says so. Files may
be compressed with gzip, whatever their names; `-` is standard input.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from contract import jobs
from contract.errors import InvalidInput

T = TypeVar("T")

STDIN = "-"
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class BadLines:
    """What to do with a line that is wrong: stop, or skip and count."""

    skip: bool = False
    count: int = 0
    #: The first few, for the report.
    examples: list[str] = field(default_factory=list)

    def add(self, message: str, *, lines: int = 1) -> None:
        """Note a wrong line. Raises `InvalidInput` unless they are skipped."""
        if not self.skip:
            raise InvalidInput(message)
        self.count += lines
        if len(self.examples) < 5:
            self.examples.append(message)


class Text(NamedTuple):
    """A query or a document."""

    id: str
    text: str


class RunLine(NamedTuple):
    """A line of a TREC run."""

    query_id: str
    document_id: str
    rank: int
    score: float


class Judgment(NamedTuple):
    """A line of a qrels file."""

    query_id: str
    document_id: str
    relevance: int


def texts(path: str, bad: BadLines, max_chars: int) -> Iterator[tuple[int, Text]]:
    """A corpus or queries: BEIR's JSONL (title and text joined as BEIR does), or `id<TAB>text`."""

    def parse(number: int, line: str) -> Text | None:
        text = _json_text(line) if _is_json(line) else _tsv_text(number, line)
        if text is not None and len(text.text) > max_chars:
            raise ValueError(
                f"the text of {text.id!r} has {len(text.text):,} characters, the limit is"
                f" {max_chars:,} (RERANKQ_MAX_TEXT_CHARS)"
            )
        return text

    return _items(path, parse, bad)


def run(path: str, bad: BadLines) -> Iterator[tuple[int, RunLine]]:
    """A TREC run: `query Q0 document rank score tag`, split at any white space."""

    def parse(number: int, line: str) -> RunLine:
        parts = line.split()
        if len(parts) < 5:
            raise ValueError(
                f"a TREC run has 6 columns (query Q0 document rank score tag), here {len(parts)}"
            )
        query_id, _q0, document_id, rank, score = parts[:5]
        return RunLine(query_id, document_id, _whole_number(rank, "rank"), _number(score, "score"))

    return _items(path, parse, bad)


def qrels(path: str, bad: BadLines) -> Iterator[tuple[int, Judgment]]:
    """Judgments: BEIR's TSV (`query document relevance`, with a header) or TREC's four columns."""

    def parse(number: int, line: str) -> Judgment | None:
        parts = line.split()
        if len(parts) not in (3, 4):
            raise ValueError(
                f"qrels have 3 columns (query, document, relevance) or TREC's 4, here {len(parts)}"
            )
        if number == 1 and not _looks_like_a_number(parts[-1]):
            return None  # a header
        return Judgment(parts[0], parts[-2], _whole_number(parts[-1], "relevance"))

    return _items(path, parse, bad)


def requests(path: str, bad: BadLines) -> Iterator[tuple[int, jobs.Request]]:
    """Self-contained lines, ours or rank_llm's; a line without a query id gets its number."""

    def parse(number: int, line: str) -> jobs.Request:
        data = _json_object(line)
        if isinstance(data.get("query"), dict):
            data = _from_rank_llm(data)
        if "top_k" in data:
            raise ValueError('"top_k" is for the whole run: use --top-k')
        given = data.get("query_id")
        data["query_id"] = str(number) if given is None else _id(given)
        entries = data.get("candidates")
        if isinstance(entries, list):
            data["candidates"] = [_with_string_id(entry) for entry in entries]
        return jobs.parse(jobs.Request, data)

    return _items(path, parse, bad)


def documents(path: str) -> list[dict[str, Any] | str]:
    """Documents of one query: JSONL (`{"id", "text"}`), or one text a line."""

    def parse(number: int, line: str) -> dict[str, Any] | str:
        if not _is_json(line):
            return line
        data = _json_object(line)
        return {**data, "id": str(data["id"])} if type(data.get("id")) is int else data

    items: Iterator[tuple[int, dict[str, Any] | str]] = _items(path, parse, BadLines())
    return [item for _, item in items]


def _items(
    path: str, parse: Callable[[int, str], T | None], bad: BadLines
) -> Iterator[tuple[int, T]]:
    empty = True
    for number, line in _lines(path):
        empty = False
        try:
            item = parse(number, line)
        except ValueError as error:  # InvalidInput is one
            bad.add(f"{path}:{number}: {error}")
            continue
        if item is not None:
            yield number, item
    if empty:
        raise InvalidInput(f"{path}: the file is empty")


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1, without their ends."""
    number = 0
    with _opened(path) as stream:
        try:
            for number, raw in enumerate(stream, start=1):
                if b"\0" in raw:
                    raise InvalidInput(f"{path}:{number}: this is not text (a NUL byte)")
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                if line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{path}:{number}: this is not UTF-8 text") from error
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(f"{path}: after line {number}: {error}") from error


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == STDIN:
        yield _unpacked(sys.stdin.buffer)
        return
    if Path(path).is_dir():
        raise InvalidInput(f"{path}: this is a directory, not a file")
    try:
        file = Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    with file:
        yield _unpacked(file)


def _unpacked(stream: BinaryIO) -> BinaryIO:
    buffered = cast(io.BufferedReader, stream)
    if buffered.peek(2)[:2] == _GZIP_MAGIC:
        return cast(BinaryIO, gzip.GzipFile(fileobj=buffered))
    return stream


#: BEIR's names first, then those of ir_datasets, pyserini and older collections.
_IDS = ("_id", "id", "doc_id", "docid", "docno", "query_id", "qid")
_TEXTS = ("text", "contents")


def _json_text(line: str) -> Text:
    data = _json_object(line)
    identifier = next((data[name] for name in _IDS if name in data), None)
    text_name = next((name for name in _TEXTS if name in data), None)
    if identifier is None or text_name is None:
        raise ValueError('a line needs "_id" and "text"')
    parts = (data.get("title"), data[text_name])
    if not all(part is None or isinstance(part, str) for part in parts):
        raise ValueError(f'"title" and "{text_name}" must be strings')
    return Text(_id(identifier), join_title(*parts))


def join_title(title: str | None, text: str | None) -> str:
    """One text of a document's two, as BEIR's models read them."""
    return f"{title or ''} {text or ''}".strip()


def _tsv_text(number: int, line: str) -> Text | None:
    identifier, tab, text = line.partition("\t")
    if not tab:
        raise ValueError('neither JSON ({"_id", "text"}) nor two columns with a tab between')
    identifier = identifier.strip()
    if number == 1 and identifier.lower().strip("_").replace("-", "_") in _ID_HEADERS:
        return None
    return Text(_id(identifier), text.strip())


_ID_HEADERS = ("id", "qid", "query_id", "pid", "docid", "doc_id", "corpus_id")


def _from_rank_llm(data: dict[str, Any]) -> dict[str, Any]:
    query = data["query"]
    entries = data.get("candidates")
    if not isinstance(entries, list):
        raise ValueError('"candidates" must be a list')
    return {
        "query_id": query.get("qid"),
        "query": query.get("text"),
        "candidates": [_rank_llm_candidate(entry) for entry in entries],
    }


#: The names under which rank_llm looks for a document's text, in its order.
_RANK_LLM_TEXTS = ("text", "segment", "contents", "content", "body", "passage")


def _rank_llm_candidate(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or "docid" not in entry:
        raise ValueError('each candidate needs "docid" and "doc"')
    doc = entry.get("doc")
    if isinstance(doc, dict):
        text = next((doc[name] for name in _RANK_LLM_TEXTS if doc.get(name) is not None), None)
        if not isinstance(text, str):
            raise ValueError(f"document {entry['docid']!r} has no text")
        doc = join_title(doc.get("title"), text)
    return {"id": entry["docid"], "text": doc, "score": entry.get("score")}


def _with_string_id(entry: Any) -> Any:
    if isinstance(entry, dict) and "id" in entry:
        return {**entry, "id": _id(entry["id"])}
    return entry


def _is_json(line: str) -> bool:
    return line.lstrip().startswith("{")


def _json_object(line: str) -> dict[str, Any]:
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    if "\\u" in line:
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("half a surrogate pair, which is not Unicode") from error
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that can be ranked")


def _id(value: Any) -> str:
    """An id as a string; one with white space would not survive a TREC run."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"an id must be a string or a whole number, here {value!r}")
    identifier = str(value)
    if not identifier or any(char.isspace() for char in identifier):
        raise ValueError(f"an id must not be empty or hold white space, here {identifier!r}")
    return identifier


def _looks_like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, what: str) -> float:
    if not _looks_like_a_number(text) or "_" in text:
        raise ValueError(f"the {what} {text!r} is no number")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the {what} is {text}, which cannot be ranked")
    return number


def _whole_number(text: str, what: str) -> int:
    number = _number(text, what)
    if not number.is_integer() or abs(number) >= 2**31:
        raise ValueError(f"the {what} {text!r} is no whole number, or too large")
    return int(number)
