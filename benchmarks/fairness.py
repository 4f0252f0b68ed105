"""Measure how runs that are submitted one after the other share the workers.

Run `python -m benchmarks.fairness` in the repository's root. A worker with a stub engine, whose
speed is set, and the producers use a fresh Redis. It prints the share of each run in the pairs that
were scored while all of them had jobs to score, and how long each waited for its first result.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click
import redis

from benchmarks import machine
from benchmarks.service import Service
from benchmarks.synthetic import CANDIDATES, write_inputs
from contract import names
from contract.settings import Settings
from producer import RerankClient
from producer.rescore.journal import journal_path

ROOT = Path(__file__).parents[1]
#: How often the results of the runs are counted.
LOOK_S = 0.05


class Run(Protocol):
    """Something that has submitted jobs."""

    name: str

    def scored(self) -> int:
        """Return the number of pairs with results so far."""

    def has_begun(self) -> bool:
        """Return whether its first job is submitted."""

    def has_ended(self) -> bool:
        """Return whether all of its jobs have ended."""


class Rescore:
    """A process of `rerankq rescore`, whose results are in its journal."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.name = name
        output = folder / f"{name.replace(' ', '-')}.trec"
        self._journal = journal_path(str(output))
        files = {"--corpus": "corpus.jsonl", "--queries": "queries.jsonl", "--run": "run.trec"}
        given = [text for option, file in files.items() for text in (option, str(folder / file))]
        command = [sys.executable, "-m", "producer", "rescore", *given, "--output", str(output)]
        with output.with_suffix(".log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [*command, *options],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self._queries = 0

    def scored(self) -> int:
        with suppress(FileNotFoundError):  # it is removed at the end
            lines = self._journal.read_bytes().count(b'"provenance"')
            self._queries = max(self._queries, lines)
        return self._queries * CANDIDATES

    def has_begun(self) -> bool:
        return self._journal.exists() or self.has_ended()

    def has_ended(self) -> bool:
        return self.process.poll() is not None


class Submitted:
    """Jobs that were submitted by a client, whose ends were published."""

    def __init__(self, name: str, job_ids: Sequence[str], pairs_per_job: int, ends: Ends) -> None:
        self.name = name
        self._left, self._jobs = set(job_ids), len(job_ids)
        self._pairs_per_job, self._ends = pairs_per_job, ends

    def scored(self) -> int:
        self._left -= self._ends.ids
        return (self._jobs - len(self._left)) * self._pairs_per_job

    def has_begun(self) -> bool:
        return True

    def has_ended(self) -> bool:
        self.scored()
        return not self._left


class Ends(threading.Thread):
    """Collects the ids of the jobs that have ended."""

    def __init__(self, server: redis.Redis, settings: Settings) -> None:
        super().__init__(name="ends", daemon=True)
        self.ids: set[str] = set()
        self._over = threading.Event()
        self._channel: Any = server.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channel.subscribe(names.Keys(settings.namespace).done)

    def run(self) -> None:
        while not self._over.is_set():
            message = self._channel.get_message(timeout=0.2)
            if message is not None and isinstance(message["data"], bytes):
                self.ids.add(message["data"].decode())

    def stop(self) -> None:
        self._over.set()
        self.join()
        self._channel.close()


@dataclass
class Counts:
    """The pairs of a run over time."""

    submitted_at: float = 0.0
    first_result_at: float | None = None
    ended_at: float | None = None
    samples: list[tuple[float, int]] = field(default_factory=list)

    def pairs_between(self, begin: float, end: float) -> int:
        inside = [pairs for at, pairs in self.samples if begin <= at <= end]
        return inside[-1] - inside[0] if inside else 0


def follow(runs: Sequence[Callable[[], Run]], at_s: Sequence[float]) -> dict[str, Counts]:
    """Start each run at its time, and count until all have ended."""
    began, started, found = time.monotonic(), list[Run](), dict[str, Counts]()
    while len(found) < len(runs) or any(each.ended_at is None for each in found.values()):
        now = time.monotonic() - began
        if len(started) < len(runs) and now >= at_s[len(started)]:
            started.append(runs[len(started)]())
            continue
        for run in started:
            counts = found.get(run.name)
            if counts is None:
                if not run.has_begun():
                    continue
                counts = found[run.name] = Counts(now)
            if counts.ended_at is None:
                ended, pairs = run.has_ended(), run.scored()
                counts.samples.append((now, pairs))
                if pairs and counts.first_result_at is None:
                    counts.first_result_at = now
                if ended:
                    counts.ended_at = now
        time.sleep(LOOK_S)
    return found


def table(title: str, found: dict[str, Counts]) -> str:
    """Return the shares while all runs were under way, as a Markdown table."""
    begin = max(each.submitted_at for each in found.values())
    end = min(each.ended_at or begin for each in found.values())
    pairs = {name: each.pairs_between(begin, end) for name, each in found.items()}
    total = max(1, sum(pairs.values()))
    lines = [
        f"**{title}**: all under way for {max(0.0, end - begin):.1f} s",
        "",
        "| Run | Submitted | First result after | Share | Ended |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, each in found.items():
        first_s = (each.first_result_at or 0.0) - each.submitted_at
        lines.append(
            f"| {name} | {each.submitted_at:.1f} s | {first_s:.1f} s |"
            f" {100 * pairs[name] / total:.0f}% | {each.ended_at:.1f} s |"
        )
    return "\n".join([*lines, ""])


class Bench:
    """The scenarios on one service."""

    def __init__(self, service: Service, folder: Path, ends: Ends, pairs: int) -> None:
        self._service, self._folder, self._ends = service, folder, ends
        self.pairs = write_inputs(folder, pairs) * CANDIDATES

    def rescore(self, name: str, *options: str) -> Callable[[], Run]:
        return lambda: Rescore(name, self._folder, self._service.environment, *options)

    def submit_many(self, name: str, jobs: int, pairs_per_job: int) -> Callable[[], Run]:
        def submit() -> Run:
            documents = [f"document {place}" for place in range(pairs_per_job)]
            requests = [
                {"query": f"{name} {place}", "candidates": documents} for place in range(jobs)
            ]
            with RerankClient(self._service.settings) as client:
                ids = client.submit_many(requests, pairs_per_job=pairs_per_job)
            return Submitted(name, ids, pairs_per_job, self._ends)

        return submit

    def run(self, name: str, later_s: float) -> str:
        jobs = self.pairs // 10
        small = [self.submit_many(f"small {number}", 5, 20) for number in range(1, 21)]
        scenarios: dict[str, list[Callable[[], Run]]] = {
            "equal": [self.rescore("first"), self.rescore("second")],
            "windows": [
                self.rescore("64 jobs in flight", "--window", "64", "--pairs-per-job", "200"),
                self.rescore("8 jobs in flight", "--window", "8", "--pairs-per-job", "200"),
            ],
            "sizes": [
                self.rescore("1,000 pairs a job", "--window", "16", "--pairs-per-job", "1000"),
                self.rescore("100 pairs a job", "--window", "16", "--pairs-per-job", "100"),
            ],
            "many": [self.submit_many(f"{jobs:,} jobs", jobs, 10), self.rescore("rescore")],
            "small": [self.submit_many(f"{jobs:,} jobs", jobs, 10), *small],
        }
        runs = scenarios[name]
        found = follow(runs, [0.0, *(later_s for _ in runs[1:])])
        if name == "small":
            found = _longest(found)
        return table(name, found)


def _longest(found: dict[str, Counts]) -> dict[str, Counts]:
    """Return the first run and, of the others, the one that ended last."""
    first, *others = found
    last = max(others, key=lambda name: (found[name].ended_at or 0.0) - found[name].submitted_at)
    return {first: found[first], last: found[last]}


SCENARIOS = ("equal", "windows", "sizes", "many", "small")


@click.command()
@click.option("--children", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--pairs-per-s", type=click.FloatRange(min=1), default=1000, show_default=True)
@click.option("--pairs", type=click.IntRange(min=1000), default=60_000, show_default=True)
@click.option("--later", type=click.FloatRange(min=0), default=6, show_default=True, metavar="S")
@click.option("--scenario", multiple=True, type=click.Choice(SCENARIOS), default=SCENARIOS)
@click.option("--quick", is_flag=True, help="Run a few seconds, to see that it works.")
def main(
    children: int,
    pairs_per_s: float,
    pairs: int,
    later: float,
    scenario: Sequence[str],
    quick: bool,
) -> None:
    """Measure the shares of runs that start one after the other."""
    if quick:
        pairs, later = 4_000, 0.5
    click.echo(f"{machine.processor()}; {children} processes with {pairs_per_s:g} pairs/s each\n")
    with tempfile.TemporaryDirectory(prefix="rerankq-fairness-") as folder, ExitStack() as stack:
        logs = Path(folder) / "logs"
        logs.mkdir()
        model = f"stub:pairs_per_s={pairs_per_s:g}"
        service = stack.enter_context(Service(model, children, 1, logs))
        server = stack.enter_context(redis.Redis.from_url(service.url))
        ends = Ends(server, service.settings)
        ends.start()
        stack.callback(ends.stop)
        for name in scenario:
            inputs = Path(folder) / name
            inputs.mkdir()
            click.echo(Bench(service, inputs, ends, pairs).run(name, later))


if __name__ == "__main__":
    main()
