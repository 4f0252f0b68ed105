"""Read the parts of a dataset of ir_datasets: documents, queries, judgments and a run.

ir_datasets is imported only when a dataset is read: it is the extra `datasets`. The name of a
dataset that is read like a file is `ir_datasets:ID`. Only its cache is read, because it would
download gigabytes without a question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from contract.errors import InvalidInput
from contract.printable import reason_of
from producer.files.quoting import quoted
from producer.formats import values
from producer.formats.qrels import Judgment
from producer.formats.records import InvalidLines
from producer.formats.run_line import RunLine
from producer.formats.texts import Text, checked_length

T = TypeVar("T")

_PREFIX = "ir_datasets:"
#: The parts of a dataset, by their names in ir_datasets.
_DOCS, _QUERIES, _QRELS, _RUN = "docs", "queries", "qrels", "scoreddocs"


def name_of(dataset_id: str) -> str:
    """Return the name of a dataset where others are files."""
    return _PREFIX + dataset_id


def is_dataset(name: str) -> bool:
    """Return whether a name is that of a dataset."""
    return name.startswith(_PREFIX)


def has_run(dataset_id: str) -> bool:
    """Return whether a dataset has a first-stage run. Raises `InvalidInput`."""
    return _has(dataset_id, _RUN)


def has_judgments(dataset_id: str) -> bool:
    """Return whether a dataset has judgments. Raises `InvalidInput`."""
    return _has(dataset_id, _QRELS)


class _NotCached(Exception):
    """A file would have to be downloaded."""


@contextmanager
def without_downloads() -> Iterator[None]:
    """Refuse datasets that are not in the cache, while the block runs.

    Raises `InvalidInput` if ir_datasets is not installed.
    """
    lazy_libs = _library("datasets").lazy_libs
    requests = lazy_libs.requests

    def refuse() -> None:
        raise _NotCached("downloads require --download")

    # ir_datasets has no option for it, and calls this function for each download.
    lazy_libs.requests = refuse
    try:
        yield
    finally:
        lazy_libs.requests = requests


def read_texts(
    name: str, bad: InvalidLines, max_chars: int, option: str
) -> Iterator[tuple[int, Text]]:
    """Yield the documents or the queries, with the text that ir_datasets would index."""
    part, id_field = (_DOCS, "doc_id") if option == "corpus" else (_QUERIES, "query_id")

    def parse(each: Any) -> Text:
        id_ = values.identifier(getattr(each, id_field))
        return checked_length(Text(id_, each.default_text().strip()), max_chars)

    return _records(name, part, parse, bad)


def read_run(name: str, bad: InvalidLines) -> Iterator[tuple[int, RunLine]]:
    """Yield the run, whose order is that of its scores."""

    def parse(each: Any) -> RunLine:
        query_id, document_id = map(values.identifier, (each.query_id, each.doc_id))
        return RunLine(query_id, document_id, 0, values.number(repr(float(each.score)), "score"))

    return _records(name, _RUN, parse, bad)


def read_qrels(name: str, bad: InvalidLines) -> Iterator[tuple[int, Judgment]]:
    """Yield the judgments."""

    def parse(each: Any) -> Judgment:
        query_id, document_id = map(values.identifier, (each.query_id, each.doc_id))
        return Judgment(query_id, document_id, int(each.relevance))

    return _records(name, _QRELS, parse, bad)


def _records(
    name: str, part: str, parse: Callable[[Any], T], bad: InvalidLines
) -> Iterator[tuple[int, T]]:
    """Yield the number of each record, from 1, and what `parse` makes of it."""
    dataset_id = name.removeprefix(_PREFIX)
    if not _has(dataset_id, part):
        raise InvalidInput(f"{name}: the dataset has no {part}; pass them as a file")
    number = 0
    for each in _iterated(name, getattr(_dataset(dataset_id), f"{part}_iter")):
        number += 1
        try:
            record = parse(each)
        except ValueError as error:
            bad.add(f"{name}:{number}: {error}")
            continue
        yield number, record
    if not number:
        raise InvalidInput(f"{name}: the dataset has an empty list of {part}")


def _iterated(name: str, iterate: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Yield the records; whatever ir_datasets raises becomes `InvalidInput`."""
    try:
        yield from iterate()
    except Exception as error:
        if _is_not_cached(error):
            raise InvalidInput(
                f"{name}: it is not in the cache of ir_datasets (IR_DATASETS_HOME); pass --download"
                " to download it"
            ) from error
        raise InvalidInput(
            f"{name}: ir_datasets cannot read it: {reason_of(error)}; check its cache"
            " (IR_DATASETS_HOME)"
        ) from error


def _is_not_cached(error: BaseException) -> bool:
    """Return whether a download was refused; of several addresses, there is a list of errors."""
    return isinstance(error, _NotCached) or "_NotCached" in str(error)


def _has(dataset_id: str, part: str) -> bool:
    return bool(getattr(_dataset(dataset_id), f"has_{part}")())


def _library(wanted_by: str) -> Any:
    try:
        import ir_datasets
    except ImportError as error:
        raise InvalidInput(
            f"{wanted_by}: datasets require ir_datasets; install it with"
            " `pip install 'rerankq[datasets]'`"
        ) from error
    return ir_datasets


def _dataset(dataset_id: str) -> Any:
    try:
        return _library(name_of(dataset_id)).load(dataset_id)
    except KeyError as error:
        raise InvalidInput(
            f"ir_datasets has no dataset {quoted(dataset_id)}; `ir_datasets list` prints all"
        ) from error
