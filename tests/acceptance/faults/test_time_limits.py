"""A job that takes too long goes to the faster downgrade model; a child that hangs is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.faults.conftest import ENVIRONMENT
from tests.documents import long_documents
from tests.embedded_redis import FaultyRedis
from tests.ledger import Ledger
from tests.processes import linux_only
from tests.stub_models import OTHER, PAIRS_A_SECOND, SLOW
from tests.worker_process import Worker, await_workers

SOFT_S, HARD_S = 2, 3

#: Twice as long as the slow model may take.
TOO_LONG = long_documents(2 * SOFT_S * PAIRS_A_SECOND)


@pytest.fixture(scope="module")
def ledger(server: FaultyRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    limits = {"RERANKQ_SOFT_TIME_LIMIT_S": str(SOFT_S), "RERANKQ_TIME_LIMIT_S": str(HARD_S)}
    settings, folder = server.settings(), tmp_path_factory.mktemp("worker")
    with Worker(settings, folder, ENVIRONMENT | limits, 1) as worker, Ledger(settings) as made:
        await_workers(made, worker)
        yield made
        assert worker.alive


def test_a_job_that_takes_too_long_is_scored_by_the_quicker_model(ledger: Ledger) -> None:
    made = ledger.result(ledger.submit(TOO_LONG)).provenance

    assert (made.model_requested, made.model) == (SLOW, OTHER)
    assert (made.downgraded, made.reason, made.attempts) == (True, "time_limit", 2)
    ledger.balance()


def test_a_job_that_takes_too_long_fails_where_no_other_model_may_score_it(ledger: Ledger) -> None:
    job_id = ledger.submit(TOO_LONG, allow_downgrade=False)

    failure = ledger.failure(job_id)
    assert (failure.code, failure.attempts) == ("time_limit", 1)
    assert job_id in ledger.dead_letters()
    ledger.balance()


@linux_only
def test_a_job_whose_child_hangs_fails_and_the_next_is_scored(ledger: Ledger) -> None:
    job_id = ledger.submit(TOO_LONG)
    _, child = ledger.under_way(job_id)

    os.kill(child, signal.SIGSTOP)

    failure = ledger.failure(job_id)
    assert failure.code == "time_limit"
    assert job_id in ledger.dead_letters()
    assert ledger.result(ledger.submit()).provenance.attempts == 1
    ledger.balance()
