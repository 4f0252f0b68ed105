"""The worker's task brings every job to one recorded end, with the provenance of its scores.

The task is called once for all the jobs of this file, without a queue, and the tests check its
results.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

import rerankq_bundled_model
from contract import jobs
from contract.errors import JobNotFound, RerankError
from contract.jobs import JobState
from contract.models import KNOWN_MODELS
from contract.settings import Settings
from contract.store import attempts, dead_letters, outcomes, overview, statuses, submissions
from contract.store.blocking import JobStore
from contract.store.encoding import COLUMNS, RECORDS
from contract.store.encoding import compress_record as compress
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of
from tests.integration.sample_records import failure_of, job, request, result_of
from tests.integration.stand_ins import begin
from worker.jobs import tasks
from worker.runtime.app import create_app
from worker.runtime.settings import WorkerSettings

#: Of the worker, below those of the producers, which may have other settings.
LIMITS = {
    "max_pairs_per_job": 20,
    "max_bytes_per_job": 30_000,
    "max_text_chars": 8_000,
    "max_attempts": 3,
}

#: The downgrade model: the bundled one, under another name. (Its own downgrade model is itself.)
SMALLER = str(rerankq_bundled_model.PATH)
MODELS = {
    "cross_encoder_model": "bundled",
    "allowed_models": (*KNOWN_MODELS, SMALLER),
    "downgrade_model": SMALLER,
}

#: Far more words than the model's 512 tokens, but fewer characters than the limit.
LONG = "a tag editor for music files, and so on and on " * 150

MUSIC = jobs.Request(
    query="edit mp3 tags from the terminal",
    query_id="music",
    candidates=(
        jobs.Candidate(id="game", text="a game with a blue hedgehog", metadata={"place": 1}),
        jobs.Candidate(id="tagger", text="command line editor for the tags of mp3 files"),
        jobs.Candidate(id="twin", text="command line editor for the tags of mp3 files"),
        jobs.Candidate(id="empty", text=""),
        jobs.Candidate(id="long", text=LONG),
    ),
)
PICTURES = jobs.Request(
    query="make photos smaller",
    query_id="pictures",
    top_k=2,
    candidates=(
        jobs.Candidate(id="a", text="resizes photographs and other images"),
        jobs.Candidate(id="b", text="a compiler for Ada"),
        jobs.Candidate(id="c", text="image viewer"),
    ),
)
GOOD = jobs.Job(id="good", requests=(PICTURES, MUSIC, PICTURES), model="bundled")
#: Equal pairs of equal queries are scored once, even in different requests.
UNIQUE_PAIRS = 4 + 3


@dataclass(frozen=True)
class Ended:
    """The end of a call of the task."""

    state: str
    summary: dict[str, Any] | None
    error: Exception | None


@dataclass(frozen=True)
class Run:
    """The results of the calls."""

    store: JobStore
    settings: Settings
    ended: dict[str, Ended]
    logits: list[float]

    def outcome(self, job_id: str) -> jobs.OutcomeOrError:
        return self.store.execute(outcomes.fetch(self.store.schema, [job_id]))[job_id]

    def result(self, job_id: str) -> jobs.JobResult:
        outcome = self.outcome(job_id)
        assert isinstance(outcome, jobs.JobResult), outcome
        return outcome

    def failure(self, job_id: str) -> jobs.Failure:
        outcome = self.outcome(job_id)
        assert isinstance(outcome, jobs.Failure), outcome
        return outcome


def prepare(store: JobStore) -> list[str]:
    """Store jobs of all kinds; return their ids."""
    schema = store.schema
    client = store.client

    def accept(made: jobs.Job, *, starts: int = 0, downgrade: str = "", died: bool = False) -> None:
        store.execute(submissions.accept(schema, made))
        for _ in range(starts):
            store.execute(begin(schema, made.id, "before"))
            store.execute(
                attempts.release(schema, made.id, "before", downgrade=downgrade, died=died)
            )

    accept(GOOD)
    accept(job("default-model"))
    accept(job("second-attempt", model="bundled"), starts=1)
    accept(job("last-attempt", model="bundled"), starts=2)
    accept(job("one-too-many", model="bundled"), starts=3)
    accept(job("kills-workers", model="bundled"), starts=3, died=True)

    accept(job("after-memory"), starts=1, downgrade="out_of_memory")
    accept(job("after-time"), starts=2, downgrade="time_limit")
    accept(job("after-death"), starts=1, died=True)
    accept(job("after-both"), starts=1, downgrade="out_of_memory", died=True)
    insists = job("no-other-model").model_copy(update={"allow_downgrade": False})
    accept(insists, starts=1, downgrade="out_of_memory")
    accept(job("smaller-anyway", model=SMALLER), starts=1, downgrade="out_of_memory")

    earlier = GOOD.model_copy(update={"id": "of-earlier-version"})
    accept(earlier)
    record = compress(earlier.model_dump_json().encode())
    client.set(schema.keys.payload(earlier.id), record, ex=600)

    accept(job("payload-gone"))
    client.delete(schema.keys.payload("payload-gone"))
    for name, payload in {
        "garbage": b"no zlib at all",
        "cut-short": compress(job("cut-short").model_dump_json().encode())[:-4],
        "many-values": compress(b'{"id": "many-values", "requests": [%b[]]}' % (b"[]," * 9_000)),
        "many-objects": compress(b'{"id": "j", "a": "' + b"{" * 9_000 + b'", "b": "\\""}'),
        "wrong-schema": compress(b'{"id": "wrong-schema", "requests": [], "surprise": 1}'),
    }.items():
        accept(job(name))
        client.set(schema.keys.payload(name), payload, ex=600)

    for name, key in {
        "payload-of-another-type": schema.keys.payload,
        "lease-of-another-type": schema.keys.lease,
        "record-of-another-type": schema.keys.job,
    }.items():
        accept(job(name, model="bundled"))
        client.delete(key(name))
        client.rpush(key(name), "something else")
        client.expire(key(name), 600)

    accept(job("foreign-model", model="someone/elses-model"))
    accept(job("absent-model", model="cross-encoder/ms-marco-MiniLM-L-12-v2"))
    accept(job("many-pairs", documents=21))
    accept(job("many-pairs-in-all", requests=7, documents=3))
    accept(job("long-query", query="x" * 8_001))
    accept(
        jobs.Job(
            id="many-bytes",
            requests=tuple(request(documents=1, query="ü" * 4_000) for _ in range(5)),
        )
    )

    for outcome in (result_of("done"), failure_of("failed"), failure_of("cancelled", "cancelled")):
        accept(job(outcome.job_id))
        store.execute(outcomes.finish(schema, outcome))
    return [
        *("good", "of-earlier-version", "default-model", "second-attempt", "last-attempt"),
        *("one-too-many", "kills-workers"),
        *("after-memory", "after-time", "after-death", "after-both"),
        *("no-other-model", "smaller-anyway"),
        *("payload-gone", "garbage", "cut-short", "wrong-schema", "many-values", "many-objects"),
        *("payload-of-another-type", "lease-of-another-type", "record-of-another-type"),
        *("foreign-model", "absent-model"),
        *("many-pairs", "many-pairs-in-all", "long-query", "many-bytes"),
        *("done", "failed", "cancelled", "never-accepted", "good"),
    ]


def perform(ids: list[str], settings: Settings, cache: Path, **options: Any) -> dict[str, Ended]:
    """Call the task for each id, like a worker's child that finds models only in `cache`."""
    worker_settings = WorkerSettings.load(
        redis_url=settings.redis_url.get_secret_value(),
        namespace=settings.namespace,
        **LIMITS,
        **options,
    )
    app = create_app(worker_settings)
    task = tasks.register(app)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SENTENCE_TRANSFORMERS_HOME", str(cache))
        sizes = {"requests": 1, "pairs": 2}
        called = {each: task.apply((each,), sizes, task_id=each) for each in ids}
    app.close()
    return {
        job_id: Ended(
            call.state,
            call.result if call.successful() else None,
            None if call.successful() else call.result,
        )
        for job_id, call in called.items()
    }


def library_logits(pairs: list[tuple[str, str]]) -> list[float]:
    """Score with sentence-transformers itself."""
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    encoder = CrossEncoder(SMALLER, device="cpu", local_files_only=True)
    return [float(each) for each in encoder.predict(pairs, activation_fn=Identity())]


@pytest.fixture(scope="module")
def run(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Yield the jobs after the task was called once for each of them, and twice for the first."""
    settings: Settings = Settings.load(
        redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}"
    )
    with redis.Redis.from_url(redis_url) as client:
        store = JobStore(client, Schema(settings))
        ids = prepare(store)
        ended = perform(ids, settings, tmp_path_factory.mktemp("empty-cache"), **MODELS)
        pairs = [(each.query, one.text) for each in GOOD.requests for one in each.candidates]
        yield Run(store, settings, ended, library_logits(pairs))
        client.delete(*keys_of(client, settings))


def test_a_good_job_ends_with_a_ranking_for_each_request_in_their_order(run: Run) -> None:
    rankings = run.result("good").rankings

    assert [ranking.query_id for ranking in rankings] == ["pictures", "music", "pictures"]
    assert rankings[0] == rankings[2]
    assert [document.id for document in rankings[0].documents] == ["a", "c"]
    assert {document.id for document in rankings[1].documents} == {
        "tagger",
        "twin",
        "game",
        "empty",
        "long",
    }


def test_a_job_of_an_earlier_version_has_the_same_result_in_a_format_that_its_caller_can_read(
    run: Run,
) -> None:
    keys, client = run.store.schema.keys, run.store.client
    first_bytes = {
        job_id: client.getrange(keys.outcome(job_id), 0, 0)
        for job_id in ("of-earlier-version", "good")
    }
    assert first_bytes == {"of-earlier-version": RECORDS, "good": COLUMNS}
    assert run.result("of-earlier-version").rankings == run.result("good").as_before().rankings


def test_documents_are_ranked_by_score_best_first(run: Run) -> None:
    for ranking in run.result("good").rankings:
        scores = [document.score for document in ranking.documents]
        assert scores == sorted(scores, reverse=True)
        assert [document.rank for document in ranking.documents] == list(range(1, len(scores) + 1))
        assert all(0 < document.relevance < 1 for document in ranking.documents)


def test_equal_texts_have_equal_scores_and_keep_their_order(run: Run) -> None:
    by_id = {document.id: document for document in run.result("good").rankings[1].documents}

    assert by_id["tagger"].score == by_id["twin"].score
    assert by_id["tagger"].rank + 1 == by_id["twin"].rank
    assert by_id["tagger"].score > by_id["game"].score


def test_scores_are_those_of_the_library_for_each_documents_own_text(run: Run) -> None:
    start = 0
    for made, ranking in zip(GOOD.requests, run.result("good").rankings, strict=True):
        expected = run.logits[start : start + len(made.candidates)]
        start += len(made.candidates)
        for document in ranking.documents:
            assert made.candidates[document.index].id == document.id
            assert document.score == pytest.approx(expected[document.index], abs=1e-4)


def test_metadata_comes_back_with_its_document(run: Run) -> None:
    metadata = {each.id: each.metadata for each in run.result("good").rankings[1].documents}

    assert metadata["game"] == {"place": 1}
    assert metadata["tagger"] is None


def test_provenance_says_what_scored_the_job_and_counts_it(run: Run) -> None:
    provenance = run.result("good").provenance

    assert (provenance.model_requested, provenance.model) == ("bundled", "bundled")
    assert (provenance.downgraded, provenance.reason) == (False, None)
    assert (provenance.backend, provenance.device, provenance.dtype) == (
        "rerankq",
        "cpu",
        "float32",
    )
    assert provenance.max_length == 512
    assert (provenance.pairs, provenance.unique_pairs) == (11, UNIQUE_PAIRS)
    assert provenance.truncated == 1
    assert 512 < provenance.tokens < UNIQUE_PAIRS * 512
    assert provenance.attempts == 1
    assert provenance.seconds > 0


def test_a_job_without_a_model_is_scored_with_the_workers(run: Run) -> None:
    provenance = run.result("default-model").provenance

    assert (provenance.model_requested, provenance.model) == ("bundled", "bundled")


def test_the_task_gives_a_summary_with_the_most_telling_first(run: Run) -> None:
    ended = run.ended["default-model"]

    assert ended.state == "SUCCESS"
    assert ended.summary is not None
    assert list(ended.summary)[:3] == ["model", "downgraded", "pairs"]
    assert ended.summary["model"] == "bundled"
    assert ended.summary["pairs"] == 2


@pytest.mark.parametrize(
    ("job_id", "attempts"), [("good", 1), ("second-attempt", 2), ("last-attempt", 3)]
)
def test_attempts_are_counted_in_result_and_status(run: Run, job_id: str, attempts: int) -> None:
    status = run.store.execute(statuses.fetch(run.store.schema, job_id))

    assert run.result(job_id).provenance.attempts == attempts
    assert (status.state, status.attempts) == (JobState.DONE, attempts)


@pytest.mark.parametrize(("job_id", "deaths"), [("one-too-many", 0), ("kills-workers", 3)])
def test_a_job_that_was_started_too_often_is_given_up(run: Run, job_id: str, deaths: int) -> None:
    failure = run.failure(job_id)

    assert (failure.code, failure.retryable) == ("attempts_exhausted", False)
    assert "RERANKQ_MAX_ATTEMPTS" in failure.message
    assert failure.message.startswith("started 3 times")
    assert (f"its process was killed {deaths} time" in failure.message) == bool(deaths)
    # A refused job is not an attempt.
    assert failure.attempts == 3
    assert run.store.execute(statuses.fetch(run.store.schema, job_id)).attempts == 3


@pytest.mark.parametrize(
    ("job_id", "reason", "attempts"),
    [
        ("after-memory", "out_of_memory", 2),
        ("after-time", "time_limit", 3),
        ("after-death", jobs.WORKER_DIED, 2),
        ("after-both", "out_of_memory", 2),
    ],
)
def test_after_a_lack_of_memory_or_time_or_a_death_the_downgrade_model_scores_and_says_why(
    run: Run, job_id: str, reason: str, attempts: int
) -> None:
    provenance = run.result(job_id).provenance

    assert (provenance.model_requested, provenance.model) == ("bundled", SMALLER)
    assert (provenance.downgraded, provenance.reason) == (True, reason)
    assert provenance.attempts == attempts
    summary = run.ended[job_id].summary
    assert summary is not None
    assert (summary["model"], summary["downgraded"]) == (SMALLER, True)


@pytest.mark.parametrize(
    ("job_id", "model"), [("no-other-model", "bundled"), ("smaller-anyway", SMALLER)]
)
def test_a_job_that_wants_no_other_model_or_the_smallest_anyway_is_scored_with_its_own(
    run: Run, job_id: str, model: str
) -> None:
    provenance = run.result(job_id).provenance

    assert (provenance.model_requested, provenance.model) == (model, model)
    assert (provenance.downgraded, provenance.reason) == (False, None)
    assert provenance.attempts == 2


@pytest.mark.parametrize(
    ("job_id", "code", "says"),
    [
        ("payload-gone", "payload_missing", "RERANKQ_PAYLOAD_TTL_S"),
        ("payload-of-another-type", "payload_invalid", "cannot decompress"),
        ("many-values", "limit_exceeded", "values, but the limit is 4,000"),
        ("many-objects", "payload_invalid", "is invalid: "),
        ("garbage", "payload_invalid", "cannot decompress"),
        ("cut-short", "payload_invalid", "it is incomplete"),
        ("wrong-schema", "payload_invalid", "is invalid: "),
        ("foreign-model", "model_not_allowed", "someone/elses-model"),
        ("absent-model", "model_unavailable", "cross-encoder/ms-marco-MiniLM-L-12-v2"),
        ("many-pairs", "limit_exceeded", "21 pairs, but the limit is 20"),
        ("many-pairs-in-all", "limit_exceeded", "21 pairs, but the limit is 20"),
        ("long-query", "limit_exceeded", "8,001 characters, but the limit is 8,000"),
        ("many-bytes", "payload_invalid", "30,000 bytes"),
    ],
)
def test_a_job_that_cannot_be_done_ends_in_a_failure_that_says_why(
    run: Run, job_id: str, code: str, says: str
) -> None:
    failure = run.failure(job_id)

    assert (failure.job_id, failure.code) == (job_id, code)
    assert says in failure.message
    assert not failure.retryable
    assert failure.attempts == 1
    assert run.ended[job_id].state == "FAILURE"


def test_every_failure_is_an_error_of_ours(run: Run) -> None:
    failed = [each.error for each in run.ended.values() if each.state == "FAILURE"]

    assert failed
    assert all(isinstance(error, RerankError) for error in failed)


@pytest.mark.parametrize(
    "outcome",
    [result_of("done"), failure_of("failed"), failure_of("cancelled", "cancelled")],
    ids=["done", "failed", "cancelled"],
)
def test_a_job_that_has_ended_is_skipped(run: Run, outcome: jobs.Outcome) -> None:
    """Check that Flower continues to show how it ended."""
    status = run.store.execute(statuses.fetch(run.store.schema, outcome.job_id))

    assert run.ended[outcome.job_id].state == "IGNORED"
    assert run.outcome(outcome.job_id) == outcome
    assert status.attempts == 0


def test_a_message_delivered_twice_is_done_once(run: Run) -> None:
    """Call the task for the good job again, after all others."""
    assert run.ended["good"].state == "IGNORED"
    assert run.result("good").provenance.attempts == 1


#: Jobs that were never accepted, or whose record was overwritten.
WITHOUT_RECORD = {"never-accepted", "record-of-another-type"}


def test_a_job_whose_lease_was_overwritten_is_scored(run: Run) -> None:
    assert run.result("lease-of-another-type").provenance.attempts == 1


def test_a_job_whose_record_was_overwritten_is_given_up_at_once(run: Run) -> None:
    assert run.ended["record-of-another-type"].state == "IGNORED"


def test_a_message_about_a_job_that_was_never_accepted_leaves_no_record(run: Run) -> None:
    assert isinstance(run.outcome("never-accepted"), JobNotFound)
    assert run.ended["never-accepted"].state == "IGNORED"


DEAD = {"absent-model", "one-too-many", "kills-workers"}


def test_no_job_is_left_without_an_end_and_no_payload_but_those_of_dead_letters(run: Run) -> None:
    schema = run.store.schema
    status = run.store.execute(overview.status(schema, []))

    keys = keys_of(run.store.client, run.settings)

    assert (status.jobs[JobState.QUEUED], status.jobs[JobState.RUNNING]) == (0, 0)
    assert sum(status.jobs.values()) == len(set(run.ended) - WITHOUT_RECORD)
    kept = DEAD | {"record-of-another-type"}
    assert {key for key in keys if ":payload:" in key} == set(map(schema.keys.payload, kept))
    assert [key for key in keys if ":lease:" in key] == []


def test_what_another_model_or_a_repaired_worker_may_do_is_a_dead_letter(run: Run) -> None:
    schema = run.store.schema

    page = run.store.execute(dead_letters.page(schema, dead_letters.Page(), 100))
    assert set(page.ids) == DEAD
    for letter in run.store.execute(dead_letters.fetch(schema, sorted(DEAD))):
        failure = run.failure(letter.job_id)
        assert (letter.code, letter.message) == (failure.code, failure.message)
        assert letter.attempts == failure.attempts


def test_provenance_and_rankings_say_how_many_candidates_were_cut(run: Run) -> None:
    result = run.result("good")

    assert [ranking.truncated for ranking in result.rankings] == [0, 1, 0]


def test_every_key_that_a_worker_leaves_behind_expires(run: Run) -> None:
    lasting = [
        key for key in keys_of(run.store.client, run.settings) if run.store.client.ttl(key) == -1
    ]

    assert lasting == []


def test_without_the_default_downgrade_model_a_worker_works_and_says_what_will_fail(
    store: JobStore, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a job that ran out of memory, and a worker with one model
    schema = store.schema
    store.execute(submissions.accept(schema, job("j")))
    store.execute(begin(schema, "j", "before"))
    store.execute(attempts.release(schema, "j", "before", downgrade="out_of_memory"))
    # When it is scored again
    perform(["j"], settings, tmp_path, cross_encoder_model=SMALLER)
    # Then that model scores it, and the log reports that the worker has no other
    result = store.execute(outcomes.fetch(schema, ["j"]))["j"]
    assert isinstance(result, jobs.JobResult), result
    provenance = result.provenance
    assert (provenance.model, provenance.downgraded, provenance.reason) == (SMALLER, False, None)
    (warning,) = [each for each in caplog.messages if each.startswith("No downgrade model")]
    assert "jobs that run out of memory or time" in warning
    assert "RERANKQ_DOWNGRADE_MODEL" in warning
