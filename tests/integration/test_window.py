"""The number of jobs in flight follows the workers that answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from contract.errors import RedisUnavailable
from contract.settings import Settings
from producer.client.columns import ColumnsClient
from producer.rescore.options import LEAST_JOBS, Options
from producer.rescore.progress import Progress
from producer.rescore.window import MOST_CHARS, Window, WorkerCount
from tests.integration.rescore_runs import QUERIES, session
from tests.integration.sample_records import result_of_job
from tests.integration.stand_ins import StandInWorker, answering_worker
from tests.processes import wait_until


@pytest.fixture
def reranker(settings: Settings) -> Iterator[ColumnsClient]:
    with ColumnsClient(settings) as made:
        yield made


def test_there_are_two_jobs_for_each_process_of_a_worker_that_answers(
    reranker: ColumnsClient, settings: Settings
) -> None:
    ready = {"children": 16, "ready": 3, "model": "stub"}
    with answering_worker(settings, ready), Window.of(reranker, None) as window:
        assert window.jobs == LEAST_JOBS
        wait_until(lambda: window.jobs == 32, "the worker has answered")
        assert window.has_room(31, chars=1_000)
        assert not window.has_room(32, chars=1_000)


def test_a_number_that_was_asked_for_stays(reranker: ColumnsClient) -> None:
    with Window.of(reranker, 3) as window:
        assert [window.has_room(jobs, chars=MOST_CHARS) for jobs in (2, 3)] == [True, False]


def test_long_texts_are_in_fewer_jobs() -> None:
    window = Window(many_workers())
    assert window.has_room(LEAST_JOBS - 1, chars=MOST_CHARS)
    assert window.has_room(LEAST_JOBS, chars=MOST_CHARS - 1)
    assert not window.has_room(LEAST_JOBS, chars=MOST_CHARS)


def test_a_run_leaves_room_in_the_queue_for_others() -> None:
    assert Window(many_workers(), most_jobs=50).jobs == 50


def many_workers() -> WorkerCount:
    count = WorkerCount(dict)
    count.add({"big@host": 100})
    return count


class Workers:
    """Workers that answer, or a Redis that does not."""

    def __init__(self) -> None:
        self.answer: Mapping[str, int] | None = None
        self.questions = 0
        self._asked = threading.Condition()

    def ask(self) -> Mapping[str, int]:
        with self._asked:
            self.questions += 1
            self._asked.notify_all()
        if self.answer is None:
            raise RedisUnavailable("it is away")
        return self.answer

    def have_answered(self, times: int) -> None:
        with self._asked:
            begun = self.questions
            assert self._asked.wait_for(lambda: self.questions > begun + times, 10.0)


def test_the_number_follows_workers_that_come_and_go_and_forgives_a_late_answer() -> None:
    workers = Workers()
    count = WorkerCount(workers.ask, first_s=0.0, interval_s=0.001)
    count.start()
    try:
        for answer, children in (
            ({"a@host": 2}, 2),
            ({"a@host": 2, "b@host": 8}, 10),
            ({"b@host": 4}, 4),  # gone, after it has not answered for a while
            (None, 4),  # Redis is away
            ({}, 0),
        ):
            workers.answer = answer
            workers.have_answered(3)
            assert count.children == children
    finally:
        count.stop()
    count.add({"a@host": 2, "b@host": 8})
    count.add({"b@host": 8})
    assert count.children == 10  # one missing answer


def test_the_progress_says_how_many_jobs_of_which_size_are_in_flight(
    reranker: ColumnsClient, settings: Settings, tmp_path: Path
) -> None:
    seen = []

    def report(progress: Progress) -> None:
        seen.append((progress.window, progress.pairs_per_job))

    with StandInWorker(settings, result_of_job):
        session(reranker, tmp_path, report, Options(window=3, pairs_per_job=1))
    assert len(seen) >= QUERIES / 3
    assert set(seen) == {(3, 1)}
