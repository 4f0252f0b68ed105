"""Measure a model on a GPU through Redis: a worker with its defaults, and `rerankq rescore`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.inputs import write_inputs
from benchmarks.runner import ROOT, last_line, scoring_pairs_per_s
from contract.settings import Settings
from producer.cli.local_stack import LocalStack
from producer.cli.loopback import free_port

#: Processes of one command that feeds the workers with several.
PROCESSES = 4
#: The second run counts: the first one also measures how large jobs should be.
RUNS = 2
LIMIT_S = 90


def measure(
    model: Path, data: Path | None, pairs: int, device: str, scratch: Path, in_process: float
) -> Iterator[dict[str, Any]]:
    """Yield the rate of each way to feed a worker with its default number of children.

    `pairs` are those of copies of the sample, if there is no other data.
    """
    inputs = scratch / "inputs"
    inputs.mkdir()
    names = ("corpus.jsonl", "queries.jsonl", "bm25.trec")
    if data is None:
        write_inputs(inputs, pairs)
        (inputs / "run.trec").rename(inputs / "bm25.trec")
    files = [(data or inputs) / name for name in names]
    environment = {
        "RERANKQ_DEVICE": device,
        "RERANKQ_DOWNGRADE_MODEL": "none",
        "HF_HUB_OFFLINE": "1",
    }
    with LocalStack(
        Settings.load(),
        scratch,
        str(model),
        None,
        free_port(),
        flower_port=None,
        say=lambda _: None,
        environment=environment,
    ) as stack:
        for processes in (1, PROCESSES) if _takes_processes() else (1,):
            rate = 0.0
            for _ in range(RUNS):
                rate = _rescore(stack, files, processes, scratch)
            yield {"processes": processes, "pairs_per_s": rate, "share": rate / in_process}


def _rescore(stack: LocalStack, files: list[Path], processes: int, scratch: Path) -> float:
    """Return the rate that the command reports, from the first job to the last result."""
    corpus, queries, run = map(str, files)
    command = [
        *(sys.executable, "-m", "producer", "rescore"),
        *("--corpus", corpus, "--queries", queries, "--run", run),
        *("--output", str(scratch / "reranked.trec"), "--skip-invalid", "--restart"),
    ]
    if processes > 1:
        command += ["--processes", str(processes)]
    log = scratch / "rescore.log"
    with log.open("wb") as output:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=ROOT,
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=LIMIT_S,
        )
    if done.returncode:
        raise click.ClickException(f"rerankq rescore: {last_line(log.read_text())}")
    return scoring_pairs_per_s(log)


def _takes_processes() -> bool:
    """Return whether this version of the command has the option."""
    shown = subprocess.run(
        [sys.executable, "-m", "producer", "rescore", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    return "--processes" in shown.stdout
