"""Score a run as a whole and in shards, and compare files and costs.

Run `python -m benchmarks.shards` in the repository's root. Some shards are killed and started
again. The model is a stub that takes hardly any time, so the costs are those of the commands. The
merged files must be byte-identical to those of the whole run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import machine
from benchmarks.inputs import write_inputs
from benchmarks.service import Service

MODEL = "stub:instant=1"
#: The interval between two looks at the processes, and the longest time until one is killed.
LOOK_S, KILLED_WITHIN_S = 0.02, 3.0


@dataclass(frozen=True)
class Cost:
    """The costs of a process; a killed one is counted too."""

    cpu_s: float
    peak_mb: float


class Commands:
    """Runs commands, several at the same time."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self.costs: list[Cost] = []
        self.killed = 0

    def run(self, commands: Sequence[Sequence[str]], at_once: int = 1, kills: int = 0) -> float:
        """Run all commands; kill some and start them again. Return the seconds."""
        waiting = deque(enumerate(commands))
        running: dict[int, int] = {}
        chance = random.Random(0)
        kill_at = time.monotonic() + chance.uniform(1.0, KILLED_WITHIN_S)
        began = time.monotonic()
        while waiting or running:
            while waiting and len(running) < at_once:
                number, command = waiting.popleft()
                running[self._start(command)] = number
            if self.killed < kills and time.monotonic() > kill_at:
                os.kill(chance.choice(list(running)), 9)
                self.killed += 1
                kill_at = time.monotonic() + chance.uniform(1.0, KILLED_WITHIN_S)
            for pid in list(running):
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if not ended:
                    continue
                number = running.pop(pid)
                self.costs.append(Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3))
                code = os.waitstatus_to_exitcode(status)
                if code == -9:
                    waiting.appendleft((number, commands[number]))
                elif code:
                    raise click.ClickException(self._log.read_text()[-2_000:])
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def _start(self, command: Sequence[str]) -> int:
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "producer", *command],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        process.returncode = 0  # it is waited for with `os.wait4`, which returns its costs
        return process.pid


@click.command()
@click.option("--pairs", type=float, default=3e5, show_default=True)
@click.option("--shards", default=16, show_default=True)
@click.option("--processes", default=4, show_default=True, help="Commands at the same time.")
@click.option("--kills", default=3, show_default=True)
@click.option("--cache", is_flag=True, help="Let the shards fill one file of scores.")
def main(pairs: float, shards: int, processes: int, kills: int, cache: bool) -> None:
    """Score a run as a whole and in shards, and print what both cost."""
    with tempfile.TemporaryDirectory(prefix="rerankq-shards-") as name:
        scratch = Path(name)
        queries = write_inputs(scratch, round(pairs))
        inputs = [
            *("--corpus", str(scratch / "corpus.jsonl"), "--run", str(scratch / "run.trec")),
            *("--queries", str(scratch / "queries.jsonl")),
        ]

        def rescore(output: str, *options: str) -> list[str]:
            files = (
                "--output",
                f"{scratch / output}.trec",
                "--results",
                f"{scratch / output}.jsonl",
            )
            cached = ("--cache", str(scratch / f"{output.split('-')[0]}.db")) if cache else ()
            return ["rescore", *inputs, *files, *cached, *options]

        parts = [
            rescore(f"part-{number}", "--shard", f"{number}/{shards}")
            for number in range(1, shards + 1)
        ]
        merge = [
            *("merge", *(f"{scratch}/part-{number}.trec" for number in range(1, shards + 1))),
            *("--output", f"{scratch}/merged.trec", "--results", f"{scratch}/merged.jsonl"),
        ]
        click.echo(f"{machine.processor()}, {queries:,} queries, {shards} shards in {processes}\n")
        click.echo("| | seconds | CPU seconds | largest peak of a process, MB |")
        click.echo("| --- | ---: | ---: | ---: |")
        with Service(MODEL, 2, 1, scratch) as service:
            for what, commands, at_once, killed in (
                ("whole run", [rescore("whole")], 1, 0),
                (f"shards, {kills} killed", parts, processes, kills),
                ("merge", [merge], 1, 0),
            ):
                ran = Commands(dict(service.environment), scratch / "log")
                seconds = ran.run(commands, at_once, killed)
                cpu_s = sum(each.cpu_s for each in ran.costs)
                peak_mb = max(each.peak_mb for each in ran.costs)
                click.echo(f"| {what} | {seconds:.1f} | {cpu_s:.1f} | {peak_mb:.0f} |")
                if ran.killed < killed:
                    raise click.ClickException("the shards ended before they could be killed")
        for ending in ("trec", "jsonl"):
            whole, merged = (scratch / f"{each}.{ending}" for each in ("whole", "merged"))
            if whole.read_bytes() != merged.read_bytes():
                raise SystemExit(f"the merged .{ending} differs from that of the whole run")
        click.echo("\nThe merged files are byte-identical to those of the whole run.")


if __name__ == "__main__":
    main()
