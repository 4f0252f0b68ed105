"""The shards of a run, scored by several commands and merged, give the files of one run."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from contract import names
from contract.settings import Settings
from producer.client.blocking import RerankClient
from producer.rescore.shards import Shard
from tests.acceptance.conftest import environment_of
from tests.command_line import rerankq
from tests.processes import PATIENCE_S, Process, celery, start, wait_until

QUERIES, DOCUMENTS = 30, 6
#: Most of these shards have one or two queries, and some have none.
COUNT = 16
#: The number of commands at the same time.
PROCESSES = 4
#: A job of one query takes this stub 0.15 s, so that a command can be killed between two of them.
SLOW = "stub:pairs_per_s=40"


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Return a file of queries with documents that have some of their words."""
    path = tmp_path / "requests.jsonl"
    with path.open("w") as file:
        for query in range(QUERIES):
            candidates = [
                {"id": f"d{n}", "text": " ".join(map(str, range(query - n, query)))}
                for n in range(DOCUMENTS)
            ]
            line = {"query_id": f"q{query}", "query": f"{query - 2} or {query - 4}"}
            file.write(json.dumps(line | {"candidates": candidates}) + "\n")
    return path


class Shards:
    """The outputs of a run and of its shards in one folder."""

    def __init__(self, folder: Path, requests: Path) -> None:
        self._folder, self._requests = folder, requests

    def output(self, name: str) -> Path:
        return self._folder / name

    def arguments(self, name: str, *options: str) -> list[str]:
        """Return the command for a shard, or for the whole run."""
        return [
            *("rescore", "--input", str(self._requests), "--output", f"{self.output(name)}.trec"),
            *("--results", f"{self.output(name)}.jsonl", *options),
            *("--pairs-per-job", str(DOCUMENTS), "--window", "1"),
        ]


@pytest.fixture
def two_workers(redis_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of commands whose jobs are scored by two slow workers."""
    settings = Settings.load(redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}")
    environment = environment_of(settings, SLOW)
    with ExitStack() as stack:
        client = stack.enter_context(RerankClient(settings))
        for number in (1, 2):
            name = f"{settings.namespace}-{number}"
            arguments = ("worker", "--concurrency", "1", "-n", name)
            log = tmp_path / f"worker-{number}.log"
            stack.enter_context(celery(*arguments, log=log, environment=environment))
        wait_until(lambda: len(client.workers(0.5, at_most=2)) == 2, "two workers answer")
        yield environment


def test_sixteen_shards_in_four_processes_of_which_one_is_killed_are_one_run_to_the_byte(
    two_workers: dict[str, str], requests: Path, tmp_path: Path
) -> None:
    run = Shards(tmp_path, requests)
    whole = rerankq(*run.arguments("out"), environment=two_workers)
    assert whole.returncode == 0, whole.stderr

    # Given a shard with several queries, whose command is killed after the first of them
    sizes = [sum(Shard(n, COUNT).has(f"q{q}") for q in range(QUERIES)) for n in range(1, COUNT + 1)]
    largest = sizes.index(max(sizes)) + 1
    assert max(sizes) >= 3
    assert 0 in sizes
    journal = run.output(f"part-{largest}.trec.partial.jsonl")
    qrels = tmp_path / "qrels"
    qrels.write_text("".join(f"q{query} 0 d1 1\n" for query in range(QUERIES)))

    running: dict[int, Process] = {}

    def begin(number: int) -> None:
        options = ("--shard", f"{number}/{COUNT}", "--qrels", str(qrels))
        with run.output(f"log-{number}").open("ab") as log:
            running[number] = start(
                "producer",
                *run.arguments(f"part-{number}", *options),
                environment=two_workers,
                log=log,
            )

    waiting = deque(number for number in range(1, COUNT + 1) if number != largest)
    for _ in range(PROCESSES - 1):
        begin(waiting.popleft())
    begin(largest)
    wait_until(lambda: journal.exists() and bool(journal.stat().st_size), "a result", pause_s=0.001)
    running[largest].kill()

    # When it is started again, and four processes score all shards
    codes: list[int] = []
    groups: set[Any] = set()
    turns = f"{names.Keys(two_workers['RERANKQ_NAMESPACE']).turns}{names.FIRST_SHARED_STEP}"
    server = redis.Redis.from_url(two_workers["RERANKQ_REDIS_URL"])
    deadline = time.monotonic() + PATIENCE_S
    while running:
        assert time.monotonic() < deadline, f"still running: {list(running)}"
        for number in [n for n, each in running.items() if each.poll() is not None]:
            codes.append(running.pop(number).wait())
            if codes[-1] < 0:
                waiting.appendleft(number)
        while waiting and len(running) < PROCESSES:
            begin(waiting.popleft())
        groups.update(server.zrange(turns, 0, -1))
        time.sleep(0.01)
    server.close()
    assert sorted(codes) == [-9, *[0] * COUNT]

    # Then the merged files are those of the run
    parts = [str(run.output(f"part-{number}.trec")) for number in range(1, COUNT + 1)]
    merged = (str(tmp_path / "merged.trec"), str(tmp_path / "merged.jsonl"))
    done = rerankq(
        *("merge", *parts, "--output", merged[0], "--results", merged[1]), environment={}
    )
    assert done.returncode == 0, done.stderr
    assert Path(merged[0]).read_bytes() == run.output("out.trec").read_bytes()
    assert Path(merged[1]).read_bytes() == run.output("out.jsonl").read_bytes()

    # And the jobs of all shards were in one group
    (group,) = groups
    assert group.startswith(b"shards-")

    # And the command that was started again says what it found
    log = run.output(f"log-{largest}").read_text()
    assert f"shard {largest} of {COUNT}: {max(sizes)} queries, " in log
    assert f".jsonl, shard {largest} of {COUNT}\n" in log
    assert re.search(rf"resuming: \d of {max(sizes)} queries are done", log)
    assert f"shard {largest} of {COUNT}: the measures are those of its queries" in log
    assert f"{run.output(f'part-{largest}.trec')}.lock: taken over from process " in log
