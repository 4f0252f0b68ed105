"""A small model scores everything, and a large one the best of each query; both can be resumed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contract import jobs
from contract.columns import ResultColumns
from contract.errors import InvalidInput
from contract.models import KNOWN_MODELS
from contract.scoring import ScoringIdentity
from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.formats.records import InvalidLines
from producer.rescore import journal_lines, partial_results, session
from producer.rescore.cascade import CascadeRun
from producer.rescore.options import Cascade, Options, RetryKind
from producer.rescore.progress import Progress
from producer.rescore.staging import Staging
from producer.score_cache.cache import ScoreCache
from tests.integration.sample_records import failure_of
from tests.integration.stand_ins import READY, StandInWorker, answering_worker

SMALL, LARGE, OTHER = KNOWN_MODELS[:3]
QUERIES, CANDIDATES, KEEP = 8, 10, 4
CASCADE = Cascade(SMALL, KEEP)
OPTIONS = Options(model=LARGE, window=2, pairs_per_job=20)

Outcome = Callable[[jobs.Job], jobs.Outcome | ResultColumns]


def score(model: str, query: str, text: str) -> float:
    """Return a score of the model. Those of the small model are the greater ones."""
    return (zlib.crc32(f"{model}\0{query}\0{text}".encode()) % 1_000) / 8 + 200 * (model == SMALL)


def scored(job: jobs.Job, by: str | None = None) -> ResultColumns:
    """Return a worker's result, which another model may have computed."""
    requested = str(job.model)
    model = by or requested
    rows, counts = [], []
    for request in job.requests:
        texts = [each.text for each in request.candidates]
        scores = [score(model, request.query, text) for text in texts]
        best = sorted(range(len(texts)), key=[-each for each in scores].__getitem__)
        kept = best[: request.top_k]
        rows += [(request.candidates[index].id, index, scores[index]) for index in kept]
        counts.append(len(kept))
    return ResultColumns(
        job_id=job.id,
        provenance=jobs.Provenance(
            model_requested=requested,
            model=model,
            revision=f"{requested[-4]}" * 40,
            downgraded=by is not None,
            attempts=1,
            backend="rerankq",
            device="cpu",
            dtype="float32",
            max_length=512,
            pairs=job.pairs,
            unique_pairs=job.pairs,
            tokens=9 * job.pairs,
            truncated=0,
            seconds=0.1,
        ),
        query_ids=[each.query_id for each in job.requests],
        truncated=[0] * len(counts),
        counts=counts,
        ids=[id_ for id_, _, _ in rows],
        indexes=[index for _, index, _ in rows],
        scores=[value for _, _, value in rows],
        scoring_version=1,
    )


def fails(model: str, *query_ids: str) -> Outcome:
    """Return the work of a worker that fails with these queries and a model."""

    def outcome(job: jobs.Job) -> jobs.Outcome | ResultColumns:
        if job.model == model and query_ids[0] in [each.query_id for each in job.requests]:
            return failure_of(job.id)
        return scored(job)

    return outcome


def downgrades(model: str, query_id: str) -> Outcome:
    """Return the work of a worker that scores a query with another model instead of this one."""

    def outcome(job: jobs.Job) -> ResultColumns:
        queries = [each.query_id for each in job.requests]
        return scored(job, OTHER if job.model == model and query_id in queries else None)

    return outcome


@dataclass
class Done:
    """The files of a run, and its progress."""

    run: str
    lines: list[dict[str, Any]]
    progress: Progress

    def ranking(self, query_id: str) -> list[tuple[str, float, str]]:
        """Return the id, the score and the model of each document of a query."""
        line = self.line(query_id)
        model = line["provenance"]["model"]
        return [(each["id"], each["score"], each.get("model", model)) for each in line["documents"]]

    def line(self, query_id: str) -> dict[str, Any]:
        return next(each for each in self.lines if each["query_id"] == query_id)


@dataclass
class Runs:
    """Runs of the command in a folder, in this process."""

    settings: Settings
    folder: Path

    def __call__(
        self,
        name: str = "out",
        cascade: Cascade | None = CASCADE,
        *,
        retry: tuple[RetryKind, ...] = (),
        cache: str | None = None,
        restart: bool = False,
        interrupt: tuple[str, int] | None = None,
        **options: Any,
    ) -> Done:
        output = self.folder / name
        asked = replace(OPTIONS, **options)
        with ExitStack() as stack:
            staging = stack.enter_context(Staging(self.settings, InvalidLines()))
            staging.load_requests(str(_requests(self.folder)))
            run = stack.enter_context(
                session.opened(
                    str(output), staging, asked, None, restart=restart, mode=0o666, cascade=cascade
                )
            )
            client = stack.enter_context(ColumnsClient(self.settings))
            scores = stack.enter_context(ScoreCache(cache)) if cache else None
            for each in run.passes:
                stops_at = interrupt[1] if interrupt and interrupt[0] == each.options.model else 0
                progress, _ = session.score(
                    client, each, retry, _showing(stops_at), lambda _: None, scores
                )
            if isinstance(run.finished, CascadeRun):
                both = run.finished.first, run.finished.second
                progress.downgraded_queries = both[0].downgraded_with(both[1])
            run.finished.write_run(str(output))
            run.finished.write_results(f"{output}.results")
            if not progress.failed_queries and not progress.downgraded_queries:
                run.finished.remove()
        written = Path(f"{output}.results").read_text().splitlines()
        return Done(output.read_text(), [json.loads(each) for each in written], progress)


def _showing(stops_at: int) -> session.ShowProgress:
    """Return what shows the progress, and is interrupted after some queries unless that is 0."""

    @contextmanager
    def show(_: Progress) -> Iterator[Callable[[Progress], object]]:
        def report(progress: Progress) -> None:
            if stops_at and progress.queries >= stops_at:
                raise KeyboardInterrupt

        yield report

    return show


def _requests(folder: Path) -> Path:
    path = folder / "requests.jsonl"
    lines = (
        {
            "query_id": f"q{number}",
            "query": f"query {number}",
            "candidates": [{"id": f"d{n}", "text": f"text {n}"} for n in range(CANDIDATES)],
        }
        for number in range(QUERIES)
    )
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return path


@contextmanager
def working(settings: Settings, outcome: Outcome = scored) -> Iterator[StandInWorker]:
    with (
        answering_worker(settings, READY | {"model": LARGE}),
        StandInWorker(settings, outcome) as worker,
    ):
        yield worker


def scored_pairs(worker: StandInWorker, model: str) -> int:
    """Return the number of pairs that a model has scored."""
    return sum(job.pairs for job in worker.taken if job.model == model)


@pytest.fixture
def runs(settings: Settings, tmp_path: Path) -> Runs:
    return Runs(settings, tmp_path)


@pytest.fixture
def whole(runs: Runs, settings: Settings) -> Done:
    """Return an undisturbed run."""
    with working(settings):
        return runs("whole")


def best_of(model: str, query: int, among: range | list[int] = range(CANDIDATES)) -> list[int]:
    """Return the candidates, best first."""
    scores = {n: score(model, f"query {query}", f"text {n}") for n in among}
    return sorted(scores, key=lambda n: (-scores[n], n))


def test_the_large_model_scores_the_best_of_the_small_one_which_stand_first(
    runs: Runs, settings: Settings
) -> None:
    with working(settings) as worker:
        done = runs()
    assert scored_pairs(worker, SMALL) == QUERIES * CANDIDATES
    assert scored_pairs(worker, LARGE) == QUERIES * KEEP
    for query in range(QUERIES):
        by_small = best_of(SMALL, query)
        head = best_of(LARGE, query, sorted(by_small[:KEEP]))
        expected = [(n, LARGE) for n in head] + [(n, SMALL) for n in by_small[KEEP:]]
        # Each document has the score of the model that ranked it, and its place in the input
        assert done.ranking(f"q{query}") == [
            (f"d{n}", score(model, f"query {query}", f"text {n}"), model) for n, model in expected
        ]
        indexes = [each["index"] for each in done.line(f"q{query}")["documents"]]
        assert indexes == [n for n, _ in expected]
        # And the line says which models these are
        line = done.line(f"q{query}")
        assert line["provenance"]["model"] == LARGE
        assert line["cascade"]["provenance"]["model"] == SMALL
        assert line["cascade"]["rescored"] == KEEP
        assert "basis" not in line


def test_tools_that_sort_by_the_scores_of_the_run_find_the_same_order(whole: Done) -> None:
    rows = [line.split() for line in whole.run.splitlines()]
    assert {row[5] for row in rows} == {"rerankq-ms-marco-MiniLM-L-6-v2+ms-marco-TinyBERT-L-2-v2"}
    for query in range(QUERIES):
        ranked = [(row[2], float(row[4])) for row in rows if row[0] == f"q{query}"]
        assert [id_ for id_, _ in ranked] == [id_ for id_, _, _ in whole.ranking(f"q{query}")]
        scores = [value for _, value in ranked]
        assert scores == sorted(scores, reverse=True)
        # The scores of the large model are as they are, and the others begin 1 below them
        true = [value for _, value, _ in whole.ranking(f"q{query}")]
        assert scores[:KEEP] == true[:KEEP]
        assert scores[KEEP] == scores[KEEP - 1] - 1
        shifts = {round(a - b, 9) for a, b in zip(scores[KEEP:], true[KEEP:], strict=True)}
        assert len(shifts) == 1


@pytest.mark.parametrize("keep", [1_000])
def test_nothing_of_the_small_model_remains_if_the_large_one_scores_all(
    runs: Runs, settings: Settings, keep: int
) -> None:
    with working(settings):
        cascaded = runs("cascaded", Cascade(SMALL, keep))
        alone = runs("alone", None)
    rankings = [(each["query_id"], each["documents"]) for each in alone.lines]
    for line, (query_id, documents) in zip(cascaded.lines, rankings, strict=True):
        assert line["query_id"] == query_id
        assert {each.pop("model") for each in line["documents"]} == {LARGE}
        assert line["documents"] == documents
    columns = [row.rsplit(" ", 1)[0] for row in cascaded.run.splitlines()]
    assert columns == [row.rsplit(" ", 1)[0] for row in alone.run.splitlines()]


@pytest.mark.parametrize("top_k", [KEEP - 1, KEEP + 2])
def test_only_the_best_are_written(runs: Runs, settings: Settings, whole: Done, top_k: int) -> None:
    with working(settings):
        done = runs(f"top-{top_k}", top_k=top_k)
    for query in range(QUERIES):
        assert done.ranking(f"q{query}") == whole.ranking(f"q{query}")[:top_k]
    kept = [row for row in whole.run.splitlines() if int(row.split()[3]) <= top_k]
    assert done.run.splitlines() == kept


@pytest.mark.parametrize("model", [SMALL, LARGE])
def test_an_interrupted_pass_is_resumed_and_the_files_are_the_same(
    runs: Runs, settings: Settings, whole: Done, model: str
) -> None:
    with working(settings) as worker:
        # When it is interrupted in the middle of a pass, twice
        for queries in (2, 5):
            with pytest.raises(KeyboardInterrupt):
                runs(pairs_per_job=1, interrupt=(model, queries))
        # Then what is finished can be read, as it will be written
        lines = partial_results.lines(str(runs.folder / "out"))
        finished = [json.loads(journal_lines.result_line(each)) for each in lines]
        assert bool(finished) == (model == LARGE)
        assert all(each == whole.line(each["query_id"]) for each in finished)
        # And a command without the cascade, or with another one, is refused
        for other in (None, Cascade(SMALL, KEEP + 1), Cascade(OTHER, KEEP)):
            with pytest.raises(InvalidInput, match=rf"differs in --cascade \({SMALL}:{KEEP} -> "):
                runs(cascade=other)
        done = runs(pairs_per_job=1)
    assert (done.run, done.lines) == (whole.run, whole.lines)
    # And no query was scored again that was done
    assert scored_pairs(worker, SMALL) <= (QUERIES + 2 * 2) * CANDIDATES
    assert scored_pairs(worker, LARGE) <= (QUERIES + 2 * 2) * KEEP
    assert sorted(each.name for each in runs.folder.glob("out*")) == ["out", "out.results"]


def test_a_run_that_begins_again_without_its_cascade_leaves_nothing_of_it(
    runs: Runs, settings: Settings
) -> None:
    with working(settings):
        with pytest.raises(KeyboardInterrupt):
            runs(interrupt=(SMALL, 2))
        alone = runs(cascade=None, restart=True)
    assert all("cascade" not in each for each in alone.lines)
    assert sorted(each.name for each in runs.folder.glob("out*")) == ["out", "out.results"]


@pytest.mark.parametrize("model", [SMALL, LARGE])
def test_a_query_that_fails_in_a_pass_has_no_ranking_and_is_scored_again_on_request(
    runs: Runs, settings: Settings, whole: Done, model: str
) -> None:
    with working(settings, fails(model, "q3")):
        done = runs(pairs_per_job=1)
    assert (done.progress.failed_queries, done.progress.queries) == (1, QUERIES - 1)
    assert done.line("q3") == {
        "query_id": "q3",
        "error": {"code": "scoring_failed", "message": "the model failed", "retryable": False},
    }
    assert "q3 " not in done.run
    with working(settings) as worker:
        # When the same command is run again, then nothing is sent
        assert runs(pairs_per_job=1).progress.failed_queries == 1
        assert worker.taken == []
        # And when the failed query is scored again, then only what has failed is sent
        again = runs(pairs_per_job=1, retry=("failed",))
    assert (again.run, again.lines) == (whole.run, whole.lines)
    assert scored_pairs(worker, SMALL) == (CANDIDATES if model == SMALL else 0)
    assert scored_pairs(worker, LARGE) == KEEP


def test_a_retry_that_is_interrupted_in_each_pass_is_resumed(
    runs: Runs, settings: Settings, whole: Done
) -> None:
    def half_fails(job: jobs.Job) -> jobs.Outcome | ResultColumns:
        number = int(str(job.requests[0].query_id)[1:])
        failing = {SMALL: number % 2 == 0, LARGE: number % 3 == 0}[str(job.model)]
        return failure_of(job.id) if failing else scored(job)

    with working(settings, half_fails):
        assert runs(pairs_per_job=1).progress.failed_queries == 5
    with working(settings):
        for interrupt in ((SMALL, QUERIES - 2), (LARGE, QUERIES - 2)):
            with pytest.raises(KeyboardInterrupt):
                runs(pairs_per_job=1, retry=("failed",), interrupt=interrupt)
        done = runs(pairs_per_job=1, retry=("failed",))
    assert (done.run, done.lines) == (whole.run, whole.lines)


@pytest.mark.parametrize("model", [SMALL, LARGE])
def test_a_downgraded_pass_says_so_and_can_be_scored_again(
    runs: Runs, settings: Settings, whole: Done, model: str
) -> None:
    with working(settings, downgrades(model, "q3")):
        done = runs(pairs_per_job=1)
    assert done.progress.downgraded_queries == 1
    line = done.line("q3")
    source = line["provenance"] if model == LARGE else line["cascade"]["provenance"]
    assert (source["model"], source["downgraded"]) == (OTHER, True)
    # The documents that remain are those of the model that has scored the first pass
    models = {model for _, _, model in done.ranking("q3")}
    assert models == {OTHER, SMALL if model == LARGE else LARGE}
    with working(settings) as worker:
        again = runs(pairs_per_job=1, retry=("downgraded",))
    assert (again.run, again.lines) == (whole.run, whole.lines)
    assert scored_pairs(worker, SMALL) == (CANDIDATES if model == SMALL else 0)
    assert scored_pairs(worker, LARGE) == KEEP


def test_a_cascade_with_a_cache_scores_each_pair_of_each_model_once(
    runs: Runs, settings: Settings, whole: Done
) -> None:
    cache = str(runs.folder / "scores.db")
    digests = {model: [_identity(model)] for model in (SMALL, LARGE)}
    ready = READY | {"model": LARGE, "scorings": digests}
    with answering_worker(settings, ready), StandInWorker(settings, scored) as worker:
        first = runs("first", cache=cache)
        worker.taken.clear()
        again = runs("again", cache=cache)
        assert worker.taken == []
        # Another number of documents needs only the scores of more documents by the large model
        more = runs("more", Cascade(SMALL, KEEP + 2), cache=cache)
    assert scored_pairs(worker, SMALL) == 0
    assert scored_pairs(worker, LARGE) == QUERIES * 2
    assert first.run == again.run == whole.run
    assert {(each["cached"], each["cascade"]["cached"]) for each in again.lines} == {
        (KEEP, CANDIDATES)
    }
    assert {(each["cached"], each["cascade"]["cached"]) for each in more.lines} == {
        (KEEP, CANDIDATES)
    }


def test_several_processes_write_the_same_files(
    runs: Runs, settings: Settings, whole: Done
) -> None:
    with working(settings):
        done = runs(processes=2)
    assert (done.run, done.lines) == (whole.run, whole.lines)


def _identity(model: str) -> str:
    document = jobs.Candidate(id="d", text="t")
    request = jobs.Request(query="q", candidates=(document,))
    job = jobs.Job(id="job", model=model, requests=(request,))
    identity = ScoringIdentity.of(scored(job).provenance, 1)
    assert identity is not None
    return identity.digest
