"""When memory runs out, batches become smaller, then the model does, and other jobs are unaffected.

These tests use real models, because it is torch's memory that runs out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from contract import jobs
from tests import bert_files
from tests.acceptance.faults.conftest import ENVIRONMENT, Service, serving
from tests.documents import long_documents
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.processes import limited_memory, linux_only, wait_until
from tests.stub_models import MIB
from tests.worker_process import ALL_FROM_THE_SYSTEM, Worker

pytestmark = linux_only

#: A batch of four pairs takes 128 MiB in the large model, a pair 32 MiB, and 8 MiB in the small
#: one. A thread's stack takes another 8 MiB, and malloc may have about 3 MiB in reserve.
LARGE, SMALL = 16_384, 4_096
PART_OF_A_BATCH = 95 * MIB
SMALL_MODEL_ONLY = 22 * MIB
NO_MODEL = 2 * MIB


@dataclass(frozen=True)
class Models:
    """Return the folders of the model and its downgrade model."""

    large: str
    small: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    return Models(
        large=bert_files.bert(folder / "large", intermediate_size=LARGE),
        small=bert_files.bert(folder / "small", intermediate_size=SMALL),
    )


@pytest.fixture(scope="module")
def service(
    server: FaultyRedis, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Start a child that has done no large job, because malloc keeps the memory of such a job."""
    environment = ENVIRONMENT | ALL_FROM_THE_SYSTEM
    environment |= {"CROSS_ENCODER_MODEL": models.large, "RERANKQ_DOWNGRADE_MODEL": models.small}
    with serving(server, environment, tmp_path_factory.mktemp("worker"), 1) as made:
        yield made


@pytest.fixture(autouse=True)
def same_children(worker: Worker) -> Iterator[None]:
    """Run jobs without enough memory, which ends no process."""
    main, children = worker.process.pid, worker.children
    yield
    assert (worker.process.pid, worker.children) == (main, children)


def scores(result: jobs.JobResult) -> list[float]:
    return [document.score for document in sorted(result.documents, key=lambda each: each.index)]


def test_a_batch_that_is_too_large_is_scored_in_parts_with_the_same_scores(
    ledger: Ledger, worker: Worker
) -> None:
    # Given the scores of some documents
    documents = long_documents(12)
    expected = ledger.result(ledger.submit(documents))

    # When there is too little memory for the same batches
    with limited_memory(worker.children, PART_OF_A_BATCH):
        result = ledger.result(ledger.submit(documents))

    # Then the same model has scored them at the first attempt, to the same last bit
    assert scores(result) == scores(expected)
    made = result.provenance
    assert (made.model, made.downgraded, made.attempts) == (expected.provenance.model, False, 1)
    ledger.balance()


def test_a_pair_that_is_too_large_goes_to_the_small_model(
    ledger: Ledger, worker: Worker, models: Models
) -> None:
    # When there is too little memory for a single pair
    with limited_memory(worker.children, SMALL_MODEL_ONLY):
        made = ledger.result(ledger.submit(long_documents(2))).provenance

    # Then the small model has scored it at the next attempt, and the result has the reason
    assert (made.model_requested, made.model) == (models.large, models.small)
    assert (made.downgraded, made.reason, made.attempts) == (True, "out_of_memory", 2)
    ledger.balance()


def test_flower_is_told_which_model_a_job_goes_to(ledger: Ledger, worker: Worker) -> None:
    # When a job is downgraded to the small model
    with limited_memory(worker.children, SMALL_MODEL_ONLY), ledger.events() as events:
        job_id = ledger.submit(long_documents(2))
        ledger.result(job_id)

        # Then Flower hears two names for it, one after the other
        def names() -> list[str]:
            received = [event for event in events() if event["type"] == "task-received"]
            return [event["name"] for event in received if event["uuid"] == job_id]

        expected = ["rerankq.score", "rerankq.score[small]"]
        wait_until(lambda: names() == expected, f"{expected} are heard")
    ledger.balance()


def test_a_pair_that_is_too_large_fails_where_no_other_model_may_score_it(
    ledger: Ledger, worker: Worker
) -> None:
    with limited_memory(worker.children, SMALL_MODEL_ONLY):
        failure = ledger.failure(ledger.submit(long_documents(2), allow_downgrade=False))

    assert (failure.code, failure.retryable, failure.attempts) == ("out_of_memory", True, 1)
    ledger.balance()


def test_a_pair_that_is_too_large_for_both_models_fails_and_is_kept(
    ledger: Ledger, worker: Worker
) -> None:
    with limited_memory(worker.children, NO_MODEL):
        job_id = ledger.submit(long_documents(2))
        failure = ledger.failure(job_id)

    # After one attempt with each model
    assert (failure.code, failure.attempts) == ("out_of_memory", 2)
    assert ledger.dead_letters() == {job_id}
    ledger.balance()


def test_a_job_that_is_too_large_to_be_unpacked_fails_alone(ledger: Ledger, worker: Worker) -> None:
    """Raise Python's own MemoryError, which would end Celery's main process."""
    # When there is too little memory for a job that is small as a message, and large when unpacked
    with limited_memory(worker.children, NO_MODEL):
        documents = [f"document {number} " + "word " * 150_000 for number in range(12)]
        failure = ledger.failure(ledger.submit(documents))

    # Then that job has failed, and the next one is scored
    assert (failure.code, failure.attempts) == ("out_of_memory", 1)
    assert ledger.result(ledger.submit()).provenance.attempts == 1
    ledger.balance()


def test_a_job_that_is_too_large_to_be_read_is_tried_again(ledger: Ledger, worker: Worker) -> None:
    """Fail to transfer its payload, and even to store a failure."""
    noise = random.Random(5).randbytes(6 * MIB).hex()
    document = {"text": "a mail client", "metadata": {"noise": noise}}
    with limited_memory(worker.children, NO_MODEL):
        job_id = ledger.submit([document])
        wait_until(lambda: ledger.attempts(job_id) == 2, "the first attempt is over")

    assert ledger.result(job_id).provenance.attempts > 1
    ledger.balance()
