"""A re-scoring with a cache scores only what it lacks, and writes what it would without one."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract import jobs, metrics
from contract.column_values import as_json, given
from contract.columns import ResultColumns
from contract.errors import RerankError
from contract.models import DEFAULT_MODEL, ModelName
from contract.scoring import ScoringIdentity
from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.formats.records import InvalidLines
from producer.rescore import session
from producer.rescore.options import Options
from producer.rescore.progress import Progress
from producer.rescore.staging import Staging
from producer.score_cache.cache import ScoreCache
from tests.integration.stand_ins import READY, StandInWorker, answering_worker

MODEL = DEFAULT_MODEL
IDENTITY = ScoringIdentity(
    model=MODEL,
    revision="a" * 40,
    version=1,
    backend="rerankq",
    device="cpu",
    dtype="float32",
    max_length=9,
)
OPTIONS = Options(window=2, pairs_per_job=20, model=MODEL)
#: The texts of ten candidates.
TEXTS = [f"document {number} {'long ' * (number % 3)}" for number in range(10)]

#: Queries with their candidates' texts.
Queries = dict[str, list[str]]
QUERIES: Queries = {f"query {number}": TEXTS for number in range(8)}

Outcome = Callable[[jobs.Job], jobs.Outcome | ResultColumns]


def score(query: str, text: str, identity: ScoringIdentity) -> float:
    return zlib.crc32(f"{query}\0{text}\0{identity.digest}".encode()) / 2**32


def scored_by(identity: ScoringIdentity | None, *, downgraded: bool = False) -> Outcome:
    """Return the scoring of a worker, which does not report its version if that is None."""
    made = identity or IDENTITY

    def outcome(job: jobs.Job) -> ResultColumns:
        rankings, cuts, rows = [], [], []
        for request in job.requests:
            indexes = list(range(len(request.candidates)))
            scores = [score(request.query, each.text, made) for each in request.candidates]
            indexes.sort(key=[-each for each in scores].__getitem__)
            truncated = sum("long long" in each.text for each in request.candidates)
            indexes = indexes[: request.top_k]
            rows += [(request.candidates[index], index, scores[index]) for index in indexes]
            cuts += [int("long long" in request.candidates[index].text) for index in indexes]
            rankings.append((request.query_id, truncated, len(indexes)))
        source = made.provenance(job.model or MODEL, job.pairs)
        if downgraded:
            source = source.model_copy(update={"model": "small/model", "downgraded": True})
        return ResultColumns(
            job_id=job.id,
            provenance=source,
            query_ids=[query_id for query_id, _, _ in rankings],
            truncated=[truncated for _, truncated, _ in rankings],
            counts=[count for _, _, count in rankings],
            ids=[candidate.id for candidate, _, _ in rows],
            indexes=[index for _, index, _ in rows],
            scores=[value for _, _, value in rows],
            metadata=given([as_json(candidate.metadata) for candidate, _, _ in rows]),
            cut=cuts,
            scoring_version=made.version if identity else None,
        )

    return outcome


@contextmanager
def working(
    settings: Settings,
    loaded: ScoringIdentity = IDENTITY,
    outcome: Outcome | None = None,
    scorings: dict[str, list[str]] | None = None,
) -> Iterator[StandInWorker]:
    """Run a worker that reports what it has loaded."""
    told = {MODEL: [loaded.digest]} if scorings is None else scorings
    with (
        answering_worker(settings, READY | {"model": MODEL, "scorings": told}),
        StandInWorker(settings, outcome or scored_by(loaded)) as worker,
    ):
        yield worker


@dataclass
class Done:
    """The files and the messages of a run."""

    run: bytes
    lines: list[dict[str, Any]]
    progress: Progress
    said: list[str]

    @property
    def uncached(self) -> list[dict[str, Any]]:
        """The lines without the numbers of cached scores."""
        return [{name: each[name] for name in each if name != "cached"} for each in self.lines]


@dataclass(frozen=True)
class Runs:
    """Runs of the command in a folder, in this process."""

    settings: Settings
    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "scores.db"

    def __call__(
        self,
        queries: Queries,
        name: str = "out",
        *,
        with_cache: bool = True,
        on_progress: Callable[[Progress], object] = lambda _: None,
        **options: Any,
    ) -> Done:
        source, said = self.folder / f"{name}.jsonl", list[str]()
        source.write_text("".join(f"{json.dumps(each)}\n" for each in _requests(queries)))
        asked = dataclasses.replace(OPTIONS, **options)
        output = self.folder / name
        with ExitStack() as stack:
            staging = stack.enter_context(Staging(self.settings, InvalidLines()))
            staging.load_requests(str(source))
            run = stack.enter_context(
                session.opened(str(output), staging, asked, None, restart=False, mode=0o666)
            )
            journal, (one,) = run.finished, run.passes
            client = stack.enter_context(ColumnsClient(self.settings))
            cache = stack.enter_context(ScoreCache(str(self.cache))) if with_cache else None
            progress, _ = session.score(client, one, (), _shown(on_progress), said.append, cache)
            journal.write_run(str(output))
            journal.write_results(f"{output}.results")
            written = Path(f"{output}.results").read_text().splitlines()
            lines = [json.loads(each) for each in written]
            journal.remove()
        return Done(output.read_bytes(), lines, progress, said)

    def counters(self) -> dict[str, dict[str, float]]:
        with ColumnsClient(self.settings) as client:
            return client.status().counters


def _requests(queries: Queries) -> Iterator[dict[str, Any]]:
    for number, (query, texts) in enumerate(queries.items()):
        candidates = [
            {"id": f"d{place}", "text": text, "metadata": {"place": place}}
            for place, text in enumerate(texts)
        ]
        yield {"query_id": f"q{number}", "query": query, "candidates": candidates}


def _shown(on_progress: Callable[[Progress], object]) -> session.ShowProgress:
    @contextmanager
    def show(_: Progress) -> Iterator[Callable[[Progress], object]]:
        yield on_progress

    return show


@pytest.fixture
def runs(settings: Settings, tmp_path: Path) -> Runs:
    return Runs(settings, tmp_path)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}])
def test_a_second_run_sends_nothing_and_a_changed_one_what_has_changed(
    runs: Runs, settings: Settings, options: dict[str, Any]
) -> None:
    with working(settings) as worker:
        # Given a run that fills a cache, and one without it
        first = runs(QUERIES, **options)
        plain = runs(QUERIES, with_cache=False, **options)
        assert (first.progress.cached_pairs, first.progress.missed_pairs) == (0, 80)
        # When the same is scored again
        worker.taken.clear()
        again = runs(QUERIES, **options)
        # Then no job is sent, and the files are the same
        assert worker.taken == []
        assert again.run == first.run == plain.run
        assert again.uncached == first.uncached == plain.lines
        assert {each["cached"] for each in first.lines} == {0}
        assert {each["cached"] for each in again.lines} == {10}
        assert all("cached" not in each for each in plain.lines)
        assert (again.progress.cached_pairs, again.progress.missed_pairs) == (80, 0)
        assert again.progress.truncated == plain.progress.truncated > 0

        # When two documents of one query have changed, and another query is new
        changed = QUERIES | {"query 3": ["new", *TEXTS[1:9], "newer"], "query 8": TEXTS}
        worker.taken.clear()
        partly = runs(changed, **options)
        sent = [
            each for job in worker.taken for request in job.requests for each in request.candidates
        ]
        assert len(sent) == 12
        # Then only they are scored, and everything is as without a cache
        plain = runs(changed, with_cache=False, **options)
        assert partly.run == plain.run
        assert partly.uncached == plain.lines
        assert [each["cached"] for each in partly.lines] == [10, 10, 10, 8, 10, 10, 10, 10, 0]
        assert partly.progress.truncated == plain.progress.truncated
    counted = runs.counters()
    assert counted[metrics.CACHE_HITS.name] == {MODEL: 80 + 78}
    assert counted[metrics.CACHE_MISSES.name] == {MODEL: 80 + 12}


def test_several_processes_send_what_the_cache_lacks(runs: Runs, settings: Settings) -> None:
    changed = QUERIES | {"query 3": ["new", *TEXTS[1:9], "newer"], "query 8": TEXTS}
    with working(settings) as worker:
        runs(QUERIES)
        worker.taken.clear()
        partly = runs(changed, processes=2)
        assert sum(job.pairs for job in worker.taken) == 12
        assert partly.run == runs(changed, with_cache=False).run
        worker.taken.clear()
        assert runs(changed).run == partly.run
        assert worker.taken == []


def test_a_query_that_is_too_large_for_a_job_is_cached_too(runs: Runs, settings: Settings) -> None:
    small = settings.model_copy(update={"max_pairs_per_job": 4})
    runs = Runs(small, runs.folder)
    with working(settings) as worker:
        first = runs(QUERIES)
        worker.taken.clear()
        changed = {**QUERIES, "query 1": [*TEXTS[:5], *(f"new {n}" for n in range(5))]}
        again = runs(changed)
        assert sum(job.pairs for job in worker.taken) == 5
        assert again.run == runs(changed, with_cache=False).run != first.run


@pytest.mark.parametrize(
    "changed", [{"revision": "b" * 40}, {"dtype": "float16"}, {"prompt": "new"}, {"version": 2}]
)
def test_a_model_that_has_changed_in_place_is_never_served_from_the_cache(
    runs: Runs, settings: Settings, changed: dict[str, Any]
) -> None:
    with working(settings):
        first = runs(QUERIES)
    other = IDENTITY.model_copy(update=changed)
    with working(settings, other) as worker:
        second = runs(QUERIES)
        assert sum(job.pairs for job in worker.taken) == 80
        assert second.uncached == runs(QUERIES, with_cache=False).lines != first.uncached
        worker.taken.clear()
        assert runs(QUERIES).run == second.run
        assert worker.taken == []


def test_queries_are_scored_as_a_whole_if_new_scores_are_of_other_settings_than_cached_ones(
    runs: Runs, settings: Settings
) -> None:
    with working(settings):
        runs(QUERIES)
    changed = QUERIES | {"query 3": ["new", *TEXTS[1:]]}
    other = IDENTITY.model_copy(update={"dtype": "float16"})
    # Given a worker that joins after the others were asked
    with working(settings, IDENTITY, scored_by(other)) as worker:
        done = runs(changed)
    # Then no query has scores of both
    assert [job.pairs for job in worker.taken] == [1, 10]
    assert [each["cached"] for each in done.lines] == [10, 10, 10, 0, 10, 10, 10, 10]
    (line,) = (each for each in done.lines if each["query_id"] == "q3")
    assert line["provenance"]["dtype"] == "float16"
    texts = changed["query 3"]
    expected = {f"d{place}": score("query 3", text, other) for place, text in enumerate(texts)}
    assert {each["id"]: each["score"] for each in line["documents"]} == expected
    assert any("1 query scored as a whole" in each for each in done.said)


def test_scores_of_a_smaller_model_are_not_taken_for_those_of_the_requested_one(
    runs: Runs, settings: Settings
) -> None:
    with working(settings, outcome=scored_by(IDENTITY, downgraded=True)):
        assert runs(QUERIES).progress.downgraded_queries == len(QUERIES)
    with working(settings) as worker:
        done = runs(QUERIES)
    assert sum(job.pairs for job in worker.taken) == 80
    assert done.progress.downgraded_queries == 0


def test_scores_of_a_worker_that_does_not_tell_its_version_are_not_kept(
    runs: Runs, settings: Settings
) -> None:
    for _ in range(2):
        with working(settings, outcome=scored_by(None), scorings={}) as worker:
            runs(QUERIES)
            assert sum(job.pairs for job in worker.taken) == 80


def test_workers_that_differ_are_named_as_the_reason_to_score_everything(
    runs: Runs, settings: Settings
) -> None:
    with working(settings):
        runs(QUERIES)
    with working(settings, scorings={MODEL: [IDENTITY.digest, "other"]}) as worker:
        done = runs(QUERIES)
        assert sum(job.pairs for job in worker.taken) == 80
    assert any("the workers have loaded different revisions or settings" in s for s in done.said)


def test_a_model_that_no_worker_has_loaded_is_loaded_for_one_pair(
    runs: Runs, settings: Settings
) -> None:
    with working(settings):
        first = runs(QUERIES)
    told: dict[str, list[str]] = {}

    def loading(job: jobs.Job) -> jobs.Outcome | ResultColumns:
        told[MODEL] = [IDENTITY.digest]
        return scored_by(IDENTITY)(job).result()  # type: ignore[union-attr]

    with working(settings, outcome=loading, scorings=told) as worker:
        assert runs(QUERIES).run == first.run
        assert [job.pairs for job in worker.taken] == [1]


def test_an_interrupted_run_continues_with_what_it_has_scored(
    runs: Runs, settings: Settings
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.queries >= 4:
            raise KeyboardInterrupt

    with working(settings) as worker:
        with pytest.raises(KeyboardInterrupt):
            runs(QUERIES, on_progress=interrupt)
        resumed = runs(QUERIES)
        scored = [request.query for job in worker.taken for request in job.requests]
        assert sorted(scored) == sorted(QUERIES)
        # And another run has all of it
        worker.taken.clear()
        assert runs(QUERIES, "other").run == resumed.run
        assert worker.taken == []


def test_failed_queries_are_reported_and_scored_again(runs: Runs, settings: Settings) -> None:
    def failing(job: jobs.Job) -> jobs.Outcome | ResultColumns:
        return jobs.Failure(
            job_id=job.id, code="scoring_failed", message="no", retryable=False, attempts=1
        )

    with working(settings):
        runs({"query 0": TEXTS[:4]})
    with working(settings, outcome=failing):
        failed = runs({"query 0": TEXTS})
        assert (failed.progress.failed_queries, failed.progress.failed_pairs) == (1, 10)
    with working(settings) as worker:
        assert runs({"query 0": TEXTS}).progress.queries == 1
        assert [job.pairs for job in worker.taken] == [6]


def test_a_run_does_not_continue_with_cached_scores_of_another_revision(
    runs: Runs, settings: Settings
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.queries >= 4:
            raise KeyboardInterrupt

    other = IDENTITY.model_copy(update={"revision": "b" * 40})
    with working(settings, other):
        runs(QUERIES)
    with working(settings), pytest.raises(KeyboardInterrupt):
        runs(QUERIES, on_progress=interrupt)
    with working(settings, other), pytest.raises(RerankError, match=r"by revision b{40} of"):
        runs(QUERIES)


def test_a_name_with_a_revision_shares_the_scores_of_its_model(
    runs: Runs, settings: Settings
) -> None:
    pinned = ModelName.parse(MODEL).at("a" * 40)
    allowed = settings.model_copy(update={"allowed_models": (MODEL, pinned)})
    runs = Runs(allowed, runs.folder)
    with working(settings):
        first = runs(QUERIES)
    with working(settings, scorings={pinned: [IDENTITY.digest]}) as worker:
        done = runs(QUERIES, model=pinned)
        assert worker.taken == []
    assert {each["provenance"]["model"] for each in done.lines} == {pinned}
    assert done.run.replace(b"@aaaaaaa", b"") == first.run
