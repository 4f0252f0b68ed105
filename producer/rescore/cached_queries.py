"""Use the scores in a cache, score only the pairs that it lacks, and merge both.

A query whose scores are all in the cache is written to the journal at once. Of any other, the
documents without a score become a smaller query. Its result is merged with the scores found. The
lines of the journal are the same as without a cache, and name the number of cached scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import TypeVar

from contract import jobs, metrics
from contract.column_values import given
from contract.columns import ResultColumns
from contract.errors import CacheNotWritable, RedisUnavailable
from contract.passages import PassageColumns, PassageRow
from contract.printable import counted
from contract.scoring import ScoringIdentity
from producer.client.columns import ColumnsClient
from producer.rescore import journal_lines
from producer.rescore.journal import Journal
from producer.rescore.journal_lines import Line
from producer.rescore.loaded_identity import LoadedModel
from producer.rescore.progress import Progress
from producer.rescore.staged_query import StagedQuery
from producer.score_cache.cache import CachedScore, ScoreCache
from producer.score_cache.keys import pair_keys

T = TypeVar("T")

#: The number of pairs of queries without any missing score that are written together.
PAIRS_AT_ONCE = 2_000


@dataclass(frozen=True)
class _Query:
    """A query without its texts, and its cached scores."""

    staged: StagedQuery
    keys: Sequence[bytes]
    found: dict[bytes, CachedScore]
    #: The passages of the scores found; None if documents are not cut into passages.
    passages: dict[bytes, PassageRow] | None = None
    #: What has scored the missing documents; None if that is not known completely.
    scored_by: set[ScoringIdentity | None] = field(default_factory=set)

    @cached_property
    def missing(self) -> list[int]:
        """The indexes of the documents without a score."""
        return [index for index, key in enumerate(self.keys) if key not in self.found]

    @property
    def cached(self) -> int:
        """The number of documents with a score."""
        return len(self.keys) - len(self.missing)

    @cached_property
    def key_by_id(self) -> dict[str, bytes]:
        """The keys by the ids of the documents."""
        return dict(zip(self.staged.document_ids, self.keys, strict=True))


@dataclass(frozen=True)
class _Scored:
    """The scores that the workers have computed for a query, by the ids of the documents."""

    scores: dict[str, float] = field(default_factory=dict)
    passages: dict[str, PassageRow] = field(default_factory=dict)
    truncated: int = 0
    lost_tokens: int = 0
    shortened: int = 0

    @classmethod
    def of(cls, columns: ResultColumns, ranking: int) -> _Scored:
        """Return the scores of one ranking of a result."""
        begin, end = columns.bounds[ranking : ranking + 2]
        ids = columns.ids[begin:end]
        rows = columns.passages.at(slice(begin, end)).rows() if columns.passages else ()
        return cls(
            dict(zip(ids, columns.scores[begin:end], strict=True)),
            dict(zip(ids, rows, strict=False)),
            columns.truncated[ranking],
            (columns.lost_tokens or {ranking: 0})[ranking],
            (columns.shortened or {ranking: 0})[ranking],
        )


@dataclass(frozen=True)
class _Whole:
    """A query whose documents all have scores."""

    query: _Query
    scores: Sequence[float]
    passages: PassageColumns | None
    truncated: int
    lost_tokens: int
    shortened: int

    @classmethod
    def of(cls, query: _Query, new: _Scored) -> _Whole:
        """Add scores to those of the cache."""
        found, known = query.found, query.passages
        with_ids = list(zip(query.keys, query.staged.document_ids, strict=True))
        cuts = [found[key][1] for key in query.keys if key in found and found[key][1]]
        passages = None
        if known is not None:
            passages = [known[key] if key in found else new.passages[id_] for key, id_ in with_ids]
        return cls(
            query,
            [found[key][0] if key in found else new.scores[id_] for key, id_ in with_ids],
            None if passages is None else PassageColumns.of_rows(passages),
            new.truncated + len(cuts),
            new.lost_tokens + sum(cuts) - len(cuts),
            new.shortened + sum(known[key][-1] for key in query.keys if key in found)
            if known is not None
            else 0,
        )


class CachedQueries:
    """The journal of a run with a cache: it makes smaller queries, and records whole results.

    It also adds all results to the cache. `top_k` is the number of documents of each query to keep.
    """

    def __init__(
        self,
        journal: Journal,
        cache: ScoreCache,
        top_k: int | None,
        notify: Callable[[str], object],
        *,
        has_passages: bool = False,
    ) -> None:
        self._journal = journal
        #: Whether documents are cut into passages.
        self._has_passages = has_passages
        self._cache = cache
        #: What the workers would score with. Without it, nothing is taken from the cache.
        self.loaded: LoadedModel | None = None
        self._top_k = top_k
        self._notify = notify
        self._is_writing = cache.writable
        # See `Journal`.
        self.resumable = journal.resumable
        self.max_lengths = journal.max_lengths
        self.revisions = journal.revisions
        self.prompts = journal.prompts
        #: The queries that were sent, until they end.
        self._sent: dict[str, _Query] = {}
        self._complete: list[_Whole] = []
        #: Queries whose missing scores were computed in another way than the cached ones.
        self._mixed: set[str] = set()
        #: The progress by scores of the cache since all queries were last read.
        self._taken = Progress()
        #: The number of scores taken from the cache, and of those that it lacked.
        self.hits = self.misses = 0
        #: The place in the round of the query that was yielded last.
        self.place = 0

    @property
    def model_requested(self) -> str | None:
        """See `Journal`."""
        return self._journal.model_requested

    def progress(self) -> Progress:
        """Return the progress recorded in the journal."""
        return self._journal.progress()

    def queries(self) -> Iterator[StagedQuery]:
        """Yield the documents without a score of each query that is not done."""
        self._taken = Progress()
        for place, staged in enumerate(self._journal.staged_queries()):
            if self._journal.are_done([staged.id]):
                continue
            query = self._look_up(staged)
            if query.missing:
                self._sent[staged.id] = query
                self.misses += len(query.missing)
                self.place = place
                yield _part(staged, query.missing)
            else:
                self._add_complete(_Whole.of(query, _Scored()))
        self._write_complete()
        self._try_to_write(self._cache.note_use)

    def begin_whole_queries(self) -> bool:
        """Prepare to score queries as a whole that cannot be merged; return whether there are any.

        There are if the workers' model has changed since they were asked, or a job was downgraded.
        """
        if not self._mixed:
            return False
        self._notify(
            f"{counted(len(self._mixed), 'query', 'queries')} scored as a whole, because new scores"
            " are not of the same model and settings as those in the cache"
        )
        self.loaded = None
        self._mixed.clear()
        return True

    def with_taken(self, progress: Progress) -> Progress:
        """Return the progress of jobs with what was taken from the cache."""
        total = Progress(window=progress.window, pairs_per_job=progress.pairs_per_job)
        total.add(progress)
        total.add(self._taken)
        return total

    def count(self, client: ColumnsClient) -> None:
        """Add the numbers of scores that the cache had and lacked to the service's counters."""
        requested = self.loaded.requested if self.loaded else self._journal.model_requested
        model = requested or ""  # no job has ended
        counts = {metrics.CACHE_HITS.field(model): self.hits}
        counts[metrics.CACHE_MISSES.field(model)] = self.misses
        try:
            client.count(counts)
        except RedisUnavailable as error:
            self._notify(f"the use of the cache is not counted in the metrics: {error}")

    def job_id(self, group: Sequence[StagedQuery]) -> str:
        """Return the id of the job of these queries, the same for the same missing documents."""
        content = blake2b(digest_size=16)
        for query in map(self._sent.__getitem__, (each.id for each in group)):
            content.update(b"".join(query.keys[index] for index in query.missing))
        return self._journal.job_id([*(each.id for each in group), content.hexdigest()])

    def add_part(self, result: ResultColumns) -> None:
        """Add the result of a part of a query to the cache."""
        self._keep(result)

    def add_result(self, result: jobs.JobResult | ResultColumns) -> None:
        """Append a line for each query of a job, with the scores that were in the cache."""
        columns = result if isinstance(result, ResultColumns) else ResultColumns.of(result)
        if isinstance(result, ResultColumns):  # otherwise its parts were kept
            self._keep(result)
        wholes = []
        for place, (query, _) in enumerate(self._rankings(columns)):
            self._sent.pop(query.staged.id)
            if query.found and (self.loaded is None or query.scored_by != {self.loaded.identity}):
                self._mixed.add(query.staged.id)
                continue
            wholes.append(_Whole.of(query, _Scored.of(columns, place)))
        self._append_wholes(columns.provenance, wholes)

    def add_failure(self, query_ids: list[str], failure: jobs.Failure) -> None:
        """Append a line for each query that has no ranking."""
        self.append(list(journal_lines.of_failure(query_ids, failure)))

    def append(self, lines: Sequence[Line]) -> None:
        """Append the lines of queries that have no ranking."""
        for line in lines:
            if query := self._sent.pop(line.head["query_id"], None):
                self._taken.failed_pairs += query.cached
        self._journal.append(lines)

    def _look_up(self, staged: StagedQuery) -> _Query:
        keys, found = pair_keys(staged.text, staged.texts), {}
        passages: dict[bytes, PassageRow] | None = {} if self._has_passages else None
        if self.loaded is not None:
            found = self._cache.find(self.loaded.identity, keys)
            if found and passages is not None:
                passages = self._cache.find_passages(self.loaded.identity, keys)
                found = {key: score for key, score in found.items() if key in passages}
            if self._cache.has_unnoted_uses:
                self._try_to_write(self._cache.note_use)
        return _Query(replace(staged, texts=()), keys, found, passages)

    def _add_complete(self, whole: _Whole) -> None:
        self._complete.append(whole)
        if sum(len(each.scores) for each in self._complete) >= PAIRS_AT_ONCE:
            self._write_complete()

    def _write_complete(self) -> None:
        """Write the queries whose scores were all in the cache."""
        wholes, self._complete = self._complete, []
        if self.loaded is None or not wholes:
            return
        loaded = self.loaded
        source = loaded.identity.provenance(
            loaded.requested, sum(len(each.scores) for each in wholes)
        )
        self._taken.queries += len(wholes)
        self._taken.models[source.model] += len(wholes)
        self._append_wholes(source, wholes)

    def _append_wholes(self, source: jobs.Provenance, wholes: Sequence[_Whole]) -> None:
        for each in wholes:
            self.hits += each.query.cached
            self._taken.pairs += each.query.cached
        self._journal.append(list(_lines(source, wholes, self._top_k)))

    def _keep(self, result: ResultColumns) -> None:
        """Add the scores of a result to the cache."""
        identity = ScoringIdentity.of(result.provenance, result.scoring_version)
        rows: list[tuple[bytes, float, int]] = []
        passages: list[tuple[bytes, PassageRow]] = []
        nothing = [0] * len(result.ids)
        cuts = [
            cut + lost
            for cut, lost in zip(result.cut or nothing, result.lost or nothing, strict=True)
        ]
        for query, (begin, end) in self._rankings(result):
            query.scored_by.add(identity)
            keys = list(map(query.key_by_id.__getitem__, result.ids[begin:end]))
            rows.extend(zip(keys, result.scores[begin:end], cuts[begin:end], strict=True))
            if result.passages is not None:
                of_query = result.passages.at(slice(begin, end)).rows()
                passages.extend(zip(keys, of_query, strict=True))
        if identity is not None:
            self._try_to_write(lambda: self._cache.add(identity, rows, passages))

    def _rankings(self, columns: ResultColumns) -> Iterator[tuple[_Query, tuple[int, int]]]:
        """Yield the query and the range of documents of each ranking."""
        for query_id, bounds in zip(columns.query_ids or (), pairwise(columns.bounds), strict=True):
            yield self._sent[query_id or ""], bounds

    def _try_to_write(self, write: Callable[[], object]) -> None:
        """Change the cache; if that fails, say so once, and do not try again."""
        if not self._is_writing:
            return
        try:
            write()
        except CacheNotWritable as error:
            self._is_writing = False
            self._notify(f"{error}; scores are no longer added to it")


def _part(staged: StagedQuery, indexes: Sequence[int]) -> StagedQuery:
    """Return the query with only the documents of these indexes."""
    if len(indexes) == staged.pairs:
        return staged
    return staged.take(indexes)


def _lines(source: jobs.Provenance, wholes: Sequence[_Whole], top_k: int | None) -> Iterable[Line]:
    """Yield a line for each query, with the number of its scores from the cache."""
    kept = [_best(each.scores, top_k) for each in wholes]
    result = ResultColumns.model_construct(
        job_id="cache",
        provenance=source,
        query_ids=[each.query.staged.id for each in wholes],
        truncated=[each.truncated for each in wholes],
        counts=list(map(len, kept)),
        ids=_take(kept, (each.query.staged.document_ids for each in wholes)),
        indexes=[index for indexes in kept for index in indexes],
        scores=_take(kept, (each.scores for each in wholes)),
        metadata=given(_take(kept, (each.query.staged.metadata for each in wholes))),
        lost_tokens=[each.lost_tokens for each in wholes],
        shortened=[each.shortened for each in wholes],
        passages=_passages(wholes, kept),
    )
    for line, whole in zip(journal_lines.of_result(result), wholes, strict=True):
        yield journal_lines.with_cached(line, whole.query.cached)


def _passages(wholes: Sequence[_Whole], kept: Sequence[Sequence[int]]) -> PassageColumns | None:
    """Return the passages of the documents that are kept; None if documents are not cut."""
    columns = [each.passages for each in wholes]
    if None in columns:
        return None
    of_each = zip(kept, filter(None, columns), strict=True)
    rows = [row for indexes, each in of_each for row in each.at(list(indexes)).rows()]
    return PassageColumns.of_rows(rows)


def _best(scores: Sequence[float], top_k: int | None) -> list[int]:
    """Return the indexes of the best scores, best first, in the same order as a worker."""
    negated = [-score for score in scores]
    return sorted(range(len(scores)), key=negated.__getitem__)[:top_k]


def _take(indexes: Iterable[Sequence[int]], columns: Iterable[Sequence[T]]) -> list[T]:
    """Return the values at these indexes of each column, one after the other."""
    return [
        column[index] for taken, column in zip(indexes, columns, strict=True) for index in taken
    ]
