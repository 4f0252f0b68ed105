"""Start, query and end the processes of the ways."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, cast

from benchmarks import memory
from benchmarks.ways import WAYS
from benchmarks.work import Pair

ROOT = Path(__file__).parents[1]
#: Thread pools spin briefly after their work, which must not slow down the next way.
SETTLE_S = 0.05
#: How long a process may take to exit after its input ends.
END_S = 10.0

#: Numbers for logs, because two processes of the same way need separate ones.
_numbers = itertools.count(1)


class WayFailed(Exception):
    """A way cannot be measured. The message has the reason."""


@dataclass(frozen=True)
class Answer:
    """The scores of some pairs, and the time they took."""

    seconds: float
    scores: list[float]


@dataclass(frozen=True)
class Memory:
    """The memory of a process; see `memory.py`."""

    peak_rss_mb: float
    pss_mb: float


class Child:
    """A way in its own process. All methods raise `WayFailed` if the process has ended."""

    def __init__(self, way: str, folder: Path, threads: int, logs: Path) -> None:
        self.folder = folder
        self._log = logs / f"{folder.name}-{way}-{next(_numbers)}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "benchmarks.host", way, str(folder), str(threads)],
                cwd=ROOT,
                env=environment(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._questions = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)

    def wait_ready(self) -> float:
        """Wait until the model is loaded; return the seconds it took, without Python's start."""
        return float(self._read()["ready_s"])

    def ask(self, pairs: list[Pair]) -> Answer:
        """Score the pairs now. The time is that of the call in the child."""
        time.sleep(SETTLE_S)
        try:
            self._questions.write(json.dumps(pairs) + "\n")
            self._questions.flush()
        except BrokenPipeError as error:
            raise WayFailed(self._reason()) from error
        return Answer(**self._read())

    def memory(self) -> Memory:
        """Return the current memory of the process, and its peak."""
        pid = self._process.pid
        try:
            return Memory(memory.peak_rss_mb(pid), memory.pss_mb(pid))
        except (ValueError, OSError) as error:  # the process has ended, or is about to
            raise WayFailed(self._reason()) from error

    def end(self) -> None:
        """End the process, if it is still running."""
        with suppress(BrokenPipeError):  # it ended before it read its last line
            self._questions.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise WayFailed(self._reason())
        record: dict[str, Any] = json.loads(line)
        return record

    def _reason(self) -> str:
        code = self._process.wait()
        return last_line(self._log.read_text(errors="replace")) or f"exit code {code}"


class Children:
    """The loaded ways of one model. Use it in a `with` block, which ends them."""

    def __init__(
        self, folder: Path, threads: int, logs: Path, failed: Callable[[str, str, str], object]
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._logs = logs
        #: Called with model, title and reason for each way that cannot be measured, or no longer.
        self._failed = failed
        self.loaded: dict[str, Child] = {}

    def start(self, ways: Iterable[str]) -> None:
        """Load these ways, as many at a time as there are threads."""
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._start, ways))

    def ask(self, way: str, pairs: list[Pair]) -> Answer | None:
        """Return the answer for the pairs, or None if the way fails. A failed way is ended."""
        try:
            return self.loaded[way].ask(pairs)
        except WayFailed as error:
            self.fail(way, str(error))
            return None

    def fail(self, way: str, reason: str) -> None:
        """End a way. Raises `RuntimeError` if no figures are possible without it."""
        if way in self.loaded:
            self.loaded.pop(way).end()
        if way not in WAYS:
            raise RuntimeError(f"{way}: {reason}")
        self._failed(self._folder.name, WAYS[way].title, reason)

    def _start(self, way: str) -> None:
        child = Child(way, self._folder, self._threads, self._logs)
        self.loaded[way] = child
        try:
            child.wait_ready()
        except WayFailed as error:
            self.fail(way, str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.loaded.values():
            child.end()


def prepare(step: str, folder: Path) -> str | None:
    """Run a step of `prepare.py`; return the reason if it fails."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.prepare", step, str(folder)],
        cwd=ROOT,
        env=environment(len(os.sched_getaffinity(0))),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        return None
    return last_line(ran.stderr) or f"exit code {ran.returncode}"


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process with `threads` threads in each of its pools."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return (
        os.environ
        | dict.fromkeys(pools, str(threads))
        | {
            # All models are local folders, so no request to the hub is needed.
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NNCF_CI": "1",  # disables nncf's telemetry too
            "PYTHONWARNINGS": "ignore",
        }
    )


def last_line(text: str) -> str:
    """Return the last line that is not empty: for a traceback, the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def scoring_pairs_per_s(log: Path) -> float:
    """Return the rate in the output of `rerankq rescore`."""
    said = re.search(r"^scored .* \(([\d,]+) pairs/s\)", log.read_text(), re.MULTILINE)
    if said is None:
        raise RuntimeError(f"rerankq rescore did not print its speed: {log.read_text()}")
    return float(said[1].replace(",", ""))
