"""Run the command line `rerankq` in the test's own process, which saves its start-up time.

The output and the exit code are those of a separate process, because `main` itself turns errors
into a line and a code. What only a process has (signals, broken pipes, file descriptors, limits,
TMPDIR) is tested with `tests.processes.rerankq_process`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from producer.cli import main


@dataclass(frozen=True)
class Completed:
    """The exit code and the output of one run."""

    returncode: int
    stdout: str
    stderr: str


def rerankq(
    *arguments: str, environment: Mapping[str, str], standard_input: str | bytes = b""
) -> Completed:
    """Run the command line with these variables in addition to those of this process."""
    stdout, stderr = _text_stream(), _text_stream()
    with (
        _variables(environment),
        piped_to_standard_input(standard_input),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        code = _exit_code(arguments)
    return Completed(code, _written(stdout), _written(stderr))


def _exit_code(arguments: tuple[str, ...]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments), prog_name="rerankq")
    assert isinstance(ended.value.code, int), "Python would print what is no code, and exit with 1"
    return ended.value.code


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def piped_to_standard_input(content: str | bytes) -> Iterator[None]:
    """Make `content` readable in this process, as if another process wrote it into a pipe."""
    before = sys.stdin
    encoded = content.encode() if isinstance(content, str) else content
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Pipe(encoded)), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = before


class _Pipe(io.RawIOBase):
    """Bytes that can be read only once and in order, as from another process."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._content.readinto(buffer)


def _text_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="", write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    written = stream.buffer
    assert isinstance(written, io.BytesIO)
    return written.getvalue().decode()
