"""Real processes for tests: they are started, awaited by condition, and ended by id."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.forked_process import File, ForkedProcess, fork

#: What `start` returns.
Process = subprocess.Popen[Any] | ForkedProcess

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="reaches into processes as Linux lets one"
)

ROOT = Path(__file__).parents[1]

#: What a worker with a real model imports: see `tests.groups` for who shares a server with them.
MODEL_LIBRARIES = ("torch", "sentence_transformers")
#: A worker imports torch and loads its model well within this time, even on a busy machine.
PATIENCE_S = 90.0


def wait_until(
    condition: Callable[[], bool],
    what: str,
    within_s: float = PATIENCE_S,
    pause_s: float = 0.05,
) -> None:
    """Return once `condition` holds; fail if it does not hold in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(pause_s)


def environment(**settings: str) -> dict[str, str]:
    """Return the variables of this process with these settings, and no others."""
    ours = ("RERANKQ_", "CROSS_ENCODER_", "SENTENCE_TRANSFORMERS_")
    return {name: each for name, each in os.environ.items() if not name.startswith(ours)} | settings


def ending_with_us(*command: str) -> list[str]:
    """Return the command such that it ends with these tests, even if they are killed.

    Start it from the main thread, because the kernel takes the end of the thread that starts it for
    the end of the process.
    """
    wrapper = Path(__file__).with_name("end_with_parent.py")
    return [sys.executable, "-SI", str(wrapper), str(os.getpid()), *command]


@contextmanager
def celery(
    *arguments: str,
    log: Path,
    environment: Mapping[str, str],
    forked: bool = True,
    libraries: tuple[str, ...] = (),
) -> Iterator[Process]:
    """Run `celery -A worker ...` as a process whose output goes to `log`.

    A fork has the command line of its server, so tests of that need a new process.
    """
    options = ("-A", "worker", *arguments)
    with log.open("wb") as output:
        process = start(
            "celery",
            *options,
            environment=environment,
            log=output,
            forked=forked,
            libraries=libraries,
        )
    try:
        yield process
    finally:
        end(process)


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    log: File,
    stdin: File = subprocess.DEVNULL,
    stdout: File | None = None,
    forked: bool = True,
    libraries: tuple[str, ...] = (),
) -> Process:
    """Run a module in a new session that ends with these tests, even if they are killed.

    Its standard error is `log`, and so is its standard output, if not given. As a fork it starts in
    a tenth of the CPU time. Start it from the main thread: see `ending_with_us`.
    """
    variables = os.environ | environment
    stdout = log if stdout is None else stdout
    if forked and sys.platform == "linux":
        files = (stdin, stdout, log)
        return fork(module, *arguments, environment=variables, files=files, libraries=libraries)
    return subprocess.Popen(
        ending_with_us(sys.executable, "-m", module, *arguments),
        env=variables,
        stdin=stdin,
        stdout=stdout,
        stderr=log,
        start_new_session=True,
    )


def run(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path | None = None,
    libraries: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a module as a process that has no input, and wait until it has ended."""
    variables = os.environ | environment
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        if sys.platform == "linux":
            files = (subprocess.DEVNULL, out, err)
            process: Process = fork(
                module,
                *arguments,
                environment=variables,
                files=files,
                folder=folder,
                libraries=libraries,
            )
        else:
            command = [sys.executable, "-m", module, *arguments]
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        try:
            code = process.wait(120)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess([module, *arguments], code, out.read(), err.read())


def end(process: Process) -> int:
    """Ask a process to end, and kill it if it does not; return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def children_of(pid: int) -> list[int]:
    """Return the ids of the child processes of a process, as Linux lists them."""
    tasks = Path(f"/proc/{pid}/task")
    return [
        int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()
    ]


def program(name: str) -> str:
    """Return the path of a program; skip the test if it is missing, but never in CI."""
    path = shutil.which(name)
    if path is None:
        assert "CI" not in os.environ, f"CI must have {name}: see .ci/run"
        pytest.skip(f"{name} is not installed")
    return path


def rerankq_process(
    *arguments: str,
    environment: Mapping[str, str],
    standard_input: str | None = None,
    max_file_bytes: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process whose files may not grow beyond `max_file_bytes`.

    Most tests need no process: `tests.command_line.rerankq` is faster.
    """
    if max_file_bytes is not None:
        limited = ("tests.limited_files", str(max_file_bytes))
        return run(*limited, "producer", *arguments, environment=environment, folder=ROOT)
    if standard_input is None:
        return run("producer", *arguments, environment=environment)
    return subprocess.run(
        [sys.executable, "-m", "producer", *arguments],
        env=os.environ | environment,
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def limited_memory(pids: Iterable[int], left: int) -> Iterator[None]:
    """Limit the memory of processes to `left` bytes more than they have now."""
    limited = []
    gc.collect()  # memory freed later would add to `left` if this process is limited
    try:
        for pid in pids:
            taken = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
            size = taken * os.sysconf("SC_PAGE_SIZE")
            before = resource.prlimit(pid, resource.RLIMIT_AS)
            resource.prlimit(pid, resource.RLIMIT_AS, (size + left, before[1]))
            limited.append((pid, before))
        yield
    finally:
        for pid, before in limited:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_AS, before)
