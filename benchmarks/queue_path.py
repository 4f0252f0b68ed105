"""Measure the whole path: the cost of the queue, and the memory of a worker's children."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import memory
from benchmarks.records import Burst, ChildMemory, Queue, Spread
from benchmarks.runner import Answer, Child
from benchmarks.service import Service
from benchmarks.work import CANDIDATES, KINDS, Collection, Query
from producer import AsyncRerankClient, RerankClient

#: Documents of a small job.
SMALL = 20
#: Enough jobs that no child waits long for the last job of the other.
JOBS = 20
#: Pause between small jobs, so that the worker and the thread pools of the last run are idle.
IDLE_S = 0.1


@dataclass(frozen=True)
class Plan:
    """The amount of work to measure."""

    queries: int
    repeats: int
    #: The number of small jobs.
    calls: int


def measure(
    service: Service, engines: Sequence[Child], collection: Collection, plan: Plan
) -> Queue:
    """Measure speed and latency through the queue, compared with `Scorer.score`.

    `engines` use as many processes and threads as the worker's children.
    """
    chance = random.Random(0)
    queries = collection.draw(KINDS["real"], plan.queries, CANDIDATES, seed=2)
    with RerankClient(redis_url=service.url) as client:
        many = _Many(client, engines, queries)
        many.repeat(chance)  # a warm-up, for connections and new words
        many.forget()
        for _ in range(plan.repeats):
            many.repeat(chance)
        outside_s, inside_s = _small_jobs(client, engines[0], collection, plan.calls, chance)
    return Queue(
        model=Path(engines[0].folder).name,
        children=service.children,
        threads_each=service.threads_each,
        pairs=many.pairs,
        pairs_per_s=Spread.of(many.through_queue),
        in_process_pairs_per_s=Spread.of(many.in_process),
        ratio=Spread.of([a / b for a, b in zip(many.through_queue, many.in_process, strict=True)]),
        max_difference=many.max_difference,
        calls=plan.calls,
        call_ms=Spread.quartiles([1000 * each for each in outside_s]),
        in_process_ms=Spread.quartiles([1000 * each for each in inside_s]),
        added_ms=Spread.quartiles(
            [1000 * (a - b) for a, b in zip(outside_s, inside_s, strict=True)]
        ),
    )


def child_memory(service: Service, model: str) -> list[ChildMemory]:
    """Return the memory of each worker child. Call it after they have scored."""
    return [
        ChildMemory(model, number, memory.rss_mb(pid), memory.pss_mb(pid), memory.peak_rss_mb(pid))
        for number, pid in enumerate(service.worker_children(), start=1)
    ]


class _Many:
    """Scores the same pairs through the queue and with the engines alone, in random order."""

    def __init__(
        self, client: RerankClient, engines: Sequence[Child], queries: list[Query]
    ) -> None:
        self._client = client
        self._engines = engines
        self._queries = queries
        self.pairs = sum(len(query.documents) for query in queries)
        self.through_queue: list[float] = []
        self.in_process: list[float] = []
        self.max_difference = 0.0

    def forget(self) -> None:
        """Discard the repeats so far."""
        self.through_queue.clear()
        self.in_process.clear()

    def repeat(self, chance: random.Random) -> None:
        """Score the queries both ways."""
        scores: list[list[float]] = []
        ways: list[Callable[[], list[float]]] = [self._queue, self._alone]
        for way in chance.sample(ways, len(ways)):
            scores.append(way())
        apart = max(abs(a - b) for a, b in zip(*scores, strict=True))
        self.max_difference = max(self.max_difference, apart)

    def _queue(self) -> list[float]:
        requests = [
            {
                "query": query.text,
                "candidates": [
                    {"id": str(place), "text": text} for place, text in enumerate(query.documents)
                ],
            }
            for query in self._queries
        ]
        began = time.perf_counter()
        pairs_per_job = max(CANDIDATES, self.pairs // JOBS)
        ids = self._client.submit_many(requests, pairs_per_job=pairs_per_job)
        results = [self._client.result(job_id) for job_id in ids]
        self.through_queue.append(self.pairs / (time.perf_counter() - began))
        scores: list[float] = []
        for ranking in (ranking for result in results for ranking in result.rankings):
            in_order = sorted(ranking.documents, key=lambda document: document.index)
            scores += [document.score for document in in_order]
        return scores

    def _alone(self) -> list[float]:
        """Score an equal share of the queries with each engine, and record the longest time."""
        each = -(-len(self._queries) // len(self._engines))
        parts = [self._queries[at : at + each] for at in range(0, len(self._queries), each)]
        with ThreadPoolExecutor(len(parts)) as pool:
            answers = list(pool.map(self._ask, self._engines, parts))
        self.in_process.append(self.pairs / max(answer.seconds for answer in answers))
        return [score for answer in answers for score in answer.scores]

    @staticmethod
    def _ask(engine: Child, queries: list[Query]) -> Answer:
        return engine.ask([pair for query in queries for pair in query.pairs])


def _small_jobs(
    client: RerankClient, engine: Child, collection: Collection, calls: int, chance: random.Random
) -> tuple[list[float], list[float]]:
    """Return seconds of small jobs as seen by the caller, and of the same pairs in-process."""
    outside_s, inside_s = [], []
    for _ in range(calls):
        query = collection.call(KINDS["short"], SMALL, chance)
        for through_queue in chance.sample((True, False), 2):
            time.sleep(IDLE_S)
            if through_queue:
                began = time.perf_counter()
                client.rerank(query.text, query.documents)
                outside_s.append(time.perf_counter() - began)
            else:
                inside_s.append(engine.ask(query.pairs).seconds)
    return outside_s, inside_s


def burst(service: Service, jobs: int, collection: Collection) -> Burst:
    """Submit and await `jobs` jobs of three documents at once in one asyncio program."""
    chance = random.Random(0)
    queries = [collection.call(KINDS["short"], 3, chance) for _ in range(jobs)]
    seconds, worst_s = asyncio.run(_all_at_once(service.url, queries))
    return Burst(jobs, seconds, worst_s * 1000)


async def _all_at_once(url: str, queries: list[Query]) -> tuple[float, float]:
    async with AsyncRerankClient(redis_url=url) as client, LoopDelay() as delay:
        began = time.perf_counter()
        await asyncio.gather(*(client.rerank(each.text, each.documents) for each in queries))
        return time.perf_counter() - began, delay.worst_s


class LoopDelay:
    """Measures the longest time for which the event loop was blocked. Use it in a `with` block."""

    async def __aenter__(self) -> LoopDelay:
        self.worst_s = 0.0
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst_s = max(self.worst_s, time.perf_counter() - began - 0.001)
