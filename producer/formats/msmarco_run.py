"""Read the three columns of MS MARCO's runs, `query document rank`, which qrels may have too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from contract.errors import InvalidInput
from producer.files.quoting import quoted, shown
from producer.formats import values
from producer.formats.columns import split_words
from producer.formats.records import records_of
from producer.formats.run_line import RunLine


def is_line(text: str) -> bool:
    """Return whether a line has three columns, the last one with a number."""
    columns = split_words(text)
    return len(columns) == 3 and values.looks_like_a_number(columns[2])


def line(text: str) -> RunLine:
    """Return the record of a line. Raises `ValueError`."""
    columns = split_words(text)
    if len(columns) != 3:
        raise ValueError(
            f"expected MS MARCO's 3 columns (query document rank), found {len(columns)}"
        )
    rank = values.whole_number(columns[2], "rank")
    if rank < 0:
        raise ValueError(f"the rank is {rank}; use ranks from 1")
    query_id, document_id = map(values.identifier, columns[:2])
    return RunLine(query_id, document_id, rank, float(-rank))


def lines(block: str) -> Iterable[RunLine] | None:
    """Return the records of lines with tabs between; None if `line` must read each."""
    rows = [each.split("\t") for each in block.split("\n")]
    if set(map(len, rows)) != {3}:
        return None
    query_ids, document_ids, texts = zip(*rows, strict=True)
    ranks = values.whole_numbers(texts)
    if (
        ranks is None
        or not values.are_identifiers(list(set(query_ids)))
        or not values.are_identifiers(document_ids)
    ):
        return None
    return records_of(RunLine, query_ids, document_ids, ranks, [float(-rank) for rank in ranks])


def checked(
    path: str, first: tuple[int, RunLine], records: Iterator[tuple[int, RunLine]]
) -> Iterator[tuple[int, RunLine]]:
    """Yield the records after the first. Raises `InvalidInput` if the file may be qrels."""
    query_id, ranks = first[1].query_id, {first[1].rank}
    has_several = False
    for number, each in records:
        if each.query_id != query_id:
            query_id, ranks = each.query_id, set()
        elif each.rank in ranks:
            raise InvalidInput(
                f"{shown(path)}:{number}: query {quoted(query_id)} has rank {each.rank} twice, as"
                " in qrels; pass qrels with --qrels, and a run with equal ranks with --input-format"
                " run=msmarco"
            )
        else:
            has_several = True
        ranks.add(each.rank)
        yield number, each
    if not has_several:
        raise InvalidInput(
            f"{shown(path)}: no two lines in a row have the same query, so this may be qrels,"
            " which --qrels reads; for a run, pass --input-format run=msmarco"
        )
